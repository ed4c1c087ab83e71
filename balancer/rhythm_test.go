package balancer

import (
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

// Endpoints that are well are probed at their pace, give or take the jitter,
// and all at once; one that joins in falls into step.
func TestProbesOfAPoolFallIntoStep(t *testing.T) {
	cfg := DefaultConfig()
	inWorld(t, cfg, three, func(w *world) {
		var mu sync.Mutex
		probes := make(map[string][]time.Time)
		note := func(host string) http.HandlerFunc {
			return func(http.ResponseWriter, *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				probes[host] = append(probes[host], time.Now())
			}
		}
		for _, host := range three {
			w.fakes[host].setReady(note(host))
		}
		time.Sleep(700 * time.Millisecond)
		w.serve("d").setReady(note("d"))
		if err := w.b.SetMembers(OriginLearned, urls("a", "b", "c", "d")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)

		mu.Lock()
		defer mu.Unlock()
		spread := time.Duration(float64(cfg.Probe.Interval) * cfg.Probe.Jitter)
		gaps := make(map[time.Duration]bool)
		for host, at := range probes {
			for i := 2; i < len(at); i++ { // the first ones are made at once
				gap := at[i].Sub(at[i-1])
				gaps[gap] = true
				if (gap - cfg.Probe.Interval).Abs() > spread {
					t.Errorf("%s was probed %s after the last time, want %s within %s", host, gap, cfg.Probe.Interval, spread)
				}
			}
		}
		if len(gaps) < 20 {
			t.Errorf("%d different pauses between probes in ten minutes: they are not drawn", len(gaps))
		}
		late := probes["d"][len(probes["d"])-100:]
		for _, host := range three {
			if in := probes[host][len(probes[host])-100:]; !slices.Equal(in, late) {
				t.Errorf("the last probes of %s and d are not made together: %s and %s", host, in[99], late[99])
			}
		}
	})
}

// A probe that fails is repeated at the pace of a transition: a pool without
// traffic knows a second later that a server has gone.
func TestFailedProbeIsRepeatedSoon(t *testing.T) {
	cfg := DefaultConfig()
	inWorld(t, cfg, three, func(w *world) {
		time.Sleep(time.Minute)
		var first time.Time
		w.fakes["a"].setReady(func(rw http.ResponseWriter, _ *http.Request) {
			if first.IsZero() { // probes of one endpoint do not overlap while it answers
				first = time.Now()
			}
			rw.WriteHeader(http.StatusServiceUnavailable)
		})
		if !w.until(time.Minute, func() bool { return w.state("a").State == Down }) {
			t.Fatal("never down")
		}
		limit := time.Duration((1 + cfg.Probe.Jitter) * float64(cfg.Probe.Fall-1) * float64(cfg.Probe.Fast))
		if took := time.Since(first); took > limit+10*time.Millisecond { // until looks so often
			t.Errorf("down %s after the first failed probe, want within %s", took, limit)
		}
	})
}
