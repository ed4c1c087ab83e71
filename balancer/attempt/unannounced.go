package attempt

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ankacluster/ankacluster/balancer/clock"
	"github.com/ankacluster/ankacluster/balancer/route"
)

// An answer that does not announce its length may be a document or a stream, and one
// that sends nothing, or does not end, may be broken or what it is meant to be. The
// other answers of its kind tell.

// declaresStream reports whether an answer says of itself that it has no end.
func declaresStream(resp *http.Response) bool {
	return strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream")
}

// ending is called when all of an answer has come: peers that leave such an answer
// unended are charged with it.
func (a *attempt) ending(size int64, announced bool, now time.Time) {
	r := a.p.route
	r.Habit.Ended(size, announced)
	for _, c := range r.Unended.Well(a.ep, now, a.p.s.cfg.Breaker.Window) {
		for range c.N {
			a.p.s.transferFailed(c.Ep, nil, c.Err, now)
		}
	}
}

// endedAhead is ending for an answer that was read before it is returned.
func (a *attempt) endedAhead(resp *http.Response, now time.Time) {
	if resp.StatusCode >= 300 || a.p.req.Method == http.MethodHead {
		return
	}
	switch body := resp.Body.(type) {
	case *readBody:
		a.ending(int64(len(body.data)), resp.ContentLength >= 0, now)
	default:
		if resp.ContentLength == 0 {
			a.ending(0, true, now)
		}
	}
}

// provisional reports whether the header of an answer proves little: a document has to
// follow it.
func (a *attempt) provisional(resp *http.Response) bool {
	_, open := resp.Body.(*Body)
	return open && resp.ContentLength < 0 && a.p.wait == 0 && a.p.route.Habit.Documents() && !declaresStream(resp)
}

// openBody is the body of an answer without a length, passed on as it comes. Where
// such answers end as a rule, one that sends nothing for the stall time is broken off;
// its endpoint is charged when a peer's answer ends. It is used by one reader.
type openBody struct {
	*Body
	limit    time.Duration
	size     int64
	owed     bool // a document is expected
	watchdog *time.Timer
	due      atomic.Int64 // when the silence is too long, nano; 0 while nothing is waited for
}

func (s *Sender) watchOpen(p *pass, body *Body) *openBody {
	o := &openBody{Body: body, limit: p.wait + s.cfg.Stall.Timeout, owed: body.provisional}
	o.watchdog = time.AfterFunc(o.limit, o.bark)
	o.watchdog.Stop() // until something is waited for
	return o
}

func (o *openBody) Read(p []byte) (int, error) {
	began := time.Now()
	ep, habit := o.a.ep, &o.a.p.route.Habit
	if o.owed {
		ep.Owe(began)
	}
	o.watch(began)
	n, err := o.ReadCloser.Read(p)
	o.due.Store(0)
	o.watchdog.Stop()
	now := time.Now()
	if o.owed {
		ep.Paid(n, now)
	}
	if n > 0 && now.Sub(began) > o.limit {
		habit.Streamed() // it was silent, and went on
	}
	within := o.size <= route.DocumentMax
	if o.size += int64(n); within && o.size > route.DocumentMax && habit.Documents() {
		o.a.p.route.Unended.Add(ep, errEndless, o.a.p.s.view.Load().Usable, now)
	}
	if err != nil {
		if cause := context.Cause(o.a.ctx); cause != nil && errors.Is(err, context.Canceled) {
			err = cause
		}
		if err == io.EOF {
			o.a.ending(o.size, false, now)
		}
		o.Finish(err)
	}
	return n, err
}

func (o *openBody) watch(now time.Time) {
	o.due.Store(clock.Nano(now.Add(o.limit)))
	o.watchdog.Reset(o.limit)
}

// bark is the watchdog's. What arrived while the machine stood still is still to be
// read; where answers are not known to end, silence is no fault.
func (o *openBody) bark() {
	due := o.due.Load()
	late := time.Since(clock.At(due))
	switch {
	case due == 0 || late < 0: // it was stopped
	case late > o.a.p.s.cfg.Slow.Pause || !o.a.p.route.Habit.End():
		now := time.Now()
		if o.due.CompareAndSwap(due, clock.Nano(now.Add(o.limit))) {
			o.watchdog.Reset(o.limit)
		}
	default:
		o.a.cancel(errSilent)
	}
}

// Close ends the answer.
func (o *openBody) Close() error {
	o.watchdog.Stop()
	return o.Body.Close()
}
