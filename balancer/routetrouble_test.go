package balancer

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// What is behind one route is down, at every endpoint: its requests get to know at
// once, and nothing else suffers.
func TestRouteThatIsRefusedEverywhereGetsItsAnswer(t *testing.T) {
	for name, header := range map[string]string{"plain": "", "asks to come again": "1"} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, DefaultConfig(), three, func(w *world) {
				for _, host := range three {
					w.fakes[host].set(func(rw http.ResponseWriter, r *http.Request) {
						if strings.HasPrefix(r.URL.Path, "/broken") {
							if header != "" {
								rw.Header().Set("Retry-After", header)
							}
							rw.WriteHeader(http.StatusServiceUnavailable)
							return
						}
						say(host)(rw, r)
					})
				}
				limit := 500 * time.Millisecond
				if header != "" {
					limit += time.Second
				}
				var load sync.WaitGroup
				load.Go(func() {
					// Most of the traffic is what cannot be answered.
					bad, longest := w.load("GET", "/broken", 20*time.Second, 10*time.Millisecond, "503")
					if len(bad) > 0 || longest > limit {
						t.Errorf("%d were not answered 503 (%.1q), the slowest took %s, want %s at most", len(bad), bad, longest, limit)
					}
				})
				load.Go(func() {
					bad, longest := w.load("GET", "/other", 20*time.Second, 20*time.Millisecond, "200")
					if len(bad) > 0 || longest > 100*time.Millisecond {
						t.Errorf("%d requests of another route failed (%.1q), the slowest took %s", len(bad), bad, longest)
					}
				})
				load.Wait()
				hits := 0
				for _, host := range three {
					n, _ := w.fakes[host].counts()
					hits += n
				}
				if tries := float64(hits-1000) / 2000; header == "" && tries > 2.1 {
					t.Errorf("each refused request was sent %.1f times, want two", tries)
				}
				// It is answered again as soon as one endpoint can.
				w.fakes["b"].set(say("b"))
				if !w.until(5*time.Second, func() bool { return w.ask("GET", "/broken", 10*time.Second) == "200 b" }) {
					t.Error("the endpoint that can answer is not found")
				}
			})
		})
	}
}
