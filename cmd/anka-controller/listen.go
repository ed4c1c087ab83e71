package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/ankacluster/ankacluster/internal/serve"
	"github.com/ankacluster/ankacluster/internal/wire"
)

// listener is an address that serves from the first moment: what is behind it
// may come later.
type listener struct {
	flag    string
	net     net.Listener
	http    *http.Server
	lot     *wire.Lot // of long polls
	handler atomic.Pointer[http.Handler]
	leaving atomic.Bool // the process drains: each answer ends its connection
}

// idleTimeout is longer than what proxies keep, so that the proxy closes first.
const idleTimeout = 3 * time.Minute

// newListener takes the address. flag names the setting for messages. Until a
// handler is set it answers that the process lives and is not ready.
func newListener(flag, addr string, tc *tls.Config, log *zap.Logger) (*listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, wire.ListenError(flag, addr, err)
	}
	l = serve.Listen(l)
	if tc != nil {
		tc.NextProtos = []string{"h2", "http/1.1"}
		l = tls.NewListener(l, tc)
	}
	return listenOn(flag, l, log), nil
}

// listenOn serves what l accepts.
func listenOn(flag string, l net.Listener, log *zap.Logger) *listener {
	ln := &listener{flag: flag, net: l}
	ln.lot = wire.NewLot(l.Addr(), idleTimeout, ln.leaving.Load)
	ln.http = serve.New(serve.Options{
		Handler: wire.CloseWhen(ln.leaving.Load, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			(*ln.handler.Load()).ServeHTTP(w, r)
		})),
		Idle:        idleTimeout,
		ConnContext: ln.lot.ConnContext,
		Warn:        func(text string) { log.Warn(text) },
		ErrorLog:    zap.NewStdLog(log.Named("http").WithOptions(zap.IncreaseLevel(zap.WarnLevel))),
	})
	ln.set(starting())
	return ln
}

func (l *listener) set(h http.Handler) { l.handler.Store(&h) }

// serve returns when shutdown has been called, or with the reason why it cannot
// go on.
func (l *listener) serve() error {
	var g errgroup.Group
	for _, from := range []net.Listener{l.net, l.lot} {
		g.Go(func() error {
			err := l.http.Serve(from)
			if errors.Is(err, http.ErrServerClosed) {
				return nil
			}
			_ = l.http.Close() // one without the other is of no use
			return fmt.Errorf("%s: %w", l.flag, err)
		})
	}
	return g.Wait()
}

// shutdown waits for the requests in flight until ctx ends, and cuts the rest.
func (l *listener) shutdown(ctx context.Context) {
	_ = serve.Shutdown(ctx, l.http) // what was cut has failed at its callers
	l.lot.Drain(ctx)
}

// starting answers while etcd is being found: alive, not ready.
func starting() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/livez" {
			w.WriteHeader(http.StatusOK)
			return
		}
		w.Header().Set("Retry-After", "1")
		wire.WriteFailure(w, wire.Unavailable("the controller is starting: waiting for etcd", nil), nil)
	})
}
