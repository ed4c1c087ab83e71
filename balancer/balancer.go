package balancer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/balancer/endpoint"
	"github.com/ankacluster/ankacluster/balancer/health"
	"github.com/ankacluster/ankacluster/balancer/pick"
)

// Balancer is an http.RoundTripper that spreads requests over a pool of
// endpoints. It is safe for concurrent use.
type Balancer struct {
	cfg    Config
	log    *zap.Logger
	client *http.Client

	snap      atomic.Pointer[pick.Snapshot]
	turn      atomic.Uint64
	hedges    atomic.Uint64
	retries   atomic.Uint64
	resumes   atomic.Uint64 // downloads continued elsewhere
	waiting   atomic.Int64  // requests that wait until an endpoint may be tried
	returning chan struct{} // a place for each request that is sent after waiting
	budget    *budget
	routes    [routeCount]route
	alarms    alarms
	sample    atomic.Pointer[endpoint.Sample] // a recent harmless request, for proving recovery
	hasLocal  atomic.Bool                     // local is set
	reread    chan struct{}                   // capacity 1: "look at the endpoints again now"
	learned   chan struct{}                   // capacity 1: "the learned list is newer than the cache"

	mu      sync.Mutex // guards all below; taken before an endpoint's mu
	members members
	eps     map[string]*endpoint.Endpoint
	running bool
	applied time.Time
	pending bool                 // a member list waits for the debounce
	leaving []*endpoint.Endpoint // removed, with requests still running
	drained map[string]time.Time // by hand, since when; members or not
	local   string
	localAt time.Time
}

// New returns a balancer without endpoints; SetMembers gives it some. It starts
// nothing: Run does. log may be nil.
func New(cfg Config, log *zap.Logger) (*Balancer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if log == nil {
		log = zap.NewNop()
	}
	if cfg.Rhythm == nil {
		cfg.Rhythm = new(Rhythm)
	}
	b := &Balancer{
		cfg:       cfg,
		log:       log.Named("balancer").With(zap.String("pool", cfg.Name)),
		budget:    newBudget(cfg.Retry),
		reread:    make(chan struct{}, 1),
		learned:   make(chan struct{}, 1),
		returning: make(chan struct{}, cfg.ReturnAtOnce),
		eps:       make(map[string]*endpoint.Endpoint),
		members:   members{},
		drained:   make(map[string]time.Time),
	}
	b.snap.Store(pick.New(nil, false, 0))
	b.client = &http.Client{Transport: newPasses(b)}
	b.loadCache()
	return b, nil
}

// Client returns an http.Client that repeats passes over the endpoints, with
// growing waits, until the request's deadline (or Retry.MaxElapsed without one).
func (b *Balancer) Client() *http.Client { return b.client }

// RoundTrip makes one pass over the endpoints: every usable one at most once,
// the next one at once. The request's scheme and host name the pool and are
// replaced. The error is a *PassError, or the context's.
func (b *Balancer) RoundTrip(req *http.Request) (*http.Response, error) {
	return b.roundTrip(req, nil)
}

// roundTrip makes a pass that begins at first, or at the endpoint picked if
// that is nil.
func (b *Balancer) roundTrip(req *http.Request, first *endpoint.Endpoint) (*http.Response, error) {
	p := b.newPass(req)
	resp, err := p.run(first)
	p.body.leaveTo(p.answered)
	if err == nil {
		b.watchTransfer(p, resp)
	}
	return resp, err
}

func (b *Balancer) newPass(req *http.Request) *pass {
	p := &pass{
		b:          b,
		req:        req,
		snap:       b.snap.Load(),
		turn:       b.turn.Add(1) - 1,
		repeatable: repeatable(req),
		wait:       declaredWait(req),
		body:       bodyOf(req),
		route:      b.routeOf(req),
	}
	p.tried, p.running = p.triedSpace[:0], p.runningSpace[:0]
	p.hedgeable = b.cfg.Hedge.Enabled && p.repeatable
	p.delay = max(p.wait+p.route.wait(b.cfg.Hedge), hedgeAfter(req))
	if p.alone = len(p.snap.Usable) == 1; p.alone && p.hedgeable {
		p.delay = max(p.delay, p.wait+b.cfg.ConnectRace) // there is one server to be asked twice
	}
	if b.cfg.Class == Blob {
		p.delay = p.wait + b.cfg.Stall.Timeout
	}
	return p
}

func (b *Balancer) routeOf(req *http.Request) *route {
	return &b.routes[(routeOf(req.Method, req.URL.Path)+queryOf(req.URL.RawQuery))%routeCount]
}

// firstOf picks the endpoint for the first attempt, nil when nothing can be
// tried now.
func (b *Balancer) firstOf(p *pass, now time.Time) *endpoint.Endpoint {
	if name, ok := p.req.Context().Value(preferKey{}).(string); ok {
		for _, ep := range p.snap.Usable {
			if ep.Name == name && !slices.Contains(p.tried, ep) {
				p.preferred = true
				return ep
			}
		}
	}
	w := pick.Want{Now: now, Careful: !p.repeatable || b.cfg.Class == Blob}
	ep := p.snap.First(p.turn, w)
	if ep == nil || slices.Contains(p.tried, ep) {
		ep = p.snap.Next(p.turn, w, p.tried)
	}
	return ep
}

func (b *Balancer) nothingToTry(snap *pick.Snapshot) error {
	reason := ErrAllDown
	if len(snap.All) == 0 {
		reason = ErrNoEndpoints
	}
	return &PassError{Pool: b.cfg.Name, Reason: reason, Attempts: b.stateOfAll(), Repeatable: len(snap.All) > 0}
}

// stateOfAll is what there is to say of each endpoint when none can be tried.
func (b *Balancer) stateOfAll() []AttemptError {
	var all []AttemptError
	for _, ep := range b.snap.Load().All {
		h, _ := ep.Record()
		why := string(h.State) + ": " + h.Why()
		all = append(all, AttemptError{ep.Name, errors.New(why)})
	}
	return all
}

// record tells the endpoint, and the route, what an attempt came to.
func (b *Balancer) record(a *attempt, o outcome, resp *http.Response, err error, now time.Time) {
	ep, longPoll := a.ep, a.p.wait > 0
	if a.late.Load() || longPoll {
		b.noLongerPending(a)
	}
	switch o {
	case outcomeGood, outcomeLacks:
		b.compareAnswer(a, oddAnswer(o, resp), now)
		if a.provisional(resp) {
			resp.Body.(*watchedBody).provisional = true // it counts when the body ends
			return
		}
		a.endedAhead(resp, now)
		b.good(a, now)
		if !longPoll {
			a.p.route.observe(b.cfg.Hedge, now.Sub(a.sent))
		}
		b.succeeded(a, resp, now)
	case outcomeBusy, outcomeGateway:
		b.refused(a, endpoint.StatusError(resp.StatusCode), now)
	case outcomeUnsent, outcomeBroken:
		b.transportFailed(ep, &a.admission, err, now)
		b.compareFailure(a, err, now)
	case outcomeLocal, outcomeCut:
		b.localFault(ep, &a.admission, err, now)
	case outcomeDoubt:
		ep.Uncounted(&a.admission, now)
		b.compareAnswer(a, oddAnswer(o, resp), now)
	case outcomeGone, outcomeDropped:
		ep.Uncounted(&a.admission, now)
		if a.late.Load() && !longPoll {
			ep.Unanswered(now)
			b.compareFailure(a, errUnanswered, now)
		}
	}
}

// good counts a good answer.
func (b *Balancer) good(a *attempt, now time.Time) {
	if a.ep.Succeeded(&a.admission, a.sent, now, a.late.Load(), a.p.wait > 0) {
		b.republish(now) // wakes the requests that wait for it
	}
	b.charge(a.p.route.refusals.well(a.ep, now, b.cfg.Breaker.Window), now)
}

// succeeded notes what a good answer proves beside the endpoint's own record.
func (b *Balancer) succeeded(a *attempt, resp *http.Response, now time.Time) {
	snap := b.snap.Load()
	if len(snap.Usable) < len(snap.All) {
		b.keepSample(a, resp, now)
	}
	if b.localAtAll() {
		b.clearLocal()
	}
	if resp.Close && resp.ProtoMajor == 1 {
		b.lookAgain(a.ep) // a server that stops keeping connections may be leaving
	}
}

// refused counts an answer of 429, 502, 503 or 504. A peer's good answer to the same
// kind of request makes it a failure of the endpoint.
func (b *Balancer) refused(a *attempt, err error, now time.Time) {
	ep, r := a.ep, a.p.route
	r.refusals.add(ep, err, b.snap.Load().Usable, now)
	if b.blameless(ep, r) {
		ep.Uncounted(&a.admission, now)
		return
	}
	ep.Refused(&a.admission, now, err)
	b.lookAgain(ep)
}

// failed counts a failure of real traffic and ejects on the breaker's word.
func (b *Balancer) failed(ep *endpoint.Endpoint, by *endpoint.Admission, err error, now time.Time) {
	if !ep.Failed(by, now, err) {
		b.lookAgain(ep)
		return
	}
	b.tripped(ep, err, now)
}

// tripped ejects an endpoint whose breaker has opened.
func (b *Balancer) tripped(ep *endpoint.Endpoint, err error, now time.Time) {
	run := ep.FailRun.Load()
	reason := fmt.Sprintf("%d consecutive failures, last: %s", run, endpoint.Short(err))
	if run < int32(b.cfg.Breaker.Consecutive) {
		reason = fmt.Sprintf("success rate below %g%%, last: %s", b.cfg.Breaker.SuccessRate*100, endpoint.Short(err))
	}
	var status endpoint.StatusError
	b.eject(ep, reason, errors.As(err, &status), now)
}

// transportFailed is failed for errors of the connection, which may be this
// machine's fault.
func (b *Balancer) transportFailed(ep *endpoint.Endpoint, by *endpoint.Admission, err error, now time.Time) {
	if endpoint.IsUnreachable(err) && !b.anyAnswerSince(ep, ep.UnreachableSince(now)) {
		b.localFault(ep, by, err, now)
		return
	}
	b.failed(ep, by, err, now)
}

// transferFailed is a failure in the middle of an answer. It is reported when
// it happens: wrapping a whole transfer in the breaker would let its result
// fall out of the breaker's window.
func (b *Balancer) transferFailed(ep *endpoint.Endpoint, by *endpoint.Admission, err error, now time.Time) {
	ep.Transferred(err)
	b.transportFailed(ep, by, err, now)
}

// late judges an endpoint whose answer is missing.
func (b *Balancer) late(a *attempt, now time.Time) {
	ep := a.ep
	timing := ep.MarkLate(a, &a.over, a.sent)
	snap := b.snap.Load()
	var peers []health.Punctuality
	for _, peer := range snap.Usable {
		if peer != ep {
			peers = append(peers, peer.Punctuality())
		}
	}
	if health.TooLate(b.cfg.Slow, timing, peers) {
		b.eject(ep, fmt.Sprintf("%d late answers in a row while its peers are on time", timing.LateRun), true, now)
		return
	}
	b.lookAgain(ep)
}

func (b *Balancer) noLongerPending(a *attempt) {
	a.ep.Release(a)
}

// eject takes an endpoint out for what real traffic met. The last usable one
// stays as long as it gives answers, even bad or late ones: there is nothing
// better.
func (b *Balancer) eject(ep *endpoint.Endpoint, reason string, answers bool, now time.Time) {
	b.transition(ep, now, func(h health.Record) (health.Record, bool) {
		if usable := b.snap.Load().Usable; answers && len(usable) == 1 && usable[0] == ep {
			return h, false
		}
		return h.Eject(reason, now)
	})
}

// transition applies a change of health, publishes a new snapshot, and lets go
// of requests that wait at an endpoint that went out.
func (b *Balancer) transition(ep *endpoint.Endpoint, now time.Time, step func(health.Record) (health.Record, bool)) {
	b.mu.Lock()
	before, after, changed, waiting := ep.Transition(now, step)
	if !changed {
		b.mu.Unlock()
		return
	}
	b.publishLocked(now)
	failedOpen := b.snap.Load().FailedOpen
	b.mu.Unlock()

	if after.Usable() {
		b.comeBack(ep, waiting)
	} else {
		moveOn(waiting)
	}
	b.announce(Transition{Pool: b.cfg.Name, Endpoint: ep.Name, From: before.State, To: after.State, Reason: after.Reason, At: now}, failedOpen)
	b.wakeProber()
}

// moveOn lets late requests go to another endpoint, if they may.
func moveOn(waiting []endpoint.Waiter) {
	for _, w := range waiting {
		w.MoveOn()
	}
}

// comeBackGrace is how long an endpoint that came back has to answer what it
// was asked before: a process that was stopped answers at once, a connection
// that lost packets may take many seconds to notice.
const comeBackGrace = 300 * time.Millisecond

// comeBack moves the requests that still wait, at the endpoint that is back or
// at others that are out, to where they are answered.
func (b *Balancer) comeBack(ep *endpoint.Endpoint, waiting []endpoint.Waiter) {
	if len(waiting) > 0 {
		time.AfterFunc(comeBackGrace, func() { moveOn(waiting) })
	}
	for _, other := range b.snap.Load().Resort {
		if other != ep {
			moveOn(other.WaitersOf())
		}
	}
}

func (b *Balancer) announce(t Transition, failedOpen bool) {
	b.log.Info(t.String(), zap.String("endpoint", t.Endpoint), zap.String("from", string(t.From)),
		zap.String("to", string(t.To)), zap.String("reason", t.Reason), zap.Bool("failed_open", failedOpen))
	if b.cfg.OnTransition != nil {
		b.cfg.OnTransition(t)
	}
}

func (b *Balancer) republish(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.publishLocked(now)
}

// publishLocked builds the snapshot that requests pick from.
func (b *Balancer) publishLocked(now time.Time) {
	var all []*endpoint.Endpoint
	for _, name := range b.members.order() {
		if ep := b.eps[name]; ep != nil {
			all = append(all, ep)
		}
	}
	snap := pick.New(all, b.cfg.Policy == LeastInFlight, b.cfg.FailOpenBelow)
	close(b.snap.Swap(snap).Replaced)
}

// Run probes the endpoints, applies member lists and keeps the cache until ctx
// ends. It returns when all of its goroutines have ended; nil means "as asked".
// A Balancer runs once.
func (b *Balancer) Run(ctx context.Context) error {
	b.mu.Lock()
	if b.running {
		b.mu.Unlock()
		return errors.New("balancer is already running")
	}
	b.running = true
	b.mu.Unlock()
	var keeper sync.WaitGroup
	keeper.Go(func() { b.keepCache(ctx) })
	newProber(b).run(ctx)
	keeper.Wait()
	b.closeIdle()
	return nil
}

func (b *Balancer) closeIdle() {
	for _, ep := range b.snap.Load().All {
		ep.Transport.CloseIdleConnections()
	}
}
