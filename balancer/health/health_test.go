package health

import (
	"strings"
	"testing"
	"time"
)

// Every state meets every kind of evidence, at both sides of the thresholds (3
// failed probes, 2 passed ones).
func TestHealthFollowsItsProbes(t *testing.T) {
	cfg := DefaultProbe()
	began := time.Unix(1_000_000, 0)
	now := began.Add(time.Second)
	var (
		nothing   = Evidence{}
		pass      = Evidence{Ready: Pass}
		fail      = Evidence{Ready: Fail, Reason: "refused"}
		proven    = Evidence{Ready: Pass, Proof: Pass}
		disproven = Evidence{Ready: Pass, Proof: Fail}
		halfOpen  = Evidence{Ready: Pass, HalfOpen: true}
		alone     = Evidence{Ready: Pass, Alone: true}
	)
	seen := make(map[State]bool)
	for _, test := range []struct {
		name string
		from Record
		e    Evidence
		want State
		ramp bool
	}{
		{"nothing learned of a new one", Record{State: Unknown}, nothing, Unknown, false},
		{"the first pass counts at once", Record{State: Unknown}, pass, Healthy, false},
		{"the first failure counts at once", Record{State: Unknown}, fail, Down, false},

		{"nothing learned of a healthy one", Record{State: Healthy, fails: 2}, nothing, Healthy, false},
		{"a pass", Record{State: Healthy, fails: 2}, pass, Healthy, false},
		{"the first failure", Record{State: Healthy}, fail, Healthy, false},
		{"the second failure", Record{State: Healthy, fails: 1}, fail, Healthy, false},
		{"the third failure", Record{State: Healthy, fails: 2}, fail, Down, false},

		{"nothing learned of one that is down", Record{State: Down, passes: 1}, nothing, Down, false},
		{"another failure", Record{State: Down, passes: 1}, fail, Down, false},
		{"the first pass", Record{State: Down}, pass, Down, false},
		{"the second pass", Record{State: Down, passes: 1}, pass, Healthy, true},
		{"a pass, and what it answers is wrong", Record{State: Down, passes: 1}, disproven, Down, false},
		{"the first pass while none is usable", Record{State: Down}, alone, Healthy, true},

		{"nothing learned of one that is ejected", Record{State: Ejected, passes: 1}, nothing, Ejected, false},
		{"good readiness, as all the time", Record{State: Ejected, passes: 1}, pass, Ejected, false},
		{"good readiness while none is usable", Record{State: Ejected}, alone, Healthy, true},
		{"good readiness after the open time", Record{State: Ejected}, halfOpen, Healthy, true},
		{"the first pass of one whose readiness failed too", Record{State: Ejected, Spoke: true}, pass, Ejected, false},
		{"the second pass of one whose readiness failed too", Record{State: Ejected, Spoke: true, passes: 1}, pass, Healthy, true},
		{"the first proof", Record{State: Ejected}, proven, Ejected, false},
		{"the second proof", Record{State: Ejected, passes: 1}, proven, Healthy, true},
		{"a wrong answer after the open time", Record{State: Ejected, passes: 1}, Evidence{Ready: Pass, Proof: Fail, HalfOpen: true}, Ejected, false},
		{"the second failed probe", Record{State: Ejected, fails: 1}, fail, Ejected, false},
		{"the third failed probe", Record{State: Ejected, fails: 2}, fail, Down, false},

		{"a pass of one that is drained", Record{State: Draining}, pass, Draining, false},
		{"a failure of one that is drained", Record{State: Draining, fails: 9}, fail, Draining, false},
	} {
		seen[test.from.State] = true
		test.from.Since = began
		got, changed := test.from.Probed(cfg, test.e, now)
		if got.State != test.want || changed != (test.want != test.from.State) || got.Ramp.IsZero() == test.ramp {
			t.Errorf("%s: became %s, changed %v, ramp from %v; want %s, ramp %v", test.name, got.State, changed, got.Ramp, test.want, test.ramp)
		}
		if changed && (got.Since != now || got.Reason == "" || got.fails+got.passes > 0) {
			t.Errorf("%s: the new state has kept %+v", test.name, got)
		}
		if !changed && got.Since != began {
			t.Errorf("%s: it did not change and is since %s", test.name, got.Since)
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
	cfg := DefaultProbe()
	now := time.Unix(1_000_000, 0)
	h := Record{State: Healthy}
	for _, ready := range []Verdict{Fail, Fail, Pass, Fail, Fail} {
		h, _ = h.Probed(cfg, Evidence{Ready: ready}, now)
	}
	if h.State != Healthy || h.fails != 2 {
		t.Errorf("two failures, a pass and two failures: %s after %d", h.State, h.fails)
	}
	h = Record{State: Down}
	for _, ready := range []Verdict{Pass, Fail, Pass} {
		h, _ = h.Probed(cfg, Evidence{Ready: ready}, now)
	}
	if h.State != Down {
		t.Errorf("a pass, a failure and a pass: %s, want down", h.State)
	}
	h, _ = Record{State: Healthy}.Eject("5 consecutive failures", now)
	for range 3 {
		h, _ = h.Probed(cfg, Evidence{Ready: Fail, Reason: "refused"}, now)
	}
	if h.State != Down || !strings.HasPrefix(h.Reason, "5 consecutive failures") {
		t.Errorf("ejected, then three failures: %s (%s), want down, with both reasons", h.State, h.Reason)
	}
}

// Who looks at an endpoint learns why it went out, and what its probes met since
// that keeps it there.
func TestReasonIsOfTheTransitionAndTheNewestProbe(t *testing.T) {
	cfg := DefaultProbe()
	now := time.Unix(1_000_000, 0)
	says := func(v Verdict, reason string) Evidence { return Evidence{Ready: v, Reason: reason} }
	h := Record{State: Unknown, Reason: "new"}
	for _, test := range []struct {
		e    Evidence
		want string
	}{
		{says(Nothing, "answered 404"), "new; newest probe: answered 404, which says nothing"},
		{Evidence{}, "new"},
		{says(Fail, "refused"), "first probe failed: refused"},
		{says(Fail, "refused"), "first probe failed: refused"},
		{says(Fail, "timeout"), "first probe failed: refused; newest probe: timeout"},
		{says(Nothing, "answered 401"), "first probe failed: refused; newest probe: answered 401, which says nothing"},
		{says(Pass, ""), "first probe failed: refused"},
		{says(Pass, "answered 401"), "2 passed probes; it has no readiness: answered 401"},
		{says(Fail, "refused"), "2 passed probes; it has no readiness: answered 401; newest probe: refused"},
		{says(Pass, ""), "2 passed probes; it has no readiness: answered 401"},
	} {
		if h, _ = h.Probed(cfg, test.e, now); h.Why() != test.want {
			t.Errorf("after %+v: %q, want %q", test.e, h.Why(), test.want)
		}
	}
}

func TestOnlyWhatIsUsableIsEjected(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	for _, s := range []State{Unknown, Healthy, Ejected, Down, Draining} {
		h, changed := Record{State: s}.Eject("late", now)
		usable := s == Unknown || s == Healthy
		if changed != usable || usable && h.State != Ejected || !usable && h.State != s {
			t.Errorf("%s became %s", s, h.State)
		}
	}
}

// What was well comes back with a small share, through its first probe; what was not has
// to pass its probes.
func TestUndrainGoesByTheNewestProbe(t *testing.T) {
	cfg := DefaultProbe()
	began, now := time.Unix(1_000_000, 0), time.Unix(1_000_100, 0)
	for _, test := range []struct {
		name   string
		from   Record
		probes []Verdict // while it is drained
		want   State
	}{
		{"it was well", Record{State: Healthy}, nil, Unknown},
		{"its first probe has not come", Record{State: Unknown}, nil, Unknown},
		{"it was ejected, with good readiness", Record{State: Ejected}, []Verdict{Pass}, Unknown},
		{"it was down", Record{State: Down}, nil, Down},
		{"it was down, and has passed a probe", Record{State: Down, fails: 3}, []Verdict{Fail, Pass}, Unknown},
		{"it was well, and has failed a probe", Record{State: Healthy}, []Verdict{Pass, Fail}, Down},
		{"its probes tell nothing", Record{State: Healthy}, []Verdict{Nothing}, Unknown},
	} {
		h, changed := test.from.Drain("by hand", began)
		if again, more := h.Drain("again", now); !changed || more || h.State != Draining || again.Since != began || again.Reason != "by hand" {
			t.Errorf("%s: drained it is %+v, drained again %+v", test.name, h, again)
		}
		for _, v := range test.probes {
			h, _ = h.Probed(cfg, Evidence{Ready: v, Reason: "x"}, now)
		}
		h, changed = h.Undrain(now)
		if !changed || h.State != test.want || h.Since != now {
			t.Errorf("%s: became %+v, want %s", test.name, h, test.want)
		}
		if h.State != Unknown {
			continue
		}
		if h, _ = h.Probed(cfg, Evidence{Ready: Pass}, now.Add(time.Second)); h.State != Healthy || h.Ramp != now {
			t.Errorf("%s: the first probe made it %+v", test.name, h)
		}
	}
	for _, s := range []State{Unknown, Healthy, Ejected, Down} {
		if h, changed := (Record{State: s}).Undrain(now); changed || h.State != s {
			t.Errorf("undrain made %s %s", s, h.State)
		}
	}
}

func TestRampGrowsFromATenth(t *testing.T) {
	began := time.Unix(1_000_000, 0)
	for _, test := range []struct {
		since time.Duration
		want  float64
	}{{-time.Second, 0.1}, {0, 0.1}, {15 * time.Second, 0.55}, {30*time.Second - 1, 1}, {30 * time.Second, 1}, {time.Hour, 1}} {
		got := RampWeight(began, 30*time.Second, 0.1, began.Add(test.since))
		if d := got - test.want; d > 1e-6 || d < -1e-6 {
			t.Errorf("after %s: %g, want %g", test.since, got, test.want)
		}
	}
	if got := RampWeight(time.Time{}, 30*time.Second, 0.1, began); got != 1 {
		t.Errorf("at process start: %g, want 1", got)
	}
}
