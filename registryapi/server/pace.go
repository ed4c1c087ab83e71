package server

import (
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"time"
)

// paceChunk is how much a client must take within DownloadInactivity.
const paceChunk = 16 << 20

// pacedWriter gives a download a deadline on progress instead of one on the
// whole. It hands file and limit on to the server's own ReadFrom in pieces, so
// that each still ends in sendfile.
type pacedWriter struct {
	http.ResponseWriter
	rc      *http.ResponseController
	timeout time.Duration
}

func (s *Server) paced(w http.ResponseWriter) http.ResponseWriter {
	return &pacedWriter{ResponseWriter: w, rc: http.NewResponseController(w), timeout: s.cfg.DownloadInactivity}
}

func (p *pacedWriter) Unwrap() http.ResponseWriter { return p.ResponseWriter }

func (p *pacedWriter) Write(b []byte) (int, error) {
	_ = p.rc.SetWriteDeadline(time.Now().Add(p.timeout)) // not supported means no deadline
	return p.ResponseWriter.Write(b)
}

func (p *pacedWriter) ReadFrom(src io.Reader) (total int64, err error) {
	limited, ok := src.(*io.LimitedReader)
	rf, canReadFrom := p.ResponseWriter.(io.ReaderFrom)
	if !ok || !canReadFrom {
		return io.Copy(struct{ io.Writer }{p}, src)
	}
	for limited.N > 0 {
		want := min(limited.N, paceChunk)
		_ = p.rc.SetWriteDeadline(time.Now().Add(p.timeout))
		n, err := rf.ReadFrom(&io.LimitedReader{R: limited.R, N: want})
		limited.N -= n
		total += n
		if err != nil || n < want {
			return total, err
		}
	}
	return total, nil
}

// errClientStalled: an upload brought no data for too long, or another request
// took over.
var errClientStalled = errors.New("the client sent no data in time")

// bodyReader reads a request's body with a deadline on progress.
type bodyReader struct {
	r           io.Reader
	rc          *http.ResponseController
	timeout     time.Duration
	interrupted atomic.Bool
	err         error // the body's own error, to tell it from the store's
}

func (s *Server) body(w http.ResponseWriter, r *http.Request) *bodyReader {
	return &bodyReader{r: r.Body, rc: http.NewResponseController(w), timeout: s.cfg.UploadInactivity}
}

func (b *bodyReader) Read(p []byte) (int, error) {
	if b.interrupted.Load() {
		b.err = errClientStalled
		return 0, b.err
	}
	_ = b.rc.SetReadDeadline(time.Now().Add(b.timeout))
	n, err := b.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = err
	}
	return n, err
}

// interrupt ends a Read in progress and all later ones.
func (b *bodyReader) interrupt() {
	b.interrupted.Store(true)
	_ = b.rc.SetReadDeadline(time.Now())
}

// done lifts the deadline for what follows on the connection.
func (b *bodyReader) done() { _ = b.rc.SetReadDeadline(time.Time{}) }
