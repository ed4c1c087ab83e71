package drill

import (
	"testing"
	"time"
)

var epoch = time.Unix(1_000_000, 0)

func at(seconds float64) time.Time {
	return epoch.Add(time.Duration(seconds * float64(time.Second)))
}

// answered is a request that was due at a second and took a while.
func answered(due, took float64, by string) *sample {
	return &sample{id: "x", due: at(due), done: at(due + took), backend: by}
}

func failed(due float64) *sample {
	return &sample{id: "x", due: at(due), done: at(due + 0.01), failure: "gone"}
}

func TestSteady(t *testing.T) {
	oneFault := []event{{at: at(2), broke: true}, {at: at(14)}}
	loop := []event{{at: at(2), broke: true}, {at: at(3)}, {at: at(4), broke: true}, {at: at(5)}}
	tests := []struct {
		name    string
		samples []*sample
		events  []event
		want    string
	}{
		{"nothing happened", []*sample{failed(1)}, nil, "-"},
		{"nothing went wrong", []*sample{answered(3, 0.1, "a")}, oneFault, "0.00s"},
		{"exactly the limit is not slow", []*sample{answered(3, 0.5, "a")}, oneFault, "0.00s"},
		{"slow half a second after the fault", []*sample{answered(2.5, 0.501, "a")}, oneFault, "0.50s"},
		{"in flight when it broke", []*sample{failed(1.96)}, oneFault, "0.00s"},
		{"before it broke", []*sample{failed(1.9)}, oneFault, "0.00s"},
		{"the last bad one counts", []*sample{failed(2.1), failed(5)}, oneFault, "3.00s"},
		{"to the end of the fault", []*sample{failed(12)}, oneFault, "never"},
		{"after healing", []*sample{failed(14.2)}, oneFault, "0.20s"},
		{"each fault of a loop begins anew", []*sample{failed(2.1), failed(4.3)}, loop, "0.30s"},
	}
	for _, tt := range tests {
		if got := steady(tt.samples, tt.events).String(); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestBackIsTheWorstVictimsFirstAnswer(t *testing.T) {
	events := []event{{at: at(2), backend: 0, broke: true}, {at: at(2), backend: 1, broke: true}, {at: at(10), backend: 0}, {at: at(11), backend: 1}}
	samples := []*sample{
		answered(9.9, 0.2, "a"), // was already waiting: not new traffic
		answered(10.3, 0.1, "a"),
		answered(11.5, 0.2, "b"),
		answered(12, 0.1, "a"),
	}
	if got := back(samples, events, nil).String(); got != "0.70s" {
		t.Errorf("got %s, want 0.70s", got)
	}
	if got := back(samples[:2], events, nil).String(); got != "never" {
		t.Errorf("without an answer of b: got %s, want never", got)
	}
}

func TestFirstAnswerIsToAnyRequest(t *testing.T) {
	events := []event{{at: at(2), backend: 0, broke: true}, {at: at(2), backend: 1, broke: true}, {at: at(10), backend: 0}, {at: at(11), backend: 1}}
	waiting := answered(3, 7.2, "a")
	if got := first([]*sample{waiting, answered(10.3, 0.1, "a")}, events, nil).String(); got != "0.20s" {
		t.Errorf("got %s, want 0.20s", got)
	}
	if got := first([]*sample{answered(3, 0.1, "a")}, events, nil).String(); got != "never" {
		t.Errorf("nothing answered after healing: got %s, want never", got)
	}
}

func TestSharesCountTheLastTwoSeconds(t *testing.T) {
	events := []event{{at: at(2), broke: true}, {at: at(4)}}
	var samples []*sample
	for i := range 30 { // fair until the fault
		samples = append(samples, answered(1+float64(i)/100, 0, backendName(i%3)))
	}
	for i := range 20 { // a has 2 of 20 in the window
		by := "b"
		if i < 2 {
			by = "a"
		}
		samples = append(samples, answered(8.5+float64(i)/100, 0, by))
	}
	share, fairness := shares(samples, events, 3, at(10), nil)
	if share < 0.299 || share > 0.301 {
		t.Errorf("share: got %v, want 0.3 of what is fair", share)
	}
	if fairness != 1 {
		t.Errorf("fairness: got %v, want 1", fairness)
	}
}

// An answer that was late may have come from another backend than the one whose turn
// it was; one that was on time has not.
func TestFairnessAllowsForLateAnswers(t *testing.T) {
	for late, want := range map[float64]float64{0: 11.0 / 9, 0.1: 1} {
		var samples []*sample
		for i := range 30 {
			by, after := backendName(i%3), 0.0
			if i == 0 { // a's turn, answered by b
				by, after = "b", late
			}
			samples = append(samples, answered(1+float64(i)/100, after, by))
		}
		if _, fairness := shares(samples, nil, 3, at(10), nil); fairness != want {
			t.Errorf("%v s late: got %v, want %v", late, fairness, want)
		}
	}
}

func TestMeasureCountsWhatTheLedgerSays(t *testing.T) {
	post := func(id, failure string) *sample {
		return &sample{id: id, kind: unkeyed, due: at(1), done: at(1.1), failure: failure}
	}
	l := &lane{posts: unkeyed, samples: []*sample{post("once", ""), post("twice", ""), post("failed-but-ran-twice", "x"), post("lost", ""), post("failed", "x")}}
	row := measure([]*lane{l}, nil, ledger{Effects: map[string]int{"once": 1, "twice": 2, "failed-but-ran-twice": 2}}, 3, at(2), nil)
	got := row.Unkeyed
	if got.Sent != 5 || got.Failed != 2 || got.Twice != 2 || got.Lost != 1 {
		t.Errorf("got sent %d failed %d twice %d lost %d, want 5 2 2 1", got.Sent, got.Failed, got.Twice, got.Lost)
	}
}

// Of two clients the one for whom a backend never came back decides.
func TestLeastShareOfTheLanesCounts(t *testing.T) {
	events := []event{{at: at(2), backend: 0, broke: true}, {at: at(4), backend: 0}}
	without := &lane{posts: keyed, samples: []*sample{answered(9, 0, "b"), answered(9.1, 0, "c")}}
	with := &lane{posts: unkeyed, samples: []*sample{answered(9, 0, "a"), answered(9.1, 0, "b"), answered(9.2, 0, "c")}}
	for _, lanes := range [][]*lane{{without, with}, {with, without}} {
		if row := measure(lanes, events, ledger{}, 3, at(10), nil); row.Share != 0 {
			t.Errorf("got a share of %v, want that of the lane without any", row.Share)
		}
	}
}

func TestPeakAttemptsSlidesOverTheOutage(t *testing.T) {
	events := []event{{at: at(2), backend: 1, broke: true}, {at: at(10), backend: 1}}
	dials := map[string][]time.Time{"b": {
		at(2), at(2.1), at(2.2), at(2.9), // still finding out
		at(4.5), at(5.0), at(5.4), at(5.5), // 4.5 and 5.5 are a second apart
		at(9.9), at(10.1), at(10.2), at(10.3), at(10.4), // back
	}, "a": {at(5), at(5), at(5), at(5)}}
	if got := peakAttempts(dials, []string{"a", "b"}, events); got != 3 {
		t.Errorf("got %d, want 3", got)
	}
}

func TestRampShare(t *testing.T) {
	for _, tt := range []struct{ after, want float64 }{{0, 0.1}, {15, 0.55}, {30, 1}, {31, 1}} {
		got := rampShare(time.Duration(tt.after * float64(time.Second)))
		if d := got - tt.want; d > 1e-9 || d < -1e-9 {
			t.Errorf("after %vs: got %v, want %v", tt.after, got, tt.want)
		}
	}
}

func TestJudge(t *testing.T) {
	kept := func() *Row {
		return &Row{GET: &Tally{Sent: 9}, Keyed: &Tally{Sent: 9}, Unkeyed: &Tally{Sent: 9, Failed: 1, Slow: 3},
			Steady: lasting(500 * time.Millisecond), Back: lasting(time.Second), Share: 0.4, ShareDue: 0.5, Fairness: 1.01}
	}
	p := ordinary(4)
	if broken, _ := verdicts(judge(p, kept())); len(broken) != 0 {
		t.Errorf("at the limit of everything: got %q, want nothing broken", broken)
	}
	tests := map[string]func(*Row){
		"a failed GET":          func(r *Row) { r.GET.Failed = 1 },
		"a slow GET":            func(r *Row) { r.GET.Slow = 1 },
		"a failed keyed POST":   func(r *Row) { r.Keyed.Failed = 1 },
		"a keyed POST twice":    func(r *Row) { r.Keyed.Twice = 1 },
		"a fifth unkeyed POST":  func(r *Row) { r.Unkeyed.Failed = 2 },
		"an unkeyed POST twice": func(r *Row) { r.Unkeyed.Twice = 1 },
		"a lost POST":           func(r *Row) { r.Unkeyed.Lost = 1 },
		"steady too late":       func(r *Row) { r.Steady = lasting(501 * time.Millisecond) },
		"never steady":          func(r *Row) { r.Steady = never },
		"never back":            func(r *Row) { r.Back = never },
		"a small share":         func(r *Row) { r.Share = 0.39 },
	}
	for name, spoil := range tests {
		r := kept()
		spoil(r)
		if broken, _ := verdicts(judge(p, r)); len(broken) != 1 {
			t.Errorf("%s: got %q, want one broken promise", name, broken)
		}
	}
	handful := kept()
	handful.GET.Failed, handful.Keyed.Failed = 3, 3
	if broken, _ := verdicts(judge(promise{wrong: 3, unkeyed: 4}, handful)); len(broken) != 0 {
		t.Errorf("at the limit of wrong answers: %q", broken)
	}
	handful.GET.Failed = 4
	if broken, _ := verdicts(judge(promise{wrong: 3, unkeyed: 4}, handful)); len(broken) != 1 {
		t.Errorf("one wrong answer more: %q, want one broken promise", broken)
	}
	alike := kept()
	alike.Keyed.Failed, alike.Unkeyed.Failed = 9, 9
	if broken, _ := verdicts(judge(promise{stays: true}, alike)); len(broken) != 0 {
		t.Errorf("what all backends answer: %q", broken)
	}
	alike.Out = 1
	if broken, _ := verdicts(judge(promise{stays: true}, alike)); len(broken) != 1 {
		t.Errorf("one was taken out for what all answer: %q, want one broken promise", broken)
	}
	unfair := kept()
	unfair.Fairness = 1.02
	if broken, _ := verdicts(judge(promise{fair: true, unkeyed: 4}, unfair)); len(broken) != 1 {
		t.Errorf("unfair: got %q, want one broken promise", broken)
	}
}
