package cloud

import (
	"cmp"
	"strings"

	api "github.com/ankacluster/ankacluster/controllerapi"
)

// View is all watched state at one revision. It is valid only while its owner keeps
// it from being changed; the records it hands out are immutable and may be kept.
type View struct {
	Meta    *Meta
	Cluster *Cluster

	Instances   map[api.InstanceID]*Instance
	Nodes       map[api.NodeID]*Node
	Reports     map[api.NodeID]*NodeReport
	Leases      map[api.NodeID]*NodeLease
	HandoutLogs map[api.NodeID]*HandoutLog
	Servers     map[string]*Server // by id
	Leaders     map[string]*Leader

	Groups       map[api.GroupID]*Group
	Members      map[api.GroupID]*Members
	SaveRequests map[string]*SaveRequest
	Rollouts     map[string]*Rollout
	MACs         map[string]*MAC
	MACPool      *MACPool
	Sizes        map[api.TemplateID]*TemplateSize
	Loads        map[api.NodeID]api.NodeLoad // as last broadcast

	LargeStarts map[string]*LargeStart

	Rev          int64            // the view is all state up to it
	Ages         *Ages            // shared by the views of a Store
	FenceRev     int64            // of the fence
	serverLeases map[string]int64 // of Servers, by id

	memberOf     map[api.NodeID][]api.GroupID // sorted
	effective    map[api.NodeID]*effectiveSettings
	rolloutNodes map[string]map[api.NodeID]*RolloutNode

	onNode  map[api.NodeID]map[api.InstanceID]*Instance
	pending map[api.InstanceID]*Instance
	order   []*Instance // by creation; nil during a load
}

// Cluster is the announced lists; Generation grows with every change of them.
type Cluster struct {
	api.Cluster
	rev int64
}

// Changes says what a batch of events touched.
type Changes struct {
	Queue   bool // tasks that wait for a node came or changed
	Cluster bool
	Nodes   map[api.NodeID]struct{} // their tasks, capacity, settings or liveness

	Fence    *FenceRecord // if it moved
	FenceRev int64

	Rev    int64   // up to which the view is complete now
	Loaded bool    // the whole view is another
	Told   []Touch // what the lists of the API show differently, in order of revisions
}

// Touch is an object of the API that is another, or gone, since a revision.
type Touch struct {
	Rev  int64
	Kind api.Kind
	ID   string
	VM   *Instance // of KindVM: what it became, nil when lists do not show it any more
}

// tell notes a touch, once for those of one object and revision that follow one another.
func (c *Changes) tell(t Touch) {
	if n := len(c.Told); n > 0 && c.Told[n-1] == t {
		return
	}
	c.Told = append(c.Told, t)
}

func (c *Changes) tellNode(rev int64, id api.NodeID) {
	if id != "" {
		c.tell(Touch{Rev: rev, Kind: api.KindNode, ID: string(id)})
	}
}

// Node notes that a node is touched.
func (c *Changes) Node(id api.NodeID) {
	if id == "" {
		return
	}
	if c.Nodes == nil {
		c.Nodes = make(map[api.NodeID]struct{})
	}
	c.Nodes[id] = struct{}{}
}

// NewView returns an empty view.
func NewView() *View {
	return &View{
		Ages:         new(Ages),
		Instances:    make(map[api.InstanceID]*Instance),
		Nodes:        make(map[api.NodeID]*Node),
		Reports:      make(map[api.NodeID]*NodeReport),
		Leases:       make(map[api.NodeID]*NodeLease),
		HandoutLogs:  make(map[api.NodeID]*HandoutLog),
		Servers:      make(map[string]*Server),
		Leaders:      make(map[string]*Leader),
		Groups:       make(map[api.GroupID]*Group),
		Members:      make(map[api.GroupID]*Members),
		SaveRequests: make(map[string]*SaveRequest),
		Rollouts:     make(map[string]*Rollout),
		MACs:         make(map[string]*MAC),
		Sizes:        make(map[api.TemplateID]*TemplateSize),
		Loads:        make(map[api.NodeID]api.NodeLoad),
		LargeStarts:  make(map[string]*LargeStart),
		serverLeases: make(map[string]int64),
		memberOf:     make(map[api.NodeID][]api.GroupID),
		effective:    make(map[api.NodeID]*effectiveSettings),
		rolloutNodes: make(map[string]map[api.NodeID]*RolloutNode),
		onNode:       make(map[api.NodeID]map[api.InstanceID]*Instance),
		pending:      make(map[api.InstanceID]*Instance),
	}
}

// OnNode returns the instances that are placed on a node: claimed by it, and
// their VM not known to be gone.
func (v *View) OnNode(id api.NodeID) map[api.InstanceID]*Instance { return v.onNode[id] }

// Placements returns the instances that are placed on nodes, by node.
func (v *View) Placements() map[api.NodeID]map[api.InstanceID]*Instance { return v.onNode }

// Pending returns the instances that wait for a node.
func (v *View) Pending() map[api.InstanceID]*Instance { return v.pending }

// Visible returns the instances that lists show, in order of creation.
func (v *View) Visible() []*Instance {
	out := make([]*Instance, 0, len(v.order))
	for _, i := range v.order {
		if i.Deleted == nil {
			out = append(out, i)
		}
	}
	return out
}

// byCreation orders by revision: the controllers' clocks may differ.
func byCreation(a, b *Instance) int {
	return cmp.Or(cmp.Compare(a.Created, b.Created), strings.Compare(string(a.Public.InstanceID), string(b.Public.InstanceID)))
}
