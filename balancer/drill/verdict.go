package drill

import (
	"fmt"
	"strings"
	"time"
)

// The ramp that is promised to an endpoint that comes back: from a tenth of its
// share to all of it.
const (
	rampLength = 30 * time.Second
	rampFloor  = 0.1
)

// rampShare returns the part of its fair share that an endpoint has by t after
// its return.
func rampShare(t time.Duration) float64 {
	return min(1, rampFloor+(1-rampFloor)*t.Seconds()/rampLength.Seconds())
}

// tolerance on the promised share: it is counted over some 300 requests a lane.
const shareTolerance = 0.8

// judge returns every promise that the row breaks, in words, and those of them
// that say nothing because the machine stood still meanwhile.
func judge(p promise, r *Row) (broken, unjudged []string) {
	say := func(format string, args ...any) { broken = append(broken, fmt.Sprintf(format, args...)) }
	spotless := func(name string, t *Tally) {
		if t == nil {
			return
		}
		if t.Voided*2 > t.Sent {
			unjudged = append(unjudged, fmt.Sprintf("%d of %d %s failed while the machine stood still", t.Voided, t.Sent, name))
		}
		if t.Failed > 0 {
			say("%d %s failed (0 promised; %s)", t.Failed, name, t.reasons())
		}
		if t.Slow > 0 && p.stall == 0 {
			say("%d %s over %v (0 promised)", t.Slow, name, slowAfter)
		}
	}
	spotless("GET", r.GET)
	spotless("POST with a key", r.Keyed)
	if t := r.Unkeyed; t != nil {
		bad := t.Failed
		if p.stall == 0 {
			bad += t.Slow
		}
		if bad > p.unkeyed {
			say("%d POST without a key failed or slow (%d promised; %s)", bad, p.unkeyed, t.reasons())
		}
	}
	for k, t := range r.tallies() {
		if t != nil && t.Twice > 0 {
			say("%d %s run twice (0 promised)", t.Twice, kind(k))
		}
		if t != nil && t.Lost > 0 {
			say("%d %s acknowledged but not run", t.Lost, kind(k))
		}
	}
	over := func(what string, s Span, limit time.Duration) {
		if limit > 0 && s.known && (s.never || s.d > limit) {
			say("%s %v (within %v promised)", what, s, limit)
		}
	}
	over("steady", r.Steady, p.steady)
	over("traffic back", r.Back, p.back)
	over("first answer", r.First, p.first)
	if r.ShareDue > 0 && r.Share < r.ShareDue*shareTolerance {
		if what := fmt.Sprintf("share after healing %.2f (%.2f promised by the ramp)", r.Share, r.ShareDue); r.shareStalled {
			unjudged = append(unjudged, what)
		} else {
			say("%s", what)
		}
	}
	if p.attempts > 0 && r.Attempts > p.attempts {
		say("%d attempts in one second on a dead backend (%d promised)", r.Attempts, p.attempts)
	}
	if p.fair && r.Fairness > 1.01 {
		say("fairness %.3f (1.01 promised)", r.Fairness)
	}
	return broken, unjudged
}

// reasons lists the most common failures, for the reader of a verdict.
func (t *Tally) reasons() string {
	var parts []string
	for _, f := range mostCommon(t.Failures, 2) {
		parts = append(parts, fmt.Sprintf("%d× %s", t.Failures[f], f))
	}
	if len(parts) == 0 {
		return "slow only"
	}
	return strings.Join(parts, ", ")
}
