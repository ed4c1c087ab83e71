package keeper

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"github.com/ankacluster/ankacluster/controllerapi/cloud/cloudtest"
)

var cfg = Config{NodeActiveTimeout: 2 * time.Minute, InstanceActiveTimeout: 3 * time.Minute, InstanceTimeout: time.Minute}

// world is a cloud whose records are as old as they are told to be at now. They are
// put in the order of their ages, the oldest first.
type world struct {
	*cloudtest.World
	v   *cloud.View
	now time.Time
}

func newWorld() *world {
	w := cloudtest.New()
	return &world{World: w, v: w.View, now: w.Now.Add(72 * time.Hour)}
}

func (w *world) put(ref cloud.Ref, record any, age time.Duration) {
	w.Now = w.now.Add(-age)
	w.Put(ref, record)
}

func (w *world) node(id api.NodeID, alive bool) {
	w.put(cloud.NodeRef(id), &cloud.Node{ID: id, Session: "s"}, 48*time.Hour)
	if alive {
		w.put(cloud.NodeLeaseRef(id), &cloud.NodeLease{Session: "s"}, 48*time.Hour)
	}
}

func placed(id api.InstanceID, state api.InstanceState, node api.NodeID, done bool) *cloud.Instance {
	i := &cloud.Instance{Public: api.Instance{InstanceID: id, InstanceState: state}, Request: "b", Attempt: 1}
	if node != "" {
		i.Claim = &cloud.Claim{Node: node, Session: "s", Done: done}
	}
	return i
}

// outcome carries out the duties for an instance on the same view, and says how it
// then is.
func (w *world) outcome(t *testing.T, duties []Duty, id api.InstanceID) string {
	t.Helper()
	for _, d := range duties {
		if d.ID != string(id) {
			continue
		}
		if d.Update == nil {
			c, _, err := d.Decide(w.v, w.now)
			if err != nil {
				t.Fatal(err)
			}
			return fmt.Sprintf("forgotten with %d records", len(c.Ops))
		}
		_, next, err := w.v.UpdateInstance(id, func(i *cloud.Instance) error { return d.Update(w.v, i, w.now) })
		if errors.Is(err, cloud.ErrNoChange) {
			return "no change"
		}
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case next.Deleted != nil:
			return "hidden"
		case next.Pending():
			return fmt.Sprintf("queued as attempt %d: %s", next.Attempt, next.Avoid[0].Why)
		}
		return fmt.Sprintf("%s: %s", next.Public.InstanceState, next.Public.Message)
	}
	return "nothing"
}

func TestDutiesOfInstances(t *testing.T) {
	restart := func() *cloud.Instance {
		i := placed("i", api.Started, "alive", true)
		i.Restart = &cloud.Restart{ID: "r"}
		return i
	}
	deleted := func(state api.InstanceState) *cloud.Instance {
		i := placed("i", state, "alive", true)
		i.Deleted = new(time.Time)
		return i
	}
	for _, tc := range []struct {
		name    string
		i       *cloud.Instance
		age     time.Duration // of its record
		offline time.Duration // so long the keeper has seen nodes without a lease
		want    string
	}{
		{"running on a live node", placed("i", api.Started, "alive", true), time.Hour, 0, "nothing"},
		{"waiting", placed("i", api.Scheduling, "", false), time.Hour, 0, "nothing"},

		{"node removed, starting", placed("i", api.Pulling, "gone", false), time.Minute, 0, "queued as attempt 2: node was removed"},
		{"node removed, running", placed("i", api.Started, "gone", true), time.Minute, 0, "Error: node was removed"},
		{"node removed, ending", placed("i", api.Terminating, "gone", true), 30 * time.Second, 0, "Terminated: "},

		{"keeper has just begun, starting", placed("i", api.Scheduling, "dead", false), time.Hour, cfg.NodeActiveTimeout - 1, "nothing"},
		{"node offline, starting", placed("i", api.Scheduling, "dead", false), time.Hour, cfg.NodeActiveTimeout, "queued as attempt 2: node is offline"},
		{"node offline, pulling", placed("i", api.Pulling, "dead", false), time.Hour, cfg.NodeActiveTimeout, "queued as attempt 2: node is offline"},
		{"node offline, running, has a longer time", placed("i", api.Started, "dead", true), time.Hour, cfg.NodeActiveTimeout - 1, "nothing"},
		{"node offline, running", placed("i", api.Started, "dead", true), time.Hour, cfg.NodeActiveTimeout, "Error: node is offline"},
		{"node offline, in error already", placed("i", api.Error, "dead", true), time.Hour, time.Hour, "nothing"},
		{"node offline, ending", placed("i", api.Terminating, "dead", true), 30 * time.Second, time.Hour, "nothing"},

		{"start that is reported", placed("i", api.Scheduling, "old", false), silentFor, 0, "nothing"},
		{"start that is silent", placed("i", api.Scheduling, "old", false), silentFor + time.Second, 0, "queued as attempt 2: no report from the node"},
		{"start that is silent, of an agent that lists its tasks", placed("i", api.Scheduling, "alive", false), time.Hour, 0, "nothing"},

		{"restart under way", restart(), cloud.RestartLimit, 0, "nothing"},
		{"restart overdue", restart(), cloud.RestartLimit + time.Second, 0, "Error: not restarted within 30m0s"},

		{"just ended", placed("i", api.Terminated, "alive", true), cfg.InstanceTimeout - 1, 0, "nothing"},
		{"ended for its time in lists", placed("i", api.Terminated, "alive", true), cfg.InstanceTimeout, 0, "hidden"},
		{"hidden for long", deleted(api.Terminated), time.Hour, 0, "forgotten with 4 records"},
		{"hidden, its end not confirmed", deleted(api.Terminating), time.Hour, 0, "nothing"},
		{"hidden, its end not confirmed for a day", deleted(api.Terminating), 24 * time.Hour, 0, "forgotten with 4 records"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld()
			for _, id := range []api.NodeID{"alive", "old"} {
				w.node(id, true)
			}
			w.node("dead", false)
			w.put(cloud.NodeReportRef("alive"), &cloud.NodeReport{Session: "s", TasksHash: "t"}, 47*time.Hour)
			w.put(cloud.NodeReportRef("old"), &cloud.NodeReport{Session: "s"}, 47*time.Hour)
			w.put(cloud.InstanceRef("i"), tc.i, tc.age)
			w.put(cloud.FenceRef, &cloud.FenceRecord{}, 0)
			k := New(cfg)
			k.Begin(w.now.Add(-tc.offline))
			k.Duties(w.v, w.now.Add(-tc.offline))
			if got := w.outcome(t, k.Duties(w.v, w.now), "i"); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// An instance that runs has its own timeout, counted from when the keeper saw its
// node offline, and not from when the keeper began.
func TestRunningInstanceHasItsOwnTimeout(t *testing.T) {
	w := newWorld()
	w.node("n", true)
	w.put(cloud.InstanceRef("i"), placed("i", api.Started, "n", true), time.Hour)
	k := New(cfg)
	k.Begin(w.now.Add(-time.Hour))
	k.Duties(w.v, w.now)
	w.Delete(cloud.NodeLeaseRef("n"))
	k.Duties(w.v, w.now)
	grace := cfg.InstanceActiveTimeout - cfg.NodeActiveTimeout
	if got := len(k.Duties(w.v, w.now.Add(grace-1))); got != 0 {
		t.Errorf("%d duties before its time, want none", got)
	}
	if got := len(k.Duties(w.v, w.now.Add(grace))); got != 1 {
		t.Errorf("%d duties at its time, want one", got)
	}
	w.put(cloud.NodeLeaseRef("n"), &cloud.NodeLease{Session: "s"}, 0)
	k.Duties(w.v, w.now)
	w.Delete(cloud.NodeLeaseRef("n"))
	if got := len(k.Duties(w.v, w.now.Add(2*grace))); got != 0 {
		t.Errorf("%d duties when the node has just gone again, want none: what was seen before counts no more", got)
	}
}

func TestDutiesOfRequestsAndRollouts(t *testing.T) {
	w := newWorld()
	w.node("n", true)
	old := cloud.RecordsFor + time.Second
	rollout := &cloud.Rollout{ID: "old", Nodes: make([]api.NodeID, 200)}
	for k := range rollout.Nodes {
		rollout.Nodes[k] = api.NodeID(fmt.Sprint(k))
	}
	w.put(cloud.RolloutRef("old"), rollout, old+cloud.RolloutLimit)
	for _, n := range rollout.Nodes {
		w.put(cloud.RolloutNodeRef("old", n), &cloud.RolloutNode{Done: true}, old+cloud.RolloutLimit)
	}
	w.put(cloud.RolloutRef("young"), &cloud.Rollout{ID: "young"}, old)
	w.put(cloud.SaveRef("done"), &cloud.SaveRequest{ID: "done", Node: "n", Status: cloud.SaveDone}, old)
	w.put(cloud.SaveRef("kept"), &cloud.SaveRequest{ID: "kept", Node: "n", Status: cloud.SaveError}, time.Hour)
	saving := placed("i", api.Pushing, "n", true)
	saving.Save = "running"
	w.put(cloud.InstanceRef("i"), saving, time.Minute)
	w.put(cloud.SaveRef("stuck"), &cloud.SaveRequest{ID: "stuck", Node: "n", Instance: "ended", Status: cloud.SavePending}, time.Minute)
	w.put(cloud.SaveRef("running"), &cloud.SaveRequest{ID: "running", Node: "n", Instance: "i", Status: cloud.SavePending}, time.Minute)
	duties := New(cfg).Duties(w.v, w.now)
	var got []string
	for _, d := range duties {
		got = append(got, d.Kind+" "+d.ID)
	}
	slices.Sort(got)
	if want := []string{"job old", "request done", "request stuck"}; !slices.Equal(got, want) {
		t.Fatalf("due are %q, want %q", got, want)
	}
	// A roll-out over many nodes is forgotten in several changes, each of which fits.
	for _, d := range duties {
		if d.ID != "old" {
			continue
		}
		changes := 0
		for ; ; changes++ {
			c, _, err := d.Decide(w.v, w.now)
			if errors.Is(err, cloud.ErrNoChange) {
				break
			}
			if err != nil || c.TooLarge() || !d.Repeat || changes > 10 {
				t.Fatalf("change %d of %d records, repeated %v: %v", changes, len(c.Ops), d.Repeat, err)
			}
			if err := w.Commit(c); err != nil {
				t.Fatal(err)
			}
		}
		if w.v.Rollouts["old"] != nil || changes < 2 {
			t.Errorf("%d changes, and the roll-out is %v; want several, and none", changes, w.v.Rollouts["old"])
		}
	}
}

func TestWaitEndsAfterADay(t *testing.T) {
	w := newWorld()
	w.put(cloud.InstanceRef("old"), placed("old", api.Scheduling, "", false), queueLimit+time.Second)
	w.put(cloud.InstanceRef("young"), placed("young", api.Scheduling, "", false), queueLimit)
	duties := EndedWaits(w.v, w.now)
	if len(duties) != 1 || w.outcome(t, duties, "old") != "Error: no node has taken it for 24h0m0s" {
		t.Errorf("%d duties: %q", len(duties), w.outcome(t, duties, "old"))
	}
}

func TestStartRequestsThatAreNeeded(t *testing.T) {
	w := newWorld()
	w.put(cloud.LargeStartRef("begun"), &cloud.LargeStart{Instances: []*cloud.Instance{placed("x", api.Scheduling, "", false)}}, time.Minute)
	w.put(cloud.LargeStartRef("new"), &cloud.LargeStart{Instances: []*cloud.Instance{placed("y", api.Scheduling, "", false)}}, time.Second)
	w.put(cloud.InstanceRef("i"), placed("i", api.Scheduling, "", false), 0)
	if got := UnfinishedStarts(w.v, w.now, 10*time.Second); !slices.Equal(got, []string{"begun"}) {
		t.Errorf("unfinished are %q, want the one that was begun long ago", got)
	}
	used := UsedRequests(w.v)
	if !used["b"] || !used["begun"] || !used["new"] || len(used) != 3 {
		t.Errorf("used are %v", used)
	}
}
