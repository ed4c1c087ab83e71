package balancer

import (
	"net/http"
	"net/url"
	"testing"
	"testing/synctest"
	"time"
)

// Failures that never come in a row open the breaker when too few of the last
// half minute's requests succeed.
func TestBreakerOpensBelowTheSuccessRate(t *testing.T) {
	good, bad := true, false
	for _, test := range []struct {
		name string
		row  []bool
		gap  time.Duration
		want bool
	}{
		{"three of four, of four", []bool{good, good, good, bad}, time.Second, false},
		{"four of five", []bool{good, good, good, good, bad}, time.Second, false},
		{"three of five", []bool{good, bad, good, good, bad}, time.Second, true},
		{"three of five, over a minute", []bool{good, bad, good, good, bad}, 15 * time.Second, false},
		{"five in a row, over an hour", []bool{bad, bad, bad, bad, bad}, 15 * time.Minute, true},
		{"four in a row, over an hour", []bool{bad, bad, bad, bad}, 15 * time.Minute, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			cfg := DefaultConfig()
			u, _ := url.Parse("http://a")
			ep := newEndpoint(&cfg, u, nil, time.Now())
			opened := false
			for _, ok := range test.row {
				time.Sleep(test.gap)
				if now := time.Now(); ok {
					ep.succeeded(now, now, false, false)
				} else {
					opened = ep.failed(now, statusError(http.StatusServiceUnavailable)) || opened
				}
			}
			if opened != test.want {
				t.Errorf("%s succeed: opened %v, want %v", test.name, opened, test.want)
			}
		})
	}
}

// The open time doubles with each opening up to its limit, and is forgotten when
// the endpoint has been well for as long.
func TestOpenTimeDoublesAndIsForgotten(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Breaker.Jitter = 0
	inWorld(t, cfg, []string{"a", "b"}, func(w *world) {
		opened := func() time.Duration {
			w.fakes["b"].set(status(http.StatusServiceUnavailable))
			if !w.until(time.Minute, func() bool {
				w.ask("POST", "/x", time.Second, IdempotencyHeader, "k")
				return w.state("b").State == Ejected
			}) {
				t.Fatalf("b is %s", w.state("b").State)
			}
			s := w.state("b")
			if s.BreakerUntil == nil {
				t.Fatalf("the breaker is %s", s.Breaker)
			}
			w.fakes["b"].set(say("b"))
			if !w.until(10*time.Minute, func() bool { return w.state("b").State == Healthy }) {
				t.Fatalf("b is still %s", w.state("b").State)
			}
			return s.BreakerUntil.Sub(s.Since)
		}
		for _, want := range []time.Duration{5, 10, 20, 40, 80, 160, 300, 300} {
			if got := opened(); got != want*time.Second {
				t.Fatalf("open for %s, want %s", got, want*time.Second)
			}
		}
		time.Sleep(301 * time.Second)
		if got := opened(); got != 5*time.Second {
			t.Errorf("after as long a healthy time it is open for %s, want 5s", got)
		}
	})
}
