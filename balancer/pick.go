package balancer

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/ankacluster/ankacluster/balancer/endpoint"
	"github.com/ankacluster/ankacluster/balancer/health"
)

// snapshot is an immutable view of the pool. Its lists never change; what an
// endpoint knows of itself (weight, trouble) is read from its atomics.
type snapshot struct {
	// all are the members in a stable order.
	all []*endpoint.Endpoint
	// usable are those that may be chosen, in the same order.
	usable []*endpoint.Endpoint
	// resort are the others, the least recently failed first: they are tried
	// after the usable ones when the pool has failed open.
	resort []*endpoint.Endpoint
	// failedOpen: fewer than the configured part of all is usable.
	failedOpen bool
	// least: the policy is LeastInFlight.
	least bool
	// uneven: at least one usable endpoint takes less than a fair share.
	uneven bool
	// replaced is closed when another snapshot takes this one's place.
	replaced chan struct{}
}

// newSnapshot is a view of the pool's members. The policy is the fewest requests in flight
// if least is true. When a smaller part than failOpenBelow is usable, the pool has failed
// open.
func newSnapshot(all []*endpoint.Endpoint, least bool, failOpenBelow float64) *snapshot {
	s := &snapshot{all: all, least: least, replaced: make(chan struct{})}
	fails := make(map[*endpoint.Endpoint]time.Time)
	for _, ep := range all {
		h, failedAt := ep.Record()
		switch {
		case h.Usable():
			s.usable = append(s.usable, ep)
			s.uneven = s.uneven || ep.Weight() < 1
		case h.State != health.Draining:
			fails[ep] = failedAt
			s.resort = append(s.resort, ep)
		}
	}
	slices.SortStableFunc(s.resort, func(x, y *endpoint.Endpoint) int { return fails[x].Compare(fails[y]) })
	known := len(s.usable) + len(s.resort)
	s.failedOpen = known > 0 && float64(len(s.usable)) < failOpenBelow*float64(known)
	return s
}

// allRefuse says that there are endpoints, and each is out or would be, for so
// many failures in a row, if it were not the last.
func (s *snapshot) allRefuse(failures uint32) bool {
	for _, ep := range s.usable {
		if ep.BadRun() < int32(failures) {
			return false
		}
	}
	return len(s.usable)+len(s.resort) > 0
}

// want is what kind of endpoint a request asks for.
type want struct {
	now time.Time
	// careful requests cannot be repeated once sent: they avoid an endpoint
	// with any fresh sign of trouble while there is one without.
	careful bool
}

// first picks the endpoint for a request's first attempt; turn is the pool's
// request number. It returns nil when nothing is usable. It does not allocate.
func (s *snapshot) first(turn uint64, w want) *endpoint.Endpoint {
	n := uint32(len(s.usable))
	if n == 0 {
		return nil
	}
	ep := s.usable[uint32(turn)%n] // 32 bits divide in half the time
	if s.least {
		ep = s.leastInFlight(turn)
	}
	switch {
	case n == 1:
	case w.careful:
		return s.careful(ep, turn, w.now)
	case s.uneven:
		return s.yield(ep)
	}
	return ep
}

// careful passes over endpoints with any sign of trouble while there is one
// without.
func (s *snapshot) careful(ep *endpoint.Endpoint, turn uint64, now time.Time) *endpoint.Endpoint {
	if ep.Trusted(now) {
		return ep
	}
	n := uint64(len(s.usable))
	for i := uint64(1); i < n; i++ {
		if other := s.usable[(turn+i)%n]; other.Trusted(now) {
			return other
		}
	}
	return ep
}

// leastInFlight breaks ties in turn, so that idle endpoints share evenly.
func (s *snapshot) leastInFlight(turn uint64) *endpoint.Endpoint {
	n := uint64(len(s.usable))
	best := s.usable[turn%n]
	least := best.InFlight.Load()
	for i := uint64(1); i < n && least > 0; i++ {
		ep := s.usable[(turn+i)%n]
		if load := ep.InFlight.Load(); load < least {
			best, least = ep, load
		}
	}
	return best
}

// yield lets an endpoint with less than a full weight pass turns on, to a random
// other one: the next in line would otherwise get a double share.
func (s *snapshot) yield(ep *endpoint.Endpoint) *endpoint.Endpoint {
	if ep.TakesTurn(ep.Weight()) {
		return ep
	}
	n := len(s.usable) - 1 // the others
	start := rand.IntN(n)
	best, most := ep, 0.0
	at := slices.Index(s.usable, ep)
	for i := range n {
		other := s.usable[(at+1+(start+i)%n)%len(s.usable)]
		if weight := other.Weight(); weight > most {
			best, most = other, weight
		}
	}
	return best
}

// next picks an endpoint that tried does not hold: a usable one while there is,
// then, if the pool has failed open, one of the resort whose trial is due.
func (s *snapshot) next(turn uint64, w want, tried []*endpoint.Endpoint) *endpoint.Endpoint {
	var fallback *endpoint.Endpoint
	n := uint64(len(s.usable))
	for i := range n {
		ep := s.usable[(turn+i)%n]
		if slices.Contains(tried, ep) {
			continue
		}
		if ep.Trusted(w.now) {
			return ep
		}
		if fallback == nil {
			fallback = ep
		}
	}
	if fallback != nil || !s.failedOpen {
		return fallback
	}
	for _, ep := range s.resort {
		if !slices.Contains(tried, ep) && ep.MayTry(w.now) {
			return ep
		}
	}
	return nil
}
