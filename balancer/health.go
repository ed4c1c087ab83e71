package balancer

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
	// Draining: taken out by a person or no longer a member; running requests end.
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

type verdict uint8

const (
	verdictNone verdict = iota // nothing learned
	verdictPass
	verdictFail
)

// evidence is what one round of probing an endpoint found.
type evidence struct {
	// ready is the answer to the readiness request.
	ready verdict
	// proof is the answer to a copy of a recent harmless request, which a server
	// whose readiness lies gets wrong.
	proof verdict
	// halfOpen: the breaker gave this probe its one slot.
	halfOpen bool
	// alone: no endpoint of the pool is usable, so one pass is enough.
	alone bool
	// reason is what the readiness request met, unless that was a plain pass.
	reason string
}

// health is the state of one endpoint. Its methods are pure: they return the
// next health and whether the state changed.
type health struct {
	state  State
	since  time.Time
	reason string // of the last transition
	newest string // what the newest probe met, unless it passed
	fails  int    // failed probes in a row
	passes int    // passed probes in a row, as far as they count
	// spoke: a readiness probe has failed since the endpoint went out, so its
	// readiness can be believed when it passes again.
	spoke bool
	// deviant: it is out for what its probes do not see, so only the breaker's time ends
	// that.
	deviant bool
	// ramp is when the slow start began; zero without one.
	ramp time.Time
}

func (h health) usable() bool { return h.state == Healthy || h.state == Unknown }

// inTransition asks for fast probes.
func (h health) inTransition() bool {
	return h.state == Ejected || h.fails > 0 || (h.state == Down && h.passes > 0)
}

// why is the reason for the state, and for its not ending.
func (h health) why() string {
	if h.newest == "" || strings.HasSuffix(h.reason, h.newest) {
		return h.reason
	}
	return h.reason + "; newest probe: " + h.newest
}

func (h health) to(s State, reason string, now time.Time) (health, bool) {
	return health{state: s, since: now, reason: reason}, true
}

func (h health) restored(reason string, now time.Time) (health, bool) {
	next, _ := h.to(Healthy, reason, now)
	next.ramp = now
	return next, true
}

// probed applies one round of probing.
func (h health) probed(cfg ProbeConfig, e evidence, now time.Time) (health, bool) {
	h.newest = e.reason
	if e.ready == verdictNone && e.proof == verdictNone {
		if e.reason != "" {
			h.newest += ", which says nothing"
		}
		return h, false
	}
	if e.ready == verdictFail {
		return h.probeFailed(cfg, e, now)
	}
	return h.probePassed(cfg, e, now)
}

func (h health) probeFailed(cfg ProbeConfig, e evidence, now time.Time) (health, bool) {
	h.fails++
	h.passes = 0
	switch h.state {
	case Unknown: // the first probe counts at once
		return h.to(Down, "first probe failed: "+e.reason, now)
	case Healthy:
		if h.fails >= cfg.Fall {
			return h.to(Down, fmt.Sprintf("%d failed probes, last: %s", h.fails, e.reason), now)
		}
	case Ejected:
		h.spoke = true
		if h.fails >= cfg.Fall {
			return h.to(Down, fmt.Sprintf("%s; %d failed probes, last: %s", h.reason, h.fails, e.reason), now)
		}
	case Down, Draining:
	}
	return h, false
}

func (h health) probePassed(cfg ProbeConfig, e evidence, now time.Time) (health, bool) {
	if e.ready == verdictPass {
		h.fails = 0
	}
	switch h.state {
	case Unknown:
		return h.to(Healthy, "first probe passed", now)
	case Healthy, Draining:
		return h, false
	case Ejected:
		if e.proof == verdictFail {
			h.passes = 0
			return h, false
		}
		if e.halfOpen {
			return h.restored("probe passed after the open time"+e.aside(), now)
		}
		if h.deviant && !e.alone {
			return h, false
		}
		if e.proof != verdictPass && !h.spoke && !e.alone {
			// Readiness was good all along: it says nothing about what failed.
			return h, false
		}
	case Down:
		if e.proof == verdictFail {
			h.passes = 0
			return h, false
		}
	}
	h.passes++
	if h.passes >= cfg.Rise || e.alone {
		return h.restored(fmt.Sprintf("%d passed probes", h.passes)+e.aside(), now)
	}
	return h, false
}

// aside says of a pass that it was none of the plain ones.
func (e evidence) aside() string {
	if e.reason == "" {
		return ""
	}
	return "; it has no readiness: " + e.reason
}

// eject takes a usable endpoint out for what real requests met.
func (h health) eject(reason string, now time.Time) (health, bool) {
	if !h.usable() {
		return h, false
	}
	return h.to(Ejected, reason, now)
}

// drain takes an endpoint out for good or until undrain.
func (h health) drain(reason string, now time.Time) (health, bool) {
	if h.state == Draining {
		return h, false
	}
	return h.to(Draining, reason, now)
}

func (h health) undrain(now time.Time) (health, bool) {
	if h.state != Draining {
		return h, false
	}
	return h.to(Unknown, "drain ended", now)
}

// rampWeight is the part of a fair share that an endpoint takes in a slow start of this
// length: 1 outside it.
func rampWeight(start time.Time, length time.Duration, from float64, now time.Time) float64 {
	if start.IsZero() || length <= 0 {
		return 1
	}
	done := float64(now.Sub(start)) / float64(length)
	if done >= 1 {
		return 1
	}
	return from + (1-from)*max(0, done)
}
