package balancer

import (
	"strings"
	"testing"
	"time"
)

// Every state meets every kind of evidence, at both sides of the thresholds (3
// failed probes, 2 passed ones).
func TestHealthFollowsItsProbes(t *testing.T) {
	cfg := defaultProbe()
	began := time.Unix(1_000_000, 0)
	now := began.Add(time.Second)
	var (
		nothing   = evidence{}
		pass      = evidence{ready: verdictPass}
		fail      = evidence{ready: verdictFail, reason: "refused"}
		proven    = evidence{ready: verdictPass, proof: verdictPass}
		disproven = evidence{ready: verdictPass, proof: verdictFail}
		halfOpen  = evidence{ready: verdictPass, halfOpen: true}
		alone     = evidence{ready: verdictPass, alone: true}
	)
	seen := make(map[State]bool)
	for _, test := range []struct {
		name string
		from health
		e    evidence
		want State
		ramp bool
	}{
		{"nothing learned of a new one", health{state: Unknown}, nothing, Unknown, false},
		{"the first pass counts at once", health{state: Unknown}, pass, Healthy, false},
		{"the first failure counts at once", health{state: Unknown}, fail, Down, false},

		{"nothing learned of a healthy one", health{state: Healthy, fails: 2}, nothing, Healthy, false},
		{"a pass", health{state: Healthy, fails: 2}, pass, Healthy, false},
		{"the first failure", health{state: Healthy}, fail, Healthy, false},
		{"the second failure", health{state: Healthy, fails: 1}, fail, Healthy, false},
		{"the third failure", health{state: Healthy, fails: 2}, fail, Down, false},

		{"nothing learned of one that is down", health{state: Down, passes: 1}, nothing, Down, false},
		{"another failure", health{state: Down, passes: 1}, fail, Down, false},
		{"the first pass", health{state: Down}, pass, Down, false},
		{"the second pass", health{state: Down, passes: 1}, pass, Healthy, true},
		{"a pass, and what it answers is wrong", health{state: Down, passes: 1}, disproven, Down, false},
		{"the first pass while none is usable", health{state: Down}, alone, Healthy, true},

		{"nothing learned of one that is ejected", health{state: Ejected, passes: 1}, nothing, Ejected, false},
		{"good readiness, as all the time", health{state: Ejected, passes: 1}, pass, Ejected, false},
		{"good readiness while none is usable", health{state: Ejected}, alone, Healthy, true},
		{"good readiness after the open time", health{state: Ejected}, halfOpen, Healthy, true},
		{"the first pass of one whose readiness failed too", health{state: Ejected, spoke: true}, pass, Ejected, false},
		{"the second pass of one whose readiness failed too", health{state: Ejected, spoke: true, passes: 1}, pass, Healthy, true},
		{"the first proof", health{state: Ejected}, proven, Ejected, false},
		{"the second proof", health{state: Ejected, passes: 1}, proven, Healthy, true},
		{"a wrong answer after the open time", health{state: Ejected, passes: 1}, evidence{ready: verdictPass, proof: verdictFail, halfOpen: true}, Ejected, false},
		{"the second failed probe", health{state: Ejected, fails: 1}, fail, Ejected, false},
		{"the third failed probe", health{state: Ejected, fails: 2}, fail, Down, false},

		{"a pass of one that is drained", health{state: Draining}, pass, Draining, false},
		{"a failure of one that is drained", health{state: Draining, fails: 9}, fail, Draining, false},
	} {
		seen[test.from.state] = true
		test.from.since = began
		got, changed := test.from.probed(cfg, test.e, now)
		if got.state != test.want || changed != (test.want != test.from.state) || got.ramp.IsZero() == test.ramp {
			t.Errorf("%s: became %s, changed %v, ramp from %v; want %s, ramp %v", test.name, got.state, changed, got.ramp, test.want, test.ramp)
		}
		if changed && (got.since != now || got.reason == "" || got.fails+got.passes > 0) {
			t.Errorf("%s: the new state has kept %+v", test.name, got)
		}
		if !changed && got.since != began {
			t.Errorf("%s: it did not change and is since %s", test.name, got.since)
		}
	}
	for _, s := range []State{Unknown, Healthy, Ejected, Down, Draining} {
		if !seen[s] {
			t.Errorf("no case begins %s", s)
		}
	}
}

// A failure forgets the passes before it, and a pass the failures.
func TestHealthCountsInARow(t *testing.T) {
	cfg := defaultProbe()
	now := time.Unix(1_000_000, 0)
	h := health{state: Healthy}
	for _, ready := range []verdict{verdictFail, verdictFail, verdictPass, verdictFail, verdictFail} {
		h, _ = h.probed(cfg, evidence{ready: ready}, now)
	}
	if h.state != Healthy || h.fails != 2 {
		t.Errorf("two failures, a pass and two failures: %s after %d", h.state, h.fails)
	}
	h = health{state: Down}
	for _, ready := range []verdict{verdictPass, verdictFail, verdictPass} {
		h, _ = h.probed(cfg, evidence{ready: ready}, now)
	}
	if h.state != Down {
		t.Errorf("a pass, a failure and a pass: %s, want down", h.state)
	}
	h, _ = health{state: Healthy}.eject("5 consecutive failures", now)
	for range 3 {
		h, _ = h.probed(cfg, evidence{ready: verdictFail, reason: "refused"}, now)
	}
	if h.state != Down || !strings.HasPrefix(h.reason, "5 consecutive failures") {
		t.Errorf("ejected, then three failures: %s (%s), want down, with both reasons", h.state, h.reason)
	}
}

// Who looks at an endpoint learns why it went out, and what its probes met since
// that keeps it there.
func TestReasonIsOfTheTransitionAndTheNewestProbe(t *testing.T) {
	cfg := defaultProbe()
	now := time.Unix(1_000_000, 0)
	says := func(v verdict, reason string) evidence { return evidence{ready: v, reason: reason} }
	h := health{state: Unknown, reason: "new"}
	for _, test := range []struct {
		e    evidence
		want string
	}{
		{says(verdictNone, "answered 404"), "new; newest probe: answered 404, which says nothing"},
		{evidence{}, "new"},
		{says(verdictFail, "refused"), "first probe failed: refused"},
		{says(verdictFail, "refused"), "first probe failed: refused"},
		{says(verdictFail, "timeout"), "first probe failed: refused; newest probe: timeout"},
		{says(verdictNone, "answered 401"), "first probe failed: refused; newest probe: answered 401, which says nothing"},
		{says(verdictPass, ""), "first probe failed: refused"},
		{says(verdictPass, "answered 401"), "2 passed probes; it has no readiness: answered 401"},
		{says(verdictFail, "refused"), "2 passed probes; it has no readiness: answered 401; newest probe: refused"},
		{says(verdictPass, ""), "2 passed probes; it has no readiness: answered 401"},
	} {
		if h, _ = h.probed(cfg, test.e, now); h.why() != test.want {
			t.Errorf("after %+v: %q, want %q", test.e, h.why(), test.want)
		}
	}
}

func TestOnlyWhatIsUsableIsEjected(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	for _, s := range []State{Unknown, Healthy, Ejected, Down, Draining} {
		h, changed := health{state: s}.eject("late", now)
		usable := s == Unknown || s == Healthy
		if changed != usable || usable && h.state != Ejected || !usable && h.state != s {
			t.Errorf("%s became %s", s, h.state)
		}
	}
}

func TestRampGrowsFromATenth(t *testing.T) {
	began := time.Unix(1_000_000, 0)
	for _, test := range []struct {
		since time.Duration
		want  float64
	}{{-time.Second, 0.1}, {0, 0.1}, {15 * time.Second, 0.55}, {30*time.Second - 1, 1}, {30 * time.Second, 1}, {time.Hour, 1}} {
		got := rampWeight(began, 30*time.Second, 0.1, began.Add(test.since))
		if d := got - test.want; d > 1e-6 || d < -1e-6 {
			t.Errorf("after %s: %g, want %g", test.since, got, test.want)
		}
	}
	if got := rampWeight(time.Time{}, 30*time.Second, 0.1, began); got != 1 {
		t.Errorf("at process start: %g, want 1", got)
	}
}
