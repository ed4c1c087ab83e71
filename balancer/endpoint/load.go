package endpoint

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/ankacluster/ankacluster/balancer/clock"
)

// load is what an endpoint has under way. It is safe for concurrent use.
type load struct {
	InFlight  atomic.Int64 // requests without an answer yet, long polls left out
	waiting   atomic.Int64 // long polls
	Transfers atomic.Int64 // answers whose body is still being read
	progress  atomic.Int64 // last answer, or first request after idleness, nano
	owes      atomic.Int32 // documents that have begun and are waited for
	owedSince atomic.Int64 // when the last byte of one came, or the first was asked for, nano
	dropped   atomic.Int64 // when its idle connections were closed last, nano

	waitersMu sync.Mutex // taken after the endpoint's mu
	waiters   map[Waiter]struct{}
}

// Waiter is a request that waits for an answer, and may be sent elsewhere instead.
type Waiter interface{ MoveOn() }

// Began counts a request that is about to be sent.
func (l *load) Began(now time.Time, longPoll bool) {
	if longPoll {
		l.waiting.Add(1)
		return
	}
	if l.InFlight.Add(1) == 1 {
		l.progress.Store(clock.Nano(now))
	}
}

// Ended is called when that has ended.
func (l *load) Ended(now time.Time, longPoll bool) {
	if longPoll {
		l.waiting.Add(-1)
		return
	}
	l.InFlight.Add(-1)
	l.progress.Store(clock.Nano(now))
}

// Idle reports whether nothing is under way.
func (l *load) Idle() bool {
	return l.InFlight.Load()+l.waiting.Load()+l.Transfers.Load() <= 0
}

// Owe notes that a reader waits for a document that the endpoint has begun.
func (l *load) Owe(now time.Time) {
	if l.owes.Add(1) == 1 {
		l.owedSince.Store(clock.Nano(now))
	}
}

// Paid notes that n bytes of it came.
func (l *load) Paid(n int, now time.Time) {
	l.owes.Add(-1)
	if n > 0 {
		l.owedSince.Store(clock.Nano(now))
	}
}

// quiet is how long an endpoint with requests in flight may give no answer
// before careful requests avoid it. It is a preference only.
const quiet = 15 * time.Millisecond

// answers reports whether the endpoint gives what it is asked for as it goes.
func (l *load) answers(now time.Time) bool {
	if l.owes.Load() > 0 && clock.Nano(now)-l.owedSince.Load() >= int64(quiet) {
		return false
	}
	return l.InFlight.Load() == 0 || clock.Nano(now)-l.progress.Load() < int64(quiet)
}

// Hold notes a request that need not wait for an answer which an endpoint that went out
// will not give, unless it is over.
func (l *load) Hold(w Waiter, over *atomic.Bool) bool {
	l.waitersMu.Lock()
	defer l.waitersMu.Unlock()
	if over.Load() {
		return false
	}
	if l.waiters == nil {
		l.waiters = make(map[Waiter]struct{})
	}
	l.waiters[w] = struct{}{}
	return true
}

// Release is called for a request that was held and is over.
func (l *load) Release(w Waiter) {
	l.waitersMu.Lock()
	delete(l.waiters, w)
	l.waitersMu.Unlock()
}

// WaitersOf are the requests that are held.
func (l *load) WaitersOf() []Waiter {
	l.waitersMu.Lock()
	defer l.waitersMu.Unlock()
	all := make([]Waiter, 0, len(l.waiters))
	for w := range l.waiters {
		all = append(all, w)
	}
	return all
}

// DropIdle closes the endpoint's idle connections, once a second at most: one of
// them was found to be dead without a sign, and those made since are not.
func (ep *Endpoint) DropIdle(now time.Time) {
	last := ep.dropped.Load()
	if clock.Nano(now)-last >= int64(time.Second) && ep.dropped.CompareAndSwap(last, clock.Nano(now)) {
		ep.Transport.CloseIdleConnections()
	}
}
