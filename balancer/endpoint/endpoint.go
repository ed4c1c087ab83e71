// Package endpoint is one server of a pool: its address, its connections, what it has under
// way, and what was seen of it. An Endpoint keeps records, admits requests by its breaker
// and decides when it is probed; it does not choose among endpoints and sends nothing by
// itself.
package endpoint

import (
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ankacluster/ankacluster/balancer/clock"
	"github.com/ankacluster/ankacluster/balancer/health"
)

// Config is what the endpoints of a pool have in common.
type Config struct {
	Breaker BreakerConfig
	// SlowStart is how long a returned endpoint's share grows from SlowStartFrom.
	SlowStart     time.Duration
	SlowStartFrom float64
	// TrialInterval is the pace at which requests may try an endpoint that is out,
	// ProbeInterval that of the probes of one that has just gone out.
	TrialInterval time.Duration
	ProbeInterval time.Duration

	Transport TransportConfig
}

// Endpoint is one server of the pool. Its parts have one job each. Those above mu are
// read without a lock, as requests pick an endpoint; mu is held for memory operations
// only.
type Endpoint struct {
	cfg       Config
	Name      string // canonical URL, the key of the member list
	URL       *url.URL
	Transport *http.Transport

	load
	share
	streaks
	trials
	Breaker breaker

	mu       sync.Mutex // guards all below
	health   health.Record
	probe    health.Schedule
	identity identity
	counters counters
	compared compared
}

// New returns an endpoint that is not heard from yet.
func New(cfg Config, u *url.URL, now time.Time) *Endpoint {
	ep := &Endpoint{
		cfg:       cfg,
		Name:      u.String(),
		URL:       u,
		Transport: newTransport(&cfg.Transport, u.Hostname()),
		health:    health.Record{State: health.Unknown, Since: now, Reason: "new"},
	}
	ep.share.init(cfg.SlowStart, cfg.SlowStartFrom)
	ep.Breaker.cfg, ep.Breaker.inRow = cfg.Breaker, ep.streaks.inRow
	ep.Breaker.reset()
	return ep
}

// identity is what is known of the server itself.
type identity struct {
	origins   []Origin
	everReady bool   // its readiness has passed once
	server    string // the name that it gives itself
	several   bool   // it has given more than one: others are behind it
}

// maxIdentity bounds the name that a server gives itself.
const maxIdentity = 128

// Identified notes the name that a server gives itself.
func (ep *Endpoint) Identified(name string) {
	if len(name) > maxIdentity {
		return
	}
	ep.mu.Lock()
	defer ep.mu.Unlock()
	id := &ep.identity
	id.several = id.several || id.server != "" && name != id.server
	id.server = name
}

// FoundReady notes a pass, and says whether an answer that tells nothing is to be
// taken for one: a server without readiness can only show that it answers again.
// One that was ready before must say that it is.
func (ep *Endpoint) FoundReady(v health.Verdict) bool {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	ep.identity.everReady = ep.identity.everReady || v == health.Pass
	out := ep.health.State == health.Down || ep.health.State == health.Ejected
	return v == health.Nothing && out && !ep.identity.everReady
}

// NeedsProof: readiness was good all the time that the endpoint is out, so it
// does not tell whether it works again.
func (ep *Endpoint) NeedsProof() bool {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	return ep.health.State == health.Ejected && !ep.health.Spoke
}

// SetOrigins notes which lists name the endpoint.
func (ep *Endpoint) SetOrigins(origins []Origin) {
	ep.mu.Lock()
	ep.identity.origins = origins
	ep.mu.Unlock()
}

// Record returns the endpoint's health, and when a request failed last.
func (ep *Endpoint) Record() (h health.Record, failedAt time.Time) {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	return ep.health, ep.counters.failAt
}

// Transition applies a change of health. It returns the record before and after, and the
// requests that wait for an answer.
func (ep *Endpoint) Transition(now time.Time, step func(health.Record) (health.Record, bool)) (before, after health.Record, changed bool, waiting []Waiter) {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	before = ep.health
	after, changed = step(before)
	ep.health = after
	if changed {
		ep.enteredLocked(before, after, now)
		waiting = ep.load.WaitersOf()
	}
	return before, after, changed, waiting
}

// Drain has the endpoint drained since a time before it could be asked anything.
func (ep *Endpoint) Drain(reason string, since time.Time) {
	ep.Transition(since, func(h health.Record) (health.Record, bool) { return h.Drain(reason, since) })
}

// enteredLocked adapts what belongs to a state to the state entered.
func (ep *Endpoint) enteredLocked(before, after health.Record, now time.Time) {
	switch {
	case after.Usable():
		ep.streaks.reset()
		ep.compared.reset()
		ep.Stay.Add(1)
		ep.Sample.Store(nil)
		ep.Breaker.reset()
		ep.share.begin(after.Ramp)
	case before.Usable():
		ep.share.begin(time.Time{})
		ep.outSince.Store(clock.Nano(now))
		if after.State == health.Draining {
			break // nothing went wrong
		}
		ep.counters.ejections++
		if after.State == health.Ejected && !ep.Breaker.refuses.Load() {
			ep.Breaker.condemn(errCondemned)
		}
		// The next probe was set at the pace of an endpoint that is well.
		if soon := clock.At(ep.probed.Load()).Add(ep.cfg.ProbeInterval); ep.probe.Due.After(soon) {
			ep.probe.Due = soon
		}
	}
}

// Tick moves what changes by time alone. It reports whether the endpoint's share has
// become a whole one, and whether anything is left that will change.
func (ep *Endpoint) Tick(now time.Time) (whole, running bool) {
	h, _ := ep.Record()
	if h.State == health.Healthy {
		running = ep.Breaker.forget(now.Sub(h.Since))
		whole = ep.wholeAgain(now)
	}
	return whole, running || h.State != health.Healthy || ep.ramp.Load() != 0
}

// Trusted reports whether nothing at all speaks against the endpoint.
func (ep *Endpoint) Trusted(now time.Time) bool {
	return ep.BadRun() == 0 && ep.lateRun.Load() == 0 && ep.ramp.Load() == 0 && ep.load.answers(now)
}

// MayTry hands out the right to try an endpoint that is out: without limit
// while its last answer was good, else at the trial pace, and never close to a
// probe.
func (ep *Endpoint) MayTry(now time.Time) bool {
	if ep.BadRun() == 0 && ep.LastGood.Load() > ep.outSince.Load() {
		return true // real requests succeed, whatever its probes say
	}
	due := ep.trial.Load()
	if now.Before(ep.TrialDue()) || !ep.trial.CompareAndSwap(due, clock.Nano(now)+int64(ep.cfg.TrialInterval)) {
		return false
	}
	ep.mu.Lock()
	if next := now.Add(ep.cfg.ProbeInterval); ep.probe.Due.Before(next) {
		ep.probe.Due = next
	}
	ep.mu.Unlock()
	return true
}

// trials are when an endpoint that is out was, and may be, asked.
type trials struct {
	trial    atomic.Int64           // when a request may next try it, nano
	probed   atomic.Int64           // when it was last probed, nano
	outSince atomic.Int64           // when it went out last, nano
	Stay     atomic.Uint32          // grows each time it comes back
	Sample   atomic.Pointer[Sample] // a request that it got wrong and a peer did not; nil without one
}

// TrialDue is when a request may next try an endpoint that is out.
func (ep *Endpoint) TrialDue() time.Time {
	apart := int64(ep.cfg.ProbeInterval) * 85 / 100
	return clock.At(max(ep.trial.Load(), ep.probed.Load()+apart))
}

// LookAt has the endpoint probed at a time, if that is sooner and it is in use.
func (ep *Endpoint) LookAt(soon time.Time) (sooner bool) {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	if !ep.probe.Due.After(soon) || !ep.health.Usable() {
		return false
	}
	ep.probe.Due = soon
	ep.probe.Skipped = true // real traffic is no reason to leave it out
	return true
}
