package server

import (
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"github.com/ankacluster/ankacluster/internal/wire"
)

func (s *Server) groups(r *http.Request) (any, error) {
	if err := s.fresh(r); err != nil {
		return nil, err
	}
	out := []api.Group{}
	s.store.Read(func(v *cloud.View) {
		for _, g := range v.Groups {
			out = append(out, g.Group)
		}
	})
	slices.SortFunc(out, func(a, b api.Group) int {
		return strings.Compare(a.Name+"\x00"+string(a.ID), b.Name+"\x00"+string(b.ID))
	})
	return out, nil
}

type groupRequest struct {
	Name            *string      `json:"name" max:"256"`
	Description     *string      `json:"description" max:"1024"`
	FallbackGroupID *api.GroupID `json:"fallback_group_id"`
}

func (s *Server) createGroup(r *http.Request) (any, error) {
	req, err := wire.Decode[groupRequest](r)
	if err != nil {
		return nil, err
	}
	if req.Name == nil || *req.Name == "" {
		return nil, required("name")
	}
	g := api.Group{ID: api.GroupID(uuid.NewString()), Name: *req.Name}
	if req.Description != nil {
		g.Description = *req.Description
	}
	if req.FallbackGroupID != nil && *req.FallbackGroupID != "" {
		g.FallbackGroupID = req.FallbackGroupID
	}
	return g, s.store.CreateGroup(r.Context(), g)
}

func (s *Server) updateGroup(r *http.Request) (any, error) {
	req, err := wire.Decode[groupRequest](r)
	if err != nil {
		return nil, err
	}
	id := api.GroupID(r.URL.Query().Get("id"))
	if id == "" {
		return nil, required("id")
	}
	if req.Name != nil && *req.Name == "" {
		return nil, wire.Fail("name must not be empty")
	}
	return nil, s.store.UpdateGroup(r.Context(), id, cloud.GroupUpdate{Name: req.Name, Description: req.Description, Fallback: req.FallbackGroupID})
}

func (s *Server) deleteGroup(r *http.Request) (any, error) {
	id, err := idToDelete[api.GroupID](r)
	if err != nil {
		return nil, err
	}
	return nil, s.store.DeleteGroup(r.Context(), id)
}

func (s *Server) addToGroups(r *http.Request) (any, error) { return s.changeGroups(r, true) }

func (s *Server) removeFromGroups(r *http.Request) (any, error) { return s.changeGroups(r, false) }

func (s *Server) changeGroups(r *http.Request, add bool) (any, error) {
	req, err := wire.Decode[struct {
		GroupIDs []api.GroupID `json:"group_ids"`
		NodeIDs  []api.NodeID  `json:"node_ids"`
	}](r)
	switch {
	case err != nil:
		return nil, err
	case len(req.GroupIDs) == 0:
		return nil, required("group_ids")
	case len(req.NodeIDs) == 0:
		return nil, required("node_ids")
	}
	if err := s.fresh(r); err != nil { // nodes are only looked up: a removed one must not be found
		return nil, err
	}
	slices.Sort(req.GroupIDs)
	return nil, s.store.ChangeMembers(r.Context(), slices.Compact(req.GroupIDs), req.NodeIDs, add)
}
