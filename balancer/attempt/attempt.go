package attempt

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/ankacluster/ankacluster/balancer/endpoint"
)

// attempt is one request to one endpoint.
type attempt struct {
	p         *pass
	ep        *endpoint.Endpoint
	ctx       context.Context
	cancel    context.CancelCauseFunc
	admission endpoint.Admission
	req       http.Request // the caller's, addressed to the endpoint
	url       url.URL      // the request's
	body      *lentBody    // what it sends; nil without a body
	sent      time.Time
	ended     time.Time
	over      atomic.Bool // the attempt has ended, or was given up: only one of the two

	connection
	patience
	received
}

// connection is what an attempt was sent on.
type connection struct {
	conn   atomic.Bool // it was handed to the request
	reused atomic.Bool // and it had carried others; noted where it matters
	fresh  bool        // it was made for the attempt, or nearly so
	raw    net.Conn    // that of a download, which may be taken over
}

// patience is how long an attempt is waited for.
type patience struct {
	due     alarm                 // rings when the answer is late
	dial    *alarm                // rings when the connection is; nil where that does not matter
	rang    atomic.Bool           // due rang
	late    atomic.Bool           // the delay passed without an answer
	silence atomic.Pointer[alarm] // rings when nothing comes for too long
}

// received is what an attempt has got.
type received struct {
	read     readBody // the body, when its length is known
	ahead    atomic.Pointer[aheadBody]
	reading  atomic.Bool  // the rest of one of known length is waited for
	got      atomic.Int64 // when something of it came last, nano
	oversize bool         // it sends more than such answers have
	odd      bool         // it is an error, and the endpoint may be alone with it
}

// try sends the request to the endpoint and reads ahead.
func (a *attempt) try() (*http.Response, error) {
	p := a.p
	r := a.request()
	a.ep.Began(a.sent, p.wait > 0)
	if p.wait > 0 {
		a.ep.Hold(a, &a.over)
	}
	a.due = alarm{at: a.sent.Add(p.delay), attempt: a, ring: (*attempt).onLate}
	p.s.alarms.add(&a.due)
	if a.racesToConnect() {
		a.dial = &alarm{at: a.sent.Add(p.s.cfg.ConnectRace), attempt: a, ring: (*attempt).onSlowConnect}
		p.s.alarms.add(a.dial)
	}
	resp, err := a.ep.Transport.RoundTrip(r)
	a.odd = err == nil && p.suspects(a, resp)
	switch {
	case err != nil || !p.repeatable:
	case p.accept != nil: // the rest of a download goes on from where it is
	case a.odd || p.mayBeReplaced(resp):
		a.hold(resp)
	default:
		if err = a.readAhead(resp); err != nil {
			resp = nil
		}
	}
	if a.over.Swap(true) && resp != nil { // given up in the moment of its answer
		<-a.ctx.Done()
		resp.Body.Close()
		resp, err = nil, context.Cause(a.ctx)
	}
	p.s.alarms.remove(&a.due)
	if a.dial != nil {
		p.s.alarms.remove(a.dial)
	}
	if silence := a.silence.Load(); silence != nil {
		p.s.alarms.remove(silence)
	}
	a.ended = time.Now()
	a.ep.Ended(a.ended, p.wait > 0)
	if resp != nil {
		a.wrap(resp)
	} else if err != nil {
		err = a.explain(err)
		a.cancel(err)
	}
	return resp, err
}

// explain prefers the balancer's own reason over "context canceled", and that
// the body could not be read over what came of it.
func (a *attempt) explain(err error) error {
	if fault := a.p.body.failed(); fault != nil && a.p.req.Context().Err() == nil {
		return fault
	}
	if cause := context.Cause(a.ctx); cause != nil && errors.Is(err, context.Canceled) {
		return cause
	}
	return err
}

// gotConn runs when the request has a connection and nothing is written yet. Of
// two attempts of a request that may be sent only once, the first one here
// sends it; the other closes its connection before a byte can leave, and takes
// none of a body that both may have been given.
func (a *attempt) gotConn(info httptrace.GotConnInfo) {
	switch {
	case a.distrusts(info):
		a.refuse(info.Conn, errQuiet)
	case !a.p.sender.CompareAndSwap(nil, a) && a.p.sender.Load() != a:
		a.refuse(info.Conn, errOvertaken)
	case a.conn.Swap(true) && transportRepeats(a.req.Header):
		a.refuse(info.Conn, errClosed)
	}
}

// distrusts reports whether a connection has been quiet for too long to carry what is
// not sent twice, or not soon: it may be dead without a sign.
func (a *attempt) distrusts(info httptrace.GotConnInfo) bool {
	if a.fresh || !info.WasIdle || info.IdleTime <= a.p.s.cfg.ProveAfter && !a.p.stalled.Load() {
		return false
	}
	if c, ok := info.Conn.(*tls.Conn); ok && c.ConnectionState().NegotiatedProtocol == "h2" {
		return false // the transport pings it
	}
	a.ep.Transport.CloseIdleConnections() // the others have been quiet for longer
	return true
}

// refuse keeps the request off a connection that it was given.
func (a *attempt) refuse(conn net.Conn, why error) {
	conn.Close()
	if a.body != nil {
		a.body.Close()
	}
	a.cancel(why)
}

// transportRepeats reports whether net/http would by itself send a write again, on
// another connection, when a server closed the first one without an answer. Of the
// two headers that it looks for, the one means nothing to our servers, and the
// other is empty where the balancer does not repeat.
func transportRepeats(h http.Header) bool {
	_, foreign := h["X-Idempotency-Key"]
	_, empty := h[IdempotencyHeader]
	return foreign || empty
}

// racesToConnect reports whether the next endpoint is tried beside this one when there is
// no connection for a while. Writes over TLS are left out: an HTTP/2 connection is
// shared, and closing it, as the loser does, would end other requests. Small
// requests that may be repeated have a copy sent as soon as that, and sooner.
func (a *attempt) racesToConnect() bool {
	if a.p.repeatable {
		return a.p.s.cfg.Class == Blob
	}
	return a.ep.URL.Scheme == "http"
}

// onSlowConnect runs when an attempt has no connection after the race delay.
func (a *attempt) onSlowConnect() {
	if !a.over.Load() && !a.conn.Load() {
		a.p.hedge(a, time.Now(), true)
	}
}

// request is the caller's request, addressed to the endpoint.
func (a *attempt) request() *http.Request {
	p, ctx := a.p, a.ctx
	if !p.repeatable {
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: a.gotConn})
	}
	if p.s.cfg.Class == Blob && p.repeatable {
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
			GotConn: func(info httptrace.GotConnInfo) {
				if a.distrusts(info) {
					a.refuse(info.Conn, errQuiet)
					return
				}
				a.conn.Store(true)
				a.reused.Store(info.Reused)
				a.raw = info.Conn
			},
		})
	}
	if p.alone && p.repeatable && p.s.cfg.Class == Control {
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
			GotConn: func(info httptrace.GotConnInfo) { a.reused.Store(info.Reused) },
		})
	}
	if p.s.cfg.Class == Blob {
		ctx = context.WithValue(ctx, servedKey{}, a.ep.Name)
	}
	r := &a.req
	*r = *p.req.WithContext(ctx)
	a.url = Addressed(p.req.URL, a.ep.URL)
	r.URL = &a.url
	r.Host = "" // the pool's name means nothing to the endpoint
	if p.body != nil {
		a.body = p.body.next()
		r.Body = a.body
		r.GetBody = p.req.GetBody
	}
	return r
}

// Addressed is the URL u at an endpoint, below the endpoint's own path.
func Addressed(u, ep *url.URL) url.URL {
	to := *u
	to.Scheme, to.Host = ep.Scheme, ep.Host
	if ep.Path == "" {
		return to
	}
	if u.RawPath != "" {
		to.RawPath = (&url.URL{Path: ep.Path}).EscapedPath() + u.RawPath
	}
	to.Path = ep.Path + u.Path
	return to
}

// onLate runs when an attempt has no answer after the pass's delay. It is the
// hedge's goroutine as well; the transport ends it when the pass is settled.
func (a *attempt) onLate() {
	now := time.Now()
	p := a.p
	if a.over.Load() {
		return
	}
	if now.Sub(a.due.at) > p.s.cfg.Slow.Pause {
		// The alarm itself was late: the machine slept, and answers may be
		// waiting to be read. Look again before anyone is blamed.
		a.due.at = now.Add(p.s.cfg.Slow.Pause)
		p.s.alarms.add(&a.due)
		return
	}
	if wait := a.dueAfterBody(now); wait > 0 && !a.late.Load() {
		a.due.at = now.Add(wait)
		p.s.alarms.add(&a.due)
		return
	}
	a.rang.Store(true)
	if ahead := a.ahead.Load(); ahead != nil && !p.doubts() {
		ahead.want() // it has an answer, which comes in pieces
		return
	}
	if a.late.Swap(true) { // the second ring, for a body that is not taken
		a.giveUpUpload(now)
		return
	}
	p.s.late(a, now)
	a.watchUpload(now)
	if a.reading.Load() {
		a.watchSilence(now)
	}
	switch {
	case p.hedgeable:
		if !p.hedge(a, now, false) {
			p.release()
		}
	case p.s.cfg.Class == Blob && p.repeatable && (p.hasNext(now) || a.reused.Load()):
		if a.reused.Load() {
			p.stalled.Store(true)
			a.ep.DropIdle(now) // the next pass may be here again
		}
		a.giveUp(ErrStalled) // a large transfer is moved, not doubled
	}
}

// watchUpload has the alarm ring again when the endpoint has taken nothing of the
// request's body for too long.
func (a *attempt) watchUpload(now time.Time) {
	if a.body == nil || a.body.done.Load() {
		return
	}
	last := a.body.lastTaken(now)
	if last.Before(a.sent) {
		last = a.sent
	}
	a.due.at = last.Add(a.p.s.cfg.Stall.Upload)
	a.p.s.alarms.add(&a.due)
	if a.over.Load() {
		a.p.s.alarms.remove(&a.due) // it ended meanwhile
	}
}

// giveUpUpload ends an attempt whose endpoint has stopped taking the body.
func (a *attempt) giveUpUpload(now time.Time) {
	if a.body.done.Load() {
		return // all of it was taken: the answer may take its time
	}
	if now.Sub(a.body.lastTaken(now)) < a.p.s.cfg.Stall.Upload {
		a.watchUpload(now)
		return
	}
	a.giveUp(ErrNotTaken)
}

// dueAfterBody is how much longer an answer may take because the endpoint went on
// taking the request's body: an upload is not late for being long, nor for a caller
// who is slow. Most bodies are so small that they are gone at once.
func (a *attempt) dueAfterBody(now time.Time) time.Duration {
	if a.body == nil {
		return 0
	}
	last := a.body.lastTaken(now)
	if last.Sub(a.sent) < a.p.delay/10 {
		return 0
	}
	return a.p.delay - now.Sub(last)
}

func (a *attempt) outcome(resp *http.Response, err error) outcome {
	f := facts{err: err, caller: a.p.req.Context().Err(), cause: context.Cause(a.ctx)}
	if resp != nil {
		f.status = resp.StatusCode
	}
	f.unsent = !a.p.repeatable && !a.conn.Load()
	f.resent = a.conn.Load() && transportRepeats(a.req.Header)
	return classify(f)
}

// giveUp cancels the attempt, unless it has ended: the answer it gave is the
// caller's then, who may be reading it.
func (a *attempt) giveUp(cause error) {
	if !a.over.Swap(true) {
		a.cancel(cause)
	}
}

// MoveOn gives up a request that waits at an endpoint which is out, if it may be repeated.
func (a *attempt) MoveOn() {
	if a.p.repeatable {
		a.giveUp(errMovedOn)
	}
}

// discard ends an attempt whose answer nobody wants.
func (a *attempt) discard(resp *http.Response) {
	a.cancel(errOvertaken)
	if resp != nil {
		resp.Body.Close()
	}
}
