// Package backoff is how long to wait before something that failed is tried again.
//
//	pace := backoff.Pace{Min: 100 * time.Millisecond, Max: 10 * time.Second}
//	for failures := 0; ; failures++ {
//		if err := try(); err == nil || !pace.Wait(ctx, failures) {
//			return err
//		}
//	}
//
// It keeps no state: callers that count failures for other reasons (a limit, a log
// line for every twentieth) count once. github.com/cenkalti/backoff, which comes
// with etcd, counts by itself, and waits longer than its limit by its random part.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Pace is a wait that doubles from Min to Max. Half of each is random, so that many
// that lost one server do not come back as one.
type Pace struct{ Min, Max time.Duration }

// Limit returns the longest wait before repeat n, counted from 0.
func (p Pace) Limit(n int) time.Duration {
	d := p.Min
	for range n {
		if d >= p.Max/2 {
			return p.Max
		}
		d *= 2
	}
	return min(d, p.Max)
}

// Next returns the wait before repeat n, counted from 0: at random between half of
// the limit and the limit.
func (p Pace) Next(n int) time.Duration { return Jitter(p.Limit(n)) }

// Wait waits for Next(n). It reports false when ctx ended first.
func (p Pace) Wait(ctx context.Context, n int) bool { return Sleep(ctx, p.Next(n)) }

// Jitter returns a time at random between half of d and d.
func Jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// Sleep waits for d. It reports false when ctx ended first.
func Sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
