package attempt

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ankacluster/ankacluster/balancer/endpoint"
)

// queue is where requests wait while nothing can be tried.
type queue struct {
	waiting   atomic.Int64
	returning chan struct{} // a place for each request that is sent after waiting
}

// placeTime is how long a request that waited keeps its place at most: what is
// stuck must not hold the others up.
const placeTime = 250 * time.Millisecond

// TakePlace lets the requests that waited go a few at a time: thousands of them
// at once would put down the endpoint that has just come back.
func (s *Sender) TakePlace(ctx context.Context) func() {
	select {
	case <-ctx.Done():
		return func() {}
	case s.queue.returning <- struct{}{}:
	}
	leave := sync.OnceFunc(func() { <-s.queue.returning })
	timer := time.AfterFunc(placeTime, leave)
	return func() {
		timer.Stop()
		leave()
	}
}

// WaitUsable returns when an endpoint may be tried, ctx ends, or the time is over; the
// zero time never is. While all are out, or refuse whatever they are asked, it hands the
// right to try one to a single request at a time, and returns that endpoint; thousands of
// others go on waiting without any work.
func (s *Sender) WaitUsable(ctx context.Context, until time.Time) *endpoint.Endpoint {
	s.queue.waiting.Add(1)
	defer s.queue.waiting.Add(-1)
	for {
		now := time.Now()
		snap := s.view.Load()
		if !snap.AllRefuse(s.cfg.Breaker.Consecutive) || !until.IsZero() && !now.Before(until) {
			return nil
		}
		due := now.Add(s.cfg.Retry.TrialInterval)
		for _, eps := range [][]*endpoint.Endpoint{snap.Usable, snap.Resort} {
			for _, ep := range eps {
				if ep.MayTry(now) {
					return ep
				}
				if at := ep.TrialDue(); at.Before(due) {
					due = at
				}
			}
		}
		wait := max(0, due.Sub(now)) + rand.N(wakeApart(s.queue.waiting.Load()))
		if !until.IsZero() {
			wait = min(wait, until.Sub(now))
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-snap.Replaced:
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// wakeApart is how far apart in time so many waiting requests wake, to look
// whether they may try: thousands must not do so together, and one alone must not
// sleep past its turn, which lasts until the next probe.
func wakeApart(waiting int64) time.Duration {
	return min(time.Duration(waiting)*10*time.Millisecond, time.Second)
}

// Backoff doubles with full jitter. The first wait is nearly fixed: one pass
// just failed everywhere, and most faults of all endpoints at once are short.
func Backoff(low, high time.Duration, n int) time.Duration {
	if n == 0 {
		return time.Duration(float64(low) * (0.9 + 0.2*rand.Float64()))
	}
	limit := high
	if n < 16 && low<<n < high {
		limit = low << n
	}
	return low + time.Duration(rand.Float64()*float64(limit-low))
}
