package drill

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/ankacluster/ankacluster/balancer/drill/stall"
)

// Span is a duration that may also be "never" or not apply.
type Span struct {
	d     time.Duration
	known bool
	never bool
}

func lasting(d time.Duration) Span { return Span{d: d, known: true} }

var never = Span{known: true, never: true}

// Seconds is the length of a Span that is known.
func (s Span) Seconds() float64 { return s.d.Seconds() }

func (s Span) String() string {
	switch {
	case !s.known:
		return "-"
	case s.never:
		return "never"
	}
	return fmt.Sprintf("%.2fs", s.d.Seconds())
}

// MarshalJSON writes seconds, "never" or null.
func (s Span) MarshalJSON() ([]byte, error) {
	switch {
	case !s.known:
		return []byte("null"), nil
	case s.never:
		return []byte(`"never"`), nil
	}
	return json.Marshal(math.Round(s.d.Seconds()*1e4) / 1e4)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (s *Span) UnmarshalJSON(b []byte) error {
	switch string(b) {
	case "null":
		*s = Span{}
		return nil
	case `"never"`:
		*s = never
		return nil
	}
	var seconds float64
	if err := json.Unmarshal(b, &seconds); err != nil {
		return err
	}
	*s = lasting(time.Duration(seconds * float64(time.Second)))
	return nil
}

// Later returns the worse of two Spans.
func Later(a, b Span) Span {
	switch {
	case !a.known, b.never:
		return b
	case !b.known, a.never:
		return a
	case b.d > a.d:
		return b
	}
	return a
}

// Tally is what became of all requests of one kind.
type Tally struct {
	Sent     int            `json:"sent"`
	Failed   int            `json:"failed"`
	Slow     int            `json:"slow"`
	Voided   int            `json:"failed_while_the_machine_stood_still"`
	Twice    int            `json:"run_twice"`
	Lost     int            `json:"acknowledged_but_not_run"`
	Longest  Span           `json:"longest_stall_seconds"`
	Median   Span           `json:"p50_seconds"`
	P99      Span           `json:"p99_seconds"`
	Failures map[string]int `json:"failures,omitempty"`
}

// Row is the outcome of one scenario through one door.
type Row struct {
	Scenario string    `json:"scenario"`
	Door     string    `json:"through"`
	Skipped  string    `json:"skipped,omitempty"`
	GET      *Tally    `json:"get,omitempty"`
	Keyed    *Tally    `json:"post_with_key,omitempty"`
	Unkeyed  *Tally    `json:"post_without_key,omitempty"`
	Steady   Span      `json:"steady_seconds"`
	Back     Span      `json:"traffic_back_seconds"`
	First    Span      `json:"first_answer_seconds"` // after the first healing, of whichever backend
	Share    float64   `json:"share_after_healing"`  // of what is fair; 1 is its full share
	ShareDue float64   `json:"share_promised"`       // what the ramp owes by then
	Fairness float64   `json:"fairness"`             // most over least, while nothing is broken
	Absorbed int       `json:"repeats_absorbed"`
	Attempts int       `json:"attempts_per_second_while_down"` // the most on one dead backend by one client
	Out      int       `json:"taken_out"`                      // how often a backend was, as far as the door tells, while the machine ran
	Transfer *Transfer `json:"transfer,omitempty"`
	Driver   Span      `json:"driver_late_seconds"`   // the longest stall
	Stood    Span      `json:"machine_stood_seconds"` // all stalls together
	Broken   []string  `json:"broken"`
	Unjudged []string  `json:"unjudged,omitempty"` // not as promised, but the machine stood still in the time that is judged

	Plot   *Plot   `json:"-"` // nil when it was skipped
	Checks []Check `json:"-"` // the promises, and what became of each

	shareStalled bool // a stall may have moved the traffic that Share counts
}

func (r *Row) tallies() []*Tally { return []*Tally{r.GET, r.Keyed, r.Unkeyed} }

// measure turns what the lanes saw and the memory counted into a row. While the
// machine stood still, so did everything that is measured: that time is taken
// from each that it falls into, and what failed then is void.
func measure(lanes []*lane, events []event, l ledger, backends int, end time.Time, stood stall.List) *Row {
	row := &Row{Absorbed: l.Absorbed, Fairness: 1, Driver: lasting(stood.Longest())}
	if len(events) > 0 {
		row.shareStalled = stood.Harm(events[len(events)-1].at, end)
	}
	var latencies [kinds][]time.Duration
	row.GET = &Tally{}
	for i, lane := range lanes {
		of := [kinds]*Tally{get: row.GET, keyed: {}, unkeyed: {}}
		switch lane.posts {
		case keyed:
			row.Keyed = of[keyed]
		case unkeyed:
			row.Unkeyed = of[unkeyed]
		}
		if n := len(lane.samples); n > 0 {
			row.Stood = Later(row.Stood, lasting(stood.Stood(lane.samples[0].due, end)))
		}
		for _, s := range lane.samples {
			s.stood = stood.Stood(s.due, s.done)
			s.void = s.failure != "" && stood.Harm(s.due, s.done)
			of[s.kind].count(s, l)
			latencies[s.kind] = append(latencies[s.kind], s.latency())
		}
		row.Steady = Later(row.Steady, steady(lane.samples, events))
		row.Back = Later(row.Back, back(lane.samples, events, stood))
		row.First = Later(row.First, first(lane.samples, events, stood))
		share, fairness := shares(lane.samples, events, backends, end, stood)
		if i == 0 || share < row.Share {
			row.Share = share
		}
		row.Fairness = max(row.Fairness, fairness)
	}
	for k, t := range row.tallies() {
		if t != nil {
			t.quantiles(latencies[k])
		}
	}
	return row
}

func (t *Tally) count(s *sample, l ledger) {
	t.Sent++
	switch {
	case s.void:
		t.Voided++
	case s.failure != "":
		t.Failed++
		if t.Failures == nil {
			t.Failures = make(map[string]int)
		}
		t.Failures[class(s.failure)]++
	case s.slow():
		t.Slow++
	}
	if s.kind == get {
		return
	}
	switch n := l.Effects[s.id]; {
	case n > 1:
		t.Twice++
	case n == 0 && s.failure == "":
		t.Lost++
	}
}

func (t *Tally) quantiles(all []time.Duration) {
	if len(all) == 0 {
		return
	}
	slices.Sort(all)
	t.Median = lasting(all[len(all)/2])
	t.P99 = lasting(all[len(all)*99/100])
	t.Longest = lasting(all[len(all)-1])
}

// grace: a request that was due this shortly before a fault was in flight when
// it happened.
const grace = 50 * time.Millisecond

// steady returns how long after a fault (or a healing) requests still went
// wrong. It is "never" when they do to the end of a fault that lasted.
func steady(samples []*sample, events []event) (out Span) {
	if len(events) == 0 {
		return Span{}
	}
	out = lasting(0)
	for _, s := range samples {
		if !s.bad() {
			continue
		}
		begun, ended, ok := around(events, s.due.Add(grace))
		if !ok {
			continue // before anything broke
		}
		if length := ended.Sub(begun); length > 2*time.Second && s.due.After(ended.Add(-length/5)) {
			return never
		}
		out = Later(out, lasting(max(0, s.due.Sub(begun))))
	}
	return out
}

// around returns the last event up to t, and the next one if there is one.
func around(events []event, t time.Time) (last, next time.Time, ok bool) {
	for _, e := range events {
		if e.at.After(t) {
			return last, e.at, ok
		}
		last, ok = e.at, true
	}
	return last, last, ok
}

// back returns how long after its last healing each victim answered again; the
// worst of them.
func back(samples []*sample, events []event, stood stall.List) (out Span) {
	for victim, healed := range healings(events) {
		first := never
		for _, s := range samples {
			if s.backend == victim && s.failure == "" && s.due.After(healed) {
				first = lasting(min(stood.Ran(healed, s.done), durationOf(first)))
			}
		}
		out = Later(out, first)
	}
	return out
}

// first returns how long after anything healed for the first time any request,
// also one that had been waiting, was answered.
func first(samples []*sample, events []event, stood stall.List) (out Span) {
	i := slices.IndexFunc(events, func(e event) bool { return !e.broke })
	if i < 0 {
		return Span{}
	}
	healed := events[i].at
	out = never
	for _, s := range samples {
		if s.failure == "" && s.done.After(healed) {
			out = lasting(min(stood.Ran(healed, s.done), durationOf(out)))
		}
	}
	return out
}

func durationOf(s Span) time.Duration {
	if s.never {
		return math.MaxInt64
	}
	return s.d
}

// healings returns when each victim healed for the last time.
func healings(events []event) map[string]time.Time {
	out := make(map[string]time.Time)
	for _, e := range events {
		if !e.broke {
			out[backendName(e.backend)] = e.at
		}
	}
	return out
}

// shareWindow is the time before the end in which shares are counted.
const shareWindow = 2 * time.Second

// shares returns the least share any victim has at the end, in parts of the
// fair one, and the ratio of the most to the least used backend before anything
// breaks, or stands still: a stall may take a backend from the rotation. An answer
// that was late may be of the backend after the one whose turn it was, which was asked
// as well: each may be one too many there and one too few here. Writes that cannot be
// repeated count for the share only after the ramp: to keep them off an endpoint that
// has just returned is prudent.
func shares(samples []*sample, events []event, backends int, end time.Time, stood stall.List) (share, fairness float64) {
	before, after := make(map[string]int), make(map[string]int)
	whole := end // until here nothing disturbed the rotation
	if len(events) > 0 {
		whole = events[0].at
	}
	for _, x := range stood {
		if x.To.Sub(x.From) >= stall.Harmful {
			whole = stall.Earlier(whole, x.From.Add(-grace))
		}
	}
	var late, moved int
	ramped := len(events) > 0 && end.Sub(events[len(events)-1].at) > rampLength+shareWindow
	for _, s := range samples {
		if s.failure != "" {
			continue
		}
		if s.due.Before(whole) {
			before[s.backend]++
			if s.done.Sub(s.due) >= stall.Harmful {
				moved++
			}
		}
		if s.due.After(end.Add(-shareWindow)) && (s.kind != unkeyed || ramped) {
			after[s.backend]++
			late++
		}
	}
	least, most := math.MaxInt, 0
	for i := range backends {
		n := before[backendName(i)]
		least, most = min(least, n), max(most, n)
	}
	switch {
	case least > 0:
		fairness = max(1, float64(most-moved)/float64(least+moved))
	case most < backends && whole.Before(end): // too few to say
		fairness = 1
	default:
		fairness = math.Inf(1)
	}
	share = 1
	for victim := range healings(events) {
		if late > 0 {
			share = min(share, float64(after[victim])*float64(backends)/float64(late))
		}
	}
	return share, fairness
}

// settling is the time after a fault in which a client may still be finding out
// that a backend is dead.
const settling = time.Second

// peakAttempts returns the most connections that were begun to one dead backend
// in any one second of its outage.
func peakAttempts(dials map[string][]time.Time, addrs []string, events []event) (peak int) {
	for i, e := range events {
		if !e.broke {
			continue
		}
		until := e.at
		for _, later := range events[i:] {
			if later.backend == e.backend && !later.broke {
				until = later.at
				break
			}
		}
		var window []time.Time
		for _, at := range dials[addrs[e.backend]] {
			if at.Before(e.at.Add(settling)) || at.After(until) {
				continue
			}
			window = append(window, at)
			for at.Sub(window[0]) >= time.Second {
				window = window[1:]
			}
			peak = max(peak, len(window))
		}
	}
	return peak
}
