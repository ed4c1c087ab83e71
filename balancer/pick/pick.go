// Package pick chooses the endpoint for an attempt from a view of the pool. A Snapshot
// never changes; what an endpoint knows of itself (its weight, its trouble) is read from
// its atomics.
package pick

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/ankacluster/ankacluster/balancer/endpoint"
	"github.com/ankacluster/ankacluster/balancer/health"
)

// Snapshot is an immutable view of the pool. Its lists never change; what an
// endpoint knows of itself (weight, trouble) is read from its atomics.
type Snapshot struct {
	// All are the members in a stable order.
	All []*endpoint.Endpoint
	// Usable are those that may be chosen, in the same order.
	Usable []*endpoint.Endpoint
	// Resort are the others, the least recently failed first: they are tried
	// after the usable ones when the pool has failed open.
	Resort []*endpoint.Endpoint
	// FailedOpen: fewer than the configured part of all is usable.
	FailedOpen bool
	// least: the policy is LeastInFlight.
	least bool
	// uneven: at least one usable endpoint takes less than a fair share.
	uneven bool
	// Replaced is closed when another snapshot takes this one's place.
	Replaced chan struct{}
}

// New is a view of the pool's members. The policy is the fewest requests in flight
// if least is true. When a smaller part than failOpenBelow is usable, the pool has failed
// open.
func New(all []*endpoint.Endpoint, least bool, failOpenBelow float64) *Snapshot {
	s := &Snapshot{All: all, least: least, Replaced: make(chan struct{})}
	fails := make(map[*endpoint.Endpoint]time.Time)
	for _, ep := range all {
		h, failedAt := ep.Record()
		switch {
		case h.Usable():
			s.Usable = append(s.Usable, ep)
			s.uneven = s.uneven || ep.Weight() < 1
		case h.State != health.Draining:
			fails[ep] = failedAt
			s.Resort = append(s.Resort, ep)
		}
	}
	slices.SortStableFunc(s.Resort, func(x, y *endpoint.Endpoint) int { return fails[x].Compare(fails[y]) })
	known := len(s.Usable) + len(s.Resort)
	s.FailedOpen = known > 0 && float64(len(s.Usable)) < failOpenBelow*float64(known)
	return s
}

// AllRefuse reports whether there are endpoints, and each is out or would be, for so
// many failures in a row, if it were not the last.
func (s *Snapshot) AllRefuse(failures uint32) bool {
	for _, ep := range s.Usable {
		if ep.BadRun() < int32(failures) {
			return false
		}
	}
	return len(s.Usable)+len(s.Resort) > 0
}

// Want is what kind of endpoint a request asks for.
type Want struct {
	Now time.Time
	// Careful requests cannot be repeated once sent: they avoid an endpoint
	// with any fresh sign of trouble while there is one without.
	Careful bool
}

// First picks the endpoint for a request's first attempt; turn is the pool's
// request number. It returns nil when nothing is usable. It does not allocate.
func (s *Snapshot) First(turn uint64, w Want) *endpoint.Endpoint {
	n := uint32(len(s.Usable))
	if n == 0 {
		return nil
	}
	ep := s.Usable[uint32(turn)%n] // 32 bits divide in half the time
	if s.least {
		ep = s.leastInFlight(turn)
	}
	switch {
	case n == 1:
	case w.Careful:
		return s.careful(ep, turn, w.Now)
	case s.uneven:
		return s.yield(ep)
	}
	return ep
}

// careful passes over endpoints with any sign of trouble while there is one
// without.
func (s *Snapshot) careful(ep *endpoint.Endpoint, turn uint64, now time.Time) *endpoint.Endpoint {
	if ep.Trusted(now) {
		return ep
	}
	n := uint64(len(s.Usable))
	for i := uint64(1); i < n; i++ {
		if other := s.Usable[(turn+i)%n]; other.Trusted(now) {
			return other
		}
	}
	return ep
}

// leastInFlight breaks ties in turn, so that idle endpoints share evenly.
func (s *Snapshot) leastInFlight(turn uint64) *endpoint.Endpoint {
	n := uint64(len(s.Usable))
	best := s.Usable[turn%n]
	least := best.InFlight.Load()
	for i := uint64(1); i < n && least > 0; i++ {
		ep := s.Usable[(turn+i)%n]
		if load := ep.InFlight.Load(); load < least {
			best, least = ep, load
		}
	}
	return best
}

// yield lets an endpoint with less than a full weight pass turns on, to a random
// other one: the next in line would otherwise get a double share.
func (s *Snapshot) yield(ep *endpoint.Endpoint) *endpoint.Endpoint {
	if ep.TakesTurn(ep.Weight()) {
		return ep
	}
	n := len(s.Usable) - 1 // the others
	start := rand.IntN(n)
	best, most := ep, 0.0
	at := slices.Index(s.Usable, ep)
	for i := range n {
		other := s.Usable[(at+1+(start+i)%n)%len(s.Usable)]
		if weight := other.Weight(); weight > most {
			best, most = other, weight
		}
	}
	return best
}

// Next picks an endpoint that tried does not hold: a usable one while there is,
// then, if the pool has failed open, one of the resort whose trial is due.
func (s *Snapshot) Next(turn uint64, w Want, tried []*endpoint.Endpoint) *endpoint.Endpoint {
	var fallback *endpoint.Endpoint
	n := uint64(len(s.Usable))
	for i := range n {
		ep := s.Usable[(turn+i)%n]
		if slices.Contains(tried, ep) {
			continue
		}
		if ep.Trusted(w.Now) {
			return ep
		}
		if fallback == nil {
			fallback = ep
		}
	}
	if fallback != nil || !s.FailedOpen {
		return fallback
	}
	for _, ep := range s.Resort {
		if !slices.Contains(tried, ep) && ep.MayTry(w.Now) {
			return ep
		}
	}
	return nil
}
