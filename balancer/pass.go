package balancer

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// pass is one request on its way over the endpoints: every usable endpoint at
// most once, the next one at once. The first attempt runs in the caller's
// goroutine; a hedge runs in its timer's. Whoever finds an answer first settles
// the pass and cancels the others.
type pass struct {
	b          *Balancer
	req        *http.Request
	snap       *snapshot
	turn       uint64
	repeatable bool
	hedgeable  bool
	wait       time.Duration // declared by the caller: a long poll
	delay      time.Duration // until an unanswered attempt is late
	route      *route
	body       *sharedBody                // nil without a body
	accept     func(*http.Response) error // nil takes any good answer

	// sender is the one attempt that may send a request that must not be sent
	// twice.
	sender atomic.Pointer[attempt]

	mu      sync.Mutex // guards all below
	settled bool
	resp    *http.Response
	err     error
	won     *attempt
	tried   []*endpoint
	running []*attempt
	workers int
	wake    chan struct{}  // closed when settled, made by the waiting caller
	held    *http.Response // the last answer that is not good
	reached bool           // an attempt may have reached a server
	doubt   *endpoint      // answered 500, another opinion is asked for
	errs    []AttemptError

	triedSpace   [4]*endpoint
	runningSpace [4]*attempt
}

// attempt is one request to one endpoint.
type attempt struct {
	p      *pass
	ep     *endpoint
	ctx    context.Context
	cancel context.CancelCauseFunc
	sent   time.Time
	answer alarm       // rings when the answer is late
	dial   alarm       // rings when the connection is
	late   atomic.Bool // the delay passed without an answer
	over   atomic.Bool // the attempt has ended
	conn   atomic.Bool // a connection was handed to the request
	raw    *handover   // the connection of a download, when it can be taken over
}

// run makes the pass.
func (p *pass) run(first *endpoint) (*http.Response, error) {
	now := time.Now()
	p.b.budget.request(now)
	if first == nil {
		first = p.b.firstOf(p, now)
	}
	if first == nil {
		return nil, p.b.nothingToTry(p.snap)
	}
	p.tried = append(p.tried, first)
	p.workers = 1
	p.work(first)
	p.mu.Lock()
	if !p.settled && p.workers > 0 {
		p.wake = make(chan struct{})
		wake := p.wake
		p.mu.Unlock()
		<-wake // hedges end with the caller's context at the latest
		p.mu.Lock()
	}
	defer p.mu.Unlock()
	if !p.settled {
		p.giveUpLocked(nil)
	}
	return p.resp, p.err
}

// work tries endpoints one after the other until the pass is settled or none is
// left. Several workers may run: the caller's, and one per hedge.
func (p *pass) work(ep *endpoint) {
	for ep != nil {
		a := p.begin(ep)
		if a == nil {
			break
		}
		resp, err := a.try()
		ep = p.end(a, resp, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.workers--; p.workers == 0 && !p.settled && p.wake != nil {
		p.giveUpLocked(nil)
	}
}

// begin enters an attempt at ep, or returns nil when the pass is settled.
func (p *pass) begin(ep *endpoint) *attempt {
	a := &attempt{p: p, ep: ep, sent: time.Now()}
	a.ctx, a.cancel = context.WithCancelCause(p.req.Context())
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.settled {
		a.cancel(errOvertaken)
		return nil
	}
	p.running = append(p.running, a)
	return a
}

// end leaves the attempt and returns the next endpoint to try, nil when there
// is none or the pass is settled.
func (p *pass) end(a *attempt, resp *http.Response, err error) *endpoint {
	now := time.Now()
	o := a.outcome(resp, err)
	if o == outcomeGood {
		o, err = p.judge(resp)
	}
	p.b.record(a, o, resp, err, now)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leaveLocked(a)
	if p.settled {
		a.discard(resp)
		return nil
	}
	if o == outcomeGood {
		p.doubtLocked(now)
		p.settleLocked(a, resp, nil)
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
	}
	if m == stay {
		p.giveUpLocked(a)
		return nil
	}
	if resp != nil && resp == p.held {
		a.hold(resp)
	}
	next := p.nextLocked(now)
	if next == nil {
		return nil
	}
	if m == moveBudget && !p.b.budget.take(now) {
		p.untryLocked(next)
		p.errs = append(p.errs, AttemptError{next.name, ErrBudget})
		return nil
	}
	p.b.retries.Add(1)
	return next
}

// judge looks at a good answer more closely: content that this endpoint lacks
// may be at another, and a continued download must fit.
func (p *pass) judge(resp *http.Response) (outcome, error) {
	if p.accept != nil {
		if err := p.accept(resp); err != nil {
			return outcomeLacks, err
		}
		return outcomeGood, nil
	}
	if p.b.cfg.NotFoundAsksNext && resp.StatusCode == http.StatusNotFound {
		return outcomeLacks, nil
	}
	return outcomeGood, nil
}

// doubtLocked settles a 500 by a second opinion: an endpoint that fails where
// another succeeds is at fault.
func (p *pass) doubtLocked(now time.Time) {
	if ep := p.doubt; ep != nil {
		p.doubt = nil
		p.b.failed(ep, statusError(http.StatusInternalServerError), now)
	}
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
		err = statusError(resp.StatusCode)
		if p.held != nil {
			p.held.Body.Close()
		}
		p.held = resp
		if resp.StatusCode == http.StatusInternalServerError {
			p.doubt = a.ep
		}
	}
	p.errs = append(p.errs, AttemptError{a.ep.name, err})
}

func (p *pass) settleLocked(a *attempt, resp *http.Response, err error) {
	p.settled, p.won, p.resp, p.err = true, a, resp, err
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
// held back, or the errors. Running attempts go on if there are any, unless the
// pass must stay with attempt a.
func (p *pass) giveUpLocked(a *attempt) {
	if p.held != nil {
		held := p.held
		p.settleLocked(a, held, nil)
		return
	}
	if err := p.req.Context().Err(); err != nil {
		p.settleLocked(a, nil, err)
		return
	}
	reason := error(ErrAllDown)
	if len(p.errs) > 0 {
		reason = errNoAnswer
	}
	p.settleLocked(a, nil, &PassError{Pool: p.b.cfg.Name, Reason: reason, Attempts: p.errs, Repeatable: p.repeatable || !p.reached})
}

var errNoAnswer = errors.New("no endpoint answered")

func (p *pass) nextLocked(now time.Time) *endpoint {
	ep := p.snap.next(p.turn+1, want{now: now}, p.tried)
	if ep == nil {
		// The pool may have changed since the pass began.
		if snap := p.b.snap.Load(); snap != p.snap {
			p.snap = snap
			ep = snap.next(p.turn+1, want{now: now}, p.tried)
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

func (p *pass) untryLocked(ep *endpoint) {
	if n := len(p.tried); n > 0 && p.tried[n-1] == ep {
		p.tried = p.tried[:n-1]
	}
}

// hedge starts another attempt beside the late ones, in the goroutine of the
// timer that found a late.
func (p *pass) hedge(now time.Time, unsent bool) {
	p.mu.Lock()
	if p.settled || p.workers == 0 || !p.body.reusable(unsent) {
		p.mu.Unlock()
		return
	}
	ep := p.nextLocked(now)
	if ep == nil {
		p.mu.Unlock()
		return
	}
	if !unsent && !p.b.budget.take(now) {
		p.untryLocked(ep)
		p.mu.Unlock()
		return
	}
	p.workers++
	p.mu.Unlock()
	p.b.hedges.Add(1)
	p.work(ep)
}

// try sends the request to the endpoint and reads ahead.
func (a *attempt) try() (*http.Response, error) {
	p := a.p
	r := a.request()
	a.ep.began(a.sent, p.wait > 0)
	if p.wait > 0 {
		a.ep.hold(a)
	}
	a.answer = alarm{at: a.sent.Add(p.delay), attempt: a, ring: (*attempt).onLate}
	p.b.alarms.add(&a.answer)
	racing := !p.repeatable && a.ep.url.Scheme == "http"
	if racing {
		a.dial = alarm{at: a.sent.Add(p.b.cfg.ConnectRace), attempt: a, ring: (*attempt).onSlowConnect}
		p.b.alarms.add(&a.dial)
	}
	resp, err := a.ep.transport.RoundTrip(r)
	if err == nil && p.repeatable {
		err = p.b.readAhead(resp)
		if err != nil {
			resp = nil
		}
	}
	a.over.Store(true)
	p.b.alarms.remove(&a.answer)
	if racing {
		p.b.alarms.remove(&a.dial)
	}
	a.ep.ended(time.Now(), p.wait > 0)
	if resp != nil {
		a.wrap(resp)
	} else if err != nil {
		err = a.explain(err)
		a.cancel(err)
	}
	return resp, err
}

// explain prefers the balancer's own reason over "context canceled".
func (a *attempt) explain(err error) error {
	if cause := context.Cause(a.ctx); cause != nil && errors.Is(err, context.Canceled) {
		return cause
	}
	return err
}

// gotConn runs when the request has a connection and nothing is written yet. Of
// two attempts of a request that may be sent only once, the first one here
// sends it; the other closes its connection before a byte can leave.
func (a *attempt) gotConn(info httptrace.GotConnInfo) {
	if !a.p.sender.CompareAndSwap(nil, a) && a.p.sender.Load() != a {
		info.Conn.Close()
		a.cancel(errOvertaken)
		return
	}
	a.conn.Store(true)
}

// onSlowConnect runs when an attempt has no connection after the race delay.
// The next endpoint is tried beside it. HTTP/2 is left out: its connection is
// shared, and closing it would end other requests.
func (a *attempt) onSlowConnect() {
	if !a.over.Load() && !a.conn.Load() {
		a.p.hedge(time.Now(), true)
	}
}

// request is the caller's request, addressed to the endpoint.
func (a *attempt) request() *http.Request {
	p := a.p
	ctx := a.ctx
	if !p.repeatable {
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: a.gotConn})
	}
	if p.b.cfg.Class == Blob && p.req.Method == http.MethodGet {
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
			GotConn: func(info httptrace.GotConnInfo) { a.raw, _ = info.Conn.(*handover) },
		})
	}
	if p.b.cfg.Class == Blob {
		ctx = context.WithValue(ctx, servedKey{}, a.ep.name)
	}
	r := addressed(p.req.WithContext(ctx), a.ep)
	if p.body != nil {
		r.Body = p.body.next()
		r.GetBody = p.req.GetBody
	}
	return r
}

// addressed turns r, which is the caller's to change, to an endpoint.
func addressed(r *http.Request, ep *endpoint) *http.Request {
	u := *r.URL
	u.Scheme, u.Host = ep.url.Scheme, ep.url.Host
	if ep.url.Path != "" {
		u = *withPrefix(&u, ep.url.Path)
	}
	r.URL = &u
	r.Host = "" // the pool's name means nothing to the endpoint
	return r
}

func withPrefix(u *url.URL, prefix string) *url.URL {
	out := *u
	if u.RawPath != "" {
		out.RawPath = (&url.URL{Path: prefix}).EscapedPath() + u.RawPath
	}
	out.Path = prefix + u.Path
	return &out
}

// onLate runs when an attempt has no answer after the pass's delay. It is the
// hedge's goroutine as well; the transport ends it when the pass is settled.
func (a *attempt) onLate() {
	now := time.Now()
	p := a.p
	if a.over.Load() {
		return
	}
	if now.Sub(a.answer.at) > p.b.cfg.Slow.Pause {
		// The alarm itself was late: the machine slept, and answers may be
		// waiting to be read. Look again before anyone is blamed.
		a.answer.at = now.Add(p.b.cfg.Slow.Pause)
		p.b.alarms.add(&a.answer)
		return
	}
	a.late.Store(true)
	p.b.late(a, now)
	switch {
	case p.hedgeable:
		p.hedge(now, false)
	case p.b.cfg.Class == Blob && p.repeatable && p.hasNext(now):
		a.cancel(errStalled) // a large transfer is moved, not doubled
	}
}

func (a *attempt) outcome(resp *http.Response, err error) outcome {
	f := facts{err: err, caller: a.p.req.Context().Err(), cause: context.Cause(a.ctx)}
	if resp != nil {
		f.status = resp.StatusCode
	}
	f.unsent = !a.p.repeatable && !a.conn.Load()
	return classify(f)
}

// discard ends an attempt whose answer nobody wants.
func (a *attempt) discard(resp *http.Response) {
	a.cancel(errOvertaken)
	if resp != nil {
		resp.Body.Close()
	}
}

// hold makes an answer that may yet be replaced independent of its connection:
// a little of its body is kept, the rest is not worth waiting for.
func (a *attempt) hold(resp *http.Response) {
	if _, ok := resp.Body.(*readBody); ok {
		return
	}
	data, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
	resp.Body.Close()
	resp.Body = newReadBody(data)
	resp.ContentLength = int64(len(data))
	resp.Header.Del("Content-Length")
}

// preferWait finds wait=SECONDS in Prefer headers.
func preferWait(headers []string) time.Duration {
	for _, h := range headers {
		for part := range strings.SplitSeq(h, ",") {
			name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
			if !strings.EqualFold(name, "wait") {
				continue
			}
			if secs, err := strconv.Atoi(strings.Trim(value, `"`)); err == nil && secs > 0 {
				return time.Duration(secs) * time.Second
			}
		}
	}
	return 0
}
