package pick

import (
	"fmt"
	"math"
	"net/url"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/balancer/endpoint"
)

// poolOf builds a snapshot of n healthy endpoints.
func poolOf(n int) *Snapshot {
	snap := &Snapshot{}
	for i := range n {
		u, _ := url.Parse(fmt.Sprintf("http://10.0.0.%d", i))
		ep := endpoint.New(endpoint.Config{Breaker: endpoint.DefaultBreaker()}, u, time.Now())
		snap.All = append(snap.All, ep)
		snap.Usable = append(snap.Usable, ep)
	}
	return snap
}

// An endpoint that takes a part of its share takes just that, and the others
// take the rest alike.
func TestPartOfAShareIsExact(t *testing.T) {
	for _, weight := range []float64{0.1, 0.25, 0.5, 0.99} {
		snap := poolOf(3)
		snap.uneven = true
		snap.All[1].SetWeight(weight)
		taken := make(map[*endpoint.Endpoint]float64)
		const turns = 30000
		for turn := range uint64(turns) {
			taken[snap.First(turn, Want{Now: time.Now()})]++
		}
		if got, due := taken[snap.All[1]], weight*turns/3; math.Abs(got-due) > 1 {
			t.Errorf("with a weight of %g it took %g of %d turns, want %g", weight, got, turns, due)
		}
		// Whom a turn that was let pass goes to is chance.
		if a, c := taken[snap.All[0]], taken[snap.All[2]]; math.Abs(a-c) > turns/20 {
			t.Errorf("with a weight of %g the others took %g and %g, want about the same", weight, a, c)
		}
	}
}

func BenchmarkPick(b *testing.B) {
	for _, n := range []int{3, 10, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			snap := poolOf(n)
			w := Want{Now: time.Now()}
			b.ReportAllocs()
			turn := uint64(0)
			for b.Loop() {
				if snap.First(turn, w) == nil {
					b.Fatal("nothing was picked")
				}
				turn++
			}
		})
	}
}

func BenchmarkPickCareful(b *testing.B) {
	snap := poolOf(3)
	w := Want{Now: time.Now(), Careful: true}
	b.ReportAllocs()
	turn := uint64(0)
	for b.Loop() {
		snap.First(turn, w)
		turn++
	}
}
