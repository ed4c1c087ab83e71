package serve

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// The pace of bodies, in both directions: a client may take paceGrace longer than its
// bytes take at leastRate. Only the time in which this side waits for the client
// counts, so a transfer takes as long as it takes, and a long poll may wait.
const (
	paceGrace = 30 * time.Second
	leastRate = 16 << 10 // bytes a second
	// piece is how much of a file goes out under one deadline.
	piece = 4 << 20
)

// paced gives each request's body and answer their pace, and its connection's place.
func paced(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, _ := r.Context().Value(connKey{}).(*Conn)
		out := &writer{ResponseWriter: w, rc: http.NewResponseController(w)}
		receives := r.Body != nil && r.Body != http.NoBody
		if conn != nil && !conn.busy(receives) {
			w.Header().Set("Retry-After", "1")
			w.Header().Set("Connection", "close")
			http.Error(w, "too many requests of this address are sending their bodies", http.StatusServiceUnavailable)
			return
		}
		defer out.finish()
		if !receives {
			h.ServeHTTP(out, r)
			return
		}
		body := &body{ReadCloser: r.Body, out: out, conn: conn}
		defer body.end()
		h.ServeHTTP(out, WithBody(r, body))
	})
}

// body is a request's. One goroutine reads it.
type body struct {
	io.ReadCloser
	out   *writer
	conn  *Conn
	bytes int64
	spent time.Duration
	ended sync.Once
}

func (b *body) Read(p []byte) (int, error) {
	begin := time.Now()
	b.out.readBefore(begin.Add(paceGrace + took(b.bytes) - b.spent))
	n, err := b.ReadCloser.Read(p)
	b.bytes += int64(n)
	b.spent += time.Since(begin)
	if err != nil {
		if err == io.EOF {
			b.out.readBefore(time.Time{}) // net/http goes on reading, to learn that the client has left
		}
		b.end()
	}
	return n, err
}

// Close also ends the body for the place of the connection.
func (b *body) Close() error {
	b.end()
	return b.ReadCloser.Close()
}

func (b *body) end() {
	if b.conn != nil {
		b.ended.Do(b.conn.received)
	}
}

// took is how long so many bytes may take.
func took(bytes int64) time.Duration {
	return time.Duration(bytes/leastRate) * time.Second
}

// writer is an answer's. Handlers that set deadlines of their own get the earlier one.
type writer struct {
	http.ResponseWriter
	rc    *http.ResponseController
	bytes int64
	spent time.Duration

	mu         sync.Mutex
	hijacked   bool         // guarded by mu
	read, ours time.Time    // guarded by mu; of reading: the handler's deadline, and ours
	write      time.Time    // guarded by mu; the handler's
	set        [2]time.Time // guarded by mu; what the connection was told last, of reading and of writing
}

// Hijack hands the connection over: no deadline is ours from then on.
func (w *writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buf, err := w.rc.Hijack()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hijacked = err == nil
	return conn, buf, err
}

// WriteHeader also gives what goes out without a Write its time.
func (w *writer) WriteHeader(status int) {
	w.finish()
	w.ResponseWriter.WriteHeader(status)
}

// finish gives net/http the time for what it still has to write.
func (w *writer) finish() { w.writeBefore(time.Now().Add(paceGrace)) }

// Unwrap lets http.ResponseController reach the connection.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// SetReadDeadline is the handler's.
func (w *writer) SetReadDeadline(t time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.read = t
	w.set[0] = earlier(w.read, w.ours)
	return w.rc.SetReadDeadline(w.set[0])
}

// SetWriteDeadline is the handler's.
func (w *writer) SetWriteDeadline(t time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.write = t
	return nil // set with the next write
}

func (w *writer) readBefore(t time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ours = t
	if t := earlier(w.read, w.ours); !w.hijacked && differ(t, w.set[0]) {
		w.set[0] = t
		_ = w.rc.SetReadDeadline(t) // not supported means no deadline
	}
}

func (w *writer) writeBefore(t time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if t = earlier(w.write, t); !w.hijacked && differ(t, w.set[1]) {
		w.set[1] = t
		_ = w.rc.SetWriteDeadline(t)
	}
}

// differ reports whether two deadlines differ by more than a moment. A transfer sets
// one with every piece.
func differ(a, b time.Time) bool { return a.IsZero() != b.IsZero() || a.Sub(b).Abs() > time.Second/4 }

// earlier returns the earlier of two deadlines, of which the zero one is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func (w *writer) Write(p []byte) (int, error) {
	begin := time.Now()
	w.writeBefore(begin.Add(paceGrace + took(w.bytes+int64(len(p))) - w.spent))
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	w.spent += time.Since(begin)
	return n, err
}

// ReadFrom hands files and connections on to the server, which lets the kernel move
// them. What it waits for may be the source, so that its time does not count.
func (w *writer) ReadFrom(src io.Reader) (total int64, err error) {
	to, ok := w.ResponseWriter.(io.ReaderFrom)
	if !ok {
		return io.Copy(struct{ io.Writer }{w}, src)
	}
	most := int64(-1) // no bound
	limited, bounded := src.(*io.LimitedReader)
	if bounded {
		src, most = limited.R, limited.N
	}
	for most != 0 {
		want := int64(piece)
		if bounded {
			want = min(want, most)
		}
		w.writeBefore(time.Now().Add(paceGrace + took(want)))
		n, err := to.ReadFrom(&io.LimitedReader{R: src, N: want})
		total += n
		if bounded {
			most -= n
			limited.N = most
		}
		if err != nil || n < want {
			return total, err
		}
	}
	return total, nil
}
