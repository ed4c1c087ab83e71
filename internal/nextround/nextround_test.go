package nextround

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestThoseWhoAskDuringARoundShareTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[string, int]
		rounds := 0
		run := func(context.Context) int {
			rounds++ // one round at a time
			n := rounds
			time.Sleep(time.Second)
			return n
		}
		var wg sync.WaitGroup
		ask := func(want int) {
			wg.Go(func() {
				if got, err := g.Do(t.Context(), "k", run); err != nil || got != want {
					t.Errorf("got round %d, %v; want %d", got, err, want)
				}
			})
		}
		ask(1)
		synctest.Wait()
		for range 20 {
			ask(2)
		}
		time.Sleep(1500 * time.Millisecond)
		ask(3) // the second runs
		wg.Wait()
		if rounds != 3 {
			t.Errorf("%d rounds", rounds)
		}
		if len(g.next)+len(g.running) != 0 {
			t.Error("something is left behind")
		}
	})
}

func TestKeysDoNotWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[int, int]
		began := time.Now()
		var wg sync.WaitGroup
		for key := range 5 {
			wg.Go(func() {
				_, _ = g.Do(t.Context(), key, func(context.Context) int { time.Sleep(time.Second); return key }) // no error with a live context
			})
		}
		wg.Wait()
		if took := time.Since(began); took != time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// A caller that gives up leaves the round to the others.
func TestARoundDoesNotEndWithWhoAskedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g Group[string, error]
		run := func(ctx context.Context) error { time.Sleep(time.Second); return ctx.Err() }
		first, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if got, err := g.Do(first, "k", run); got != nil || err != nil {
				t.Errorf("first: %v, %v", got, err)
			}
		})
		synctest.Wait()
		cancel()
		gone, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		wg.Go(func() {
			if got, err := g.Do(t.Context(), "k", run); got != nil || err != nil {
				t.Errorf("the next: %v, %v", got, err)
			}
		})
		synctest.Wait()
		if _, err := g.Do(gone, "k", run); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who gives up: %v", err)
		}
		wg.Wait()
	})
}
