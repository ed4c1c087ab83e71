package download

import (
	"errors"
	"io"
	"time"

	"github.com/ankacluster/ankacluster/balancer/attempt"
	"github.com/ankacluster/ankacluster/balancer/download/splice"
)

// WriteTo writes the rest of the content to w. If w can be read into, as an
// http.ResponseWriter can, and the kernel can move the bytes, they do not pass
// through this process.
func (t *transfer) WriteTo(w io.Writer) (written int64, err error) {
	into, direct := w.(io.ReaderFrom)
	direct = direct && t.d.cfg.Splice
	buf := make([]byte, 64<<10)
	for {
		if direct && t.failed == nil && t.cur != nil && t.raw != nil {
			n, err := t.move(into, w)
			written += n
			if err != nil || t.off == t.end {
				return written, err
			}
			continue
		}
		if direct && t.cur != nil && t.end-t.off >= splice.Min {
			splice.Arm(t.cur.Conn())
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
		if readErr != nil && readErr != splice.ErrTaken {
			return written, readErr
		}
	}
}

// takeOver makes the current attempt's connection the transfer's own.
func (t *transfer) takeOver() {
	t.sum = nil // the rest is not seen here
	t.raw = splice.Take(t.cur.Context(), t.cur.Conn(), t.d.cfg.Stall.Timeout)
}

// move lets the kernel move bytes until the content is complete, or the
// endpoint is given up (nil: Read goes on elsewhere), or the client is gone.
func (t *transfer) move(into io.ReaderFrom, w io.Writer) (moved int64, err error) {
	for t.off < t.end {
		n, since, err := t.raw.Move(into, t.end-t.off)
		t.off += n
		moved += n
		if t.pace.add(int(n), since, time.Now()) && t.d.crawls(t.cur.Endpoint(), &t.pace) {
			t.cur.Abort(attempt.ErrCrawling)
			t.leave(attempt.ErrCrawling)
			return moved, nil
		}
		if err == nil {
			continue
		}
		if left := t.req.Context().Err(); left != nil {
			return moved, left
		}
		more, fault, err := t.raw.Blame(err, n, w, t.end-t.off, attempt.ErrStalled)
		t.off += more
		moved += more
		if err != nil {
			return moved, err
		}
		if fault != nil {
			if errors.Is(fault, attempt.ErrStalled) {
				t.cur.Abort(fault)
			}
			t.leave(fault)
			return moved, nil
		}
	}
	t.raw.Close()
	t.raw = nil
	t.cur.Finish(io.EOF)
	return moved, nil
}
