package cloudstore

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/client/v3"
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

	clock *mvccpb.KeyValue // keyClock, if it moved
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

// apply brings one event into the view. It returns an error for a record that
// does not decode; the view is then as before.
func (v *View) apply(ev *clientv3.Event, ch *Changes) error {
	key, kv := string(ev.Kv.Key), ev.Kv
	if ev.Type == mvccpb.DELETE {
		kv = nil
	}
	switch key {
	case keyMeta:
		return put(kv, &v.Meta, nil)
	case keyClock:
		if kv != nil {
			v.clock = kv.ModRevision
			ch.clock = kv
		}
		return nil
	case keyMACPool:
		return put(kv, &v.MACPool, func(p *MACPool) { p.rev = kv.ModRevision })
	case keyCluster:
		ch.Cluster = true
		return put(kv, &v.Cluster, func(c *Cluster) { c.rev = kv.ModRevision })
	}
	slash := strings.IndexByte(key[len(watched):], '/')
	if slash < 0 {
		return nil // of a newer version of ours
	}
	dir, id := key[:len(watched)+slash+1], key[len(watched)+slash+1:]
	switch dir {
	case dirInstance:
		return v.applyInstance(api.InstanceID(id), kv, ch)
	case dirNode:
		ch.node(api.NodeID(id))
		if kv == nil {
			delete(v.Loads, api.NodeID(id))
			delete(v.told, api.NodeID(id))
		} else {
			v.told[api.NodeID(id)] = new(toldSettings)
		}
		return set(v.Nodes, api.NodeID(id), kv, func(n *Node) { n.rev = kv.ModRevision })
	case dirState:
		ch.node(api.NodeID(id))
		return set(v.States, api.NodeID(id), kv, func(s *State) { s.rev = kv.ModRevision })
	case dirLive:
		ch.node(api.NodeID(id))
		return set(v.Lives, api.NodeID(id), kv, func(l *Live) { l.rev, l.lease = kv.ModRevision, kv.Lease })
	case dirLedger:
		ch.node(api.NodeID(id))
		return set(v.Ledgers, api.NodeID(id), kv, func(l *Ledger) { l.rev = kv.ModRevision })
	case dirServer:
		ch.Cluster = true
		delete(v.leases, id)
		return set(v.Servers, id, kv, func(*Server) { v.leases[id] = kv.Lease })
	case dirLeader:
		return set(v.Leaders, id, kv, nil)
	case dirGroup:
		ch.Queue = true
		return set(v.Groups, api.GroupID(id), kv, func(g *Group) { g.rev = kv.ModRevision })
	case dirMember:
		return v.applyMembers(api.GroupID(id), kv, ch)
	case dirImage:
		if img := v.Images[id]; img != nil {
			ch.node(img.Node)
		}
		return set(v.Images, id, kv, func(i *Image) { i.rev = kv.ModRevision; ch.node(i.Node) })
	case dirJob:
		return set(v.Jobs, id, kv, func(j *Job) { j.rev = kv.ModRevision; j.index(ch) })
	case dirJobNode:
		return v.applyJobNode(id, kv, ch)
	case dirLoad:
		return v.applyLoads(kv)
	case dirBatch:
		return set(v.batches, id, kv, func(b *largeBatch) { b.rev = kv.ModRevision })
	case dirSize:
		ch.Queue = true
		return set(v.Sizes, api.TemplateID(id), kv, func(s *TemplateSize) { s.rev = kv.ModRevision })
	case dirMAC:
		return set(v.MACs, id, kv, func(m *MAC) { m.rev = kv.ModRevision })
	}
	return nil
}

// applyMembers keeps the index of groups by node.
func (v *View) applyMembers(id api.GroupID, kv *mvccpb.KeyValue, ch *Changes) error {
	prev := v.Members[id]
	if err := set(v.Members, id, kv, func(m *Members) { m.rev = kv.ModRevision }); err != nil {
		return err
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
	if next := v.Members[id]; next != nil {
		for _, n := range next.Nodes {
			v.regroup(n, ch)
			v.memberOf[n] = append(slices.Clone(v.memberOf[n]), id)
			slices.Sort(v.memberOf[n])
		}
	}
	return nil
}

func (v *View) regroup(n api.NodeID, ch *Changes) {
	ch.node(n)
	if v.told[n] != nil {
		v.told[n] = new(toldSettings)
	}
}

func (v *View) applyJobNode(id string, kv *mvccpb.KeyValue, ch *Changes) error {
	job, node, _ := strings.Cut(id, "/")
	ch.node(api.NodeID(node))
	nodes := v.jobNodes[job]
	if nodes == nil {
		nodes = make(map[api.NodeID]*JobNode)
		v.jobNodes[job] = nodes
	}
	err := set(nodes, api.NodeID(node), kv, func(j *JobNode) { j.rev = kv.ModRevision })
	if len(nodes) == 0 {
		delete(v.jobNodes, job)
	}
	return err
}

func (v *View) applyInstance(id api.InstanceID, kv *mvccpb.KeyValue, ch *Changes) error {
	var next *Instance
	if kv != nil {
		next = new(Instance)
		if err := json.Unmarshal(kv.Value, next); err != nil {
			return err
		}
		next.rev, next.created = kv.ModRevision, kv.CreateRevision
	}
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
		return nil
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
	return nil
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

// put decodes kv into *dst, or clears it when kv is nil.
func put[T any](kv *mvccpb.KeyValue, dst **T, fill func(*T)) error {
	if kv == nil {
		*dst = nil
		return nil
	}
	val := new(T)
	if err := json.Unmarshal(kv.Value, val); err != nil {
		return err
	}
	if fill != nil {
		fill(val)
	}
	*dst = val
	return nil
}

// set decodes kv into m[id], or deletes it when kv is nil.
func set[K comparable, T any](m map[K]*T, id K, kv *mvccpb.KeyValue, fill func(*T)) error {
	var val *T
	if err := put(kv, &val, fill); err != nil {
		return err
	}
	if val == nil {
		delete(m, id)
	} else {
		m[id] = val
	}
	return nil
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
