package balancer

import (
	"net/http"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/test/faultnet"
)

// The only endpoint hangs and goes out, and a request tries it meanwhile. When
// it is back the request is asked anew, for what took it first may be dead; but
// a process that was only stopped gets the time to answer what it has.
func TestRequestLeftAtAnEndpointThatCameBackIsAskedAnew(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer time.Duration // of what it was asked before, after it is back
		want   string
		hits   int
	}{
		{"the old process is dead", 24 * time.Hour, "200 new", 2},
		{"it was stopped and goes on", comeBackGrace / 2, "200 old", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			inWorld(t, DefaultConfig(), []string{"a"}, func(w *world) {
				a, back := w.fakes["a"], make(chan struct{})
				a.set(func(rw http.ResponseWriter, r *http.Request) {
					select {
					case <-back:
						after(test.answer, say("old"))(rw, r)
					case <-r.Context().Done():
					}
				})
				a.setReady(status(http.StatusServiceUnavailable))
				w.mustReach("a", Down)
				answered := w.askAside("GET", "/x")
				w.mustBeLate("a")

				a.set(say("new"))
				a.setReady(status(http.StatusOK))
				w.mustReach("a", Healthy)
				close(back)
				since := time.Now()
				got := <-answered
				if hits, _ := a.counts(); got != test.want || hits != test.hits || time.Since(since) > comeBackGrace+w.cfg.Retry.WaitMax {
					t.Errorf("got %q %s after it was back, which was asked %d times; want %q soon after the grace of %s, asked %d times",
						got, time.Since(since), hits, test.want, comeBackGrace, test.hits)
				}
			})
		})
	}
}

// Two endpoints are out, and a request hangs at one of them. When the other is
// back the request goes there, and does not wait for the one that may never be.
func TestRequestLeftAtAnEndpointThatIsOutMovesToOneThatIsBack(t *testing.T) {
	inWorld(t, DefaultConfig(), []string{"a", "b"}, func(w *world) {
		w.net.Set("a:80", faultnet.Fault{Refuse: true})
		w.net.Reset("a:80")
		w.fakes["b"].set(after(24*time.Hour, say("b")))
		w.fakes["b"].setReady(status(http.StatusServiceUnavailable))
		w.mustReach("a", Down)
		w.mustReach("b", Down)
		answered := w.askAside("GET", "/x")
		w.mustBeLate("b")

		w.net.Heal("a:80")
		w.mustReach("a", Healthy)
		since := time.Now()
		if got := <-answered; got != "200 a" || time.Since(since) > w.cfg.Retry.WaitMax {
			t.Errorf("got %q %s after a was back, want its answer in the next pass", got, time.Since(since))
		}
	})
}

// askAside makes a request that can wait for an hour, beside the test.
func (w *world) askAside(method, path string) <-chan string {
	answered, over := make(chan string, 1), make(chan struct{})
	go func() { defer close(over); answered <- w.ask(method, path, time.Hour) }()
	w.stops = append(w.stops, func() { <-over })
	return answered
}

func (w *world) mustReach(host string, want State) {
	w.t.Helper()
	if !w.until(20*time.Second, func() bool { return w.state(host).State == want }) {
		w.t.Fatalf("%s is %s, want %s", host, w.state(host).State, want)
	}
}

// mustBeLate waits until host owes an answer for longer than is usual.
func (w *world) mustBeLate(host string) {
	w.t.Helper()
	if !w.until(20*time.Second, func() bool { return w.state(host).Late > 0 }) {
		w.t.Fatalf("no request waits at %s", host)
	}
}
