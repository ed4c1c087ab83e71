package balancer

import (
	"net/http"
	"testing"
	"time"
)

// Repeats are at most a fifth of the requests of the last ten seconds, and ten a
// second on top.
func TestBudgetIsAShareAndAReserve(t *testing.T) {
	b := newBudget(DefaultConfig().Retry)
	now := time.Now()
	taken := func(at time.Time) (n int) {
		for n < 10_000 && b.take(at) {
			n++
		}
		return n
	}
	for range 500 {
		b.request(now)
	}
	if n := taken(now); n != 200 {
		t.Errorf("%d repeats after 500 requests, want 100 for them and 100 in reserve", n)
	}
	if n := taken(now.Add(9 * time.Second)); n != 0 {
		t.Errorf("%d repeats more in the same window, want none", n)
	}
	if n := taken(now.Add(10 * time.Second)); n != 100 {
		t.Errorf("%d repeats when the window has passed, want the reserve of 100", n)
	}
}

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
