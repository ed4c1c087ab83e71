package cloud

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	api "github.com/ankacluster/ankacluster/controllerapi"
)

// Kinds of announced servers.
const (
	KindController = "controller"
	KindRegistry   = "registry"
)

// Announce makes the announcements of one announcer what own is, for as long as
// its lease lasts, and the lists what is announced then, with a new generation.
func (v *View) Announce(announcer string, own []Server, lease int64) (*Change, bool, error) {
	if lease == 0 || v.Meta == nil {
		return nil, true, ErrNoChange
	}
	c := new(Change)
	all := maps.Clone(v.Servers)
	mine := announcer + "/"
	keep := make(map[string]bool)
	for _, srv := range own {
		id := mine + srv.Kind + "/" + srv.ID
		keep[id] = true
		if cur := v.Servers[id]; cur == nil || api.HashPart(cur) != api.HashPart(srv) || v.serverLeases[id] != lease {
			c.PutLeased(ServerRef(id), srv, lease)
		}
		all[id] = &srv
	}
	for id := range v.Servers {
		if strings.HasPrefix(id, mine) && !keep[id] {
			c.Delete(ServerRef(id))
			delete(all, id)
		}
	}
	lists := gather(v.Meta.CloudID, all)
	rev := int64(0)
	if v.Cluster != nil {
		rev, lists.Generation = v.Cluster.rev, v.Cluster.Generation
	}
	if v.Cluster == nil || api.HashPart(lists) != api.HashPart(v.Cluster.Cluster) {
		lists.Generation++
		c.Put(ClusterRef, lists)
	}
	if len(c.Ops) == 0 {
		return nil, true, ErrNoChange
	}
	c.Must(ClusterRef, rev)
	return c, false, nil
}

// gather makes the lists of what is announced. A registry that several
// controllers announce is listed once, and is ready if one of them says so.
func gather(cloud string, all map[string]*Server) api.Cluster {
	out := api.Cluster{CloudID: cloud, Controllers: []api.Server{}, Registries: []api.Server{}}
	registries := make(map[string]api.Server)
	for _, key := range slices.Sorted(maps.Keys(all)) {
		srv := all[key]
		if srv.Kind == KindController {
			out.Controllers = append(out.Controllers, srv.Server)
			for _, url := range srv.Push {
				if !slices.Contains(out.PushRegistries, url) {
					out.PushRegistries = append(out.PushRegistries, url)
				}
			}
			continue
		}
		was, ok := registries[srv.URL]
		ready := srv.State == api.ServerReady
		if !ok || was.State != api.ServerReady && ready || was.Version == "" && srv.Version != "" && ready {
			registries[srv.URL] = srv.Server
		}
	}
	for _, srv := range registries {
		out.Registries = append(out.Registries, srv)
	}
	byID := func(a, b api.Server) int { return cmp.Or(cmp.Compare(a.URL, b.URL), cmp.Compare(a.ID, b.ID)) }
	slices.SortFunc(out.Controllers, byID)
	slices.SortFunc(out.Registries, byID)
	return out
}
