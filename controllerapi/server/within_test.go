package server

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A call that got no answer is made again when its end shows that the machine stood
// still, and only then.
func TestCallsAreRepeatedAfterAStandstill(t *testing.T) {
	const limit = 2 * time.Second
	for name, c := range map[string]struct {
		stands []time.Duration // how long the machine stands still in each call
		calls  int
		good   bool
	}{
		"answered":         {nil, 1, true},
		"hung":             {[]time.Duration{0}, 1, false},
		"stood still once": {[]time.Duration{limit + time.Second}, 2, true},
		"and hung":         {[]time.Duration{limit + time.Second, 0}, 2, false},
		"stands always":    {[]time.Duration{3 * limit, 3 * limit, 3 * limit, 3 * limit}, 3, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				calls := 0
				got, err := within(t.Context(), limit, func(ctx context.Context) (int, error) {
					if calls++; calls > len(c.stands) {
						return calls, nil
					}
					time.Sleep(c.stands[calls-1]) // nothing of this machine runs meanwhile
					<-ctx.Done()
					return 0, ctx.Err()
				})
				if calls != c.calls || (err == nil) != c.good || c.good && got != c.calls {
					t.Errorf("%d calls, %d, %v; want %d calls, good %v", calls, got, err, c.calls, c.good)
				}
				if err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v, want that it took too long", err)
				}
			})
		})
	}
}
