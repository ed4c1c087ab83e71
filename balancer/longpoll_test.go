package balancer

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"
)

// The first poll hangs wherever it arrives, and from then on that endpoint is
// not ready. The poll must not stay there until its deadline.
func TestLongPollLeavesAnEndpointThatGoesOut(t *testing.T) {
	inWorld(t, DefaultConfig(), []string{"a", "b"}, func(w *world) {
		var first atomic.Bool
		for _, f := range w.fakes {
			f.set(func(_ http.ResponseWriter, r *http.Request) {
				if first.CompareAndSwap(false, true) {
					f.setReady(status(http.StatusServiceUnavailable))
					<-r.Context().Done()
				}
			})
		}
		poll, done := context.WithTimeout(WithWait(context.Background(), time.Hour), time.Minute)
		defer done()
		req, err := http.NewRequestWithContext(poll, http.MethodGet, "http://pool/poll", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := w.b.Client().Do(req)
		if err != nil {
			t.Fatalf("long poll at an endpoint that went out: %v, want the other endpoint's answer", err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("long poll: %s, want 200", resp.Status)
		}
	})
}
