package balancer

import (
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// One of three endpoints alone answers differently, while its probes pass and most of
// what else it is asked goes well: it is out after a handful of wrong answers, says why,
// and stays out for longer each time.
func TestEndpointThatAloneAnswersDifferentlyGoesOut(t *testing.T) {
	posts := func(h http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				h(w, r)
				return
			}
			say("a")(w, r)
		}
	}
	for name, c := range map[string]struct {
		fault http.HandlerFunc
		most  int // wrong answers in 20 s
		why   string
	}{
		"404 to everything": {status(404), 40, "404"},
		"413 to everything": {status(413), 40, "413"},
		"501 to everything": {status(501), 40, "501"},
		"500 to POSTs":      {posts(status(500)), 40, "500"},
		"404 to POSTs":      {posts(status(404)), 40, "404"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, DefaultConfig(), three, func(w *world) {
				ask := func(d time.Duration) (wrong int) {
					var load sync.WaitGroup
					var mu sync.Mutex
					for _, method := range []string{"GET", "POST"} {
						load.Go(func() {
							bad, _ := w.load(method, "/api/v1/vm", d, 20*time.Millisecond, "200")
							mu.Lock()
							defer mu.Unlock()
							wrong += len(bad)
						})
					}
					load.Wait()
					return wrong
				}
				if wrong := ask(3 * time.Second); wrong > 0 {
					t.Fatalf("%d wrong answers before the fault", wrong)
				}
				w.fakes["a"].set(c.fault)
				if wrong := ask(20 * time.Second); wrong > c.most {
					t.Errorf("%d of 2,000 answers were wrong, want %d at most", wrong, c.most)
				}
				whys := w.reasons("a", Ejected)
				if len(whys) == 0 || len(whys) > 4 {
					t.Errorf("a went out %d times in 20 s (%q), want 1 to 4", len(whys), whys)
				}
				for _, why := range whys {
					if !strings.Contains(why, c.why) || !strings.Contains(why, "its peers' did not") {
						t.Errorf("a went out for %q, want %s", why, c.why)
					}
				}
				for _, host := range []string{"b", "c"} {
					if n := w.count(host, Ejected); n > 0 {
						t.Errorf("%s went out %d times", host, n)
					}
				}
				w.fakes["a"].set(say("a"))
				if !w.until(2*time.Minute, func() bool { return w.state("a").State == Healthy }) {
					t.Errorf("a is still %s two minutes after it was mended", w.state("a").State)
				}
			})
		})
	}
}

// An endpoint breaks or holds each tenth request, and does well between.
func TestEndpointThatFailsNowAndThenGoesOut(t *testing.T) {
	reset := func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }
	hang := func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	for name, f := range map[string]struct {
		method string
		fault  http.HandlerFunc
	}{"resets": {"POST", reset}, "hangs": {"GET", hang}} {
		for _, each := range []int{5, 10} {
			t.Run(name, func(t *testing.T) {
				inWorld(t, DefaultConfig(), three, func(w *world) {
					if bad, _ := w.load(f.method, "/x", 3*time.Second, 10*time.Millisecond, "200"); len(bad) > 0 {
						t.Fatalf("%d wrong answers before the fault", len(bad))
					}
					var mu sync.Mutex
					n := 0
					w.fakes["a"].set(func(rw http.ResponseWriter, r *http.Request) {
						io.Copy(io.Discard, r.Body)
						mu.Lock()
						n++
						bad := n%each == 0
						mu.Unlock()
						if bad {
							f.fault(rw, r)
							return
						}
						say("a")(rw, r)
					})
					var load sync.WaitGroup
					load.Go(func() { w.load("GET", "/y", 20*time.Second, 10*time.Millisecond, "200") })
					bad, _ := w.load(f.method, "/x", 20*time.Second, 10*time.Millisecond, "200")
					load.Wait()
					if whys := w.reasons("a", Ejected); len(whys) == 0 || len(bad) > 60 {
						t.Errorf("a went out for %q and %d requests failed when each %dth failed for 20 s", whys, len(bad), each)
					}
					if w.count("b", Ejected)+w.count("c", Ejected) > 0 {
						t.Error("a peer went out")
					}
				})
			})
		}
	}
}

// Errors that are the callers' own take no endpoint out: not a few among many, not many
// in a row, not those of callers whose order would put all of them at one endpoint.
func TestErrorsOfCallersTakeNobodyOut(t *testing.T) {
	missing := func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Wrong") != "" {
			status(404)(w, r)
			return
		}
		say("ok")(w, r)
	}
	patterns := map[string]func(i int) bool{
		"each third":       func(i int) bool { return i%3 == 0 },
		"each sixth":       func(i int) bool { return i%6 == 0 },
		"in bursts":        func(i int) bool { return i%100 < 12 },
		"one in a hundred": func(i int) bool { return rand.IntN(100) == 0 },
		"one in three":     func(i int) bool { return rand.IntN(3) == 0 },
	}
	for name, wrong := range patterns {
		for _, method := range []string{"GET", "POST"} {
			t.Run(name+" "+method, func(t *testing.T) {
				inWorld(t, DefaultConfig(), three, func(w *world) {
					for _, host := range three {
						w.fakes[host].set(missing)
					}
					hits := 0
					for i := range 5000 {
						path, want := "exists", "200"
						if wrong(i) {
							path, want = "missing", "404"
						}
						// The same kind of request, whatever is asked for.
						if got := w.ask(method, "/vm?id="+path, time.Second, headerOf(want)...); !strings.HasPrefix(got, want) {
							t.Fatalf("request %d: got %s, want %s", i, got, want)
						}
					}
					for _, host := range three {
						n, _ := w.fakes[host].counts()
						hits += n
						if n := w.count(host, Ejected); n > 0 {
							t.Errorf("%s went out %d times: %s", host, n, w.state(host).Reason)
						}
					}
					if hits > 5000*102/100 {
						t.Errorf("5000 requests were sent %d times, want few second opinions", hits)
					}
				})
			})
		}
	}
}

func headerOf(want string) []string {
	if want == "404" {
		return []string{"Wrong", "yes"}
	}
	return nil
}

// A suspect's odd answer to a request that may be repeated does not reach the caller
// when a peer knows better, and does when the peer says the same.
func TestOddAnswersOfASuspectAreAskedOfAPeer(t *testing.T) {
	inWorld(t, DefaultConfig(), three, func(w *world) {
		w.load("GET", "/x", 2*time.Second, 10*time.Millisecond, "200")
		w.fakes["a"].set(status(404))
		bad, _ := w.load("GET", "/x", 10*time.Second, 10*time.Millisecond, "200")
		if len(bad) > 2*3 {
			t.Errorf("%d of 1,000 answers were wrong, want a few before the suspicion", len(bad))
		}
	})
}
