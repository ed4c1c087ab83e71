package balancer

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/balancer/endpoint"
	"github.com/ankacluster/ankacluster/test/faultnet"
)

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

// T1: six transfers, each of which breaks after longer than the breaker's
// window, open the breaker, though each of them began well.
func TestT1LongTransfersThatBreakOpenTheBreaker(t *testing.T) {
	inWorld(t, BlobConfig(), []string{"a", "b"}, func(w *world) {
		w.fakes["b"].set(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Content-Length", "1000000")
			for range 40 {
				rw.Write(make([]byte, 1000))
				rw.(http.Flusher).Flush()
				time.Sleep(time.Second)
			}
			panic(http.ErrAbortHandler)
		})
		for i := range 6 {
			if w.count("b", Ejected) > 0 {
				if i < 5 {
					t.Fatalf("ejected after %d broken transfers, want 5", i)
				}
				return
			}
			req, _ := http.NewRequestWithContext(WithPrefer(context.Background(), "http://b"), "GET", "http://pool/blob", nil)
			resp, err := w.b.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		if w.count("b", Ejected) == 0 {
			t.Error("six broken transfers did not open the breaker")
		}
	})
}

// openBreaker lets an endpoint refuse until its breaker opens, and returns when
// that is over.
func (w *world) openBreaker(name string) time.Time {
	w.t.Helper()
	w.fakes[name].set(status(503))
	w.until(10*time.Second, func() bool {
		w.ask("POST", "/x", time.Second, IdempotencyHeader, "k")
		return w.state(name).State == Ejected
	})
	until := w.state(name).BreakerUntil
	if until == nil {
		w.t.Fatalf("the breaker is %s", w.state(name).Breaker)
	}
	return *until
}

// T2: at the edge from open to half-open, a thousand callers make one request:
// the prober's.
func TestT2OnlyTheProberUsesTheHalfOpenSlot(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Breaker.Jitter = 0
	inWorld(t, cfg, three, func(w *world) {
		until := w.openBreaker("b")
		hits, _ := w.fakes["b"].counts()
		w.fakes["b"].setReady(status(429)) // fails only the deciding probe
		time.Sleep(time.Until(until) + time.Millisecond)
		_, before := w.fakes["b"].counts()
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() { w.ask("POST", "/x", time.Second) })
		}
		wg.Wait()
		time.Sleep(450 * time.Millisecond) // longer than the pace of probes, shorter than twice
		now, probes := w.fakes["b"].counts()
		if n := probes - before; now != hits || n < 1 || n > 2 {
			t.Errorf("the endpoint got %d requests and %d probes, want none and the one that is due", now-hits, n)
		}
		if s := w.state("b"); s.Breaker != "open" {
			t.Errorf("after a 429 to the deciding probe the breaker is %s, want open", s.Breaker)
		}
	})
}

// T2: a deciding probe that gets no answer counts as failed within twice its
// timeout, and gives its slot back.
func TestT2ProbeWithoutAnAnswerGivesItsSlotBack(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Breaker.Jitter = 0
	inWorld(t, cfg, three, func(w *world) {
		until := w.openBreaker("b")
		w.fakes["b"].setReady(after(time.Hour, status(200)))
		time.Sleep(time.Until(until))
		asked := func() bool { return w.state("b").Breaker == "half-open" }
		if !w.until(time.Second, asked) {
			t.Fatalf("the breaker is %s, want half-open", w.state("b").Breaker)
		}
		failed := func() bool { return w.state("b").Breaker == "open" }
		if !w.until(2*cfg.Probe.Timeout+cfg.Probe.Down, failed) {
			t.Errorf("the breaker is %s though its probe has no answer", w.state("b").Breaker)
		}
		w.fakes["b"].set(say("b"))
		w.fakes["b"].setReady(status(200))
		if !w.until(5*time.Second, func() bool { return w.state("b").State == Healthy }) {
			t.Errorf("it answers again and is %s", w.state("b").State)
		}
	})
}

// T2: callers that go away, or panic, leave nothing behind: no request counted
// as in flight, no slot held, nobody blamed.
func TestT2CallersThatLeaveOrPanicHoldNothing(t *testing.T) {
	inWorld(t, DefaultConfig(), three, func(w *world) {
		for _, h := range three {
			w.fakes[h].set(after(time.Minute, say(h)))
		}
		ctx, leave := context.WithCancel(context.Background())
		var callers sync.WaitGroup
		for i := range 300 {
			callers.Go(func() {
				req, _ := http.NewRequestWithContext(ctx, []string{"GET", "POST"}[i%2], "http://pool/x", nil)
				if resp, err := w.b.Client().Do(req); err == nil {
					resp.Body.Close()
				}
			})
		}
		time.Sleep(20 * time.Millisecond) // all are under way, none is late
		leave()
		callers.Wait()

		w.net.Set("a:80", faultnet.Fault{Refuse: true}) // so that the body is asked for a second time
		w.net.Reset("a:80")
		panicked := 0
		for range 3 {
			func() {
				defer func() {
					if recover() != nil {
						panicked++
					}
				}()
				req, _ := http.NewRequest("PUT", "http://pool/x", strings.NewReader("body"))
				req.Header.Set(IdempotencyHeader, "k")
				req.GetBody = func() (io.ReadCloser, error) { panic("the caller's own") }
				ctx, cancel := context.WithTimeout(WithPrefer(context.Background(), "http://a"), time.Second)
				defer cancel()
				if resp, err := w.b.RoundTrip(req.WithContext(ctx)); err == nil {
					resp.Body.Close()
				}
			}()
		}
		if panicked == 0 {
			t.Fatal("nobody panicked")
		}
		for _, h := range three {
			w.fakes[h].set(say(h))
		}
		w.net.Heal("a:80")
		time.Sleep(10 * time.Second)
		for _, e := range w.b.Status().Endpoints {
			if e.InFlight != 0 || e.State != Healthy || e.Breaker != "closed" {
				t.Errorf("%s: %d in flight, %s, breaker %s; want none, healthy, closed", e.URL, e.InFlight, e.State, e.Breaker)
			}
			if e.URL != "http://a" && e.Failures > 0 {
				t.Errorf("%s is blamed for %d failures", e.URL, e.Failures)
			}
		}
	})
}

// A request that was about to be sent to an endpoint when its breaker opened goes to
// another one, though its view of the pool is of before.
func TestRequestIsNotSentPastAnOpenBreaker(t *testing.T) {
	inWorld(t, DefaultConfig(), three, func(w *world) {
		w.ask("GET", "/x", time.Second)
		w.openBreaker("b")
		before, _ := w.fakes["b"].counts()
		req, _ := http.NewRequest(http.MethodGet, "http://pool/x", nil)
		var b *endpoint.Endpoint
		for _, ep := range w.b.snap.Load().All {
			if ep.Name == "http://b" {
				b = ep
			}
		}
		resp, err := w.b.sender.Send(req, b)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if after, _ := w.fakes["b"].counts(); after != before {
			t.Error("the request was sent to an endpoint that is out")
		}
	})
}

// T3: whoever is told of a transition may look at every breaker, and states
// follow their clocks without traffic.
func TestT3CallbacksMayReadAndStatesMoveAlone(t *testing.T) {
	var b *Balancer
	cfg := DefaultConfig()
	cfg.Breaker.Jitter = 0
	cfg.OnTransition = func(Transition) {
		if b != nil {
			b.Status()
		}
	}
	inWorld(t, cfg, three, func(w *world) {
		b = w.b
		until := w.openBreaker("b")
		w.net.Set("b:80", faultnet.Fault{Hold: true}) // so that no probe decides
		time.Sleep(time.Until(until) + time.Second)
		if s := w.state("b"); s.Breaker == "closed" || s.BreakerUntil != nil && time.Until(*s.BreakerUntil) < 0 {
			t.Errorf("a second after its time the breaker is %s until %v", s.Breaker, s.BreakerUntil)
		}
	})
}
