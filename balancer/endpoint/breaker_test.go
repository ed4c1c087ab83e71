package endpoint

import (
	"net/http"
	"net/url"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// someEndpoint returns an endpoint with the defaults of a pool.
func someEndpoint() *Endpoint {
	u, _ := url.Parse("http://a")
	return New(Config{
		Breaker: DefaultBreaker(), SlowStart: 30 * time.Second, SlowStartFrom: 0.1,
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
				by, _ := ep.Breaker.Admit()
				if now := time.Now(); ok {
					ep.Succeeded(&by, now, now, false, false)
				} else {
					opened = ep.Failed(&by, now, StatusError(http.StatusServiceUnavailable)) || opened
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
		cfg, ep := DefaultBreaker(), someEndpoint()
		ep.Breaker.condemn(errCondemned)
		time.Sleep(ep.Breaker.openFor + 1)
		for range 2 * cfg.Consecutive {
			by, admitted := ep.Breaker.Admit()
			if admitted {
				t.Fatal("a request was admitted by a breaker that is half-open")
			}
			ep.Succeeded(&by, time.Now(), time.Now(), false, false)
			if ep.Failed(&by, time.Now(), StatusError(http.StatusServiceUnavailable)) {
				t.Fatal("a request opened a breaker that was not closed")
			}
		}
		if s, _ := ep.Breaker.state(); s != "half-open" {
			t.Fatalf("after requests good and bad the breaker is %s, want half-open", s)
		}
		done := ep.Breaker.Decide()
		if done == nil {
			t.Fatal("the slot is not there for the probe")
		}
		if ep.Breaker.Decide() != nil {
			t.Fatal("the slot is there twice")
		}
		done(nil)
		if s, _ := ep.Breaker.state(); s != "closed" {
			t.Fatalf("after the probe passed the breaker is %s, want closed", s)
		}
	})
}

// Requests that say nothing about their endpoint, however many, are neither good nor bad
// for its breaker; each of the others counts once.
func TestBreakerExcludesWhatSaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg, ep := DefaultBreaker(), someEndpoint()
		for i := range 4 * cfg.MinSamples {
			by, _ := ep.Breaker.Admit()
			switch i % 4 {
			case 0:
				ep.MetLocalFault(&by, syscall.EMFILE, time.Now())
				by.Tell(syscall.EMFILE) // it is told by now
			case 1:
				ep.Refused(&by, time.Now(), StatusError(http.StatusServiceUnavailable))
			default:
				ep.Uncounted(&by, time.Now())
			}
		}
		if s, _ := ep.Breaker.state(); s != "closed" {
			t.Fatalf("the breaker is %s, want closed", s)
		}
		opened := 0
		for range cfg.Consecutive {
			by, _ := ep.Breaker.Admit()
			if ep.Failed(&by, time.Now(), syscall.ECONNRESET) {
				opened++
			}
		}
		if opened != 1 {
			t.Errorf("%d failures in a row opened it %d times, want once", cfg.Consecutive, opened)
		}
	})
}
