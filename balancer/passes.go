package balancer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/hashicorp/go-retryablehttp"
	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/balancer/attempt"
)

// passes repeats whole passes over the pool with go-retryablehttp. The first
// pass costs nothing extra; only a request that failed enters the library.
//
// Four of the library's ways are wrong inside a balancer, and kept away here:
// it reads every request body into memory (so it never sees the body), its
// policy repeats any POST (so ours decides), it sleeps however long a server's
// Retry-After says (so ours is bounded), and at a final failure it closes the
// idle connections of every endpoint (so its client's transport cannot).
type passes struct {
	b     *Balancer
	retry *retryablehttp.Client
}

func newPasses(b *Balancer) *passes {
	p := &passes{b: b}
	p.retry = &retryablehttp.Client{
		HTTPClient: &http.Client{
			Transport:     onlyRoundTrip{b},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		Logger:       leveled{b.log},
		RetryWaitMin: b.cfg.Retry.WaitMin,
		RetryWaitMax: b.cfg.Retry.WaitMax,
		RetryMax:     1 << 20, // the deadline bounds it
		CheckRetry:   p.checkRetry,
		Backoff:      attempt.Backoff,
		ErrorHandler: retryablehttp.PassthroughErrorHandler,
	}
	return p
}

// RoundTrip makes passes until one gives an answer or the time is over.
func (p *passes) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := p.b.RoundTrip(req)
	if !again(req, resp, err) || err == nil && p.final(req, resp) {
		return resp, err
	}
	deadline := p.deadline(req.Context())
	// The context outlives the wait: it is that of the answer's body too.
	ctx, cancel := context.WithCancelCause(req.Context())
	timer := time.AfterFunc(time.Until(deadline), func() { cancel(context.DeadlineExceeded) })
	first := &firstPass{resp: resp, err: err, deadline: deadline}
	repeat := req.WithContext(context.WithValue(ctx, firstPassKey{}, first))
	first.req = repeat
	repeat.RequestURI = "" // a proxy's requests carry one, and http.Client refuses those
	resp, err = p.retry.Do(&retryablehttp.Request{Request: repeat})
	timer.Stop()
	if err == nil {
		resp.Body = endWith(resp.Body, cancel)
		return resp, nil
	}
	err = p.explain(err, context.Cause(ctx))
	cancel(nil)
	return nil, err
}

func (p *passes) deadline(ctx context.Context) time.Time {
	deadline, ok := ctx.Deadline()
	if patience, set := attempt.PatienceOf(ctx); set {
		if at := time.Now().Add(patience); !ok || at.Before(deadline) {
			return at
		}
	}
	if !ok {
		return time.Now().Add(p.b.cfg.Retry.MaxElapsed)
	}
	return deadline
}

// endWith ends a context with an answer's body.
func endWith(body io.ReadCloser, cancel context.CancelCauseFunc) io.ReadCloser {
	if attempt.IsRead(body) {
		cancel(nil)
		return body
	}
	if w, upgraded := body.(io.Writer); upgraded {
		return &cancelWriter{cancelBody{body, cancel}, w}
	}
	return &cancelBody{body, cancel}
}

// explain takes the library's wrapping off, and says of a request that ran out
// of time what it waited for.
func (p *passes) explain(err, cause error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	var pass *PassError
	if err == nil || errors.As(err, &pass) {
		return err
	}
	if cause != nil {
		err = cause
	}
	return &PassError{Pool: p.b.cfg.Name, Reason: err, Attempts: p.b.sender.StateOfAll(), Repeatable: true}
}

// firstPass carries the pass that was already made into the library, whose
// first attempt it becomes.
type firstPass struct {
	used     bool
	req      *http.Request
	waited   bool // a Retry-After was waited for
	resp     *http.Response
	err      error
	deadline time.Time
	after    time.Time      // what a server's Retry-After asks for
	refusal  *http.Response // the last answer, for when there will be no better one
}

// over says that there is no time for another pass, so that the refusal, if
// there is one, serves better.
func (f *firstPass) over(now time.Time) bool {
	return f.refusal != nil && f.deadline.Sub(now) <= lastPassTime
}

// lastPass is when no further pass is begun, because there is an answer to return; the
// zero time without one.
func (f *firstPass) lastPass() time.Time {
	if f.refusal == nil {
		return time.Time{}
	}
	return f.deadline.Add(-lastPassTime)
}

// keep notes an answer as the last one.
func (f *firstPass) keep(resp *http.Response) {
	f.refusal = attempt.Kept(resp)
}

type firstPassKey struct{}

// onlyRoundTrip hides the pool's CloseIdleConnections from the library, and
// waits while nothing can be tried.
type onlyRoundTrip struct{ b *Balancer }

func (o onlyRoundTrip) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	first := ctx.Value(firstPassKey{}).(*firstPass)
	if !first.used {
		first.used = true
		first.keep(first.resp)
		return first.resp, first.err
	}
	if req.Body != nil && req.Body != http.NoBody && req.GetBody != nil {
		body, err := req.GetBody()
		if err != nil {
			return nil, err
		}
		again := *req
		again.Body = body
		req = &again
	}
	o.b.waitAsked(ctx, first)
	for {
		ep := o.b.sender.WaitUsable(ctx, first.lastPass())
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if first.over(time.Now()) {
			return first.refusal, nil
		}
		leave := o.b.sender.TakePlace(ctx)
		if ep == nil && o.b.sender.MustWait() {
			leave() // those before this one have found out that it is no better
			continue
		}
		defer leave()
		resp, err := o.b.roundTrip(req, ep)
		first.keep(resp)
		return resp, err
	}
}

// waitAsked waits as long as the last answer's Retry-After asked for, or until
// the pool changes: another endpoint may answer sooner.
func (b *Balancer) waitAsked(ctx context.Context, first *firstPass) {
	if first == nil || first.after.IsZero() {
		return
	}
	replaced := b.snap.Load().Replaced
	timer := time.NewTimer(time.Until(first.after))
	defer timer.Stop()
	first.after = time.Time{}
	first.waited = true
	select {
	case <-ctx.Done():
	case <-replaced:
	case <-timer.C:
	}
}

// askedAfter notes a server's Retry-After for the next pass: at most the limit,
// and never so long that no pass is left before the deadline.
func (p *passes) askedAfter(first *firstPass, resp *http.Response) {
	now := time.Now()
	wait := retryAfter(resp.Header.Get("Retry-After"), now)
	wait = min(wait, p.b.cfg.Retry.RetryAfterMax, first.deadline.Sub(now)/2)
	if wait > 0 {
		first.after = now.Add(wait)
	}
}

func retryAfter(value string, now time.Time) time.Duration {
	if secs, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(secs) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

// again says whether another pass may help.
func again(req *http.Request, resp *http.Response, err error) bool {
	if req.Context().Err() != nil {
		return false
	}
	if req.Body != nil && req.Body != http.NoBody && req.GetBody == nil {
		return false // the first pass has used it up
	}
	if err != nil {
		var pass *PassError
		return errors.As(err, &pass) && pass.Repeatable
	}
	return Repeatable(req) && attempt.AgainStatus(resp.StatusCode)
}

// final reports whether a refusal is the route's own, so that no pass will be better. What
// a server asks to wait for is waited for once.
func (p *passes) final(req *http.Request, resp *http.Response) bool {
	first, _ := req.Context().Value(firstPassKey{}).(*firstPass)
	if resp.Header.Get("Retry-After") != "" && (first == nil || !first.waited) {
		return false
	}
	return p.b.sender.RefusedByAll(req)
}

func (p *passes) checkRetry(ctx context.Context, resp *http.Response, err error) (bool, error) {
	if ctx.Err() != nil {
		return false, nil
	}
	if err != nil {
		var pass *PassError
		return errors.As(err, &pass) && pass.Repeatable, nil
	}
	first := ctx.Value(firstPassKey{}).(*firstPass)
	if first.over(time.Now()) || !attempt.AgainStatus(resp.StatusCode) || p.final(first.req, resp) {
		return false, nil
	}
	p.askedAfter(first, resp)
	return true, nil
}

// lastPassTime is how long before the deadline no further pass is begun when
// there is an answer to return.
const lastPassTime = 300 * time.Millisecond

// cancelBody ends a context when the body is closed.
type cancelBody struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

func (c *cancelBody) Close() error {
	defer c.cancel(nil)
	return c.ReadCloser.Close()
}

type cancelWriter struct {
	cancelBody
	io.Writer
}

// leveled hands the library's log to zap, all of it as debug: what matters is
// logged as transitions.
type leveled struct{ log *zap.Logger }

func (l leveled) Error(msg string, kv ...any) { l.write(msg, kv) }
func (l leveled) Info(msg string, kv ...any)  { l.write(msg, kv) }
func (l leveled) Debug(msg string, kv ...any) { l.write(msg, kv) }
func (l leveled) Warn(msg string, kv ...any)  { l.write(msg, kv) }

func (l leveled) write(msg string, kv []any) {
	entry := l.log.Check(zap.DebugLevel, msg)
	if entry == nil {
		return
	}
	var fields []zap.Field
	for i := 0; i+1 < len(kv); i += 2 {
		fields = append(fields, zap.Any(fmt.Sprint(kv[i]), kv[i+1]))
	}
	entry.Write(fields...)
}
