package balancer

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/hashicorp/go-retryablehttp"
	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/balancer/attempt"
)

// repeater is the pool's outermost RoundTripper: go-retryablehttp repeats passes over the
// endpoints, each of which is the pool's RoundTrip. What is repeated, and after how long, is
// said to the library by its hooks. Before each further pass the transport below it waits
// for an endpoint that may be tried.
//
// A body that can be had once only is kept away from the library, which would read it into
// memory: one pass is all that can be made of it.
type repeater struct {
	b     *Balancer
	retry *retryablehttp.Client
}

func newRepeater(b *Balancer) *repeater {
	p := &repeater{b: b}
	p.retry = &retryablehttp.Client{
		HTTPClient: &http.Client{
			Transport:     passes{b},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		RetryWaitMin:   b.cfg.Retry.WaitMin,
		RetryWaitMax:   b.cfg.Retry.WaitMax,
		RetryMax:       1 << 20, // the deadline bounds it
		CheckRetry:     p.checkRetry,
		Backoff:        backoff,
		ErrorHandler:   retryablehttp.PassthroughErrorHandler,
		RequestLogHook: p.log,
	}
	return p
}

// RoundTrip makes passes until one gives an answer or the time is over.
func (p *repeater) RoundTrip(req *http.Request) (*http.Response, error) {
	hasBody := req.Body != nil && req.Body != http.NoBody
	if hasBody && req.GetBody == nil {
		return p.b.RoundTrip(req)
	}
	run := &run{Context: req.Context(), req: req}
	repeat := &retryablehttp.Request{Request: req.WithContext(run)}
	repeat.RequestURI = "" // a proxy's requests carry one, and http.Client refuses those
	if hasBody {
		req.Body.Close() // each pass has its own
		if err := repeat.SetBody(retryablehttp.ReaderFunc(func() (io.Reader, error) { return req.GetBody() })); err != nil {
			return nil, err
		}
		repeat.ContentLength, repeat.GetBody = req.ContentLength, req.GetBody
	}
	resp, err := p.retry.Do(repeat)
	if err != nil {
		return nil, p.explain(err, run)
	}
	return resp, nil
}

// explain takes the library's wrapping off, and says of a request that ran out of time what
// it waited for.
func (p *repeater) explain(err error, run *run) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	var pass *PassError
	if run.deadline.IsZero() || errors.As(err, &pass) {
		return err
	}
	return &PassError{Pool: p.b.cfg.Name, Reason: err, Attempts: p.b.sender.StateOfAll(), Repeatable: true}
}

// log has each repeat in the log. What matters is logged as transitions.
func (p *repeater) log(_ retryablehttp.Logger, req *http.Request, retry int) {
	if retry > 0 {
		p.b.log.Debug("retrying request", zap.String("method", req.Method), zap.String("path", req.URL.Path), zap.Int("retry", retry))
	}
}

// checkRetry reports whether another pass may help.
func (p *repeater) checkRetry(ctx context.Context, resp *http.Response, err error) (bool, error) {
	run := runOf(ctx)
	if ctx.Err() != nil {
		return false, nil
	}
	if err != nil {
		var pass *PassError
		if !errors.As(err, &pass) || !pass.Repeatable {
			return false, nil
		}
	} else if !attempt.Repeatable(run.req) || !attempt.AgainStatus(resp.StatusCode) || p.final(run, resp) {
		return false, nil
	}
	now := time.Now()
	if run.deadline.IsZero() {
		run.deadline = p.deadline(run.Context, now)
	}
	if run.refusal = attempt.Kept(resp); run.over(now) {
		return false, nil
	}
	if resp != nil {
		run.after = p.askedAfter(run, resp, now)
	}
	return true, nil
}

// final reports whether a refusal is the route's own, so that no pass will be better. What
// a server asks to wait for is waited for once.
func (p *repeater) final(run *run, resp *http.Response) bool {
	if resp.Header.Get("Retry-After") != "" && !run.waited {
		return false
	}
	return p.b.sender.RefusedByAll(run.req)
}

// deadline is when a request whose first pass failed now is given up.
func (p *repeater) deadline(ctx context.Context, now time.Time) time.Time {
	deadline, ok := ctx.Deadline()
	if patience, set := attempt.PatienceOf(ctx); set {
		if at := now.Add(patience); !ok || at.Before(deadline) {
			return at
		}
	}
	if !ok {
		return now.Add(p.b.cfg.Retry.MaxElapsed)
	}
	return deadline
}

// askedAfter is when a server wants to be asked again, by its Retry-After: at most the
// limit, and never so late that no pass is left before the deadline; the zero time if it
// does not say.
func (p *repeater) askedAfter(run *run, resp *http.Response, now time.Time) time.Time {
	wait := retryAfter(resp.Header.Get("Retry-After"), now)
	if wait = min(wait, p.b.cfg.Retry.RetryAfterMax, run.deadline.Sub(now)/2); wait <= 0 {
		return time.Time{}
	}
	return now.Add(wait)
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

// run is one request on its way through the library, which hands on nothing but its
// context. It is used by one goroutine at a time.
type run struct {
	context.Context
	req      *http.Request
	passes   int
	deadline time.Time      // zero until a pass has failed
	after    time.Time      // when a server wants to be asked again; zero if it did not say
	waited   bool           // that was waited for
	refusal  *http.Response // the last answer, for when there will be no better one
}

type runKey struct{}

// Value finds the run in the contexts made of it.
func (r *run) Value(key any) any {
	if key == (runKey{}) {
		return r
	}
	return r.Context.Value(key)
}

func runOf(ctx context.Context) *run { return ctx.Value(runKey{}).(*run) }

// lastPassTime is how long before the deadline no further pass is begun when
// there is an answer to return.
const lastPassTime = 300 * time.Millisecond

// lastPass is when no further pass is begun, because there is an answer to return; the
// zero time without one.
func (r *run) lastPass() time.Time {
	if r.refusal == nil {
		return time.Time{}
	}
	return r.deadline.Add(-lastPassTime)
}

// over reports whether the refusal, if there is one, serves better than another pass.
func (r *run) over(now time.Time) bool {
	return r.refusal != nil && !now.Before(r.lastPass())
}

// passes makes a pass over the endpoints; all but the first of a run wait until there is
// something to be tried. It hides the pool's CloseIdleConnections from the library, which
// would close those of every endpoint at a final failure.
type passes struct{ b *Balancer }

func (p passes) RoundTrip(req *http.Request) (*http.Response, error) {
	run := runOf(req.Context())
	if run.passes++; run.passes == 1 {
		return p.b.RoundTrip(req)
	}
	// The context outlives the wait: it is that of the answer's body too.
	ctx, cancel := context.WithCancelCause(req.Context())
	timer := time.AfterFunc(time.Until(run.deadline), func() { cancel(context.DeadlineExceeded) })
	resp, err := p.again(req.WithContext(ctx), run)
	timer.Stop()
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		cancel(nil)
		return nil, err
	}
	resp.Body = endWith(resp.Body, cancel)
	return resp, nil
}

// again makes a further pass when there is something to be tried.
func (p passes) again(req *http.Request, run *run) (*http.Response, error) {
	ctx := req.Context()
	p.waitAsked(ctx, run)
	for {
		ep := p.b.sender.WaitUsable(ctx, run.lastPass())
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if run.over(time.Now()) {
			return run.refusal, nil
		}
		leave := p.b.sender.TakePlace(ctx)
		if ep == nil && p.b.sender.MustWait() {
			leave() // those before this one have found out that it is no better
			continue
		}
		defer leave()
		return p.b.roundTrip(req, ep)
	}
}

// waitAsked waits as long as the last answer's Retry-After asked for, or until
// the pool changes: another endpoint may answer sooner.
func (p passes) waitAsked(ctx context.Context, run *run) {
	if run.after.IsZero() {
		return
	}
	replaced := p.b.snap.Load().Replaced
	timer := time.NewTimer(time.Until(run.after))
	defer timer.Stop()
	run.after = time.Time{}
	run.waited = true
	select {
	case <-ctx.Done():
	case <-replaced:
	case <-timer.C:
	}
}

// backoff is the library's pace of passes.
func backoff(low, high time.Duration, n int, _ *http.Response) time.Duration {
	return attempt.Backoff(low, high, n)
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
