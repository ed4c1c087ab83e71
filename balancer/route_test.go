package balancer

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"
)

// What always takes long is not hedged by the measure of quick calls, and a quick
// call that hangs is hedged by its own, whichever of the two there are more of.
func TestEachKindOfRequestIsHedgedByItsOwnMeasure(t *testing.T) {
	type kind struct{ method, path string }
	quick, slow := 5*time.Millisecond, 300*time.Millisecond
	for _, test := range []struct {
		name        string
		quick, slow kind
	}{
		{"other paths", kind{"GET", "/api/v1/status"}, kind{"GET", "/api/v1/vm"}},
		{"other methods", kind{"GET", "/api/v1/vm"}, kind{"DELETE", "/api/v1/vm"}},
	} {
		for _, rare := range []kind{test.quick, test.slow} {
			t.Run(fmt.Sprintf("%s, few %s %s", test.name, rare.method, rare.path), func(t *testing.T) {
				inWorld(t, DefaultConfig(), []string{"a", "b"}, func(w *world) {
					serve := func(rw http.ResponseWriter, r *http.Request) {
						d := quick
						if r.Method == test.slow.method && r.URL.Path == test.slow.path {
							d = slow
						}
						after(d, status(http.StatusOK))(rw, r)
					}
					w.fakes["a"].set(serve)
					w.fakes["b"].set(serve)
					for i := range 240 {
						k := test.quick
						if (i%6 == 0) == (rare == test.slow) {
							k = test.slow
						}
						w.ask(k.method, k.path, time.Minute)
					}
					before := w.b.Status().Hedges
					for range 10 {
						w.ask(test.slow.method, test.slow.path, time.Minute)
					}
					if n := w.b.Status().Hedges - before; n > 0 {
						t.Errorf("%d of 10 that take %s, as always, were hedged", n, slow)
					}
					w.fakes["a"].set(after(time.Hour, say("a")))
					req, _ := http.NewRequestWithContext(WithPrefer(context.Background(), "http://a"), test.quick.method, "http://pool"+test.quick.path, nil)
					since := time.Now()
					resp, err := w.b.Client().Do(req)
					if err != nil {
						t.Fatal(err)
					}
					resp.Body.Close()
					if took := time.Since(since); took > 2*w.cfg.Hedge.Min {
						t.Errorf("one that takes %s as a rule hung, and was answered elsewhere after %s; want within %s", quick, took, 2*w.cfg.Hedge.Min)
					}
				})
			})
		}
	}
}

// Requests that differ by an id are of one kind: none of them alone comes often
// enough to be measured.
func TestRequestsForManyIDsAreMeasuredTogether(t *testing.T) {
	inWorld(t, DefaultConfig(), []string{"a", "b"}, func(w *world) {
		for _, h := range []string{"a", "b"} {
			w.fakes[h].set(after(300*time.Millisecond, say(h)))
		}
		for _, path := range []string{"/api/v1/node/vm/%d", "/api/v1/node/%d", "/v2/mac/manifests/v%d", "/v2/mac/blobs/sha256:9%d"} {
			ask := func(id int) { w.ask("GET", fmt.Sprintf(path, id), time.Minute) }
			for id := range 60 {
				ask(id)
			}
			before := w.b.Status().Hedges
			for id := range 10 {
				ask(1000 + id)
			}
			if n := w.b.Status().Hedges - before; n > 0 {
				t.Errorf("%s: %d of 10 were hedged as if their like had not been seen", path, n)
			}
		}
	})
}
