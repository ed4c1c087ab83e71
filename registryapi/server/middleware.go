package server

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/internal/serve"
	"github.com/ankacluster/ankacluster/internal/wire"
)

// observe counts requests and writes the access log. Its writer hands ReadFrom
// on, so that files still reach sendfile.
func (s *Server) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		call := callOf(r)
		ow := &observedWriter{ResponseWriter: w}
		body := &countedBody{ReadCloser: r.Body}
		s.metrics.inFlight.Inc()
		defer func() {
			took := time.Since(start)
			s.metrics.inFlight.Dec()
			s.metrics.sent.Add(float64(ow.bytes))
			s.metrics.received.Add(float64(body.bytes))
			s.metrics.requests.WithLabelValues(call, strconv.Itoa(ow.code()/100)+"xx").Inc()
			s.metrics.seconds.WithLabelValues(call).Observe(took.Seconds())
			if s.cfg.AccessLog {
				// Neither query nor headers: they may hold credentials.
				s.log.Info("request", zap.String("method", r.Method), zap.String("path", r.URL.Path), zap.Int("status", ow.code()),
					zap.Int64("sent_bytes", ow.bytes), zap.Int64("received_bytes", body.bytes), zap.Duration("duration", took),
					zap.String("remote", r.RemoteAddr), zap.String("user_agent", r.UserAgent()), zap.String("request_id", wire.RequestID(r.Context())))
			}
		}()
		next.ServeHTTP(ow, serve.WithBody(r, body))
	})
}

// callOf names a request for metrics, from a small closed set.
func callOf(r *http.Request) string {
	if !strings.HasPrefix(r.URL.Path, "/v2/") {
		if strings.HasPrefix(r.URL.Path, "/registry/") {
			return "rest"
		}
		return "other"
	}
	name := map[oci.Kind]string{oci.Blob: "blob", oci.Uploads: "upload", oci.Upload: "upload", oci.Manifest: "manifest"}[oci.Of(r).Kind]
	if name == "" {
		return "discovery"
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost, http.MethodPatch, http.MethodDelete:
		return name + "_" + strings.ToLower(r.Method)
	}
	return "other"
}

type observedWriter struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (w *observedWriter) code() int {
	if w.status == 0 {
		return http.StatusOK
	}
	return w.status
}

// Unwrap lets http.ResponseController reach the connection.
func (w *observedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *observedWriter) WriteHeader(status int) {
	if w.status == 0 || w.status < 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *observedWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

func (w *observedWriter) ReadFrom(src io.Reader) (int64, error) {
	n, err := io.Copy(w.ResponseWriter, src) // calls the server's ReadFrom
	w.bytes += n
	return n, err
}

// countedBody counts what a client sent. One goroutine reads a body.
type countedBody struct {
	io.ReadCloser
	bytes int64
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.bytes += int64(n)
	return n, err
}
