package balancer

import (
	"net/http"
	"net/url"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// someEndpoint returns an endpoint with the defaults of a pool.
func someEndpoint() *endpoint {
	u, _ := url.Parse("http://a")
	return newEndpoint(endpointConfig{
		Breaker: defaultBreaker(), SlowStart: 30 * time.Second, SlowStartFrom: 0.1,
		TrialInterval: 1800 * time.Millisecond, ProbeInterval: 400 * time.Millisecond,
	}, u, time.Now())
}

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
			ep := someEndpoint()
			opened := false
			for _, ok := range test.row {
				time.Sleep(test.gap)
				by, _ := ep.breaker.admit()
				if now := time.Now(); ok {
					ep.succeeded(&by, now, now, false, false)
				} else {
					opened = ep.failed(&by, now, statusError(http.StatusServiceUnavailable)) || opened
				}
			}
			if opened != test.want {
				t.Errorf("%s succeed: opened %v, want %v", test.name, opened, test.want)
			}
		})
	}
}

// T2: a pool that has failed open sends requests to endpoints that are out. What
// they come to neither takes the half-open slot nor decides in its place.
func TestT2RequestsLeaveTheHalfOpenSlotAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, ep := defaultBreaker(), someEndpoint()
		ep.breaker.condemn(errCondemned)
		time.Sleep(ep.breaker.openFor + 1)
		for range 2 * cfg.Consecutive {
			by, admitted := ep.breaker.admit()
			if admitted {
				t.Fatal("a request was admitted by a breaker that is half-open")
			}
			ep.succeeded(&by, time.Now(), time.Now(), false, false)
			if ep.failed(&by, time.Now(), statusError(http.StatusServiceUnavailable)) {
				t.Fatal("a request opened a breaker that was not closed")
			}
		}
		if s, _ := ep.breaker.state(); s != "half-open" {
			t.Fatalf("after requests good and bad the breaker is %s, want half-open", s)
		}
		done := ep.breaker.decide()
		if done == nil {
			t.Fatal("the slot is not there for the probe")
		}
		if ep.breaker.decide() != nil {
			t.Fatal("the slot is there twice")
		}
		done(nil)
		if s, _ := ep.breaker.state(); s != "closed" {
			t.Fatalf("after the probe passed the breaker is %s, want closed", s)
		}
	})
}

// Requests that say nothing about their endpoint, however many, are neither good nor bad
// for its breaker; each of the others counts once.
func TestBreakerExcludesWhatSaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, ep := defaultBreaker(), someEndpoint()
		for i := range 4 * cfg.MinSamples {
			by, _ := ep.breaker.admit()
			switch i % 4 {
			case 0:
				ep.metLocalFault(&by, syscall.EMFILE, time.Now())
				by.tell(syscall.EMFILE) // it is told by now
			case 1:
				ep.refused(&by, time.Now(), statusError(http.StatusServiceUnavailable))
			default:
				ep.uncounted(&by, time.Now())
			}
		}
		if s, _ := ep.breaker.state(); s != "closed" {
			t.Fatalf("the breaker is %s, want closed", s)
		}
		opened := 0
		for range cfg.Consecutive {
			by, _ := ep.breaker.admit()
			if ep.failed(&by, time.Now(), syscall.ECONNRESET) {
				opened++
			}
		}
		if opened != 1 {
			t.Errorf("%d failures in a row opened it %d times, want once", cfg.Consecutive, opened)
		}
	})
}
