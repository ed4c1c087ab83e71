package history

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/controllerapi"
)

// story builds operations that follow one another unless told otherwise.
type story struct{ ops []op }

func (s *story) then(o op) *story {
	n := Moment(len(s.ops) * 10)
	o.call, o.ret = n, n+5
	if o.unsure {
		o.ret = never
	}
	s.ops = append(s.ops, o)
	return s
}

// meanwhile makes the last operation last from the one before it began until
// after everything that follows.
func (s *story) meanwhile() *story {
	last := &s.ops[len(s.ops)-1]
	last.call -= 10
	last.ret = 1 << 40
	return s
}

func create() op { return op{kind: opCreate, where: "client"} }
func claim(node string, attempt int) op {
	return op{kind: opClaim, node: controllerapi.NodeID(node), attempt: attempt}
}
func done(node string, attempt int) op {
	return op{kind: opDone, node: controllerapi.NodeID(node), attempt: attempt}
}
func terminate() op                         { return op{kind: opTerminate} }
func saw(st controllerapi.InstanceState) op { return op{kind: opRead, state: st} }
func lost(o op) op                          { o.unsure = true; return o }

func TestModelAcceptsWhatMayHappenAndNothingElse(t *testing.T) {
	t.Parallel()
	const notFound = controllerapi.InstanceState("")
	begin := func() *story { return new(story).then(create()) }
	running := func() *story { return begin().then(claim("a", 1)).then(done("a", 1)) }
	for name, tc := range map[string]struct {
		story *story
		ok    bool
	}{
		"a whole life": {running().then(saw(controllerapi.Started)).then(terminate()).then(saw(controllerapi.Terminating)).
			then(saw(controllerapi.Terminated)).then(saw(notFound)), true},
		"waiting and fetching alternate": {begin().then(saw(controllerapi.Scheduling)).then(claim("a", 1)).then(saw(controllerapi.Pulling)).then(saw(controllerapi.Scheduling)), true},
		"a returned task goes elsewhere": {begin().then(claim("a", 1)).then(claim("b", 2)).then(done("b", 2)).then(saw(controllerapi.Started)), true},
		"a report that is repeated":      {running().then(done("a", 1)).then(saw(controllerapi.Started)), true},
		"terminated before it began":     {begin().then(terminate()).then(saw(notFound)), true},

		"F16: it flickers out":                     {running().then(saw(notFound)).then(saw(controllerapi.Started)), false},
		"F17: not there after the answer":          {begin().then(saw(notFound)), false},
		"F4: back from Terminating":                {running().then(terminate()).then(saw(controllerapi.Started)), false},
		"back from Terminated":                     {running().then(terminate()).then(saw(controllerapi.Terminated)).then(saw(controllerapi.Terminating)), false},
		"back from gone":                           {running().then(terminate()).then(saw(notFound)).then(saw(controllerapi.Terminated)), false},
		"Terminating, though nobody asked":         {running().then(saw(controllerapi.Terminating)), false},
		"Error, though nothing failed":             {running().then(saw(controllerapi.Error)), false},
		"Started, though nothing was reported":     {begin().then(claim("a", 1)).then(saw(controllerapi.Started)), false},
		"Scheduling after Started":                 {running().then(saw(controllerapi.Scheduling)), false},
		"F2: two nodes hold one attempt":           {begin().then(claim("a", 1)).then(claim("b", 1)), false},
		"F2: claimed again after it was Started":   {running().then(claim("b", 2)), false},
		"an older claim comes back":                {begin().then(claim("a", 1)).then(claim("b", 2)).then(claim("a", 1)), false},
		"F2: a report of a claim that was lost":    {begin().then(claim("a", 1)).then(claim("b", 2)).then(done("a", 1)), false},
		"F3: a report accepted after a terminate":  {begin().then(claim("a", 1)).then(terminate()).then(done("a", 1)), false},
		"F3: claimed after a terminate":            {begin().then(terminate()).then(claim("a", 1)), false},
		"a read at the same time as the report":    {begin().then(claim("a", 1)).then(done("a", 1)).meanwhile().then(saw(controllerapi.Scheduling)).then(saw(controllerapi.Started)), true},
		"... but not back":                         {begin().then(claim("a", 1)).then(done("a", 1)).meanwhile().then(saw(controllerapi.Started)).then(saw(controllerapi.Scheduling)), false},
		"a terminate without an answer, done":      {running().then(lost(terminate())).then(saw(controllerapi.Terminating)), true},
		"a terminate without an answer, not done":  {running().then(lost(terminate())).then(saw(controllerapi.Started)), true},
		"a terminate without an answer, done late": {running().then(lost(terminate())).then(saw(controllerapi.Started)).then(saw(controllerapi.Terminating)), true},
		"... but done is done":                     {running().then(lost(terminate())).then(saw(controllerapi.Terminating)).then(saw(controllerapi.Started)), false},
		"a report without an answer, accepted":     {begin().then(claim("a", 1)).then(lost(done("a", 1))).then(saw(controllerapi.Started)), true},
		"a report without an answer, not accepted": {begin().then(claim("a", 1)).then(lost(done("a", 1))).then(claim("b", 2)).then(done("b", 2)), true},
	} {
		p, bad := checkInstance("key", "i", tc.story.ops, time.Minute)
		if bad == tc.ok {
			t.Errorf("%s: accepted %t, want %t\n%s", name, !bad, tc.ok, p)
		}
	}
}

// record is a recording of one keyed create that was answered with ids.
func record(t *testing.T, answers ...[]controllerapi.InstanceID) *Recorder {
	t.Helper()
	r := NewRecorder()
	for _, ids := range answers {
		r.Created("k", r.Creating("k"), ids)
	}
	return r
}

func ids(list ...controllerapi.InstanceID) []controllerapi.InstanceID { return list }

func listed(key string, id controllerapi.InstanceID, state controllerapi.InstanceState) controllerapi.ListedInstance {
	return controllerapi.ListedInstance{InstanceID: id, VM: controllerapi.Instance{InstanceID: id, ExternalID: key, InstanceState: state}}
}

func wantProblem(t *testing.T, r *Recorder, says string) {
	t.Helper()
	problems, _ := r.Check(time.Minute)
	for _, p := range problems {
		if says != "" && strings.Contains(p.String(), says) {
			return
		}
	}
	if len(problems) > 0 || says != "" {
		t.Errorf("problems %v, want %q", problems, says)
	}
}

func TestKeysAreHeldToTheirFirstAnswer(t *testing.T) {
	t.Parallel()
	wantProblem(t, record(t, ids("a"), ids("a")), "")
	wantProblem(t, record(t, ids("a"), ids("b")), "answered with [a] and with [b]")
	r := record(t, ids("a"))
	r.Created("k2", r.Creating("k2"), ids("a"))
	wantProblem(t, r, "too")
}

func TestListsShowWhatWasCreatedAndNothingElse(t *testing.T) {
	t.Parallel()
	r := record(t, ids("a"))
	r.Listed("one", r.Now(), []controllerapi.ListedInstance{listed("k", "a", controllerapi.Scheduling), listed("stranger", "x", controllerapi.Error)})
	wantProblem(t, r, "")
	r.Listed("two", r.Now(), nil)
	wantProblem(t, r, "not found")

	r = record(t, ids("a"))
	r.Listed("one", r.Now(), []controllerapi.ListedInstance{listed("k", "a", controllerapi.Scheduling), listed("k", "b", controllerapi.Scheduling)})
	wantProblem(t, r, "the key was answered with [a]")

	// Created, but the answer is still on its way: a list may show it before.
	r = NewRecorder()
	call := r.Creating("k")
	r.Listed("one", r.Now(), []controllerapi.ListedInstance{listed("k", "a", controllerapi.Scheduling)})
	r.Listed("two", r.Now(), nil) // not yet at this controller? it was shown before
	r.Created("k", call, ids("a"))
	wantProblem(t, r, "not found")

	// Its caller never got an answer, so nobody was promised anything.
	r = NewRecorder()
	r.Creating("k")
	r.Listed("one", r.Now(), []controllerapi.ListedInstance{listed("k", "a", controllerapi.Scheduling)})
	wantProblem(t, r, "")
}

func TestRepeatedReservationIsOneClaim(t *testing.T) {
	t.Parallel()
	r := record(t, ids("a"))
	r.Reserving("r1")
	r.Reserving("r1") // its first answer was lost
	r.Reserved("r1", "n", "a", 1)
	report := controllerapi.ReportRequest{TaskID: "t", NodeID: "n", Session: "s", Seq: 1, Attempt: 1}
	r.Reporting(report, r.Now())
	r.Reporting(report, r.Now())
	r.Reported("a", report)
	r.Read("reader", "a", r.Now(), controllerapi.Started)
	r.Terminated("client", "a", r.Now(), true)
	r.Read("reader", "a", r.Now(), controllerapi.Started)
	r.Terminated("client", "a", r.Now(), false)
	r.Read("reader", "a", r.Now(), controllerapi.Terminated)
	wantProblem(t, r, "")
	_, stats := r.Check(time.Minute)
	if want := (Stats{Keys: 1, Instances: 1, Operations: 8}); stats != want {
		t.Errorf("stats %+v, want %+v", stats, want)
	}
}

func TestUnconfirmedReportMayHaveCounted(t *testing.T) {
	t.Parallel()
	for _, state := range []controllerapi.InstanceState{controllerapi.Started, controllerapi.Scheduling} {
		r := record(t, ids("a"))
		r.Reserving("r1")
		r.Reserved("r1", "n", "a", 1)
		report := controllerapi.ReportRequest{TaskID: "t", NodeID: "n", Session: "s", Seq: 1, Attempt: 1}
		r.Reporting(report, r.Now())
		r.Unconfirmed("a", report)
		r.Read("reader", "a", r.Now(), state)
		wantProblem(t, r, "")
	}
}

func TestProblemIsDrawn(t *testing.T) {
	t.Parallel()
	r := record(t, ids("a"))
	r.Read("reader", "a", r.Now(), "")
	problems, _ := r.Check(time.Minute)
	if len(problems) != 1 {
		t.Fatalf("problems %v, want one", problems)
	}
	path, err := problems[0].Draw(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if page, err := os.ReadFile(path); err != nil || !strings.Contains(string(page), "read by reader: not found") {
		t.Errorf("picture %s: %v; want it to show the read", path, err)
	}
}
