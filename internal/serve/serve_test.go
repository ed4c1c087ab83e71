package serve

import (
	"context"
	"errors"
	"net"
	"net/http"
	"testing"
	"time"
)

// running is a server whose one request waits until released.
type running struct {
	url      string
	begun    chan struct{}
	release  chan struct{}
	stop     context.CancelFunc
	ended    chan error
	answered chan error
}

func run(t *testing.T, d Drain) *running {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &running{url: "http://" + l.Addr().String(), begun: make(chan struct{}), release: make(chan struct{}), ended: make(chan error, 1), answered: make(chan error, 1)}
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(r.begun)
		<-r.release
	})}
	ctx, stop := context.WithCancel(t.Context())
	r.stop = stop
	go func() { r.ended <- Run(ctx, srv, l, d) }()
	go func() {
		resp, err := http.Get(r.url)
		if err == nil {
			resp.Body.Close()
		}
		r.answered <- err
	}()
	<-r.begun
	return r
}

func TestRequestsInFlightEnd(t *testing.T) {
	t.Parallel()
	begun := make(chan struct{})
	r := run(t, Drain{Begin: func() { close(begun) }, Delay: time.Millisecond, Grace: time.Minute})
	r.stop()
	<-begun
	select {
	case err := <-r.ended:
		t.Fatalf("it ended before its request: %v", err)
	default:
	}
	close(r.release)
	if err := errors.Join(<-r.answered, <-r.ended); err != nil {
		t.Error(err)
	}
}

func TestRequestsThatDoNotEndAreCut(t *testing.T) {
	t.Parallel()
	r := run(t, Drain{Delay: time.Hour, Grace: 20 * time.Millisecond})
	defer close(r.release)
	r.stop()
	if err := <-r.ended; !errors.Is(err, ErrCut) {
		t.Errorf("got %v", err)
	}
	if err := <-r.answered; err == nil {
		t.Error("the request was answered")
	}
}

func TestWithoutGrace(t *testing.T) {
	t.Parallel()
	r := run(t, Drain{})
	defer close(r.release)
	r.stop()
	if err := <-r.ended; err != nil {
		t.Errorf("got %v", err)
	}
	if err := <-r.answered; err == nil {
		t.Error("the request was answered")
	}
}

func TestAListenerThatFails(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := Run(t.Context(), &http.Server{ReadHeaderTimeout: time.Minute}, l, Drain{}); err == nil {
		t.Error("no error")
	}
}
