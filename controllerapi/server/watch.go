package server

import (
	"fmt"
	"iter"
	"maps"
	"net/http"
	"slices"
	"sync"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"github.com/ankacluster/ankacluster/controllerapi/watch"
	"github.com/ankacluster/ankacluster/internal/wire"
)

// changesKept are what a stream that broke can go on with: of 500 changes a second,
// those of 16 s. One is some 2 KB.
const changesKept = 8192

// watch streams changes until the caller leaves.
func (s *Server) watch(w http.ResponseWriter, r *http.Request) {
	req, err := watch.Read(r, s.api.Guard)
	if err == nil {
		err = s.known(r, req.Since)
	}
	if err != nil {
		s.api.WriteError(w, r, err)
		return
	}
	watch.Serve(w, r, req, watch.Source{Log: s.changes, Snapshot: s.snapshot, Guard: s.api.Guard, Draining: s.draining})
}

// changed is told of every batch of events, by the goroutine that watches etcd.
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
		told = append(told, watch.Change{Rev: t.Rev, Kind: t.Kind, ID: t.ID, Object: s.object(t)})
	}
	s.changes.Append(ch.Rev, told...)
}

// object returns how an object that was touched is encoded, once for all streams; nil
// when it is gone.
func (s *Server) object(t cloud.Touch) func() []byte {
	if t.Kind == api.KindVM {
		if t.VM == nil {
			return nil
		}
		return t.VM.ListedJSON
	}
	return sync.OnceValue(func() []byte {
		var found any
		s.store.Read(func(v *cloud.View) { found = s.current(v, t.Kind, t.ID) })
		if found == nil {
			return nil
		}
		return encode(found)
	})
}

// current returns an object as the view has it, nil if it has none.
func (s *Server) current(v *cloud.View, kind api.Kind, id string) any {
	switch kind {
	case api.KindNode:
		if n := v.Nodes[api.NodeID(id)]; n != nil {
			return s.describe(v, n)
		}
	case api.KindGroup:
		if g := v.Groups[api.GroupID(id)]; g != nil {
			return g.Group
		}
	case api.KindCluster:
		if v.Cluster != nil {
			return v.Cluster.Cluster
		}
	}
	return nil
}

// known returns once this controller knows all that the caller may have been told at
// another one.
func (s *Server) known(r *http.Request, since int64) error {
	if err := s.fresh(r); err != nil {
		return err
	}
	if now := s.store.Revision(); since > now {
		return &wire.Error{Status: http.StatusBadRequest, Message: fmt.Sprintf("revision %d is not one of this cloud, which is at %d: ask without since", since, now)}
	}
	return nil
}

// snapshot returns everything there is of the kinds, and the revision of it.
func (s *Server) snapshot(kinds []api.Kind) (rev int64, all iter.Seq[watch.Change]) {
	var vms []*cloud.Instance
	ids := make(map[api.Kind][]string)
	s.store.Read(func(v *cloud.View) {
		rev, vms = v.Rev, v.Visible()
		ids[api.KindNode] = keys(v.Nodes)
		ids[api.KindGroup] = keys(v.Groups)
		ids[api.KindCluster] = []string{""}
	})
	return rev, func(yield func(watch.Change) bool) {
		for _, kind := range kinds {
			if kind == api.KindVM {
				for _, vm := range vms {
					if !yield(watch.Change{Kind: kind, ID: string(vm.Public.InstanceID), Object: vm.ListedJSON}) {
						return
					}
				}
			}
			for _, id := range ids[kind] {
				if !yield(watch.Change{Kind: kind, ID: id, Object: s.object(cloud.Touch{Kind: kind, ID: id})}) {
					return
				}
			}
		}
	}
}

func keys[K ~string, V any](m map[K]V) []string {
	out := make([]string, 0, len(m))
	for k := range maps.Keys(m) {
		out = append(out, string(k))
	}
	slices.Sort(out)
	return out
}
