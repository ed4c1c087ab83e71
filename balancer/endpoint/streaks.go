package endpoint

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/ankacluster/ankacluster/balancer/clock"
	"github.com/ankacluster/ankacluster/balancer/health"
)

// errCondemned is what the breaker is told of an endpoint that is out beside its peers.
var errCondemned = errors.New("out beside its peers")

// streaks are what came in a row, and the newest of its kind. They are safe for
// concurrent use.
type streaks struct {
	FailRun       atomic.Int32 // failures of real requests in a row
	refusals      atomic.Int32 // refusals since the last good answer that no peer has proven to be its own
	lateRun       atomic.Int32 // late answers in a row
	transferFails atomic.Int32 // broken transfers in a row
	LastGood      atomic.Int64 // last good answer to a real request, nano
	LastBad       atomic.Int64 // last failure of one that was compared with its peers', nano
	LastProbe     atomic.Int64 // last passed probe, nano
}

// reset forgets what is in a row.
func (s *streaks) reset() {
	s.FailRun.Store(0)
	s.refusals.Store(0)
	s.lateRun.Store(0)
	s.transferFails.Store(0)
}

// BadRun is how many real requests have failed or been refused since the last good
// answer.
func (s *streaks) BadRun() int32 { return s.FailRun.Load() + s.refusals.Load() }

// inRow is what the breaker counts in a row. Transfers have a row of their own: the good
// small answers between them must not hide a registry that breaks every download.
func (s *streaks) inRow() int32 { return max(s.FailRun.Load(), s.transferFails.Load()) }

// LastAlive is when a request or a probe was last answered well, as nano.
func (s *streaks) LastAlive() int64 { return max(s.LastGood.Load(), s.LastProbe.Load()) }

// Transferred records the end of a streamed answer.
func (s *streaks) Transferred(err error) {
	if err != nil {
		s.transferFails.Add(1)
		return
	}
	s.transferFails.Store(0)
}

// proven takes a refusal for a failure, unless there was a good answer since.
func (s *streaks) proven() {
	for {
		run := s.refusals.Load()
		if run <= 0 {
			return
		}
		if s.refusals.CompareAndSwap(run, run-1) {
			s.FailRun.Add(1)
			return
		}
	}
}

// Succeeded records a good answer and its latency, and says whether it ends a
// row of failures that is long enough to be out for.
func (ep *Endpoint) Succeeded(by *Admission, sent, now time.Time, late, longPoll bool) (recovered bool) {
	ep.LastGood.Store(clock.Nano(now))
	if ep.BadRun() != 0 {
		recovered = ep.FailRun.Swap(0)+ep.refusals.Swap(0) >= int32(ep.cfg.Breaker.Consecutive)
	}
	by.Tell(nil)
	ep.mu.Lock()
	defer ep.mu.Unlock()
	ep.counters.good(now)
	ep.compared.recent.add(false, now)
	if longPoll {
		return recovered
	}
	ep.counters.latency.Add(now.Sub(sent))
	if !late {
		ep.compared.timing = ep.compared.timing.OnTime(sent)
		if ep.lateRun.Load() != 0 {
			ep.lateRun.Store(0)
		}
	}
	return recovered
}

// Failed records a failure of a real request and says whether the breaker
// opened on it.
func (ep *Endpoint) Failed(by *Admission, now time.Time, err error) (tripped bool) {
	ep.FailRun.Add(1)
	ep.noteFailure(now, err)
	return ep.Breaker.failed(by, err)
}

func (ep *Endpoint) noteFailure(now time.Time, err error) {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	ep.counters.bad(now, err)
	ep.compared.recent.add(true, now)
}

// Refused records a refusal, which the breaker hears of when it is charged.
func (ep *Endpoint) Refused(by *Admission, now time.Time, err error) {
	by.Tell(ErrUncounted)
	ep.refusals.Add(1)
	ep.noteFailure(now, err)
}

// Charged tells the breaker of n failures that were noted before, and says whether it
// opened on them.
func (ep *Endpoint) Charged(n int, err error) (tripped bool) {
	for range n {
		ep.proven()
	}
	for range n {
		tripped = ep.Breaker.failed(nil, err) || tripped
	}
	return tripped
}

// Uncounted records a request that says nothing about the endpoint.
func (ep *Endpoint) Uncounted(by *Admission, now time.Time) {
	by.Tell(ErrUncounted)
	ep.mu.Lock()
	defer ep.mu.Unlock()
	ep.counters.sent(now)
}

// MarkLate records that a request has no answer yet.
func (ep *Endpoint) MarkLate(w Waiter, over *atomic.Bool, sent time.Time) health.Punctuality {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	if ep.Hold(w, over) {
		ep.compared.timing = ep.compared.timing.Late(sent)
		ep.counters.late++
		ep.lateRun.Store(int32(ep.compared.timing.LateRun))
	}
	return ep.compared.timing
}
