package balancer

import (
	"fmt"
	"math"
	"net/url"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/balancer/endpoint"
)

// poolOf builds a snapshot of n healthy endpoints.
func poolOf(n int) *snapshot {
	snap := &snapshot{}
	for i := range n {
		u, _ := url.Parse(fmt.Sprintf("http://10.0.0.%d", i))
		ep := endpoint.New(endpoint.Config{Breaker: endpoint.DefaultBreaker()}, u, time.Now())
		snap.all = append(snap.all, ep)
		snap.usable = append(snap.usable, ep)
	}
	return snap
}

// An endpoint that takes a part of its share takes just that, and the others
// take the rest alike.
func TestPartOfAShareIsExact(t *testing.T) {
	for _, weight := range []float64{0.1, 0.25, 0.5, 0.99} {
		snap := poolOf(3)
		snap.uneven = true
		snap.all[1].SetWeight(weight)
		taken := make(map[*endpoint.Endpoint]float64)
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

func BenchmarkPick(b *testing.B) {
	for _, n := range []int{3, 10, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			snap := poolOf(n)
			w := want{now: time.Now()}
			b.ReportAllocs()
			turn := uint64(0)
			for b.Loop() {
				if snap.first(turn, w) == nil {
					b.Fatal("nothing was picked")
				}
				turn++
			}
		})
	}
}

func BenchmarkPickCareful(b *testing.B) {
	snap := poolOf(3)
	w := want{now: time.Now(), careful: true}
	b.ReportAllocs()
	turn := uint64(0)
	for b.Loop() {
		snap.first(turn, w)
		turn++
	}
}
