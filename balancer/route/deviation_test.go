package route

import (
	"errors"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/balancer/endpoint"
)

func TestCompare(t *testing.T) {
	for _, c := range []struct {
		odd, all, peerOdd, peerAll int
		want                       fit
	}{
		{3, 3, 0, 6, suspect},
		{2, 2, 0, 4, fits},
		{11, 11, 0, 22, deviant},
		{11, 11, 11, 22, fits}, // one peer does the same
		{40, 1000, 0, 2000, deviant},
		{100, 1000, 0, 2000, deviant},  // each tenth
		{100, 1000, 80, 2000, fits},    // not three times as often
		{300, 1000, 600, 2000, fits},   // as its peers
		{3, 3, 0, 297, deviant},        // one of a hundred
		{20, 1000, 15, 2000, fits},     // callers'
		{500, 1000, 10, 2000, deviant}, // most of its own
	} {
		if got := compare(c.odd, c.all, c.peerOdd, c.peerAll); got != c.want {
			t.Errorf("%d of %d beside %d of %d: got %d, want %d", c.odd, c.all, c.peerOdd, c.peerAll, got, c.want)
		}
	}
}

func TestAtLeast(t *testing.T) {
	for _, c := range []struct {
		k, n int
		p    float64
		want float64
	}{
		{3, 3, 1.0 / 3, 1.0 / 27},
		{0, 5, 0.5, 1},
		{2, 2, 0.25, 1.0 / 16},
		{1, 2, 0.5, 0.75},
	} {
		if got := atLeast(c.k, c.n, c.p); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%d or more of %d at %g: got %g, want %g", c.k, c.n, c.p, got, c.want)
		}
	}
}

// What a caller puts into a path is shown to people on terminals.
func TestExampleOfARouteIsPlain(t *testing.T) {
	req, err := http.NewRequest("GET", "http://pool/v2/%1b%5B2J/"+strings.Repeat("a", 100), nil)
	if err != nil {
		t.Fatal(err)
	}
	got := kind(req)
	if !strings.HasPrefix(got, "GET /v2/%1b%5B2J/a") || len(got) > 70 {
		t.Errorf("got %q, want the path as it was sent, cut", got)
	}
}

func TestDeviationsFade(t *testing.T) {
	var d deviations
	ep, peer := new(endpoint.Endpoint), new(endpoint.Endpoint) // both in their first stay
	now := time.Now()
	d.add(ep, errors.New("odd"), now)
	for range 9 {
		d.add(ep, errors.New("odd"), now)
		d.add(peer, nil, now)
	}
	usable := []*endpoint.Endpoint{ep, peer}
	if d.judge(ep, usable) == fits || d.judge(peer, usable) != fits {
		t.Fatalf("got %d and %d, want the first alone to be suspected", d.judge(ep, usable), d.judge(peer, usable))
	}
	d.add(peer, nil, now.Add(4*endpoint.FadeAfter)) // nothing was asked meanwhile
	if d.judge(ep, usable) != fits || len(d.by) != 1 {
		t.Errorf("got %d of %v after two minutes, want it forgotten", d.judge(ep, usable), d.by)
	}
}
