// Package why tells people why an instance waits for a node, and what ends the wait. It
// asks schedule.Explain, whose rules are those of placement, and puts the answer into
// sentences. It reads a view and decides nothing.
package why

import (
	"maps"
	"slices"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"github.com/ankacluster/ankacluster/controllerapi/schedule"
)

// Cloud lends a view.
type Cloud interface {
	Read(f func(v *cloud.View))
}

// Asker answers questions about a cloud.
type Asker struct {
	Cloud  Cloud
	Config schedule.Config
	// Heard returns when a node's newest heartbeat was, the zero time if it is unknown.
	Heard func(api.NodeID) time.Time
	// Stuck is why etcd takes no writes, "" when it does.
	Stuck string
}

// Instance tells why an instance waits, or cloud.ErrNotFound.
func (a Asker) Instance(id api.InstanceID) (api.Why, error) {
	var i *cloud.Instance
	a.Cloud.Read(func(v *cloud.View) { i = v.Instances[id] })
	switch {
	case i == nil || i.Deleted != nil:
		return api.Why{}, cloud.ErrNotFound
	case !i.Pending():
		return a.placed(i), nil
	}
	return a.pending(i, true), nil
}

// Request tells whether the instance of a start request would find a node now.
func (a Asker) Request(i *cloud.Instance) api.Why { return a.pending(i, false) }

// question is what an answer is made from: what is asked about, and the cloud as it is.
type question struct {
	Asker
	now    time.Time
	i      *cloud.Instance
	queued bool // it is in the queue, and no request
	waited time.Duration
	task   *schedule.Task
	tasks  []*schedule.Task
	nodes  []*schedule.Node
	groups map[string]string
	schedule.Explanation
}

// node returns what placement does not look at of a node, nil if there is none, and why
// it takes no starts, if it takes none.
func (q *question) node(id string) (n *cloud.Node, state api.NodeState) {
	q.Cloud.Read(func(v *cloud.View) {
		if n = v.Nodes[api.NodeID(id)]; n != nil {
			state = v.NodeState(n, q.now)
		}
	})
	return n, state
}

// name is what people call a node.
func (q *question) name(id string) string {
	n, _ := q.node(id)
	return nameOf(n, id)
}

func nameOf(n *cloud.Node, id string) string {
	if n == nil || n.Settings.Name == "" {
		return id
	}
	return n.Settings.Name
}

func (a Asker) pending(i *cloud.Instance, queued bool) api.Why {
	q := question{Asker: a, i: i, queued: queued, groups: make(map[string]string)}
	q.look()
	q.Explanation = schedule.Explain(a.Config, q.task, q.tasks, q.nodes, q.now)
	return q.answer()
}

// nodesAtATime are looked at under the view's lock, which keeps events out.
const nodesAtATime = 500

// look takes from the view what is asked about.
func (q *question) look() {
	var ids []api.NodeID
	q.Cloud.Read(func(v *cloud.View) {
		q.now = v.Now()
		ids = slices.AppendSeq(make([]api.NodeID, 0, len(v.Nodes)), maps.Keys(v.Nodes))
		q.task = v.ScheduleTask(q.i)
		if q.queued {
			q.waited = v.Waited(q.i, q.now)
		} else {
			last := *q.task
			last.Created, last.Order = q.now, v.Rev+1
			q.task = &last
		}
		for _, i := range v.Pending() {
			q.tasks = append(q.tasks, v.ScheduleTask(i))
		}
		for _, id := range q.task.Groups {
			q.groups[id] = id
			if g := v.Groups[api.GroupID(id)]; g != nil {
				q.groups[id] = g.Name
			}
		}
	})
	slices.SortFunc(q.tasks, schedule.Compare)
	q.nodes = make([]*schedule.Node, 0, len(ids))
	for chunk := range slices.Chunk(ids, nodesAtATime) {
		q.Cloud.Read(func(v *cloud.View) {
			for _, id := range chunk {
				if n := v.Nodes[id]; n != nil { // else it has been removed meanwhile
					q.nodes = append(q.nodes, v.ScheduleNode(n, q.now))
				}
			}
		})
	}
}

// ruleOf is what the API calls the rules.
var ruleOf = map[schedule.Rule]api.WhyCause{
	schedule.Pinned: api.CausePinned, schedule.Arch: api.CauseArch, schedule.Group: api.CauseGroup, schedule.USB: api.CauseUSB,
	schedule.TooLarge: api.CauseTooLarge, schedule.Inactive: api.CauseInactive, schedule.Avoided: api.CauseAvoided,
	schedule.Room: api.CauseFull, schedule.USBBusy: api.CauseUSBBusy, schedule.Fallback: api.CauseFallback,
	schedule.Held: api.CauseHeld, schedule.OtherHasImage: api.CauseImage,
}

func (q *question) answer() api.Why {
	out := api.Why{
		InstanceID: q.i.Public.InstanceID, Waited: q.waited.Seconds(), Priority: q.task.Priority,
		Place: q.Place, Waiting: q.Waiting, Nodes: len(q.nodes), Rules: []api.WhyRule{}, Fit: q.list(q.fit()), HandedBack: q.handedBack(),
	}
	if q.queued {
		out.State = q.i.Public.InstanceState
	} else {
		out.InstanceID = ""
	}
	left, last := len(q.nodes), schedule.None
	for rule, nodes := range q.Excluded {
		if rule := schedule.Rule(rule); rule != schedule.None && len(nodes) > 0 {
			left, last = left-len(nodes), rule
			out.Rules = append(out.Rules, api.WhyRule{Rule: ruleOf[rule], Text: q.text(rule, nodes), Left: left, Excluded: q.list(nodes)})
		}
	}
	out.Cause = q.cause(last)
	out.Text, out.Advice = q.sentence(out.Cause), q.advice(out.Cause)
	return out
}

func (q *question) fit() []*schedule.Node { return q.Excluded[schedule.None] }

// cause is what is waited for, given the last rule that excludes a node.
func (q *question) cause(last schedule.Rule) api.WhyCause {
	switch {
	case q.Stuck != "":
		return api.CauseStore
	case len(q.nodes) == 0:
		return api.CauseNoNodes
	case len(q.Excluded[schedule.OtherHasImage]) > 0 && q.queued:
		return api.CauseImage
	case len(q.fit()) > 0 && q.Before >= q.Slots:
		return api.CauseQueue
	case len(q.fit()) > 0:
		return api.CauseFits
	}
	return ruleOf[last]
}

// list returns the first of the nodes by id.
func (q *question) list(nodes []*schedule.Node) api.WhyNodes {
	out := api.WhyNodes{Count: len(nodes), IDs: first(nodes, api.MaxWhyNodes)}
	for _, n := range nodes {
		if n.Images[q.task.Image] {
			out.WithTag++
		}
	}
	return out
}

// first returns the first ids of the nodes.
func first(nodes []*schedule.Node, most int) []api.NodeID {
	ids := make([]api.NodeID, 0, most+1)
	for _, n := range nodes {
		id := api.NodeID(n.ID)
		if len(ids) == most && id > ids[most-1] {
			continue
		}
		at, _ := slices.BinarySearch(ids, id)
		ids = slices.Insert(ids, at, id)
		ids = ids[:min(len(ids), most)]
	}
	return ids
}

func (q *question) handedBack() []api.WhyHandback {
	out := make([]api.WhyHandback, 0, len(q.i.Avoid))
	for _, b := range q.i.Avoid {
		n, _ := q.node(string(b.Node))
		out = append(out, api.WhyHandback{
			NodeID: b.Node, Name: nameOf(n, ""), At: b.At, Reason: b.Why,
			Again: max(0, q.task.Avoid[string(b.Node)].Sub(q.now).Seconds()),
		})
	}
	return out
}
