package balancer

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/ankacluster/ankacluster/balancer/endpoint"
)

// members is the address list by origin, each in its own order.
type members map[Origin][]string

// order is the union, the given first, each address once.
func (m members) order() []string {
	var out []string
	for _, origin := range []Origin{OriginJoin, OriginLearned, OriginCached} {
		for _, name := range m[origin] {
			if !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	return out
}

func (m members) originsOf(name string) []Origin {
	var out []Origin
	for _, origin := range []Origin{OriginJoin, OriginLearned, OriginCached} {
		if slices.Contains(m[origin], name) {
			out = append(out, origin)
		}
	}
	return out
}

// SetMembers replaces the addresses of one origin. The pool is the union of all
// origins; changes closer than the debounce time are applied together. A
// learned list without an address is refused with ErrEmptyList, and one bad
// address refuses the whole list.
func (b *Balancer) SetMembers(origin Origin, urls []string) error {
	switch origin {
	case OriginJoin, OriginLearned, OriginCached:
	default:
		return fmt.Errorf("unknown origin %q", origin)
	}
	if len(urls) == 0 && origin != OriginCached {
		return fmt.Errorf("%s: %s: %w", b.cfg.Name, origin, ErrEmptyList)
	}
	var names []string
	var errs []error
	for _, raw := range urls {
		u, err := endpoint.Parse(raw)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if !slices.Contains(names, u.String()) {
			names = append(names, u.String())
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	b.setMembers(origin, names, time.Now())
	return nil
}

func (b *Balancer) setMembers(origin Origin, names []string, now time.Time) {
	b.mu.Lock()
	if slices.Equal(b.members[origin], names) {
		b.mu.Unlock()
		return
	}
	first := b.members[origin] == nil
	b.members[origin] = names
	if origin == OriginLearned {
		b.members[OriginCached] = nil // the cloud's word replaces its old one
		select {
		case b.learned <- struct{}{}:
		default:
		}
	}
	var removed []*endpoint.Endpoint
	if first || !b.running || now.Sub(b.applied) >= b.cfg.Debounce {
		removed = b.applyLocked(now)
	} else {
		b.pending = true
	}
	b.mu.Unlock()
	release(removed)
	b.wakeProber()
}

// applyMembers applies a list that waited for the debounce.
func (b *Balancer) applyMembers(now time.Time) {
	b.mu.Lock()
	var removed []*endpoint.Endpoint
	if b.pending && now.Sub(b.applied) >= b.cfg.Debounce {
		removed = b.applyLocked(now)
	}
	b.mu.Unlock()
	release(removed)
}

// applyLocked makes and removes endpoints. A removed endpoint's running
// requests go on; the caller closes its idle connections.
func (b *Balancer) applyLocked(now time.Time) (removed []*endpoint.Endpoint) {
	b.pending, b.applied = false, now
	names := b.members.order()
	for name, ep := range b.eps {
		if !slices.Contains(names, name) {
			delete(b.eps, name)
			removed = append(removed, ep)
		}
	}
	for _, name := range names {
		ep := b.eps[name]
		if ep == nil {
			u, _ := url.Parse(name) // parsed before
			ep = endpoint.New(b.cfg.endpoint(), u, now)
			if since, ok := b.drained[name]; ok {
				ep.Drain(drainedByHand, since)
			}
			b.eps[name] = ep
		}
		ep.SetOrigins(b.members.originsOf(name))
	}
	b.leaving = append(b.leaving, removed...)
	b.publishLocked(now)
	return removed
}

// release closes the idle connections of removed endpoints at once. Those of
// running requests become idle later; tick comes back for them.
func release(removed []*endpoint.Endpoint) {
	for _, ep := range removed {
		ep.Transport.CloseIdleConnections()
	}
}

// sweep lets go of removed endpoints whose last request has ended.
func (b *Balancer) sweep() {
	b.mu.Lock()
	leaving := b.leaving
	b.leaving = nil
	b.mu.Unlock()
	var busy []*endpoint.Endpoint
	for _, ep := range leaving {
		if !ep.Idle() {
			busy = append(busy, ep)
		}
		ep.Transport.CloseIdleConnections()
	}
	b.mu.Lock()
	b.leaving = append(b.leaving, busy...)
	b.mu.Unlock()
}

// member finds an endpoint by any spelling of its URL.
func (b *Balancer) member(name string) (*endpoint.Endpoint, error) {
	u, err := endpoint.Parse(name)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	ep := b.eps[u.String()]
	if ep == nil {
		return nil, fmt.Errorf("%s: %s %w", b.cfg.Name, u, ErrNoMember)
	}
	return ep, nil
}

// SetWeight gives an endpoint a part of its fair share, above 0 and at most 1,
// at run time.
func (b *Balancer) SetWeight(endpoint string, weight float64) error {
	ep, err := b.member(endpoint)
	if err != nil {
		return err
	}
	if !(weight > 0 && weight <= 1) {
		return fmt.Errorf("weight %g of %s must be above 0 and at most 1; drain an endpoint to take it out", weight, ep.Name)
	}
	ep.SetWeight(weight)
	b.republish(time.Now())
	return nil
}
