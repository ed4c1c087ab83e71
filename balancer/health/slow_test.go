package health

import (
	"testing"
	"time"
)

// Late answers are judged beside those of the peers, and only by what the peers
// were asked after the trouble began.
func TestTooLateBesideItsPeers(t *testing.T) {
	cfg := DefaultSlow() // five in a row
	begin := time.Unix(1_000_000, 0)
	at := func(i int) time.Time { return begin.Add(time.Duration(i) * time.Second) }
	// of reads like "LLL.", late and on time, sent one a second.
	of := func(answers string) (p Punctuality) {
		for i, a := range answers {
			if a == 'L' {
				p = p.Late(at(i))
			} else {
				p = p.OnTime(at(i))
			}
		}
		return p
	}
	const well = ".........................."
	for _, test := range []struct {
		name  string
		it    string
		peers []string
		want  bool
	}{
		{"four in a row", "LLLL", []string{well, well}, false},
		{"five in a row", "LLLLL", []string{well, well}, true},
		{"five, with one on time between", "LLL.LL", []string{well, well}, false},
		{"no peers", "LLLLL", nil, false},
		{"a peer that was not asked", "LLLLL", []string{""}, false},
		{"a peer that answered four", "LLLLL", []string{"...."}, false},
		{"a peer that answered only before", "..........LLLLL", []string{"....."}, false},
		{"a peer that answered one sent as the trouble began", "......LLLLL", []string{"......."}, false},
		{"and one sent after", "......LLLLL", []string{"........"}, true},
		{"the peers are late too", "LLLLL", []string{well + "L", well + "L"}, false},
		{"one of two peers is late", "LLLLL", []string{well, well + "L"}, true},
		{"two of three peers are late", "LLLLL", []string{well, well + "L", well + "L"}, false},
		{"nine of twenty", "L.L.L.L.L.L.L.L.L...", []string{well, well}, false},
		{"ten of twenty", "L.L.L.L.L.L.L.L.L.L.", []string{well, well}, true},
		{"ten of nineteen", "L.L.L.L.L.L.L.L.L.L", []string{well, well}, false},
		{"ten, but long ago", "L.L.L.L.L.L.L.L.L.L......", []string{well, well}, false},
	} {
		var peers []Punctuality
		for _, p := range test.peers {
			peers = append(peers, of(p))
		}
		if got := TooLate(cfg, of(test.it), peers); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}
