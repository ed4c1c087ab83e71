// Package serve makes the HTTP servers of ours, so that what clients may hold of them
// has a bound, and runs one until a context ends, and then until its
// requests have ended.
//
//	err := serve.Run(ctx, serve.New(serve.Options{Handler: h}), listener, serve.Drain{Grace: 10 * time.Second})
package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// ErrCut is returned where requests had not ended when the time for it had.
var ErrCut = errors.New("requests were cut at the end of the drain")

// Drain is how a server ends. The zero value cuts its requests.
type Drain struct {
	// Begin, where it is set, is called first: readiness fails from then on.
	Begin func()
	// Delay is how long new requests are taken after that, while balancers see it.
	Delay time.Duration
	// Grace is the time in which all of it, and the requests in flight, have to end.
	Grace time.Duration
}

// Run serves on l, which it bounds with Listen, with TLS if srv has a TLSConfig, until ctx ends. Nil means that
// it stopped as asked, and that all requests had ended, unless there is no Grace.
// Where they had not the error is ErrCut.
func Run(ctx context.Context, srv *http.Server, l net.Listener, d Drain) error {
	l = Listen(l)
	served := make(chan error, 1) // one result, whether or not it is waited for
	go func() {
		if srv.TLSConfig != nil {
			served <- srv.ServeTLS(l, "", "")
			return
		}
		served <- srv.Serve(l)
	}()
	select {
	case err := <-served:
		return ended(err)
	case <-ctx.Done():
	}
	err := d.end(context.WithoutCancel(ctx), srv)
	return errors.Join(err, ended(<-served))
}

// ended returns why Serve has returned, nil when it was told to.
func ended(err error) error {
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func (d Drain) end(ctx context.Context, srv *http.Server) error {
	if d.Begin != nil {
		d.Begin()
	}
	if d.Grace <= 0 {
		return srv.Close()
	}
	ctx, cancel := context.WithTimeout(ctx, d.Grace)
	defer cancel()
	if d.Delay > 0 {
		delay := time.NewTimer(d.Delay)
		defer delay.Stop()
		select {
		case <-delay.C:
		case <-ctx.Done():
		}
	}
	return Shutdown(ctx, srv)
}

// Shutdown takes no more requests, waits for those in flight until ctx ends, and
// cuts the rest, which it reports as ErrCut.
func Shutdown(ctx context.Context, srv *http.Server) error {
	err := srv.Shutdown(ctx)
	if err == nil {
		return nil
	}
	_ = srv.Close() // its error is that of a listener, which Shutdown has closed
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ErrCut, err)
	}
	return err
}
