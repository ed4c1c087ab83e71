package balancer

import (
	"time"

	"github.com/ankacluster/ankacluster/balancer/clock"
	"github.com/ankacluster/ankacluster/balancer/health"
)

// compared is what an endpoint is compared with its peers by. It is not safe for
// concurrent use. The zero value is empty.
type compared struct {
	timing health.Punctuality
	recent tally
	rate   float64   // bytes per second of recent transfers
	rateAt time.Time // when it was measured

	localAt    time.Time // last network error that may be this machine's own
	localSince time.Time // first of the errors like it in a row
}

// reset forgets what speaks against an endpoint that comes back.
func (c *compared) reset() {
	c.timing = health.Punctuality{}
	c.recent = tally{}
}

func (ep *endpoint) punctuality() health.Punctuality {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	return ep.compared.timing
}

func (ep *endpoint) tallied() tally {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	return ep.compared.recent
}

// unanswered counts a request that was late and got no answer.
func (ep *endpoint) unanswered(now time.Time) {
	ep.mu.Lock()
	ep.compared.recent.add(true, now)
	ep.mu.Unlock()
}

// setRate notes how fast a transfer was for a second.
func (ep *endpoint) setRate(rate float64, now time.Time) {
	ep.mu.Lock()
	ep.compared.rate, ep.compared.rateAt = rate, now
	ep.mu.Unlock()
}

// rateMemory is how long a peer's rate is worth comparing with.
const rateMemory = 10 * time.Minute

// recentRate is the rate of the newest transfer, 0 when that is too long ago.
func (ep *endpoint) recentRate(now time.Time) float64 {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	if now.Sub(ep.compared.rateAt) >= rateMemory {
		return 0
	}
	return ep.compared.rate
}

// metLocalFault notes a network error that may be this machine's own.
func (ep *endpoint) metLocalFault(by *admission, err error, now time.Time) {
	ep.mu.Lock()
	ep.compared.localAt = now
	ep.counters.lastErr = err.Error()
	ep.mu.Unlock()
	ep.uncounted(by, now)
}

// localWithin reports whether such an error is the newest thing met, within a time.
func (ep *endpoint) localWithin(window time.Duration, now time.Time) bool {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	at := ep.compared.localAt
	return now.Sub(at) <= window && ep.lastAlive() < clock.Nano(at)
}

// unreachableSince is when the endpoint began to be unreachable. Only a peer
// that answers after that shows that it is the endpoint's own trouble.
func (ep *endpoint) unreachableSince(now time.Time) time.Time {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	c := &ep.compared
	if clock.Nano(c.localSince) <= ep.lastAlive() || c.localSince.IsZero() {
		c.localSince = now
	}
	return c.localSince
}
