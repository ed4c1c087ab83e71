package stall

import (
	"testing"
	"time"
)

func TestStalledTimeIsTakenFromWhatItDelayed(t *testing.T) {
	t.Parallel()
	at := func(s float64) time.Time { return time.Unix(1_000_000, 0).Add(time.Duration(s * float64(time.Second))) }
	l := List{{at(2), at(3)}, {at(5), at(5.03)}}
	for _, tt := range []struct {
		from, to float64
		ran      float64
		harm     bool
	}{
		{0, 2, 2, false},
		{0, 10, 8.97, true},
		{2.5, 4, 1, true},
		{2, 3, 0, true},
		{3, 4, 1, false},
		{4, 6, 1.97, false}, // too short to do harm, and still not the door's
	} {
		if got := l.Ran(at(tt.from), at(tt.to)); (got - time.Duration(tt.ran*1e9)).Abs() > time.Microsecond {
			t.Errorf("from %g to %g: the machine ran for %s, want %gs", tt.from, tt.to, got, tt.ran)
		}
		if got := l.Harm(at(tt.from), at(tt.to)); got != tt.harm {
			t.Errorf("from %g to %g: harm %v, want %v", tt.from, tt.to, got, tt.harm)
		}
	}
}
