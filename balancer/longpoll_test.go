package balancer

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// The first poll hangs wherever it arrives, and from then on that endpoint is
// not ready. The poll must not stay there until its deadline.
func TestLongPollLeavesAnEndpointThatGoesOut(t *testing.T) {
	var first atomic.Bool
	release := make(chan struct{})
	endpoint := func() *httptest.Server {
		var hung atomic.Bool
		return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == "/poll" && first.CompareAndSwap(false, true):
				hung.Store(true)
				select {
				case <-r.Context().Done():
				case <-release:
				}
			case hung.Load():
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		}))
	}
	a, b := endpoint(), endpoint()
	defer a.Close()
	defer b.Close()
	defer close(release)

	cfg := DefaultConfig()
	cfg.Probe.Interval, cfg.Probe.Fast = 100*time.Millisecond, 50*time.Millisecond
	cfg.Probe.Timeout = 90 * time.Millisecond
	pool, err := New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := pool.SetMembers(OriginJoin, []string{a.URL, b.URL}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- pool.Run(ctx) }()
	defer func() { cancel(); <-ran }()

	poll, done := context.WithTimeout(WithWait(t.Context(), time.Hour), time.Minute)
	defer done()
	req, err := http.NewRequestWithContext(poll, http.MethodGet, "http://pool/poll", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := pool.Client().Do(req)
	if err != nil {
		t.Fatalf("long poll at an endpoint that went out: %v, want the other endpoint's answer", err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("long poll: %s, want 200", resp.Status)
	}
}
