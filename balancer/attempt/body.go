package attempt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ankacluster/ankacluster/balancer/clock"
	"github.com/ankacluster/ankacluster/balancer/endpoint"
)

// sharedBody is a request's body, given to one attempt after the other. Each
// attempt's transport closes what it gets; the body itself is closed once, when
// the pass has ended and the transport of the attempt that answered has closed
// its own: a server may answer while that transport still sends the body, or
// has yet to see its end, and a body that is closed under a transport's hands
// costs the connection on which the answer comes.
type sharedBody struct {
	orig   io.ReadCloser
	getter func() (io.ReadCloser, error)
	given  atomic.Bool           // orig went to an attempt
	read   atomic.Bool           // and a byte was asked of it
	fault  atomic.Pointer[error] // why it could not be read to its end
	closed sync.Once
}

// bodyOf returns nil for a request without a body.
func bodyOf(req *http.Request) *sharedBody {
	if req.Body == nil || req.Body == http.NoBody {
		return nil
	}
	return &sharedBody{orig: req.Body, getter: req.GetBody}
}

// reusable says whether another attempt can send the whole body. Without
// GetBody it can only as long as nobody began to read it.
func (s *sharedBody) reusable(unsent bool) bool {
	if s == nil || s.getter != nil {
		return true
	}
	return unsent && !s.read.Load()
}

// next is the body for another attempt.
func (s *sharedBody) next() *lentBody {
	if s.getter == nil || s.given.CompareAndSwap(false, true) {
		return &lentBody{s: s, src: s.orig}
	}
	body, err := s.getter()
	if err != nil {
		body = io.NopCloser(errReader{err})
	}
	return &lentBody{s: s, src: body, own: true}
}

// failed is ErrBody with what went wrong, nil when nothing did.
func (s *sharedBody) failed() error {
	if s == nil {
		return nil
	}
	if err := s.fault.Load(); err != nil {
		return fmt.Errorf("%w: %w", ErrBody, *err)
	}
	return nil
}

// close ends every use of the body.
func (s *sharedBody) close() {
	if s != nil {
		s.closed.Do(func() { s.orig.Close() })
	}
}

// leaveTo ends the use of the body by all but the attempt that answered, which is
// nil when none did.
func (s *sharedBody) leaveTo(answered *attempt) {
	if s == nil {
		return
	}
	if answered == nil || answered.body == nil || answered.body.own {
		s.close()
		return
	}
	answered.body.last.Store(true)
	if answered.body.done.Load() {
		s.close()
	}
}

// lentBody is a body in the hands of one attempt: closing it takes it away from
// that attempt only.
type lentBody struct {
	s    *sharedBody
	src  io.ReadCloser
	own  bool // src is this attempt's alone
	done atomic.Bool
	last atomic.Bool // no other attempt will read src

	asked atomic.Bool  // a Read is under way
	moved atomic.Int64 // when the last one ended, nano
}

func (l *lentBody) Read(p []byte) (int, error) {
	if l.done.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	l.s.read.Store(true)
	l.asked.Store(true)
	n, err := l.src.Read(p)
	l.moved.Store(clock.Nano(time.Now()))
	l.asked.Store(false)
	if err != nil && err != io.EOF {
		l.s.fault.CompareAndSwap(nil, &err)
	}
	return n, err
}

// lastTaken is when the endpoint took something of the body last: it is ready for
// more while the caller is asked for it.
func (l *lentBody) lastTaken(now time.Time) time.Time {
	if l.asked.Load() {
		return now
	}
	return clock.At(l.moved.Load())
}

func (l *lentBody) Close() error {
	l.done.Store(true)
	if l.own {
		return l.src.Close()
	}
	if l.last.Load() {
		l.s.close()
	}
	return nil
}

type errReader struct{ err error }

func (e errReader) Read([]byte) (int, error) { return 0, e.err }

// wrap ties the attempt's context to the life of the answer's body: it must not
// be cancelled while the body is being read.
func (a *attempt) wrap(resp *http.Response) {
	switch body := resp.Body.(type) {
	case *readBody:
		a.cancel(nil)
	case io.ReadWriteCloser: // an upgraded connection
		a.ep.Transfers.Add(1)
		resp.Body = &upgradedBody{Body{ReadCloser: body, a: a}, body}
	default:
		if body == nil || body == http.NoBody {
			a.cancel(nil)
			return
		}
		a.ep.Transfers.Add(1)
		resp.Body = &Body{ReadCloser: body, a: a}
	}
}

// Body reports how a streamed answer ends, when it ends.
type Body struct {
	io.ReadCloser
	a           *attempt
	once        sync.Once
	provisional bool // its header did not count as a success
}

// Endpoint gives the answer.
func (w *Body) Endpoint() *endpoint.Endpoint { return w.a.ep }

// Request is the caller's.
func (w *Body) Request() *http.Request { return w.a.p.req }

// Conn is the connection that a download comes on; nil when that is not known.
func (w *Body) Conn() net.Conn { return w.a.raw }

// Context ends with the answer, or when it is cancelled.
func (w *Body) Context() context.Context { return w.a.ctx }

// Abort ends the answer for a fault of the endpoint.
func (w *Body) Abort(err error) { w.a.cancel(err) }

// Complete notes that all of an answer of a known size has come.
func (w *Body) Complete(size int64) {
	w.a.ending(size, true, time.Now())
	w.Finish(io.EOF)
}

// Read reads the answer as it comes.
func (w *Body) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if err != nil {
		w.Finish(err)
	}
	return n, err
}

// Close ends the answer.
func (w *Body) Close() error {
	err := w.ReadCloser.Close()
	w.Finish(nil)
	return err
}

// Finish reports how the answer ended: io.EOF for its end, nil when its reader has left.
func (w *Body) Finish(err error) {
	w.once.Do(func() {
		w.a.ep.Transfers.Add(-1)
		cause := context.Cause(w.a.ctx)
		if errors.Is(cause, ErrStalled) || errors.Is(cause, ErrCrawling) || errors.Is(cause, errSilent) {
			err, cause = cause, nil
		}
		gone := w.a.p.req.Context().Err() != nil || cause != nil
		switch {
		case errors.Is(err, io.EOF):
			w.a.ep.Transferred(nil)
			if w.provisional {
				w.a.p.s.good(w.a, time.Now())
			}
		case errors.Is(err, errSilent) && !gone:
			w.a.p.route.Unended.Add(w.a.ep, err, w.a.p.s.view.Load().Usable, time.Now())
		case err != nil && !gone:
			w.a.p.s.transferFailed(w.a.ep, &w.a.admission, err, time.Now())
		}
		w.a.cancel(nil)
		if !errors.Is(err, io.EOF) {
			w.a.p.body.close() // its transport may wait for more of it
		}
	})
}

type upgradedBody struct {
	Body
	w io.Writer
}

func (u *upgradedBody) Write(p []byte) (int, error) { return u.w.Write(p) }
