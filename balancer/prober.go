package balancer

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/ankacluster/ankacluster/balancer/attempt"
	"github.com/ankacluster/ankacluster/balancer/clock"
	"github.com/ankacluster/ankacluster/balancer/endpoint"
	"github.com/ankacluster/ankacluster/balancer/health"
	"github.com/ankacluster/ankacluster/balancer/route"
)

// sampleFor is how long a sample is good for: what it asks for may be gone then.
const sampleFor = 10 * time.Second

// lookAgain has an endpoint probed now.
func (b *Balancer) lookAgain(ep *endpoint.Endpoint) {
	now := time.Now()
	soon := now.Add(b.cfg.Probe.Fast / 10)
	if ep.LookAt(soon) {
		b.wakeProber()
	}
}

func (b *Balancer) wakeProber() {
	select {
	case b.reread <- struct{}{}:
	default:
	}
}

// prober probes all endpoints from one goroutine that keeps the time and one
// short goroutine per probe.
type prober struct {
	b      *Balancer
	probes sync.WaitGroup
}

func newProber(b *Balancer) *prober { return &prober{b: b} }

func (p *prober) run(ctx context.Context) {
	defer p.probes.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.b.reread:
		case <-timer.C:
		}
		now := time.Now()
		p.b.applyMembers(now)
		next := now.Add(time.Minute) // nothing to do but to wait for reread
		if p.b.tick(now) {
			next = now.Add(time.Second) // exported states follow their clocks within this
		}
		for _, ep := range p.b.snap.Load().All {
			if due := p.probeIfDue(ctx, ep, now); due.Before(next) {
				next = due
			}
		}
		timer.Reset(time.Until(next))
	}
}

// probeIfDue starts a round of probing when it is time, and returns when the
// next is.
func (p *prober) probeIfDue(ctx context.Context, ep *endpoint.Endpoint, now time.Time) time.Time {
	due, round := ep.DueProbe(p.b.cfg.Probe, p.b.cfg.Rhythm, now)
	if round == 0 {
		return due
	}
	report := ep.Breaker.Decide()
	p.probes.Go(func() { p.probe(ctx, ep, round, report) })
	return due
}

// probe asks one endpoint and applies what it says.
func (p *prober) probe(ctx context.Context, ep *endpoint.Endpoint, round uint64, report func(error)) {
	b := p.b
	var e health.Evidence
	reported := false
	settle := func(err error) {
		if report != nil && !reported {
			reported = true
			report(err)
		}
	}
	defer func() { settle(errNoProbe) }() // also a panic gives the slot back
	var stretch time.Duration
	var err error
	began := time.Now()
	e.Ready, stretch, err = b.askReady(ctx, ep, report != nil)
	if e.Ready != health.Pass {
		e.Reason = endpoint.Short(err)
	}
	if ctx.Err() != nil {
		return
	}
	now := time.Now()
	if ep.FoundReady(e.Ready) {
		e.Ready = health.Pass
	}
	if e.Ready == health.Pass {
		ep.LastProbe.Store(clock.Nano(now))
		if ep.NeedsProof() {
			e.Proof = b.askProof(ctx, ep)
		}
	}
	if e.Ready == health.Fail && (b.sender.ProbeFault(ep, err, now) || endpoint.IsTimeout(err) && b.excused(ep, began)) {
		e.Ready, e.Reason = health.Nothing, ""
	}
	good := e.Ready == health.Pass && e.Proof != health.Fail
	if good {
		settle(nil)
	}
	e.HalfOpen = report != nil && good
	p.apply(ep, round, stretch, e)
}

func (p *prober) apply(ep *endpoint.Endpoint, round uint64, stretch time.Duration, e health.Evidence) {
	b := p.b
	now := time.Now()
	e.Alone = len(b.snap.Load().Usable) == 0
	stale, sooner := ep.ProbeCame(b.cfg.Probe, round, stretch, e, now)
	if stale {
		return
	}
	b.transition(ep, now, func(h health.Record) (health.Record, bool) { return h.Probed(b.cfg.Probe, e, now) })
	if sooner {
		b.wakeProber()
	}
}

// errNoProbe is the outcome of a deciding probe that did not pass.
var errNoProbe = errors.New("the deciding probe did not pass")

// askReady sends the readiness request.
func (b *Balancer) askReady(ctx context.Context, ep *endpoint.Endpoint, halfOpen bool) (health.Verdict, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Probe.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(ep.Name, "/")+b.cfg.Probe.Path, nil)
	if err != nil {
		return health.Nothing, 0, err
	}
	for k, v := range b.cfg.Probe.Header {
		req.Header.Set(k, v)
	}
	resp, err := ep.Transport.RoundTrip(req)
	if err != nil {
		return health.Fail, 0, err
	}
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	resp.Body.Close()
	if err != nil {
		return health.Fail, 0, err
	}
	if resp.StatusCode == http.StatusOK && b.cfg.Probe.Identity != "" {
		ep.Identified(resp.Header.Get(b.cfg.Probe.Identity))
	}
	return health.JudgeReadiness(resp.StatusCode, halfOpen), health.AskedStretch(resp.Header), endpoint.StatusError(resp.StatusCode)
}

// askProof sends a copy of a recent harmless request, if there is one, and
// compares the answer with what the peers gave.
func (b *Balancer) askProof(ctx context.Context, ep *endpoint.Endpoint) health.Verdict {
	s := b.sender.RecentSample()
	if own := ep.Sample.Load(); own != nil && time.Since(own.At) <= sampleFor {
		s = own
	}
	if s == nil || time.Since(s.At) > sampleFor {
		return health.Nothing
	}
	limit := max(2*b.cfg.Hedge.Min, 4*s.Took)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	req := s.Req.WithContext(ctx)
	at := attempt.Addressed(s.Req.URL, ep.URL)
	req.URL, req.Host = &at, ""
	resp, err := ep.Transport.RoundTrip(req)
	if err != nil {
		return health.Fail
	}
	most := max(b.cfg.ReadAhead, route.DocumentMax) // the peers' was no larger
	n, err := io.Copy(io.Discard, io.LimitReader(resp.Body, most+1))
	resp.Body.Close()
	if err != nil || n > most || resp.StatusCode >= http.StatusBadRequest {
		return health.Fail
	}
	return health.Pass
}

// excused reports whether a probe that got no answer tells nothing about its
// endpoint: real requests were answered there meanwhile, or nobody answered
// anything meanwhile, which is this machine's or the network's doing. Peers are
// then asked as well, so that the next probe can be compared with theirs.
func (b *Balancer) excused(ep *endpoint.Endpoint, began time.Time) bool {
	if ep.LastGood.Load() >= clock.Nano(began) {
		return true
	}
	if b.sender.AnyAnswerSince(ep, began) {
		return false
	}
	peers := b.snap.Load().All
	for _, peer := range peers {
		if peer != ep {
			b.lookAgain(peer)
		}
	}
	return len(peers) > 1
}

// tick moves what changes by time alone, and reports whether anything is left
// that will.
func (b *Balancer) tick(now time.Time) (running bool) {
	republish := false
	for _, ep := range b.snap.Load().All {
		whole, goesOn := ep.Tick(now)
		republish = republish || whole
		running = running || goesOn
	}
	b.sweep()
	b.mu.Lock()
	defer b.mu.Unlock()
	if republish {
		b.publishLocked(now)
	}
	return running || b.pending || len(b.leaving) > 0
}
