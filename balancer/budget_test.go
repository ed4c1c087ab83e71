package balancer

import (
	"net/http"
	"testing"
	"time"
)

// Endpoints that refuse everything are not asked many times for each request:
// what overloads them must not be made worse.
func TestRefusalsByAllAreNotAmplified(t *testing.T) {
	inWorld(t, DefaultConfig(), three, func(w *world) {
		w.load("GET", "/x", time.Second, 5*time.Millisecond, "200")
		before := 0
		for _, host := range three {
			n, _ := w.fakes[host].counts()
			before += n
			w.fakes[host].set(status(http.StatusServiceUnavailable))
		}
		const seconds, rate = 10, 100
		returns := -(w.count("a", Healthy) + w.count("b", Healthy) + w.count("c", Healthy))
		began := time.Now()
		time.AfterFunc(seconds*time.Second, func() {
			for _, host := range three {
				n, _ := w.fakes[host].counts()
				before -= n
				w.fakes[host].set(say(host))
				returns += w.count(host, Healthy) // their readiness is good
			}
		})
		bad, longest := w.load("GET", "/x", seconds*time.Second, time.Second/rate, "200")
		if sent, limit := -before, seconds*(rate*12/10+10)+50+returns*DefaultConfig().ReturnAtOnce; sent > limit {
			t.Errorf("%d requests were sent %d times to endpoints that refuse, and returned %d times; want at most %d", seconds*rate, sent, returns, limit)
		}
		if len(bad) > 0 || longest > (seconds+3)*time.Second {
			t.Errorf("%d failed, first %v; the last was answered after %s", len(bad), bad[:min(1, len(bad))], time.Since(began))
		}
	})
}
