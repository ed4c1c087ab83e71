package server

import (
	"maps"
	"slices"
	"sync"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"github.com/ankacluster/ankacluster/controllerapi/watch"
	"github.com/ankacluster/ankacluster/internal/access"
)

// changed is told of every batch of events from etcd, by the goroutine that watches it:
// the dispatcher looks for tasks and nodes that it has set free, and streams are told.
func (s *Server) changed(ch cloud.Changes) {
	s.disp.changed(ch)
	if ch.Loaded {
		s.changes.Reset(ch.Rev)
		return
	}
	told := make([]watch.Change, 0, len(ch.Told))
	for i, t := range ch.Told {
		again := func(o cloud.Touch) bool { return o.Rev == t.Rev && o.Kind == t.Kind && o.ID == t.ID }
		if later := ch.Told[i+1:]; len(later) > 0 && later[0].Rev == t.Rev && slices.ContainsFunc(later[:min(len(later), 64)], again) {
			continue // the last one of a revision tells it
		}
		switch {
		case t.Kind != api.KindVM:
			told = append(told, s.latest(t.Rev, t.Kind, t.ID, kinds[t.Kind].current))
		case t.VM != nil:
			told = append(told, exactly(t.Rev, t.VM))
		default:
			told = append(told, watch.Change{Rev: t.Rev, Kind: t.Kind, ID: t.ID})
		}
	}
	s.changes.Append(ch.Rev, told...)
}

// kind is what streams tell of a kind of object. A new one is also in api.Kinds, and
// cloud.View.Apply notes its changes.
type kind struct {
	need access.Permission
	// all are those that there are.
	all func(s *Server, v *cloud.View) []watch.Change
	// current is for kinds of which streams tell what they are now, not what they were.
	current current
}

// current returns an object as the view has it, nil if it has none.
type current func(s *Server, v *cloud.View, id string) any

var kinds = map[api.Kind]kind{
	api.KindVM: {need: access.ListVMs, all: func(_ *Server, v *cloud.View) (all []watch.Change) {
		for _, vm := range v.Visible() {
			all = append(all, exactly(v.Rev, vm))
		}
		return all
	}},
	api.KindNode: {access.ListNodes, func(s *Server, v *cloud.View) []watch.Change {
		return latestOf(s, v, api.KindNode, v.Nodes, currentNode)
	}, currentNode},
	api.KindGroup: {access.GetGroups, func(s *Server, v *cloud.View) []watch.Change {
		return latestOf(s, v, api.KindGroup, v.Groups, currentGroup)
	}, currentGroup},
	api.KindCluster: {access.Authenticated, func(s *Server, v *cloud.View) []watch.Change {
		return []watch.Change{s.latest(v.Rev, api.KindCluster, "", currentCluster)}
	}, currentCluster},
}

// kindNeeds is what a caller needs for the changes of a kind.
func kindNeeds(k api.Kind) access.Permission { return kinds[k].need }

func currentNode(s *Server, v *cloud.View, id string) any {
	if n := v.Nodes[api.NodeID(id)]; n != nil {
		return s.describe(v, n)
	}
	return nil
}

func currentGroup(_ *Server, v *cloud.View, id string) any {
	if g := v.Groups[api.GroupID(id)]; g != nil {
		return g.Group
	}
	return nil
}

func currentCluster(_ *Server, v *cloud.View, _ string) any {
	if v.Cluster != nil {
		return v.Cluster.Cluster
	}
	return nil
}

// exactly is a change of an instance, as it was then.
func exactly(rev int64, vm *cloud.Instance) watch.Change {
	return watch.Change{Rev: rev, Kind: api.KindVM, ID: string(vm.Public.InstanceID), Object: vm.ListedJSON}
}

// latest is a change whose object is encoded as it is when the first stream tells it.
func (s *Server) latest(rev int64, k api.Kind, id string, now current) watch.Change {
	return watch.Change{Rev: rev, Kind: k, ID: id, Object: sync.OnceValue(func() []byte {
		var found any
		s.store.Read(func(v *cloud.View) { found = now(s, v, id) })
		if found == nil {
			return nil
		}
		return encode(found)
	})}
}

// latestOf are all objects of a table, by id.
func latestOf[K ~string, V any](s *Server, v *cloud.View, k api.Kind, table map[K]V, now current) []watch.Change {
	out := make([]watch.Change, 0, len(table))
	for _, id := range slices.Sorted(maps.Keys(table)) {
		out = append(out, s.latest(v.Rev, k, string(id), now))
	}
	return out
}
