package balancer

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ankacluster/ankacluster/balancer/endpoint"
	"github.com/ankacluster/ankacluster/balancer/health"
)

// ErrLastUsable: without the endpoint the pool has none that is usable.
var ErrLastUsable = errors.New("no other endpoint of the pool is usable")

// drainedByHand is the reason that a person reads.
const drainedByHand = "drained by hand"

// Drain takes a member out of rotation until Undrain: no new request goes there, also
// where nothing else is left, and those under way end. It stays out when it leaves the
// pool and is announced again. The last usable endpoint is refused with ErrLastUsable
// unless force is true.
func (b *Balancer) Drain(url string, force bool) error {
	ep, err := b.member(url)
	if err != nil {
		return err
	}
	now := time.Now()
	b.transition(ep, now, func(h health.Record) (health.Record, bool) {
		others := func(other *endpoint.Endpoint) bool { return other != ep }
		if !force && h.State != Draining && !slices.ContainsFunc(b.snap.Load().Usable, others) {
			err = fmt.Errorf("%s: %s: %w", b.cfg.Name, ep.Name, ErrLastUsable)
			return h, false
		}
		if _, before := b.drained[ep.Name]; !before {
			b.drained[ep.Name] = now
		}
		return h.Drain(drainedByHand, now)
	})
	return err
}

// Undrain ends a drain. The endpoint comes back as one that was down does: with a small
// share that grows, and not before its probes pass when the newest of them failed.
func (b *Balancer) Undrain(url string) error {
	ep, err := b.member(url)
	if err != nil {
		return b.forgetDrained(url, err)
	}
	now := time.Now()
	b.transition(ep, now, func(h health.Record) (health.Record, bool) {
		delete(b.drained, ep.Name)
		return h.Undrain(now)
	})
	b.lookAgain(ep)
	return nil
}

// forgetDrained ends the drain of what is no member now. Its error is unknown when
// nothing of that name is drained.
func (b *Balancer) forgetDrained(url string, unknown error) error {
	u, err := ParseEndpoint(url)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.drained[u.String()]; !ok {
		return unknown
	}
	delete(b.drained, u.String())
	return nil
}

// Drained returns what is drained, members or not, and since when.
func (b *Balancer) Drained() map[string]time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.drained)
}

// SetDrained drains what Drained returned in an earlier process, members or not.
func (b *Balancer) SetDrained(since map[string]time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, at := range since {
		b.drained[name] = at
		if ep := b.eps[name]; ep != nil {
			ep.Drain(drainedByHand, at)
		}
	}
	b.publishLocked(time.Now())
}
