// Package health decides what an endpoint's state is: from its probes, and from how late
// its answers are beside those of its peers. It only decides: a Record and the evidence of
// one round of probing make the next Record. The prober sends the requests.
package health

import (
	"fmt"
	"strings"
	"time"
)

// State is what the balancer believes about an endpoint.
//
//	           pass                      failures, late answers
//	unknown ---------> healthy ------------------------------> ejected
//	   |                 ^  |                                   |   |
//	   | fail            |  | Fall failed probes                |   | Fall failed probes
//	   v                 |  v                                   |   v
//	  down <-------------|-down <-------------------------------|--down
//	                     |                                      |
//	                     +--- Rise passes, or one at half-open -+
type State string

const (
	// Unknown: not heard from yet; used, because nothing speaks against it.
	Unknown State = "unknown"
	// Healthy: used, with a growing share while the ramp lasts.
	Healthy State = "healthy"
	// Ejected: out because of what real requests met.
	Ejected State = "ejected"
	// Down: out because its probes fail.
	Down State = "down"
	// Draining: taken out by a person; running requests end.
	Draining State = "draining"
)

// Transition is one change of an endpoint's state.
type Transition struct {
	Pool     string    `json:"pool"`
	Endpoint string    `json:"endpoint"`
	From     State     `json:"from"`
	To       State     `json:"to"`
	Reason   string    `json:"reason"`
	At       time.Time `json:"at"`
}

// String is the line that is logged.
func (t Transition) String() string {
	return fmt.Sprintf("endpoint %s %s -> %s (%s)", t.Endpoint, t.From, t.To, t.Reason)
}

// Verdict is what one request of a prober tells.
type Verdict uint8

// The verdicts.
const (
	Nothing Verdict = iota // nothing learned
	Pass
	Fail
)

// Evidence is what one round of probing an endpoint found.
type Evidence struct {
	// Ready is the answer to the readiness request.
	Ready Verdict
	// Proof is the answer to a copy of a recent harmless request, which a server
	// whose readiness lies gets wrong.
	Proof Verdict
	// HalfOpen: the breaker gave this probe its one slot.
	HalfOpen bool
	// Alone: no endpoint of the pool is usable, so one pass is enough.
	Alone bool
	// Reason is what the readiness request met, unless that was a plain pass.
	Reason string
}

// Record is the state of one endpoint. Its methods are pure: they return the
// next record and whether the state changed.
type Record struct {
	State  State
	Since  time.Time
	Reason string // of the last transition
	newest string // what the newest probe met, unless it passed
	fails  int    // failed probes in a row
	passes int    // passed probes in a row, as far as they count
	// Spoke: a readiness probe has failed since the endpoint went out, so its
	// readiness can be believed when it passes again.
	Spoke bool
	// Deviant: it is out for what its probes do not see, so only the breaker's time ends
	// that.
	Deviant bool
	// Ramp is when the slow start began; zero without one.
	Ramp time.Time
}

// Usable reports whether requests may be sent to the endpoint.
func (h Record) Usable() bool { return h.State == Healthy || h.State == Unknown }

// InTransition asks for fast probes.
func (h Record) InTransition() bool {
	return h.State == Ejected || h.fails > 0 || (h.State == Down && h.passes > 0)
}

// Why is the reason for the state, and for its not ending.
func (h Record) Why() string {
	if h.newest == "" || strings.HasSuffix(h.Reason, h.newest) {
		return h.Reason
	}
	return h.Reason + "; newest probe: " + h.newest
}

func (h Record) to(s State, reason string, now time.Time) (Record, bool) {
	return Record{State: s, Since: now, Reason: reason}, true
}

func (h Record) restored(reason string, now time.Time) (Record, bool) {
	next, _ := h.to(Healthy, reason, now)
	next.Ramp = now
	return next, true
}

// Probed applies one round of probing.
func (h Record) Probed(cfg ProbeConfig, e Evidence, now time.Time) (Record, bool) {
	h.newest = e.Reason
	if e.Ready == Nothing && e.Proof == Nothing {
		if e.Reason != "" {
			h.newest += ", which says nothing"
		}
		return h, false
	}
	if e.Ready == Fail {
		return h.probeFailed(cfg, e, now)
	}
	return h.probePassed(cfg, e, now)
}

func (h Record) probeFailed(cfg ProbeConfig, e Evidence, now time.Time) (Record, bool) {
	h.fails++
	h.passes = 0
	switch h.State {
	case Unknown: // the first probe counts at once
		return h.to(Down, "first probe failed: "+e.Reason, now)
	case Healthy:
		if h.fails >= cfg.Fall {
			return h.to(Down, fmt.Sprintf("%d failed probes, last: %s", h.fails, e.Reason), now)
		}
	case Ejected:
		h.Spoke = true
		if h.fails >= cfg.Fall {
			return h.to(Down, fmt.Sprintf("%s; %d failed probes, last: %s", h.Reason, h.fails, e.Reason), now)
		}
	case Down, Draining:
	}
	return h, false
}

func (h Record) probePassed(cfg ProbeConfig, e Evidence, now time.Time) (Record, bool) {
	if e.Ready == Pass {
		h.fails = 0
	}
	switch h.State {
	case Unknown:
		next, changed := h.to(Healthy, "first probe passed", now)
		next.Ramp = h.Ramp
		return next, changed
	case Healthy, Draining:
		return h, false
	case Ejected:
		if e.Proof == Fail {
			h.passes = 0
			return h, false
		}
		if e.HalfOpen {
			return h.restored("probe passed after the open time"+e.aside(), now)
		}
		if h.Deviant && !e.Alone {
			return h, false
		}
		if e.Proof != Pass && !h.Spoke && !e.Alone {
			// Readiness was good all along: it says nothing about what failed.
			return h, false
		}
	case Down:
		if e.Proof == Fail {
			h.passes = 0
			return h, false
		}
	}
	h.passes++
	if h.passes >= cfg.Rise || e.Alone {
		return h.restored(fmt.Sprintf("%d passed probes", h.passes)+e.aside(), now)
	}
	return h, false
}

// aside says of a pass that it was none of the plain ones.
func (e Evidence) aside() string {
	if e.Reason == "" {
		return ""
	}
	return "; it has no readiness: " + e.Reason
}

// Eject takes a usable endpoint out for what real requests met.
func (h Record) Eject(reason string, now time.Time) (Record, bool) {
	if !h.Usable() {
		return h, false
	}
	return h.to(Ejected, reason, now)
}

// Drain takes an endpoint out until Undrain; since is when that began.
func (h Record) Drain(reason string, since time.Time) (Record, bool) {
	if h.State == Draining {
		return h, false
	}
	next, _ := h.to(Draining, reason, since)
	next.fails = h.fails
	if h.State == Down {
		next.fails = max(1, h.fails)
	}
	return next, true
}

// Undrain ends a drain: in a slow start, or with the endpoint down when the newest probe
// failed.
func (h Record) Undrain(now time.Time) (Record, bool) {
	if h.State != Draining {
		return h, false
	}
	if h.fails > 0 {
		next, _ := h.to(Down, "drain ended, and its probes fail", now)
		next.newest = h.newest
		return next, true
	}
	next, _ := h.to(Unknown, "drain ended", now)
	next.Ramp = now
	return next, true
}

// RampWeight is the part of a fair share that an endpoint takes in a slow start of this
// length: 1 outside it.
func RampWeight(start time.Time, length time.Duration, from float64, now time.Time) float64 {
	if start.IsZero() || length <= 0 {
		return 1
	}
	done := float64(now.Sub(start)) / float64(length)
	if done >= 1 {
		return 1
	}
	return from + (1-from)*max(0, done)
}
