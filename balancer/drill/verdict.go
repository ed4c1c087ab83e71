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

// Check is one promise, and what became of it.
type Check struct {
	Promise  string
	Measured string
	// Broken says in words how it is broken; "" is kept.
	Broken string
	// Unjudged says the same where the machine stood still meanwhile, so that it says
	// nothing.
	Unjudged string
}

// Verdict is kept, BROKEN or not judged.
func (c Check) Verdict() string {
	switch {
	case c.Broken != "":
		return "BROKEN"
	case c.Unjudged != "":
		return "not judged"
	}
	return "kept"
}

// verdicts returns what is broken and what is not judged.
func verdicts(checks []Check) (broken, unjudged []string) {
	for _, c := range checks {
		if c.Broken != "" {
			broken = append(broken, c.Broken)
		}
		if c.Unjudged != "" {
			unjudged = append(unjudged, c.Unjudged)
		}
	}
	return broken, unjudged
}

// checks collects promises.
type checks []Check

// add adds a promise, which is broken in the words of format unless ok.
func (cs *checks) add(promise, measured string, ok bool, format string, args ...any) *Check {
	c := Check{Promise: promise, Measured: measured}
	if !ok {
		c.Broken = fmt.Sprintf(format, args...)
	}
	*cs = append(*cs, c)
	return &(*cs)[len(*cs)-1]
}

// judge compares a row with what is promised.
func judge(p promise, r *Row) []Check {
	var cs checks
	cs.requests(p, r)
	for k, t := range r.tallies() {
		if t == nil || kind(k) == get {
			continue
		}
		name := kind(k).String()
		cs.add("none "+name+" runs twice", fmt.Sprint(t.Twice), t.Twice == 0, "%d %s run twice (0 promised)", t.Twice, name)
		cs.add("each acknowledged "+name+" has run", fmt.Sprintf("%d have not", t.Lost), t.Lost == 0, "%d %s acknowledged but not run", t.Lost, name)
	}
	within := func(what, promise string, s Span, limit time.Duration) {
		if limit > 0 && s.known {
			cs.add(fmt.Sprintf("%s within %v", promise, limit), s.String(), !s.never && s.d <= limit, "%s %v (within %v promised)", what, s, limit)
		}
	}
	within("steady", "nothing goes wrong any more", r.Steady, p.steady)
	within("traffic back", "what healed answers again", r.Back, p.back)
	within("first answer", "the first answer after healing", r.First, p.first)
	if r.ShareDue > 0 {
		c := cs.add(fmt.Sprintf("a share of %.2f of what is fair at the end, by the ramp", r.ShareDue), fmt.Sprintf("%.2f", r.Share),
			r.Share >= r.ShareDue*shareTolerance, "share after healing %.2f (%.2f promised by the ramp)", r.Share, r.ShareDue)
		if r.shareStalled {
			c.Broken, c.Unjudged = "", c.Broken
		}
	}
	if p.attempts > 0 {
		cs.add(fmt.Sprintf("at most %d attempts a second on a dead backend", p.attempts), fmt.Sprint(r.Attempts),
			r.Attempts <= p.attempts, "%d attempts in one second on a dead backend (%d promised)", r.Attempts, p.attempts)
	}
	if p.stays {
		cs.add("none is taken out for what all answer", fmt.Sprintf("taken out %d times", r.Out),
			r.Out == 0, "a backend taken out %d times, though all answer alike (0 promised)", r.Out)
	}
	if p.fair {
		cs.add("the most used gets at most 1.01 times what the least used gets", fmt.Sprintf("%.3f", r.Fairness),
			r.Fairness <= 1.01, "fairness %.3f (1.01 promised)", r.Fairness)
	}
	return cs
}

// requests is what is promised of the answers to each kind of request.
func (cs *checks) requests(p promise, r *Row) {
	spotless := func(name string, t *Tally) {
		if t == nil {
			return
		}
		c := cs.add(fmt.Sprintf("%s: %d of %d fail", name, p.wrong, t.Sent), fmt.Sprint(t.Failed),
			t.Failed <= p.wrong, "%d %s failed (%d promised; %s)", t.Failed, name, p.wrong, t.reasons())
		if t.Voided*2 > t.Sent {
			c.Unjudged = fmt.Sprintf("%d of %d %s failed while the machine stood still", t.Voided, t.Sent, name)
		}
		if p.stall == 0 {
			cs.add(fmt.Sprintf("%s: %d take over %v", name, p.wrong, SlowAfter), fmt.Sprintf("%d; longest %v", t.Slow, t.Longest),
				t.Slow <= p.wrong, "%d %s over %v (%d promised)", t.Slow, name, SlowAfter, p.wrong)
		}
	}
	spotless(get.String(), r.GET)
	if p.stays {
		return // what all backends answer to POSTs is no fault of the door
	}
	spotless(keyed.String(), r.Keyed)
	if t := r.Unkeyed; t != nil {
		bad, fail := t.Failed, "fail"
		if p.stall == 0 {
			bad, fail = bad+t.Slow, "fail or are slow"
		}
		cs.add(fmt.Sprintf("%s: at most %d of %d %s", unkeyed, p.unkeyed, t.Sent, fail), fmt.Sprint(bad),
			bad <= p.unkeyed, "%d %s failed or slow (%d promised; %s)", bad, unkeyed, p.unkeyed, t.reasons())
	}
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
