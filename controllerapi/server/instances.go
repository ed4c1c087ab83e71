package server

import (
	"net/http"
	"time"

	"github.com/google/uuid"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"github.com/ankacluster/ankacluster/controllerapi/listing"
	"github.com/ankacluster/ankacluster/internal/wire"
)

func (s *Server) instances(r *http.Request) (any, error) {
	if err := s.fresh(r); err != nil {
		return nil, err
	}
	if id := api.InstanceID(r.URL.Query().Get("id")); id != "" {
		return s.instance(r, id)
	}
	ask, given, err := listing.Instances.Read(r.URL.Query())
	switch {
	case err != nil:
		return nil, wire.BadRequest("%v", err)
	case given:
		var rows []listing.Instance
		s.store.Read(func(v *cloud.View) { rows = listing.InstancesOf(v) })
		return listing.PartOfInstances(ask, rows, s.store.Now()), nil
	}
	var all []*cloud.Instance
	s.store.Read(func(v *cloud.View) { all = v.Visible() })
	return listing.Encode(all), nil
}

func (s *Server) instance(r *http.Request, id api.InstanceID) (any, error) {
	var found *cloud.Instance
	s.store.Read(func(v *cloud.View) { found = v.Instances[id] })
	if found == nil || found.Deleted != nil {
		return nil, cloud.ErrNotFound
	}
	out := found.Public
	if found.LongOutput {
		script, err := s.store.FullOutput(r.Context(), string(id), out.StartupScript)
		if err != nil {
			return nil, err
		}
		out.StartupScript = script
	}
	return out, nil
}

func (s *Server) startInstances(r *http.Request) (any, error) {
	req, list, err := s.asked(r)
	if err != nil {
		return nil, err
	}
	batch := cloud.StartRequestRecord{ID: uuid.NewString(), Request: req}
	ids := make([]api.InstanceID, len(list))
	for k, i := range list {
		ids[k] = i.Public.InstanceID
	}
	if err := s.store.Create(r.Context(), batch, list, ids); err != nil {
		return nil, err
	}
	s.events.api(r, api.EventStartVM, map[string]any{"vmid": req.VMID, "tag": list[0].Template.Tag, "instance_ids": ids, "external_id": req.ExternalID})
	return ids, nil
}

// asked reads a start request and returns the instances that it asks for.
func (s *Server) asked(r *http.Request) (req api.StartRequest, list []*cloud.Instance, err error) {
	if req, err = wire.Decode[api.StartRequest](r); err != nil {
		return req, nil, err
	}
	count, err := checkStart(&req)
	if err != nil {
		return req, nil, err
	}
	if err := s.checkMAC(&req, count); err != nil {
		return req, nil, err
	}
	ref, arch, err := s.catalog.resolve(r.Context(), req.VMID, req.Tag, req.Version)
	if err != nil {
		return req, nil, err
	}
	if err := s.checkPlaces(r, &req); err != nil {
		return req, nil, err
	}
	now := s.store.Now()
	list = make([]*cloud.Instance, count)
	for k := range list {
		list[k] = newInstance(api.InstanceID(uuid.NewString()), &req, ref, arch, s.cfg.RegistryURL, now)
	}
	return req, list, nil
}

// newInstance fills in all that is asked for, so that the first read shows it.
func newInstance(id api.InstanceID, req *api.StartRequest, ref api.TemplateRef, arch, registry string, now time.Time) *cloud.Instance {
	if arch != "arm64" && arch != "amd64" {
		arch = "" // any other word crashes the exporter
	}
	return &cloud.Instance{
		Public: api.Instance{
			InstanceID: id, InstanceState: api.Scheduling, VMID: req.VMID, AnkaRegistry: registry, TS: now, CRTime: now,
			VLAN: req.VLANTag, GroupID: req.GroupID, USBDevice: req.USBDevice, Arch: arch, Tag: ref.Tag,
			Name: req.Name, ExternalID: req.ExternalID, MACAddress: req.MACAddress, Version: req.Version, Metadata: req.Metadata,
		},
		Template: ref, Priority: *req.Priority, PinNode: req.NodeID, VCPU: req.VCPU, RAM: req.VRAM,
	}
}

// checkPlaces checks the node and group that a request names.
func (s *Server) checkPlaces(r *http.Request, req *api.StartRequest) error {
	if req.NodeID == "" && req.GroupID == "" {
		return nil
	}
	if err := s.fresh(r); err != nil {
		return err
	}
	var err error
	s.store.Read(func(v *cloud.View) {
		if req.NodeID != "" && v.Nodes[req.NodeID] == nil {
			err = api.ErrNoSuchNode.Failf("No such node %s", req.NodeID)
		}
		if req.GroupID != "" && v.Groups[req.GroupID] == nil {
			err = api.ErrNoSuchGroup.Failf("No such group %s", req.GroupID)
		}
	})
	return err
}

func (s *Server) terminateInstance(r *http.Request) (any, error) {
	id, err := idToDelete[api.InstanceID](r)
	if err != nil {
		return nil, err
	}
	if err := s.store.Terminate(r.Context(), id); err != nil {
		return nil, err
	}
	s.events.api(r, api.EventTerminateVM, map[string]any{"instance_id": id})
	return nil, nil
}

func (s *Server) updateInstance(r *http.Request) (any, error) {
	req, err := wire.Decode[struct {
		Name       *string      `json:"name" max:"256"`
		ExternalID *string      `json:"external_id" max:"1024"`
		Metadata   api.Metadata `json:"metadata" max:"16384"`
	}](r)
	if err != nil {
		return nil, err
	}
	id := api.InstanceID(r.URL.Query().Get("id"))
	if id == "" {
		return nil, required("id")
	}
	if err := checkMetadata(req.Metadata); err != nil {
		return nil, err
	}
	return nil, s.store.UpdateInstance(r.Context(), id, cloud.InstanceUpdate{Name: req.Name, ExternalID: req.ExternalID, Metadata: req.Metadata})
}

func (s *Server) restartInstance(r *http.Request) (any, error) {
	req, err := wire.Decode[struct {
		InstanceID  api.InstanceID `json:"instance_id"`
		USBDevice   string         `json:"usb_device" max:"256"`
		VNCPassword string         `json:"vnc_password" max:"256"`
	}](r)
	if err != nil {
		return nil, err
	}
	if req.InstanceID == "" {
		return nil, required("instance_id")
	}
	task := api.RestartTask{USBDevice: req.USBDevice, VNCPassword: req.VNCPassword}
	if err := task.CheckValues(); err != nil {
		return nil, wire.Fail(err.Error())
	}
	return nil, s.store.RestartInstance(r.Context(), req.InstanceID, uuid.NewString(), task)
}
