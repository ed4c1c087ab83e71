package attempt

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Each alarm rings once and at its time, whatever others there are and in
// whichever order they were set; one that was taken back does not.
func TestAlarmsRingAtTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w alarms
		var mu sync.Mutex
		rang := make(map[*attempt][]time.Duration)
		start := time.Now()
		ring := func(a *attempt) {
			mu.Lock()
			defer mu.Unlock()
			rang[a] = append(rang[a], time.Since(start))
		}
		rng := rand.New(rand.NewPCG(1, 2))
		want := make(map[*attempt][]time.Duration)
		var taken []*alarm
		for range 500 {
			time.Sleep(time.Duration(rng.IntN(3)) * time.Millisecond)
			al := &alarm{attempt: &attempt{}, ring: ring, at: time.Now().Add(time.Duration(1+rng.IntN(400)) * time.Millisecond)}
			w.add(al)
			switch rng.IntN(3) {
			case 0:
				w.remove(al)
				w.remove(al) // twice is no matter
			case 1:
				taken = append(taken, al)
			default:
				want[al.attempt] = []time.Duration{al.at.Sub(start)}
			}
			for len(taken) > 20 {
				early := slices.MinFunc(taken, func(x, y *alarm) int { return x.at.Compare(y.at) })
				taken = slices.DeleteFunc(taken, func(al *alarm) bool { return al == early })
				if time.Now().Before(early.at) {
					w.remove(early)
				} else {
					want[early.attempt] = []time.Duration{early.at.Sub(start)}
				}
			}
		}
		for _, al := range taken {
			want[al.attempt] = []time.Duration{al.at.Sub(start)}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if len(rang) != len(want) {
			t.Errorf("%d alarms rang, want %d", len(rang), len(want))
		}
		for a, at := range want {
			if !slices.Equal(rang[a], at) {
				t.Errorf("an alarm rang at %v, want %v", rang[a], at)
			}
		}
		if w.all.next != &w.all || !w.due.IsZero() {
			t.Error("something is still set")
		}
	})
}
