package balancer

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/ankacluster/ankacluster/balancer/attempt"
)

// A large download need not pass through this process: on Linux the kernel can
// move bytes from one connection to the other (splice). net/http offers no such
// thing for an answer's body, so the body's connection is taken from it.
//
// That is safe at exactly one moment. The transport reads an answer through a
// small buffer, in the reader's own goroutine, and asks the connection for more
// only when that buffer is empty. If the connection refuses just then, every
// byte before has been delivered and every byte after is still in the socket.
// The transport takes the refusal for an error and drops the connection, which
// is ours from then on; it serves no second request.

// handover is a connection that can be taken from the transport.
type handover struct {
	*net.TCPConn
	armed atomic.Bool // the next Read is refused
	taken atomic.Bool // and was: closing is the taker's
}

// seizable is conn as one that can be taken from the transport, if it is of TCP.
func seizable(conn net.Conn) net.Conn {
	if tcp, ok := conn.(*net.TCPConn); ok {
		return &handover{TCPConn: tcp}
	}
	return conn
}

var errHandedOver = errors.New("connection handed over")

func (h *handover) Read(p []byte) (int, error) {
	if h.armed.CompareAndSwap(true, false) {
		h.taken.Store(true)
		return 0, errHandedOver
	}
	return h.TCPConn.Read(p)
}

// Close is called by the transport.
func (h *handover) Close() error {
	if h.taken.Load() {
		return nil
	}
	return h.TCPConn.Close()
}

// handoverMin is the least rest of a download that is worth a connection.
const handoverMin = 1 << 20

// Sizes of one move. It should end within a moment: between two moves a stall
// is noticed and the rate is judged.
const (
	leastMove = 256 << 10
	mostMove  = 8 << 20
	moveTime  = 100 * time.Millisecond
)

// lowWater is how many bytes wake a fast download: waking for each packet is a
// third of what moving them costs. eagerTime is how long so many may take to
// come before any number does.
const (
	lowWater  = 256 << 10
	eagerTime = 200 * time.Millisecond
)

// WriteTo writes the rest of the content to w. If w can be read into, as an
// http.ResponseWriter can, and nothing wants to see the bytes, they do not pass
// through this process.
func (t *transfer) WriteTo(w io.Writer) (written int64, err error) {
	into, direct := w.(io.ReaderFrom)
	direct = direct && t.d.cfg.Splice
	buf := make([]byte, 64<<10)
	for {
		if direct && t.failed == nil && t.cur != nil && t.raw != nil {
			n, err := t.move(into, w, buf)
			written += n
			if err != nil || t.off == t.end {
				return written, err
			}
			continue
		}
		if direct && t.cur != nil && t.end-t.off >= handoverMin {
			arm(t.cur.Conn())
		}
		n, readErr := t.Read(buf)
		if n > 0 {
			m, err := w.Write(buf[:n])
			written += int64(m)
			if err != nil {
				return written, err
			}
		}
		if readErr == io.EOF {
			return written, nil
		}
		if readErr != nil && readErr != errHandedOver {
			return written, readErr
		}
	}
}

// arm has the next Read of a connection refused, if it can be taken over.
func arm(conn net.Conn) {
	if h, ok := conn.(*handover); ok {
		h.armed.Store(true)
	}
}

// takeOver makes the current attempt's connection the transfer's own.
func (t *transfer) takeOver() {
	raw, cur := t.cur.Conn().(*handover), t.cur
	t.sum = nil // the rest is not seen here
	// The transport no longer ends the connection when the attempt does.
	stop := context.AfterFunc(cur.Context(), func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	t.raw = &rawBody{conn: raw.TCPConn, cur: cur, stop: stop, size: leastMove, limit: t.d.cfg.Stall.Timeout}
}

// rawBody is the rest of an answer on a connection of its own.
type rawBody struct {
	conn  *net.TCPConn
	cur   *attempt.Body
	stop  func() bool
	size  int64         // of the next move
	limit time.Duration // how long it may take to bring a byte
	low   int64         // how many bytes wake a move; 0 is one, as it begins
}

func (r *rawBody) close() {
	r.stop()
	_ = r.conn.Close()
}

// move lets the kernel move bytes until the content is complete, or the
// endpoint is given up (nil: Read goes on elsewhere), or the client is gone.
func (t *transfer) move(into io.ReaderFrom, w io.Writer, buf []byte) (moved int64, err error) {
	for t.off < t.end {
		raw := t.raw
		began := time.Now()
		want, limit := raw.plan(t.end-t.off, t.d.cfg.Stall.Timeout)
		_ = raw.conn.SetReadDeadline(began.Add(limit))
		n, err := into.ReadFrom(&io.LimitedReader{R: raw.conn, N: want})
		now := time.Now()
		t.off += n
		moved += n
		if err == nil && n < want {
			err = io.ErrUnexpectedEOF
		}
		waited := began
		if queued(raw.conn) {
			waited = now // the client is the slower one
		}
		if t.pace.add(int(n), waited, now) && t.d.crawls(raw.cur.Endpoint(), &t.pace) {
			raw.cur.Abort(attempt.ErrCrawling)
			t.leave(attempt.ErrCrawling)
			return moved, nil
		}
		if err == nil {
			raw.adapt(now.Sub(began), t.d.cfg.Stall.Timeout)
			continue
		}
		n, fault, err := t.blame(w, buf, n, err)
		moved += n
		if err != nil {
			return moved, err
		}
		if fault != nil {
			t.leave(fault)
			return moved, nil
		}
	}
	t.raw.close()
	t.raw = nil
	t.cur.Finish(io.EOF)
	return moved, nil
}

// plan says how much to move next and how long to wait for it, and sets how
// many bytes wake it: many while the endpoint is fast, but never more than are
// to come.
func (r *rawBody) plan(rest int64, stall time.Duration) (want int64, limit time.Duration) {
	want, limit = min(r.size, rest), r.limit
	low := int64(1)
	if r.size == mostMove && rest > lowWater {
		low = lowWater
		want = min(want, rest-lowWater)
		limit = eagerFor(stall)
	}
	if low != max(r.low, 1) {
		wakeAt(r.conn, int(low))
	}
	r.low = low
	return want, limit
}

func eagerFor(stall time.Duration) time.Duration { return min(eagerTime, stall/4) }

// adapt keeps a move short, but not so short that its calls are what it costs.
func (r *rawBody) adapt(took, stall time.Duration) {
	r.limit = stall
	if took < moveTime/2 {
		r.size = min(2*r.size, mostMove)
	} else if took > moveTime {
		r.size = max(r.size/2, leastMove)
	}
}

// blame finds out who failed a move: the endpoint (fault), the client (err), or
// nobody. An error of a move does not say which of the two connections had it.
func (t *transfer) blame(w io.Writer, buf []byte, n int64, err error) (moved int64, fault, gone error) {
	raw := t.raw
	if raw.cur.Context().Err() != nil {
		cause := context.Cause(raw.cur.Context())
		if parent := t.req.Context().Err(); parent != nil {
			return 0, nil, parent
		}
		return 0, cause, nil
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && raw.low == lowWater {
		raw.size = leastMove // fewer bytes may be there: they count as well
		raw.limit = t.d.cfg.Stall.Timeout - eagerFor(t.d.cfg.Stall.Timeout)
		return 0, nil, nil
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		raw.limit = t.d.cfg.Stall.Timeout
		if n > 0 && !queued(raw.conn) {
			raw.limit /= 4 // most of the time may have passed since the last byte
		}
		if n > 0 || queued(raw.conn) {
			return 0, nil, nil
		}
		raw.cur.Abort(attempt.ErrStalled)
		return 0, attempt.ErrStalled, nil
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return 0, err, nil
	}
	// Ask the endpoint alone.
	_ = raw.conn.SetReadDeadline(time.Now().Add(t.d.cfg.Stall.Timeout))
	k, readErr := raw.conn.Read(buf[:min(int64(len(buf)), t.end-t.off)])
	if k > 0 {
		m, err := w.Write(buf[:k])
		t.off += int64(m)
		moved = int64(m)
		if err != nil {
			return moved, nil, err
		}
	}
	return moved, readErr, nil
}
