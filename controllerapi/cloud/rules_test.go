package cloud_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"github.com/ankacluster/ankacluster/controllerapi/cloud/cloudtest"
)

type decision = func(v *cloud.View, now time.Time) (*cloud.Change, bool, error)

func TestGroups(t *testing.T) {
	t.Parallel()
	w := cloudtest.New()
	w.AddNode("n", 1)
	create := func(g api.Group) decision {
		return func(v *cloud.View, _ time.Time) (*cloud.Change, bool, error) { return v.CreateGroup(g) }
	}
	fall := func(id, to api.GroupID) decision {
		return func(v *cloud.View, _ time.Time) (*cloud.Change, bool, error) {
			return v.UpdateGroup(id, cloud.GroupUpdate{Fallback: &to})
		}
	}
	for _, tc := range []struct {
		name string
		do   decision
		want error
	}{
		{"a group", create(api.Group{ID: "a", Name: "A"}), nil},
		{"the same again", create(api.Group{ID: "a", Name: "A"}), cloud.ErrNoChange},
		{"another of its name", create(api.Group{ID: "b", Name: "A"}), cloud.ErrGroupExists},
		{"a second one", create(api.Group{ID: "b", Name: "B"}), nil},
		{"a fallback that is not there", fall("a", "c"), cloud.ErrNoSuchGroup},
		{"a fallback", fall("a", "b"), nil},
		{"a circle", fall("b", "a"), cloud.ErrFallbackCycle},
		{"a group that is not there", fall("c", "a"), cloud.ErrNotFound},
		{"a member", func(v *cloud.View, _ time.Time) (*cloud.Change, bool, error) {
			return v.ChangeMembers([]api.GroupID{"a", "b"}, []api.NodeID{"n"}, true)
		}, nil},
		{"a member that is not there", func(v *cloud.View, _ time.Time) (*cloud.Change, bool, error) {
			return v.ChangeMembers([]api.GroupID{"a"}, []api.NodeID{"m"}, true)
		}, cloud.ErrNoSuchNode},
		{"the end of the second", func(v *cloud.View, _ time.Time) (*cloud.Change, bool, error) { return v.DeleteGroup("b", false) }, nil},
		{"its end again, by a request that may have ended it", func(v *cloud.View, _ time.Time) (*cloud.Change, bool, error) { return v.DeleteGroup("b", true) }, cloud.ErrNoChange},
		{"its end again", func(v *cloud.View, _ time.Time) (*cloud.Change, bool, error) { return v.DeleteGroup("b", false) }, cloud.ErrNotFound},
	} {
		if err := w.Do(t, tc.do); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
	if of := w.View.GroupsOf("n"); len(of) != 1 || of[0] != "a" || w.View.Groups["a"].FallbackGroupID != nil {
		t.Errorf("the node is in %v, and a falls back to %v", of, w.View.Groups["a"].FallbackGroupID)
	}
	// A name is checked against all groups: a change that was decided without one
	// of them must not come through.
	late, _, err := w.View.CreateGroup(api.Group{ID: "d", Name: "D"})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Do(t, create(api.Group{ID: "e", Name: "D"})); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(late); !errors.Is(err, cloudtest.ErrConflict) {
		t.Errorf("two groups of one name: %v", err)
	}
}

func TestLargeStartIsMadeInParts(t *testing.T) {
	t.Parallel()
	macs := cloud.MACSource{Range: cloud.MACRange{First: 1, Last: cloud.MaxCount}, Tries: 3}
	w := cloudtest.New()
	w.Start(t, "i", cloud.MaxCount, macs)
	if len(w.View.Instances) != 0 {
		t.Fatalf("%d instances in one change", len(w.View.Instances))
	}
	for parts := 0; ; parts++ {
		done := false
		err := w.Do(t, func(v *cloud.View, _ time.Time) (c *cloud.Change, certain bool, err error) {
			c, done, err = v.Expand("i", macs)
			return c, true, err
		})
		if err != nil {
			t.Fatalf("part %d: %v", parts, err)
		}
		if done {
			break
		}
	}
	addresses := make(map[string]bool)
	for _, i := range w.View.Instances {
		addresses[i.Public.MACAddress] = true
	}
	if len(w.View.Instances) != cloud.MaxCount || len(addresses) != cloud.MaxCount || len(w.View.LargeStarts) != 0 {
		t.Errorf("%d instances with %d addresses, and %d requests are open", len(w.View.Instances), len(addresses), len(w.View.LargeStarts))
	}
	if free, used := w.View.CountMACs(macs.Range); free != 0 || used != cloud.MaxCount {
		t.Errorf("%d addresses are free, and %d in use", free, used)
	}
	one := []*cloud.Instance{{Public: api.Instance{InstanceID: "more"}}}
	if _, _, err := w.View.CreateInstances(cloud.StartRequestRecord{ID: "more"}, one, nil, macs); !errors.Is(err, cloud.ErrNoMAC) {
		t.Errorf("one more: %v, want ErrNoMAC", err)
	}
}

// A creation that arrives after what it made has ended and been forgotten must
// make nothing.
func TestLateCreationIsFenced(t *testing.T) {
	t.Parallel()
	w := cloudtest.New()
	one := []*cloud.Instance{{Public: api.Instance{InstanceID: "i", InstanceState: api.Scheduling}}}
	late, _, err := w.View.CreateInstances(cloud.StartRequestRecord{ID: "b"}, one, nil, cloud.MACSource{})
	if err != nil {
		t.Fatal(err)
	}
	w.MoveFence()
	if err := w.Commit(late); !errors.Is(err, cloudtest.ErrConflict) {
		t.Errorf("made after the fence moved: %v", err)
	}
}

func TestAnnouncements(t *testing.T) {
	t.Parallel()
	w := cloudtest.New()
	announce := func(who string, servers ...cloud.Server) decision {
		return func(v *cloud.View, _ time.Time) (*cloud.Change, bool, error) { return v.Announce(who, servers, 7) }
	}
	controller := func(id string) cloud.Server {
		return cloud.Server{Kind: cloud.KindController, Server: api.Server{ID: id, URL: "http://" + id, State: api.ServerReady}, Push: []string{"http://push"}}
	}
	registry := func(state string) cloud.Server {
		return cloud.Server{Kind: cloud.KindRegistry, Server: api.Server{ID: "r", URL: "http://r", State: state}}
	}
	for k, tc := range []struct {
		do         decision
		want       error
		generation int64
		lists      string
	}{
		{announce("one", controller("one"), registry("down")), nil, 1, "1 controllers, http://push, registry down"},
		{announce("one", controller("one"), registry("down")), cloud.ErrNoChange, 1, "1 controllers, http://push, registry down"},
		{announce("two", controller("two"), registry(api.ServerReady)), nil, 2, "2 controllers, http://push, registry ready"},
		{announce("one", controller("one"), registry(api.ServerReady)), nil, 2, "2 controllers, http://push, registry ready"},
		{announce("one"), nil, 3, "1 controllers, http://push, registry ready"},
	} {
		if err := w.Do(t, tc.do); !errors.Is(err, tc.want) {
			t.Errorf("%d: %v, want %v", k, err, tc.want)
		}
		c := w.View.Cluster
		got := fmt.Sprintf("%d controllers, %s, registry %s", len(c.Controllers), c.PushRegistries[0], c.Registries[0].State)
		if got != tc.lists || c.Generation != tc.generation || len(c.Registries) != 1 {
			t.Errorf("%d: generation %d, %s; want %d, %s", k, c.Generation, got, tc.generation, tc.lists)
		}
	}
}

func TestRolloutStandsAtEachNode(t *testing.T) {
	t.Parallel()
	w := cloudtest.New()
	for _, n := range []api.NodeID{"done", "failed", "silent", "gone"} {
		w.AddNode(n, 1)
	}
	do := func(f decision) error { return w.Do(t, f) }
	rollout := cloud.Rollout{ID: "j", Kind: api.TaskDistribute, Nodes: []api.NodeID{"done", "failed", "silent", "gone"}}
	create := func(v *cloud.View, now time.Time) (*cloud.Change, bool, error) {
		return v.CreateRollout(rollout, nil, now)
	}
	if err := do(create); err != nil {
		t.Fatal(err)
	}
	if err := do(create); !errors.Is(err, cloud.ErrNoChange) {
		t.Errorf("created again: %v", err)
	}
	report := func(node api.NodeID, phase api.TaskPhase, seq int64) error {
		return do(func(v *cloud.View, now time.Time) (*cloud.Change, bool, error) {
			return v.ReportRollout(&api.ReportRequest{NodeID: node, TaskID: api.TaskID("j.j." + string(node)), Phase: phase, Seq: seq, Progress: 1}, "j", now)
		})
	}
	for _, tc := range []struct {
		node  api.NodeID
		phase api.TaskPhase
		seq   int64
		want  error
	}{
		{"done", api.PhaseProgress, 1, nil},
		{"done", api.PhaseDone, 2, nil},
		{"done", api.PhaseDone, 2, cloud.ErrNoChange},
		{"failed", api.PhaseFailed, 1, nil},
		{"other", api.PhaseDone, 1, cloud.ErrNotYours},
	} {
		if err := report(tc.node, tc.phase, tc.seq); !errors.Is(err, tc.want) {
			t.Errorf("%s reports %s: %v, want %v", tc.node, tc.phase, err, tc.want)
		}
	}
	if err := do(func(v *cloud.View, _ time.Time) (*cloud.Change, bool, error) { return v.RemoveNode("gone", "", false) }); err != nil {
		t.Fatal(err)
	}
	stands := func() (out string) {
		for _, n := range rollout.Nodes {
			at := w.View.RolloutAt(w.View.Rollouts["j"], n, w.Now)
			out += fmt.Sprintf("%s %.0f %q; ", n, at.Progress, at.Error)
		}
		return out
	}
	if got, want := stands(), `done 1 ""; failed 0 "the node could not do it"; silent 0 ""; gone 0 "node was removed"; `; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	w.Pass(cloud.RolloutLimit + time.Hour)
	if got, want := stands(), `done 1 ""; failed 0 "the node could not do it"; silent 0 "not done within 24h0m0s"; gone 0 "node was removed"; `; got != want {
		t.Errorf("after its time: got %s, want %s", got, want)
	}
}
