package server

import (
	"maps"
	"net/http"
	"slices"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"github.com/ankacluster/ankacluster/controllerapi/listing"
	"github.com/ankacluster/ankacluster/controllerapi/schedule"
	"github.com/ankacluster/ankacluster/internal/wire"
)

func (s *Server) nodes(r *http.Request) (any, error) {
	if err := s.fresh(r); err != nil {
		return nil, err
	}
	id := api.NodeID(r.URL.Query().Get("id"))
	if id == "" {
		return s.listNodes(r)
	}
	var out []api.Node
	s.store.Read(func(v *cloud.View) {
		if n := v.Nodes[id]; n != nil {
			out = append(out, s.describe(v, n))
		}
	})
	if len(out) == 0 {
		return nil, cloud.ErrNotFound
	}
	return out, nil
}

// nodesAtATime are described under the store's lock: it keeps events out, which
// keep everybody else out.
const nodesAtATime = 100

// listNodes returns the list of nodes, by id, or the part that is asked for. Of ten
// thousand it is megabytes: it is made in one piece of memory.
func (s *Server) listNodes(r *http.Request) (any, error) {
	ask, given, err := listing.Nodes.Read(r.URL.Query())
	if err != nil {
		return nil, wire.BadRequest("%v", err)
	}
	if given {
		var all []api.Node
		s.eachNode(func(n *api.Node) { all = append(all, *n) })
		page := ask.Page(all, s.store.Now())
		return wire.Part{Body: page.Rows, Total: page.Total, Next: page.Next}, nil
	}
	const usual = 800 // bytes of a node
	size := 0
	s.store.Read(func(v *cloud.View) { size = (len(v.Nodes) + 1) * usual })
	list := wire.NewList(size)
	s.eachNode(func(n *api.Node) { list.Add(n) })
	return list.Answer(), nil
}

// eachNode describes all nodes, in order of their ids.
func (s *Server) eachNode(f func(n *api.Node)) {
	var ids []api.NodeID
	s.store.Read(func(v *cloud.View) {
		ids = slices.AppendSeq(make([]api.NodeID, 0, len(v.Nodes)), maps.Keys(v.Nodes))
	})
	slices.Sort(ids)
	some := make([]api.Node, 0, nodesAtATime)
	for chunk := range slices.Chunk(ids, nodesAtATime) {
		some = some[:0]
		s.store.Read(func(v *cloud.View) {
			for _, id := range chunk {
				if n := v.Nodes[id]; n != nil { // else it has been removed meanwhile
					some = append(some, s.describe(v, n))
				}
			}
		})
		for i := range some {
			f(&some[i])
		}
	}
}

// describe is the one place where a node becomes what the API shows.
func (s *Server) describe(v *cloud.View, n *cloud.Node) api.Node {
	total, used := v.Capacity(n)
	out := api.Node{
		NodeID: n.ID, NodeName: n.Settings.Name, CPUCount: n.Facts.CPUCount, RAM: n.Facts.RAM,
		VMCount: unsigned(used.VMs), VCPUCount: unsigned(used.VCPU), VRAM: unsigned(used.RAM),
		IPAddress: n.Host(), State: v.NodeState(n, v.Now()), Capacity: unsigned(total.VMs),
		CapacityMode: n.Settings.CapacityMode, VCPUOverride: n.Settings.VCPUOverride, RAMOverride: n.Settings.RAMOverride,
		DiskSize: n.Facts.DiskSize, HostArch: n.Facts.HostArch, AnkaVersion: n.Facts.AnkaVersion,
		USBDevices: n.Facts.USBDevices, Templates: []api.NodeImage{}, AgentVersion: n.Facts.AgentVersion,
		VLANs: n.Facts.VLANs, DisableLogging: n.Settings.DisableCentralLogging, LastUpdated: n.Registered,
		InactiveReason: n.Facts.Inactive,
	}
	if n.Settings.CapacityMode == schedule.ByResource {
		out.Capacity = unsigned(total.VCPU)
	}
	for _, id := range v.GroupsOf(n.ID) {
		if g := v.Groups[id]; g != nil {
			out.Groups = append(out.Groups, g.Group)
		}
	}
	if state := v.Reports[n.ID]; state != nil {
		out.LastUpdated = state.At
		if len(state.Images) > 0 {
			out.Templates = state.Images
		}
	}
	load := v.Loads[n.ID]
	out.CPUUtil, out.RAMUtil, out.FreeDiskSpace, out.AnkaDiskUsage = load.CPUUtil, load.RAMUtil, load.FreeDiskSpace, load.AnkaDiskUsage
	if seen := s.store.Renewed(n.ID).UTC(); seen.After(out.LastUpdated) {
		out.LastUpdated = seen
	}
	out.Timestamp = out.LastUpdated.Unix()
	return out
}

func unsigned(n int) uint { return uint(max(n, 0)) }

func (s *Server) deleteNode(r *http.Request) (any, error) {
	req, err := wire.Decode[struct {
		NodeID api.NodeID `json:"node_id"`
		ID     api.NodeID `json:"id"`
	}](r)
	if err != nil {
		return nil, err
	}
	id, err := named(r, "node_id", req.NodeID, req.ID)
	if err != nil {
		return nil, err
	}
	if err := s.store.RemoveNode(r.Context(), id, ""); err != nil {
		return nil, err
	}
	s.events.api(r, api.EventDeleteNode, map[string]any{"node_id": id})
	return nil, nil
}

func (s *Server) configureNode(r *http.Request) (any, error) {
	req, err := wire.Decode[api.NodeConfig](r)
	if err != nil {
		return nil, err
	}
	if req.NodeID == "" {
		return nil, required("node_id")
	}
	set := api.SeedSettings{
		Name: req.Name, MaxVMCount: req.MaxVMCount, CapacityMode: req.CapacityMode, VCPUOverride: req.VCPUOverride,
		RAMOverride: req.RAMOverride, DrainMode: req.DrainMode, DisableCentralLogging: req.DisableLogging,
	}
	if err := checkSeed(set); err != nil {
		return nil, err
	}
	if err := s.store.ConfigureNode(r.Context(), req.NodeID, set, req.Host); err != nil {
		return nil, err
	}
	s.events.api(r, api.EventConfigNode, map[string]any{"node_id": req.NodeID})
	return nil, nil
}

// required is the answer to a request that lacks a field.
func required(field string) error { return wire.Failf("%s is required", field) }
