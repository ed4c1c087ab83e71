package serve

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"time"
)

// Options of a server. Only the Handler has no default.
type Options struct {
	Handler http.Handler
	TLS     *tls.Config
	// HeaderTime is how long the headers of a request may take; 0 means 10 s.
	HeaderTime time.Duration
	// Idle is how long a connection may be without a request; 0 means 3 min, which is
	// longer than what proxies keep, so that the proxy closes first.
	Idle time.Duration
	// Warn is told, once a minute at most, that clients of this process have come to a
	// bound. It must not call back; nil is silent.
	Warn func(text string)
	// ErrorLog is net/http's.
	ErrorLog *log.Logger
	// ConnContext is net/http's.
	ConnContext func(context.Context, net.Conn) context.Context
}

const (
	headerTime  = 10 * time.Second
	idleTime    = 3 * time.Minute
	headerBytes = 64 << 10
	// answerTime is how long an answer may take that no handler has begun to write: it
	// is there for what net/http writes by itself.
	answerTime = 2 * time.Minute
)

// New makes a server of ours. All of them are made here, so that what clients may hold
// has a bound everywhere: the size of headers and the time they take, the least rate
// of bodies in both directions, and, with Listen, the number of connections.
func New(o Options) *http.Server {
	if o.Warn != nil {
		r := process()
		r.mu.Lock()
		r.warn = o.Warn
		r.mu.Unlock()
	}
	srv := &http.Server{
		Handler: paced(o.Handler), TLSConfig: o.TLS, ErrorLog: o.ErrorLog,
		ReadHeaderTimeout: headerTime, IdleTimeout: idleTime, WriteTimeout: answerTime, MaxHeaderBytes: headerBytes,
		ConnState: func(c net.Conn, state http.ConnState) {
			if own := ConnOf(c); own != nil && state == http.StateIdle {
				own.idle()
			}
		},
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if o.ConnContext != nil {
				ctx = o.ConnContext(ctx, c)
			}
			if own := ConnOf(c); own != nil {
				ctx = context.WithValue(ctx, connKey{}, own)
			}
			return ctx
		},
	}
	if o.HeaderTime > 0 {
		srv.ReadHeaderTimeout = o.HeaderTime
	}
	if o.Idle > 0 {
		srv.IdleTimeout = o.Idle
	}
	return srv
}

type connKey struct{}

// WithBody returns a copy of r with another body. A server's own request must keep
// its body: net/http looks at it after the handler to find out whether what follows
// on the connection is a request.
func WithBody(r *http.Request, body io.ReadCloser) *http.Request {
	r2 := new(http.Request)
	*r2 = *r
	r2.Body = body
	return r2
}
