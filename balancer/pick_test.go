package balancer

import (
	"math"
	"testing"
	"time"
)

// An endpoint that takes a part of its share takes just that, and the others
// take the rest alike.
func TestPartOfAShareIsExact(t *testing.T) {
	for _, weight := range []float64{0.1, 0.25, 0.5, 0.99} {
		snap := poolOf(3)
		snap.uneven = true
		snap.all[1].share.Store(math.Float64bits(weight))
		taken := make(map[*endpoint]float64)
		const turns = 30000
		for turn := range uint64(turns) {
			taken[snap.first(turn, want{now: time.Now()})]++
		}
		if got, due := taken[snap.all[1]], weight*turns/3; math.Abs(got-due) > 1 {
			t.Errorf("with a weight of %g it took %g of %d turns, want %g", weight, got, turns, due)
		}
		// Whom a turn that was let pass goes to is chance.
		if a, c := taken[snap.all[0]], taken[snap.all[2]]; math.Abs(a-c) > turns/20 {
			t.Errorf("with a weight of %g the others took %g and %g, want about the same", weight, a, c)
		}
	}
}
