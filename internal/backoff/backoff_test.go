package backoff

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func TestTheWaitGrowsToItsLimit(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := Pace{Min: time.Duration(rapid.Int64Range(1, int64(time.Hour)).Draw(t, "min"))}
		p.Max = p.Min + time.Duration(rapid.Int64Range(0, math.MaxInt64/2).Draw(t, "more"))
		n := rapid.IntRange(0, 200).Draw(t, "n")
		limit := p.Limit(n)
		if limit < p.Min || limit > p.Max {
			t.Fatalf("limit %v is not between %v and %v", limit, p.Min, p.Max)
		}
		if next := p.Limit(n + 1); next != p.Max && next != 2*limit {
			t.Fatalf("after %v comes %v", limit, next)
		}
		if d := p.Next(n); d < limit/2 || d > limit {
			t.Fatalf("wait %v for a limit of %v", d, limit)
		}
	})
}

func TestNoWait(t *testing.T) {
	t.Parallel()
	if d := (Pace{}).Next(1000); d != 0 {
		t.Errorf("got %v", d)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := Pace{Min: time.Second, Max: time.Minute}
		began := time.Now()
		if !p.Wait(t.Context(), 1) {
			t.Error("it did not wait")
		}
		if d := time.Since(began); d < time.Second || d > 2*time.Second {
			t.Errorf("it waited for %v", d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began = time.Now()
		if p.Wait(ctx, 10) || time.Since(began) != time.Second {
			t.Errorf("it waited for %v", time.Since(began))
		}
	})
}
