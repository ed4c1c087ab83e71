package attempt

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ankacluster/ankacluster/balancer/endpoint"
	"github.com/ankacluster/ankacluster/balancer/pick"
	"github.com/ankacluster/ankacluster/balancer/route"
)

// pass is one request on its way over the endpoints: every usable endpoint at
// most once, the next one at once. The first attempt runs in the caller's
// goroutine; a hedge runs in its timer's. Whoever finds an answer first settles
// the pass and cancels the others.
type pass struct {
	s *Sender
	asked
	snap    *pick.Snapshot
	turn    uint64
	stalled atomic.Bool // on a connection that had carried others
	open    atomic.Bool // all were asked: an answer without a length is passed on as it comes

	// sender is the one attempt that may send a request that must not be sent
	// twice.
	sender atomic.Pointer[attempt]

	mu sync.Mutex // guards all below
	result
	progress
	fallback
	opinion
	space
}

// asked is the request of a pass, and what follows from it.
type asked struct {
	req        *http.Request
	repeatable bool
	hedgeable  bool
	alone      bool          // there is one endpoint to send it to
	preferred  bool          // the caller said where to
	wait       time.Duration // declared by the caller: a long poll
	delay      time.Duration // until an unanswered attempt is late
	route      *route.Route
	body       *sharedBody                // nil without a body
	accept     func(*http.Response) error // nil takes any good answer
}

// result is what a pass has come to.
type result struct {
	settled  bool
	resp     *http.Response
	err      error
	answered *attempt // gave resp
}

// progress is where a pass is.
type progress struct {
	tried   []*endpoint.Endpoint
	fresh   *endpoint.Endpoint // gets the request on a connection of its own
	running []*attempt
	workers int
	wake    chan struct{} // closed when settled, made by the waiting caller
}

// fallback is what a pass ends with when nothing better comes.
type fallback struct {
	held    *http.Response // the last answer that is not good
	heldBy  *attempt       // whose it is
	reached bool           // an attempt may have reached a server
	once    bool           // its body could be sent only once
	errs    []AttemptError
}

// opinion is what one endpoint answered and another is asked about.
type opinion struct {
	doubt   *endpoint.Endpoint // answered 500, oddly or without an end: another opinion is asked for
	doubted error              // what it did
	odd     bool               // it gave an error that may be the caller's own
	atFault *endpoint.Endpoint // did so where another succeeded
}

// space is what most passes need, allocated with them.
type space struct {
	triedSpace   [2]*endpoint.Endpoint
	runningSpace [2]*attempt
	firstAttempt attempt
}

// run makes the pass.
func (p *pass) run(first *endpoint.Endpoint) (*http.Response, error) {
	now := time.Now()
	p.s.budget.request(now)
	if first == nil {
		first = p.s.firstOf(p, now)
	}
	if first == nil {
		return nil, p.s.nothingToTry(p.snap)
	}
	p.tried = append(p.tried, first)
	p.workers = 1
	p.work(first, now)
	p.await()
	if p.doubt != nil && p.resp != nil && p.answered.ep != p.doubt && !p.answered.oversize {
		p.s.secondOpinionCame(p.doubt, p, p.resp, time.Now())
	}
	if p.atFault != nil {
		p.s.failed(p.atFault, nil, p.doubted, time.Now())
	}
	return p.resp, p.err
}

// await returns when the pass is settled; its result does not change any more.
func (p *pass) await() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.settled && p.workers > 0 {
		p.wake = make(chan struct{})
		wake := p.wake
		p.mu.Unlock()
		<-wake // hedges end with the caller's context at the latest
		p.mu.Lock()
	}
	if !p.settled {
		p.giveUpLocked()
	}
}

// work tries endpoints one after the other until the pass is settled or none is
// left. Several workers may run: the caller's, and one per hedge.
func (p *pass) work(ep *endpoint.Endpoint, now time.Time) {
	for ep != nil {
		by, admitted := ep.Breaker.Admit()
		if !admitted {
			if next := p.insteadOf(ep, now); next != nil {
				ep = next
				continue
			}
		}
		a := p.begin(ep, now)
		if a == nil {
			break
		}
		a.admission = by
		resp, err := a.try()
		now = a.ended
		ep = p.end(a, resp, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.workers--; p.workers == 0 && !p.settled && p.wake != nil {
		p.giveUpLocked()
	}
}

// insteadOf is the endpoint to try in place of one whose breaker has opened since the
// pool was looked at. It is nil when there is none, and when the pool still uses ep: the
// last endpoint gets requests whatever its breaker says, as all do when the pool has
// failed open, and the breaker does not count them.
func (p *pass) insteadOf(ep *endpoint.Endpoint, now time.Time) *endpoint.Endpoint {
	snap := p.s.view.Load()
	if snap.FailedOpen || slices.Contains(snap.Usable, ep) {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.nextLocked(now)
}

// begin enters an attempt at ep, or returns nil when the pass is settled.
func (p *pass) begin(ep *endpoint.Endpoint, now time.Time) *attempt {
	a := &p.firstAttempt
	if a.p != nil { // taken: all others begin after the first
		a = new(attempt)
	}
	a.p, a.ep, a.sent = p, ep, now
	a.ctx, a.cancel = context.WithCancelCause(p.req.Context())
	p.mu.Lock()
	defer p.mu.Unlock()
	a.fresh = p.fresh == ep
	if p.settled {
		a.cancel(errOvertaken)
		return nil
	}
	p.running = append(p.running, a)
	return a
}

// end leaves the attempt and returns the next endpoint to try, nil when there
// is none or the pass is settled.
func (p *pass) end(a *attempt, resp *http.Response, err error) *endpoint.Endpoint {
	now := a.ended
	if errors.Is(context.Cause(a.ctx), errQuiet) {
		return p.endQuiet(a)
	}
	o := a.outcome(resp, err)
	if o == outcomeGood {
		o, err = p.judge(a, resp)
	}
	p.s.record(a, o, resp, err, now)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leaveLocked(a)
	if p.settled {
		a.discard(resp)
		return nil
	}
	if o == outcomeGood {
		if !a.oversize && !p.odd {
			p.atFault = p.doubt
		}
		p.answered = a
		p.settleLocked(resp, nil)
		return nil
	}
	if o == outcomeDropped && !p.repeatable {
		return nil // another attempt has a connection, and sends the request
	}
	if errors.Is(err, ErrBody) {
		p.settleLocked(nil, &PassError{Pool: p.s.cfg.Name, Reason: err})
		return nil
	}
	p.noteLocked(a, resp, err)
	p.reached = p.reached || (o != outcomeUnsent && o != outcomeLocal)
	if o == outcomeUnsent || o == outcomeLocal {
		p.sender.CompareAndSwap(a, nil)
	}
	m := o.move(p.repeatable)
	if m != stay && !p.body.reusable(o == outcomeUnsent || o == outcomeLocal) {
		m = stay
		p.once = true
	}
	if againOutcome(o) && p.othersSayTheSameLocked() {
		m = stay
	}
	if m == stay {
		p.giveUpLocked()
		return nil
	}
	next := p.nextLocked(now)
	if next == nil {
		return nil
	}
	if m == moveBudget && !p.s.budget.take(now) {
		p.untryLocked(next)
		p.errs = append(p.errs, AttemptError{next.Name, ErrBudget})
		return nil
	}
	p.s.retries.Add(1)
	return next
}

// othersSayTheSameLocked reports whether a refusal is what another endpoint would answer,
// too: they have, for this request, or all refuse whatever they are asked.
func (p *pass) othersSayTheSameLocked() bool {
	return len(p.errs) > 1 && p.s.isRoutesOwn(p.route) || p.s.MustWait() && !p.s.view.Load().FailedOpen
}

// endQuiet leaves an attempt whose connection could not be trusted, and was sent
// nothing: the endpoint is tried again at once on a new one.
func (p *pass) endQuiet(a *attempt) *endpoint.Endpoint {
	p.mu.Lock()
	defer p.mu.Unlock()
	a.admission.Tell(endpoint.ErrUncounted)
	p.leaveLocked(a)
	if p.settled {
		return nil
	}
	p.fresh = a.ep
	return a.ep
}

// judge looks at a good answer more closely: content that this endpoint lacks
// may be at another, and a continued download must fit.
func (p *pass) judge(a *attempt, resp *http.Response) (outcome, error) {
	if p.accept != nil {
		if err := p.accept(resp); err != nil {
			return outcomeLacks, err
		}
		return outcomeGood, nil
	}
	if p.lacks(resp) {
		return outcomeLacks, nil
	}
	if a.oversize {
		return p.secondOpinion(), nil
	}
	if a.odd && p.mayDoubt() {
		return outcomeDoubt, nil
	}
	return outcomeGood, nil
}

// secondOpinion judges an answer that is larger than its kind is as a rule: another
// endpoint's tells whether it is without end. Two of them are what they are meant to be.
func (p *pass) secondOpinion() outcome {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.doubt == nil && p.body.reusable(false) {
		return outcomeDoubt
	}
	p.route.Habit.Large()
	return outcomeGood
}

// mayDoubt reports whether another endpoint can still be asked about an odd answer.
func (p *pass) mayDoubt() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.doubt == nil
}

func (p *pass) lacks(resp *http.Response) bool {
	return p.s.cfg.NotFoundAsksNext && resp.StatusCode == http.StatusNotFound
}

// mayBeReplaced reports whether an answer sends the request on to another endpoint.
func (p *pass) mayBeReplaced(resp *http.Response) bool {
	return p.repeatable && p.body.reusable(false) && (classifyStatus(resp.StatusCode) != outcomeGood || p.lacks(resp))
}

func (p *pass) leaveLocked(a *attempt) {
	for i, r := range p.running {
		if r == a {
			p.running = append(p.running[:i], p.running[i+1:]...)
			return
		}
	}
}

// noteLocked keeps what went wrong, and the last answer, in case there is no
// better one.
func (p *pass) noteLocked(a *attempt, resp *http.Response, err error) {
	if resp != nil && err != nil {
		resp.Body.Close() // not acceptable: nothing to fall back on
	}
	if err == nil {
		err = endpoint.StatusError(resp.StatusCode)
		if p.held != nil {
			p.held.Body.Close()
		}
		p.held, p.heldBy = resp, a
		if a.oversize {
			err = errEndless
		}
		if a.oversize || a.odd || resp.StatusCode == http.StatusInternalServerError {
			p.doubt, p.doubted = a.ep, err
			p.odd = a.odd && !a.oversize
		}
	}
	p.errs = append(p.errs, AttemptError{a.ep.Name, err})
}

func (p *pass) settleLocked(resp *http.Response, err error) {
	p.settled, p.resp, p.err = true, resp, err
	if p.held != nil && p.held != resp {
		p.held.Body.Close()
	}
	p.held = nil
	for _, r := range p.running {
		r.cancel(errOvertaken)
	}
	if p.wake != nil {
		close(p.wake)
	}
}

// giveUpLocked settles the pass with the best there is: the answer that was
// held back, or the errors.
func (p *pass) giveUpLocked() {
	if p.held != nil {
		p.answered = p.heldBy
		p.settleLocked(p.held, nil)
		return
	}
	if err := p.req.Context().Err(); err != nil {
		p.settleLocked(nil, err)
		return
	}
	reason := error(ErrAllDown)
	if len(p.errs) > 0 {
		reason = errNoAnswer
	}
	if p.once {
		reason = ErrBodyOnce
	}
	p.settleLocked(nil, &PassError{Pool: p.s.cfg.Name, Reason: reason, Attempts: p.errs, Repeatable: p.repeatable || !p.reached})
}

var errNoAnswer = errors.New("no endpoint answered")

func (p *pass) nextLocked(now time.Time) *endpoint.Endpoint {
	ep := p.snap.Next(p.turn+1, pick.Want{Now: now}, p.tried)
	if ep == nil {
		// The pool may have changed since the pass began.
		if snap := p.s.view.Load(); snap != p.snap {
			p.snap = snap
			ep = snap.Next(p.turn+1, pick.Want{Now: now}, p.tried)
		}
	}
	if ep != nil {
		p.tried = append(p.tried, ep)
	}
	return ep
}

func (p *pass) hasNext(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	ep := p.nextLocked(now)
	if ep != nil {
		p.untryLocked(ep)
	}
	return ep != nil
}

func (p *pass) untryLocked(ep *endpoint.Endpoint) {
	if n := len(p.tried); n > 0 && p.tried[n-1] == ep {
		p.tried = p.tried[:n-1]
	}
}

// release passes on the answer that has come furthest of those that do not end: no
// endpoint is left to ask, so this is what they all do. One without a header is waited
// for a little.
func (p *pass) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.settled {
		return
	}
	var best *aheadBody
	most := -1
	for _, r := range p.running {
		ahead := r.ahead.Load()
		if ahead == nil {
			time.AfterFunc(p.s.cfg.Stall.Timeout, p.releaseLate)
			return
		}
		if n := ahead.size(); n > most {
			best, most = ahead, n
		}
	}
	p.open.Store(true)
	if best != nil {
		p.route.Habit.Streamed()
		best.want()
	}
}

// releaseLate passes on what there is.
func (p *pass) releaseLate() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open.Store(true)
	for _, r := range p.running {
		if ahead := r.ahead.Load(); ahead != nil && !p.settled {
			ahead.want()
			return
		}
	}
}
