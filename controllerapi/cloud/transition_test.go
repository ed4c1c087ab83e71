package cloud

import (
	"slices"
	"strings"
	"testing"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
)

var allStates = []api.InstanceState{
	api.Scheduling, api.Pulling, api.Started, api.Stopping, api.Stopped, api.Pushing, api.Error, api.Terminating, api.Terminated,
}

func TestF4EveryStateHasARowAndNothingLeavesTheEnd(t *testing.T) {
	for _, from := range allStates {
		if _, ok := transitions[from]; !ok {
			t.Errorf("%s has no row", from)
		}
		for _, to := range allStates {
			got := mayBecome(from, to)
			switch {
			case from == to && !got:
				t.Errorf("%s may not stay", from)
			case from == api.Terminating && to != api.Terminating && got != (to == api.Terminated):
				t.Errorf("Terminating to %s: %v", to, got)
			case from == api.Terminated && to != api.Terminated && got:
				t.Errorf("Terminated leads to %s", to)
			case to == api.Terminating && from != api.Terminated && !got:
				t.Errorf("%s cannot be terminated", from)
			case to == api.Scheduling && from != to && got && from != api.Pulling:
				t.Errorf("%s leads back to Scheduling", from)
			}
		}
		for _, to := range transitions[from] {
			if !slices.Contains(allStates, to) {
				t.Errorf("%s leads to the unknown %s", from, to)
			}
		}
	}
}

func TestTailKeepsWholeCharacters(t *testing.T) {
	for _, tc := range []struct {
		in   string
		n    int
		want string
	}{{"abc", 3, "abc"}, {"abc", 2, "bc"}, {"aäb", 3, "äb"}, {"aäb", 2, "b"}, {"", 0, ""}} {
		if got := Tail(tc.in, tc.n); got != tc.want {
			t.Errorf("tail(%q, %d) = %q, want %q", tc.in, tc.n, got, tc.want)
		}
	}
	long := strings.Repeat("x", shownOutput+1)
	if short, more := Shorten(&api.ScriptResult{Stdout: long}); !more || len(short.Stdout) != shownOutput {
		t.Errorf("%d bytes shown, more %v", len(short.Stdout), more)
	}
}

func TestMACRange(t *testing.T) {
	r, err := ParseMACRange("02:00:00:00:00:FE-02:00:00:00:01:01")
	if err != nil || r.Size() != 4 {
		t.Fatalf("%+v %v", r, err)
	}
	v := NewView()
	v.MACs["02:00:00:00:00:FF"] = &MAC{}
	if got := v.FreeMACs(r, "", 9); !slices.Equal(got, []string{"02:00:00:00:00:FE", "02:00:00:00:01:00", "02:00:00:00:01:01"}) {
		t.Errorf("free: %v", got)
	}
	if got := v.FreeMACs(r, "02:00:00:00:01:00", 9); !slices.Equal(got, []string{"02:00:00:00:01:01"}) {
		t.Errorf("free after: %v", got)
	}
	for _, bad := range []string{"", "02:00:00:00:00:01", "02:00:00:00:00:02-02:00:00:00:00:01", "x-y"} {
		if _, err := ParseMACRange(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// A creation that is on its way could bring a record back until the clock moved,
// whatever the machines' clocks say; and the stamp of another machine counts
// nothing.
func TestRecordIsForgottenAfterTheClockMovedAndNotBefore(t *testing.T) {
	now := time.Now()
	for _, tc := range []struct {
		name  string
		state api.InstanceState
		ago   time.Duration // as this Store saw it
		clock int64
		want  bool
	}{
		{"long ago, clock moved", api.Terminated, buriedFor, 11, true},
		{"long ago, clock stands", api.Terminated, 24 * time.Hour, 9, false},
		{"just now, clock moved", api.Terminated, buriedFor - 1, 11, false},
		{"not confirmed by the node", api.Terminating, unconfirmedFor - 1, 11, false},
		{"not confirmed for long", api.Terminating, unconfirmedFor, 11, true},
	} {
		for _, skew := range []time.Duration{-48 * time.Hour, 0, 48 * time.Hour} {
			stamp := now.Add(-tc.ago + skew)
			i := &Instance{Public: api.Instance{InstanceState: tc.state}, Deleted: &stamp, Rev: 10}
			v := NewView()
			v.FenceRev = tc.clock
			v.Ages.Note(10, now.Add(-tc.ago))
			if got := v.Forgettable(i, now); got != tc.want {
				t.Errorf("%s, stamp %v off: %v, want %v", tc.name, skew, got, tc.want)
			}
		}
	}
	listed := &Instance{Public: api.Instance{InstanceState: api.Terminated}, Rev: 10}
	v := NewView()
	v.FenceRev = 11
	if v.Forgettable(listed, now) {
		t.Error("forgotten while it is listed")
	}
}
