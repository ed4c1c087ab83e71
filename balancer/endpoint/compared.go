package endpoint

import (
	"time"

	"github.com/ankacluster/ankacluster/balancer/clock"
	"github.com/ankacluster/ankacluster/balancer/health"
)

// compared is what an endpoint is compared with its peers by. It is not safe for
// concurrent use. The zero value is empty.
type compared struct {
	timing health.Punctuality
	recent Tally
	rate   float64   // bytes per second of recent transfers
	rateAt time.Time // when it was measured

	localAt    time.Time // last network error that may be this machine's own
	localSince time.Time // first of the errors like it in a row
}

// reset forgets what speaks against an endpoint that comes back.
func (c *compared) reset() {
	c.timing = health.Punctuality{}
	c.recent = Tally{}
}

// Punctuality is how late its answers are.
func (ep *Endpoint) Punctuality() health.Punctuality {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	return ep.compared.timing
}

// Tallied is how many of its recent requests failed.
func (ep *Endpoint) Tallied() Tally {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	return ep.compared.recent
}

// Unanswered counts a request that was late and got no answer.
func (ep *Endpoint) Unanswered(now time.Time) {
	ep.mu.Lock()
	ep.compared.recent.add(true, now)
	ep.mu.Unlock()
}

// SetRate notes how fast a transfer was for a second.
func (ep *Endpoint) SetRate(rate float64, now time.Time) {
	ep.mu.Lock()
	ep.compared.rate, ep.compared.rateAt = rate, now
	ep.mu.Unlock()
}

// rateMemory is how long a peer's rate is worth comparing with.
const rateMemory = 10 * time.Minute

// RecentRate is the rate of the newest transfer, 0 when that is too long ago.
func (ep *Endpoint) RecentRate(now time.Time) float64 {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	if now.Sub(ep.compared.rateAt) >= rateMemory {
		return 0
	}
	return ep.compared.rate
}

// MetLocalFault notes a network error that may be this machine's own.
func (ep *Endpoint) MetLocalFault(by *Admission, err error, now time.Time) {
	ep.mu.Lock()
	ep.compared.localAt = now
	ep.counters.lastErr = err.Error()
	ep.mu.Unlock()
	ep.Uncounted(by, now)
}

// LocalWithin reports whether such an error is the newest thing met, within a time.
func (ep *Endpoint) LocalWithin(window time.Duration, now time.Time) bool {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	at := ep.compared.localAt
	return now.Sub(at) <= window && ep.LastAlive() < clock.Nano(at)
}

// UnreachableSince is when the endpoint began to be unreachable. Only a peer
// that answers after that shows that it is the endpoint's own trouble.
func (ep *Endpoint) UnreachableSince(now time.Time) time.Time {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	c := &ep.compared
	if clock.Nano(c.localSince) <= ep.LastAlive() || c.localSince.IsZero() {
		c.localSince = now
	}
	return c.localSince
}
