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

// Nine of ten requests are of the route whose backing is down, from the first one on,
// reads and writes without a key: no endpoint goes out for what all of them answer, the
// 503 comes after two tries at most, and the rest of the traffic notices nothing.
func TestRouteThatIsMostOfTheTrafficEjectsNobody(t *testing.T) {
	for _, warm := range []time.Duration{0, 5 * time.Second} {
		inWorld(t, DefaultConfig(), three, func(w *world) {
			if bad, _ := w.load("GET", "/broken", warm, 10*time.Millisecond, "200"); len(bad) > 0 {
				t.Fatalf("%d failed before anything broke", len(bad))
			}
			hits := func() (n int) {
				for _, host := range three {
					h, _ := w.fakes[host].counts()
					n += h
				}
				return n
			}
			before := hits()
			for _, host := range three {
				w.fakes[host].set(func(rw http.ResponseWriter, r *http.Request) {
					if strings.HasPrefix(r.URL.Path, "/broken") {
						status(http.StatusServiceUnavailable)(rw, r)
						return
					}
					say(host)(rw, r)
				})
			}
			var load sync.WaitGroup
			for method, gap := range map[string]time.Duration{"GET": 7 * time.Millisecond, "POST": 14 * time.Millisecond} {
				load.Go(func() {
					bad, longest := w.load(method, "/broken", 20*time.Second, gap, "503")
					if len(bad) > 0 || longest > 500*time.Millisecond {
						t.Errorf("%d %ss were not answered 503 (%.1q), the slowest took %s", len(bad), method, bad, longest)
					}
				})
			}
			load.Go(func() {
				bad, longest := w.load("GET", "/other", 20*time.Second, 42*time.Millisecond, "200")
				if len(bad) > 0 || longest > 100*time.Millisecond {
					t.Errorf("%d requests of another route failed (%.1q), the slowest took %s", len(bad), bad, longest)
				}
			})
			load.Wait()
			for _, host := range three {
				if n := w.count(host, Ejected) + w.count(host, Down); n > 0 {
					t.Errorf("after %s of health %s was taken out %d times, want never", warm, host, n)
				}
			}
			// Of 7 ms, 14 ms and 42 ms: a GET is to be tried twice, a POST and the rest once.
			if got, most := hits()-before, 20_000/7*2+20_000/14+20_000/42+30; got > most {
				t.Errorf("the endpoints got %d requests, want %d at most", got, most)
			}
		})
	}
}
