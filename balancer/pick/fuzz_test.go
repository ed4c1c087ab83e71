package pick

import (
	"slices"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/balancer/endpoint"
)

// FuzzPick holds what picking promises whatever state the pool is in: a usable
// endpoint while there is one, never one that was tried, and a trusted one for
// careful requests while there is one.
func FuzzPick(f *testing.F) {
	f.Add(uint8(3), uint16(0), uint16(0), uint16(0), uint64(1), true)
	f.Add(uint8(5), uint16(0b10101), uint16(0b00100), uint16(0b1), uint64(7), false)
	f.Fuzz(func(t *testing.T, n uint8, out, trouble, triedBits uint16, turn uint64, careful bool) {
		all := poolOf(int(n%12) + 1)
		snap := &Snapshot{All: all.All, FailedOpen: true}
		var tried []*endpoint.Endpoint
		trusted := 0
		for i, ep := range all.All {
			if trouble>>i&1 == 1 {
				ep.FailRun.Store(1)
			}
			if out>>i&1 == 1 {
				snap.Resort = append(snap.Resort, ep)
			} else {
				snap.Usable = append(snap.Usable, ep)
				if trouble>>i&1 == 0 {
					trusted++
				}
			}
			if triedBits>>i&1 == 1 {
				tried = append(tried, ep)
			}
		}
		w := Want{Now: time.Now(), Careful: careful}
		for _, least := range []bool{false, true} {
			snap.least = least
			ep := snap.First(turn, w)
			if (ep == nil) != (len(snap.Usable) == 0) || ep != nil && !slices.Contains(snap.Usable, ep) {
				t.Fatalf("first of %d usable: %v", len(snap.Usable), ep)
			}
			if careful && trusted > 0 && !ep.Trusted(w.Now) {
				t.Fatal("a careful request went to an endpoint in trouble")
			}
		}
		ep := snap.Next(turn, w, tried)
		if ep != nil && slices.Contains(tried, ep) {
			t.Fatal("a tried endpoint was picked again")
		}
		left := 0
		for _, u := range snap.Usable {
			if !slices.Contains(tried, u) {
				left++
			}
		}
		if left > 0 && !slices.Contains(snap.Usable, ep) {
			t.Fatalf("%d usable endpoints were left, got %v", left, ep)
		}
	})
}
