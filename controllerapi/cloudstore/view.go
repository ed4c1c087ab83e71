package cloudstore

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	api "github.com/ankacluster/ankacluster/controllerapi"
)

// View is all watched state at one revision of etcd. It is valid only inside
// Store.Read; the records it hands out are immutable and may be kept.
type View struct {
	Meta    *Meta
	Cluster *Cluster

	Instances map[api.InstanceID]*Instance
	Nodes     map[api.NodeID]*Node
	States    map[api.NodeID]*State
	Lives     map[api.NodeID]*Live
	Ledgers   map[api.NodeID]*Ledger
	Servers   map[string]*Server // by id
	Leaders   map[string]*Leader

	Groups  map[api.GroupID]*Group
	Members map[api.GroupID]*Members
	Images  map[string]*Image
	Jobs    map[string]*Job
	MACs    map[string]*MAC
	MACPool *MACPool
	Sizes   map[api.TemplateID]*TemplateSize
	Loads   map[api.NodeID]api.NodeLoad // as last broadcast; see load.go

	batches map[string]*largeBatch

	rev    int64            // the view is all of etcd's state up to it
	ages   *ages            // shared by the views of a Store
	clock  int64            // revision of keyClock
	leases map[string]int64 // of Servers, by id

	memberOf map[api.NodeID][]api.GroupID // sorted
	told     map[api.NodeID]*toldSettings
	jobNodes map[string]map[api.NodeID]*JobNode

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

	clock    *clockRecord // if it moved
	clockRev int64
}

func (c *Changes) node(id api.NodeID) {
	if id == "" {
		return
	}
	if c.Nodes == nil {
		c.Nodes = make(map[api.NodeID]struct{})
	}
	c.Nodes[id] = struct{}{}
}

func newView() *View {
	return &View{
		ages:      new(ages),
		Instances: make(map[api.InstanceID]*Instance),
		Nodes:     make(map[api.NodeID]*Node),
		States:    make(map[api.NodeID]*State),
		Lives:     make(map[api.NodeID]*Live),
		Ledgers:   make(map[api.NodeID]*Ledger),
		Servers:   make(map[string]*Server),
		Leaders:   make(map[string]*Leader),
		Groups:    make(map[api.GroupID]*Group),
		Members:   make(map[api.GroupID]*Members),
		Images:    make(map[string]*Image),
		Jobs:      make(map[string]*Job),
		MACs:      make(map[string]*MAC),
		Sizes:     make(map[api.TemplateID]*TemplateSize),
		Loads:     make(map[api.NodeID]api.NodeLoad),
		batches:   make(map[string]*largeBatch),
		leases:    make(map[string]int64),
		memberOf:  make(map[api.NodeID][]api.GroupID),
		told:      make(map[api.NodeID]*toldSettings),
		jobNodes:  make(map[string]map[api.NodeID]*JobNode),
		onNode:    make(map[api.NodeID]map[api.InstanceID]*Instance),
		pending:   make(map[api.InstanceID]*Instance),
	}
}

// OnNode returns the instances that are placed on a node: claimed by it, and
// their VM not known to be gone.
func (v *View) OnNode(id api.NodeID) map[api.InstanceID]*Instance { return v.onNode[id] }

// Pending returns the instances that wait for a node.
func (v *View) Pending() map[api.InstanceID]*Instance { return v.pending }

// Visible returns the instances that lists show, in order of creation.
func (v *View) Visible() []*Instance {
	out := make([]*Instance, 0, len(v.order))
	for _, i := range v.order {
		if i.Buried == nil {
			out = append(out, i)
		}
	}
	return out
}

// byCreation orders by etcd's revision: the controllers' clocks may differ.
func byCreation(a, b *Instance) int {
	return cmp.Or(cmp.Compare(a.created, b.created), strings.Compare(string(a.Public.InstanceID), string(b.Public.InstanceID)))
}

// Version is when a record was made and written last, in revisions of etcd, and
// with which lease it ends, 0 for none.
type Version struct{ Created, Rev, Lease int64 }

// new returns an empty record of the table, nil for a table that the view does not
// have.
func (t Table) new() any {
	switch t {
	case metaTable:
		return new(Meta)
	case clockTable:
		return new(clockRecord)
	case clusterTable:
		return new(Cluster)
	case macPoolTable:
		return new(MACPool)
	case instanceTable:
		return new(Instance)
	case nodeTable:
		return new(Node)
	case stateTable:
		return new(State)
	case liveTable:
		return new(Live)
	case ledgerTable:
		return new(Ledger)
	case groupTable:
		return new(Group)
	case memberTable:
		return new(Members)
	case imageTable:
		return new(Image)
	case jobTable:
		return new(Job)
	case jobNodeTable:
		return new(JobNode)
	case serverTable:
		return new(Server)
	case batchTable:
		return new(largeBatch)
	case loadTable:
		return new(map[api.NodeID]api.NodeLoad)
	case leaderTable:
		return new(Leader)
	case macTable:
		return new(MAC)
	case sizeTable:
		return new(TemplateSize)
	}
	return nil
}

// apply brings a record that was written, or deleted when record is nil, into the
// view, which keeps it. It notes in ch what that touches.
func (v *View) apply(ref Ref, record any, at Version, ch *Changes) {
	id := ref.ID
	switch ref.Table {
	case metaTable:
		v.Meta, _ = record.(*Meta)
	case clockTable:
		if record != nil {
			v.clock = at.Rev
			ch.clock, ch.clockRev = record.(*clockRecord), at.Rev
		}
	case macPoolTable:
		if v.MACPool, _ = record.(*MACPool); v.MACPool != nil {
			v.MACPool.rev = at.Rev
		}
	case clusterTable:
		ch.Cluster = true
		if v.Cluster, _ = record.(*Cluster); v.Cluster != nil {
			v.Cluster.rev = at.Rev
		}
	case instanceTable:
		next, _ := record.(*Instance)
		if next != nil {
			next.rev, next.created = at.Rev, at.Created
		}
		v.applyInstance(api.InstanceID(id), next, ch)
	case nodeTable:
		ch.node(api.NodeID(id))
		if record == nil {
			delete(v.Loads, api.NodeID(id))
			delete(v.told, api.NodeID(id))
		} else {
			v.told[api.NodeID(id)] = new(toldSettings)
		}
		set(v.Nodes, api.NodeID(id), record, func(n *Node) { n.rev = at.Rev })
	case stateTable:
		ch.node(api.NodeID(id))
		set(v.States, api.NodeID(id), record, func(s *State) { s.rev = at.Rev })
	case liveTable:
		ch.node(api.NodeID(id))
		set(v.Lives, api.NodeID(id), record, func(l *Live) { l.rev, l.lease = at.Rev, at.Lease })
	case ledgerTable:
		ch.node(api.NodeID(id))
		set(v.Ledgers, api.NodeID(id), record, func(l *Ledger) { l.rev = at.Rev })
	case serverTable:
		ch.Cluster = true
		delete(v.leases, id)
		set(v.Servers, id, record, func(*Server) { v.leases[id] = at.Lease })
	case leaderTable:
		set(v.Leaders, id, record, func(*Leader) {})
	case groupTable:
		ch.Queue = true
		set(v.Groups, api.GroupID(id), record, func(g *Group) { g.rev = at.Rev })
	case memberTable:
		next, _ := record.(*Members)
		if next != nil {
			next.rev = at.Rev
		}
		v.applyMembers(api.GroupID(id), next, ch)
	case imageTable:
		if img := v.Images[id]; img != nil {
			ch.node(img.Node)
		}
		set(v.Images, id, record, func(i *Image) { i.rev = at.Rev; ch.node(i.Node) })
	case jobTable:
		set(v.Jobs, id, record, func(j *Job) { j.rev = at.Rev; j.index(ch) })
	case jobNodeTable:
		next, _ := record.(*JobNode)
		if next != nil {
			next.rev = at.Rev
		}
		v.applyJobNode(id, next, ch)
	case loadTable:
		if loads, _ := record.(*map[api.NodeID]api.NodeLoad); loads != nil {
			maps.Copy(v.Loads, *loads)
		}
	case batchTable:
		set(v.batches, id, record, func(b *largeBatch) { b.rev = at.Rev })
	case sizeTable:
		ch.Queue = true
		set(v.Sizes, api.TemplateID(id), record, func(s *TemplateSize) { s.rev = at.Rev })
	case macTable:
		set(v.MACs, id, record, func(m *MAC) { m.rev = at.Rev })
	}
}

// applyMembers keeps the index of groups by node.
func (v *View) applyMembers(id api.GroupID, next *Members, ch *Changes) {
	prev := v.Members[id]
	if v.Members[id] = next; next == nil {
		delete(v.Members, id)
	}
	ch.Queue = true
	if prev != nil {
		for _, n := range prev.Nodes {
			v.regroup(n, ch)
			v.memberOf[n] = slices.DeleteFunc(slices.Clone(v.memberOf[n]), func(g api.GroupID) bool { return g == id })
			if len(v.memberOf[n]) == 0 {
				delete(v.memberOf, n)
			}
		}
	}
	if next != nil {
		for _, n := range next.Nodes {
			v.regroup(n, ch)
			v.memberOf[n] = append(slices.Clone(v.memberOf[n]), id)
			slices.Sort(v.memberOf[n])
		}
	}
}

func (v *View) regroup(n api.NodeID, ch *Changes) {
	ch.node(n)
	if v.told[n] != nil {
		v.told[n] = new(toldSettings)
	}
}

func (v *View) applyJobNode(id string, next *JobNode, ch *Changes) {
	job, node, _ := strings.Cut(id, "/")
	ch.node(api.NodeID(node))
	nodes := v.jobNodes[job]
	if nodes == nil {
		nodes = make(map[api.NodeID]*JobNode)
		v.jobNodes[job] = nodes
	}
	if nodes[api.NodeID(node)] = next; next == nil {
		delete(nodes, api.NodeID(node))
	}
	if len(nodes) == 0 {
		delete(v.jobNodes, job)
	}
}

func (v *View) applyInstance(id api.InstanceID, next *Instance, ch *Changes) {
	prev := v.Instances[id]
	if prev != nil {
		delete(v.pending, id)
		if prev.Claim != nil {
			ch.node(prev.Claim.Node)
			delete(v.onNode[prev.Claim.Node], id)
			if len(v.onNode[prev.Claim.Node]) == 0 {
				delete(v.onNode, prev.Claim.Node)
			}
		}
	}
	v.reorder(prev, next)
	if next == nil {
		delete(v.Instances, id)
		return
	}
	v.Instances[id] = next
	if next.Pending() {
		v.pending[id] = next
		ch.Queue = true
	}
	if next.Claim != nil && next.Public.InstanceState != api.Terminated {
		ch.node(next.Claim.Node)
		if v.onNode[next.Claim.Node] == nil {
			v.onNode[next.Claim.Node] = make(map[api.InstanceID]*Instance)
		}
		v.onNode[next.Claim.Node][id] = next
	}
}

// reorder keeps order when prev becomes next. Creation times never change.
func (v *View) reorder(prev, next *Instance) {
	if v.order == nil {
		return // sorted at the end of the load
	}
	one := next
	if one == nil {
		one = prev
	}
	if one == nil {
		return
	}
	at, found := slices.BinarySearchFunc(v.order, one, byCreation)
	switch {
	case found && next == nil:
		v.order = slices.Delete(v.order, at, at+1)
	case found:
		v.order[at] = next
	case next != nil:
		v.order = slices.Insert(v.order, at, next)
	}
}

// sort makes the order after a load.
func (v *View) sort() {
	v.order = slices.AppendSeq(make([]*Instance, 0, len(v.Instances)), maps.Values(v.Instances))
	slices.SortFunc(v.order, byCreation)
}

// set puts a record into m[id], or deletes it when record is nil.
func set[K comparable, T any](m map[K]*T, id K, record any, fill func(*T)) {
	val, _ := record.(*T)
	if val == nil {
		delete(m, id)
		return
	}
	fill(val)
	m[id] = val
}

// lazyJSON is an encoding that is made when it is first asked for.
type lazyJSON struct{ data atomic.Pointer[[]byte] }

// ListedJSON returns the instance as an element of the instance list. The
// caller must not change it.
func (i *Instance) ListedJSON() []byte {
	if p := i.listed.data.Load(); p != nil {
		return *p
	}
	data, err := json.Marshal(i.Listed())
	if err != nil {
		panic("cloudstore: an instance that was decoded does not encode: " + err.Error())
	}
	i.listed.data.Store(&data)
	return data
}

// Listed returns the instance as an element of the instance list.
func (i *Instance) Listed() api.ListedInstance {
	l := api.ListedInstance{InstanceID: i.Public.InstanceID, VM: i.Public}
	if i.Public.ExternalID != "" {
		l.ExternalID = &i.Public.ExternalID
	}
	if i.Public.Name != "" {
		l.Name = &i.Public.Name
	}
	return l
}
