package balancer

import (
	"errors"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/ankacluster/ankacluster/balancer/clock"
	"github.com/ankacluster/ankacluster/balancer/health"
)

// endpoint is one server of the pool. The atomics are what picking reads; all
// else is guarded by mu, which is held for memory operations only.
type endpoint struct {
	cfg       *Config
	name      string // canonical URL, the key of the member list
	url       *url.URL
	transport *http.Transport

	inFlight  atomic.Int64 // requests without an answer yet, long polls left out
	waiting   atomic.Int64 // long polls
	transfers atomic.Int64 // answers whose body is still being read

	failRun       atomic.Int32           // failures of real requests in a row
	refusals      atomic.Int32           // refusals since the last good answer that no peer has proven to be its own
	lateRun       atomic.Int32           // late answers in a row
	owes          atomic.Int32           // documents that have begun and are waited for
	owedSince     atomic.Int64           // when the last byte of one came, or the first was asked for, nano
	ramp          atomic.Int64           // start of the slow start, nano, 0 for none
	share         atomic.Uint64          // weight set by a person, as float bits
	credit        atomic.Int64           // parts of a turn saved up, in wholeTurn; see takesTurn
	progress      atomic.Int64           // last answer, or first request after idleness, nano
	lastGood      atomic.Int64           // last good answer to a real request, nano
	lastBad       atomic.Int64           // last failure of one that compareFailure saw, nano
	lastProbe     atomic.Int64           // last passed probe, nano
	transferFails atomic.Int32           // broken transfers in a row
	trial         atomic.Int64           // when a request may next try it while it is out, nano
	probed        atomic.Int64           // when it was last probed, nano
	outSince      atomic.Int64           // when it went out last, nano
	dropped       atomic.Int64           // when its idle connections were closed last, nano
	stay          atomic.Uint32          // grows each time it comes back
	sample        atomic.Pointer[sample] // a request that it got wrong and a peer did not; nil without one

	mu         sync.Mutex
	health     health.Record
	everReady  bool   // its readiness has passed once
	server     string // the name that it gives itself
	several    bool   // it has given more than one: others are behind it
	origins    []Origin
	breaker    *gobreaker.TwoStepCircuitBreaker[struct{}]
	opens      int // openings of the breaker that are not forgotten yet
	openFor    time.Duration
	openAt     time.Time // when it opened last
	timing     health.Punctuality
	latency    histogram
	minute     minute
	recent     tally
	lastErr    string
	rate       float64   // bytes per second of recent transfers
	rateAt     time.Time // when it was measured
	failAt     time.Time
	localAt    time.Time // last network error that may be this machine's own
	localSince time.Time // first of the errors like it in a row
	tripping   bool      // tripLocked is at work
	untold     int       // good answers that the breaker was not told of
	toldAt     time.Time // when it was told last
	pending    map[*attempt]struct{}

	probe health.Schedule

	requests, failures, lateTotal, ejections uint64
}

func newEndpoint(cfg *Config, u *url.URL, transport *http.Transport, now time.Time) *endpoint {
	ep := &endpoint{
		cfg:       cfg,
		name:      u.String(),
		url:       u,
		transport: transport,
		health:    health.Record{State: Unknown, Since: now, Reason: "new"},
		pending:   make(map[*attempt]struct{}),
	}
	ep.share.Store(math.Float64bits(1))
	ep.credit.Store(rand.Int64N(wholeTurn)) // many clients do not begin a ramp in step
	ep.resetBreakerLocked()
	return ep
}

// resetBreakerLocked replaces the breaker with a closed one whose open time is
// the next in the doubling row. gobreaker's open time is fixed for the life of
// a breaker, and late results of the old breaker are dropped with it.
func (ep *endpoint) resetBreakerLocked() {
	cfg := ep.cfg.Breaker
	ep.untold = 0
	open := cfg.OpenFor
	for range ep.opens {
		open = min(open*2, cfg.OpenMax)
	}
	jitter := 1 + cfg.Jitter*(2*rand.Float64()-1)
	ep.openFor = time.Duration(float64(open) * jitter)
	ep.breaker = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Name:         ep.name,
		MaxRequests:  1,
		Interval:     cfg.Window,
		BucketPeriod: cfg.Window / 10, // rolling: a fixed window forgets everything at its edge
		Timeout:      ep.openFor,
		// gobreaker forgets failures in a row with its buckets, so that rare
		// long transfers could fail for ever: the row is counted here.
		ReadyToTrip: func(c gobreaker.Counts) bool {
			if ep.tripping || ep.failRun.Load() >= int32(cfg.Consecutive) || ep.transferFails.Load() >= int32(cfg.Consecutive) {
				return true
			}
			total := c.TotalSuccesses + c.TotalFailures
			return total >= cfg.MinSamples && float64(c.TotalSuccesses) < cfg.SuccessRate*float64(total)
		},
	})
}

// Good answers are told to the breaker some at a time, a second late at most: it
// asks for the time twice for each, and only a failure makes it decide.
const (
	tellAfter = 64
	tellEvery = time.Second
)

// goodLocked counts a good answer.
func (ep *endpoint) goodLocked(now time.Time) {
	if ep.untold++; ep.untold >= tellAfter || now.Sub(ep.toldAt) >= tellEvery {
		ep.toldAt = now
		ep.tellLocked()
	}
}

// tellLocked makes the breaker's count of good answers complete. A closed breaker
// always allows, so the slot of a half-open one is left to the prober.
func (ep *endpoint) tellLocked() (closed bool) {
	closed = ep.breaker.State() == gobreaker.StateClosed
	for ; closed && ep.untold > 0; ep.untold-- {
		if done, refused := ep.breaker.Allow(); refused == nil {
			done(nil)
		}
	}
	ep.untold = 0
	return closed
}

// badLocked tells the breaker of a failure when it happens, and says whether it
// opened.
func (ep *endpoint) badLocked(err error) (tripped bool) {
	if !ep.tellLocked() {
		return false
	}
	if done, refused := ep.breaker.Allow(); refused == nil {
		done(err)
	}
	return ep.breaker.State() == gobreaker.StateOpen
}

// weight is the part of a fair share that the endpoint takes now.
func (ep *endpoint) weight() float64 {
	set := math.Float64frombits(ep.share.Load())
	start := ep.ramp.Load()
	if start == 0 {
		return set
	}
	return set * health.RampWeight(clock.At(start), ep.cfg.SlowStart, ep.cfg.SlowStartFrom, time.Now())
}

// wholeTurn is the credit that one turn costs.
const wholeTurn = 1 << 20

// takesTurn says whether an endpoint of this weight takes the turn that came to
// it. Each turn earns it its weight: chance would give a share as small as the
// ramp's first one now twice and now half of what it is.
func (ep *endpoint) takesTurn(weight float64) bool {
	if weight >= 1 {
		return true
	}
	if ep.credit.Add(int64(weight*wholeTurn)) < wholeTurn {
		return false
	}
	ep.credit.Add(-wholeTurn)
	return true
}

// quiet is how long an endpoint with requests in flight may give no answer
// before careful requests avoid it. It is a preference only.
const quiet = 15 * time.Millisecond

// trusted says that nothing at all speaks against the endpoint.
func (ep *endpoint) trusted(now time.Time) bool {
	if ep.badRun() > 0 || ep.lateRun.Load() > 0 || ep.ramp.Load() != 0 {
		return false
	}
	if ep.owes.Load() > 0 && clock.Nano(now)-ep.owedSince.Load() >= int64(quiet) {
		return false
	}
	return ep.inFlight.Load() == 0 || clock.Nano(now)-ep.progress.Load() < int64(quiet)
}

// mayTry hands out the right to try an endpoint that is out: without limit
// while its last answer was good, else at the trial pace, and never close to a
// probe.
func (ep *endpoint) mayTry(now time.Time) bool {
	if ep.answers() {
		return true
	}
	due := ep.trial.Load()
	if now.Before(ep.trialDue()) || !ep.trial.CompareAndSwap(due, clock.Nano(now)+int64(ep.cfg.Retry.TrialInterval)) {
		return false
	}
	ep.mu.Lock()
	if next := now.Add(ep.cfg.Probe.Down); ep.probe.Due.Before(next) {
		ep.probe.Due = next
	}
	ep.mu.Unlock()
	return true
}

// badRun is how many real requests have failed or been refused since the last good
// answer.
func (ep *endpoint) badRun() int32 { return ep.failRun.Load() + ep.refusals.Load() }

// answers says that real requests succeed at an endpoint whatever its probes say.
func (ep *endpoint) answers() bool {
	return ep.badRun() == 0 && ep.lastGood.Load() > ep.outSince.Load()
}

// trialDue is when a request may next try an endpoint that is out.
func (ep *endpoint) trialDue() time.Time {
	apart := int64(ep.cfg.Probe.Down) * 85 / 100
	return clock.At(max(ep.trial.Load(), ep.probed.Load()+apart))
}

// began counts a request that is about to be sent.
func (ep *endpoint) began(now time.Time, longPoll bool) {
	if longPoll {
		ep.waiting.Add(1)
		return
	}
	if ep.inFlight.Add(1) == 1 {
		ep.progress.Store(clock.Nano(now))
	}
}

func (ep *endpoint) ended(now time.Time, longPoll bool) {
	if longPoll {
		ep.waiting.Add(-1)
		return
	}
	ep.inFlight.Add(-1)
	ep.progress.Store(clock.Nano(now))
}

// succeeded records a good answer and its latency, and says whether it ends a
// row of failures that is long enough to be out for.
func (ep *endpoint) succeeded(sent, now time.Time, late, longPoll bool) (recovered bool) {
	ep.lastGood.Store(clock.Nano(now))
	if ep.badRun() != 0 {
		recovered = ep.failRun.Swap(0)+ep.refusals.Swap(0) >= int32(ep.cfg.Breaker.Consecutive)
	}
	ep.mu.Lock()
	defer ep.mu.Unlock()
	ep.goodLocked(now)
	slot := ep.minute.at(now)
	slot.sent++
	slot.good++
	ep.recent.add(false, now)
	ep.requests++
	if longPoll {
		return recovered
	}
	ep.latency.add(now.Sub(sent))
	if !late {
		ep.timing = ep.timing.OnTime(sent)
		if ep.lateRun.Load() != 0 {
			ep.lateRun.Store(0)
		}
	}
	return recovered
}

// failed records a failure of a real request and says whether the breaker
// opened on it.
func (ep *endpoint) failed(now time.Time, err error) (tripped bool) {
	ep.failRun.Add(1)
	ep.mu.Lock()
	defer ep.mu.Unlock()
	ep.noteFailureLocked(now, err)
	return ep.badLocked(err)
}

func (ep *endpoint) noteFailureLocked(now time.Time, err error) {
	slot := ep.minute.at(now)
	slot.sent++
	slot.failed++
	ep.recent.add(true, now)
	ep.requests++
	ep.failures++
	ep.lastErr = err.Error()
	ep.failAt = now
}

// refused records a refusal, which the breaker hears of when it is charged.
func (ep *endpoint) refused(now time.Time, err error) {
	ep.refusals.Add(1)
	ep.mu.Lock()
	defer ep.mu.Unlock()
	ep.noteFailureLocked(now, err)
}

// charged tells the breaker of n failures that were noted before, and says whether it
// opened on them.
func (ep *endpoint) charged(n int, err error) (tripped bool) {
	for range n {
		run := ep.refusals.Load()
		if run <= 0 || !ep.refusals.CompareAndSwap(run, run-1) {
			break // it has answered well since
		}
		ep.failRun.Add(1)
	}
	ep.mu.Lock()
	defer ep.mu.Unlock()
	for range n {
		tripped = ep.badLocked(err) || tripped
	}
	return tripped
}

// uncounted records a request that says nothing about the endpoint.
func (ep *endpoint) uncounted(now time.Time) {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	ep.minute.at(now).sent++
	ep.requests++
}

// hold notes a long poll: it is not late for a long while, but it need not wait
// for an answer that an endpoint which went out will not give.
func (ep *endpoint) hold(a *attempt) {
	ep.mu.Lock()
	ep.pending[a] = struct{}{}
	ep.mu.Unlock()
}

// markLate records that a has no answer yet.
func (ep *endpoint) markLate(a *attempt) health.Punctuality {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	if a.over.Load() {
		return ep.timing
	}
	ep.pending[a] = struct{}{}
	ep.timing = ep.timing.Late(a.sent)
	ep.lateTotal++
	ep.lateRun.Store(int32(ep.timing.LateRun))
	return ep.timing
}

// transferred records the end of a streamed answer. Transfers have their own
// row of failures: the good small answers between them must not hide a
// registry that breaks every download.
func (ep *endpoint) transferred(err error) {
	if err != nil {
		ep.transferFails.Add(1)
		return
	}
	ep.transferFails.Store(0)
}

// tripLocked opens the breaker whatever it has counted.
func (ep *endpoint) tripLocked() {
	ep.tripping = true
	ep.badLocked(errTripped)
	ep.tripping = false
}

var errTripped = errors.New("taken out")

// dropIdle closes the endpoint's idle connections, once a second at most: one of
// them was found to be dead without a sign, and those made since are not.
func (ep *endpoint) dropIdle(now time.Time) {
	last := ep.dropped.Load()
	if clock.Nano(now)-last >= int64(time.Second) && ep.dropped.CompareAndSwap(last, clock.Nano(now)) {
		ep.transport.CloseIdleConnections()
	}
}

// lastAlive is when a request or a probe was last answered well, as nano.
func (ep *endpoint) lastAlive() int64 {
	return max(ep.lastGood.Load(), ep.lastProbe.Load())
}

func (ep *endpoint) punctuality() health.Punctuality {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	return ep.timing
}
