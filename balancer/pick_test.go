package balancer

import (
	"math"
	"testing"
	"time"
)

// T12: members that come and go every 100 ms leave every share fair: those that
// stay have equal ones, and the one that comes and goes has as much while it is
// there.
func TestT12ChurnKeepsSharesFair(t *testing.T) {
	for _, debounce := range []time.Duration{0, DefaultConfig().Debounce} {
		cfg := DefaultConfig()
		cfg.Debounce = debounce
		inWorld(t, cfg, three, func(w *world) {
			w.serve("d")
			stop := make(chan struct{})
			done := make(chan struct{})
			var there time.Duration // of d
			go func() {
				defer close(done)
				for i := 0; ; i++ {
					lists := [][]string{urls("a", "d"), urls("c", "b", "a")}
					w.b.SetMembers(OriginLearned, lists[i%2])
					select {
					case <-stop:
						return
					case <-time.After(100 * time.Millisecond):
					}
				}
			}()
			end := time.Now().Add(30 * time.Second)
			watched := make(chan struct{})
			go func() {
				defer close(watched)
				for last := time.Now(); last.Before(end); last = time.Now() {
					time.Sleep(time.Millisecond)
					if len(w.b.Endpoints()) == 4 {
						there += time.Since(last)
					}
				}
			}()
			bad, _ := w.load("GET", "/x", 30*time.Second, 7*time.Millisecond, "200") // in step with no list
			close(stop)
			<-done
			<-watched
			if len(bad) > 0 {
				t.Errorf("%d requests failed: %s", len(bad), bad[0])
			}
			total := 0
			for _, f := range w.fakes {
				n, _ := f.counts()
				total += n
			}
			part := there.Seconds() / 30
			fair := map[string]float64{"d": part / 4 * float64(total)}
			for _, h := range three {
				fair[h] = (float64(total) - fair["d"]) / 3
			}
			for h, due := range fair {
				if n, _ := w.fakes[h].counts(); math.Abs(float64(n)-due) > due/10 {
					t.Errorf("debounce %s, d there %.0f%% of the time: %s got %d of %d, want %.0f", debounce, 100*part, h, n, total, due)
				}
			}
		})
	}
}

func TestT12LastEndpointIsNeverOffline(t *testing.T) {
	inWorld(t, DefaultConfig(), []string{"a"}, func(w *world) {
		w.fakes["a"].set(status(503))
		for range 20 {
			w.ask("POST", "/x", time.Second)
		}
		if s := w.state("a"); !s.Eligible || s.State != Healthy || w.count("a", Ejected) > 0 {
			t.Errorf("the only endpoint is %s, eligible %v, was taken out %d times", s.State, s.Eligible, w.count("a", Ejected))
		}
		w.fakes["a"].set(say("a"))
		if got := w.ask("GET", "/x", time.Second); got != "200 a" {
			t.Errorf("got %q", got)
		}
	})
}

func TestT12FastRefusalsDoNotAttractTraffic(t *testing.T) {
	for _, test := range []struct {
		policy Policy
		code   int
	}{{RoundRobin, 429}, {RoundRobin, 503}, {LeastInFlight, 429}, {LeastInFlight, 503}} {
		code, cfg := test.code, DefaultConfig()
		cfg.Policy = test.policy
		inWorld(t, cfg, []string{"busy", "good"}, func(w *world) {
			w.fakes["busy"].set(status(code))
			w.fakes["good"].set(after(50*time.Millisecond, say("good")))
			w.load("GET", "/x", 20*time.Second, 20*time.Millisecond, "200")
			busy, _ := w.fakes["busy"].counts()
			good, _ := w.fakes["good"].counts()
			if busy >= good/2 || w.count("busy", Down) > 0 {
				t.Errorf("%s, %d: %d requests went to the refusing endpoint, %d to the good one, state %s", test.policy, code, busy, good, w.state("busy").State)
			}
		})
	}
}
