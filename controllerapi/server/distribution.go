package server

import (
	"net/http"
	"slices"
	"strings"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"github.com/ankacluster/ankacluster/internal/wire"
	"github.com/google/uuid"
)

// distribution is how a template's way to the nodes stands.
type distribution struct {
	Request struct {
		RequestID     string         `json:"request_id"`
		TemplateID    api.TemplateID `json:"template_id"`
		TimeRequested time.Time      `json:"time_requested"`
	} `json:"request"`
	Status map[api.NodeID]distributionStatus `json:"distribute_status"`
}

type distributionStatus struct {
	Status   bool    `json:"status"`
	Progress float64 `json:"progress"`
	Error    string  `json:"error,omitempty"`
}

func (s *Server) distribute(r *http.Request) (any, error) {
	req, err := wire.Decode[struct {
		TemplateID api.TemplateID `json:"template_id"`
		Tag        string         `json:"tag"`
		Version    *int           `json:"version"`
		NodeIDs    []api.NodeID   `json:"node_ids"`
		GroupID    api.GroupID    `json:"group_id"`
		Group      string         `json:"group"`
	}](r)
	if err != nil {
		return nil, err
	}
	if req.TemplateID == "" {
		return nil, required("template_id")
	}
	ref, _, err := s.catalog.resolve(r.Context(), req.TemplateID, req.Tag, req.Version)
	if err != nil {
		return nil, err
	}
	if err := s.fresh(r); err != nil {
		return nil, err
	}
	nodes := req.NodeIDs
	if len(nodes) == 0 {
		if nodes, err = s.nodesOf(req.GroupID, req.Group); err != nil {
			return nil, err
		}
	}
	if len(nodes) == 0 {
		return nil, wire.Fail("there is no node to distribute to")
	}
	job := cloud.Rollout{ID: uuid.NewString(), Kind: api.TaskDistribute, Template: ref, Nodes: nodes}
	body := map[string]string{"request_id": job.ID}
	if err := s.store.CreateRollout(r.Context(), job, body); err != nil {
		return nil, err
	}
	s.events.api(r, api.EventDistribute, map[string]any{"request_id": job.ID, "template_id": ref.ID, "tag": ref.Tag, "node_ids": nodes})
	return body, nil
}

// nodesOf returns the nodes of a group, given by id or by name, or all nodes.
func (s *Server) nodesOf(id api.GroupID, name string) (out []api.NodeID, err error) {
	s.store.Read(func(v *cloud.View) {
		if id == "" && name != "" {
			for gid, g := range v.Groups {
				if g.Name == name {
					id = gid
				}
			}
			if id == "" {
				err = api.ErrNoSuchGroup.Failf("No such group %s", name)
				return
			}
		}
		if id != "" && v.Groups[id] == nil {
			err = api.ErrNoSuchGroup.Failf("No such group %s", id)
			return
		}
		for _, n := range sortedNodes(v) {
			if id == "" || slices.Contains(v.GroupsOf(n.ID), id) {
				out = append(out, n.ID)
			}
		}
	})
	return out, err
}

func sortedNodes(v *cloud.View) []*cloud.Node {
	out := make([]*cloud.Node, 0, len(v.Nodes))
	for _, n := range v.Nodes {
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b *cloud.Node) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return out
}

func (s *Server) distributions(r *http.Request) (any, error) {
	if err := s.fresh(r); err != nil {
		return nil, err
	}
	id := r.URL.Query().Get("id")
	out := []distribution{}
	s.store.Read(func(v *cloud.View) {
		for _, j := range v.Rollouts {
			if j.Kind == api.TaskDistribute && (id == "" || j.ID == id) {
				out = append(out, describeJob(v, j, v.Now()))
			}
		}
	})
	if id != "" {
		if len(out) == 0 {
			return nil, cloud.ErrNotFound
		}
		return out[0], nil
	}
	slices.SortFunc(out, func(a, b distribution) int { return a.Request.TimeRequested.Compare(b.Request.TimeRequested) })
	return out, nil
}

// describeJob is the one place where a distribution becomes what the API shows.
func describeJob(v *cloud.View, j *cloud.Rollout, now time.Time) distribution {
	out := distribution{Status: make(map[api.NodeID]distributionStatus, len(j.Nodes))}
	out.Request.RequestID, out.Request.TemplateID, out.Request.TimeRequested = j.ID, j.Template.ID, j.Created
	for _, n := range j.Nodes {
		at := v.RolloutAt(j, n, now)
		out.Status[n] = distributionStatus{Status: at.Done, Progress: at.Progress, Error: at.Error}
	}
	return out
}

func (s *Server) cancelDistribution(r *http.Request) (any, error) {
	id, err := idToDelete[string](r)
	if err != nil {
		return nil, err
	}
	return nil, s.store.CancelRollout(r.Context(), id)
}
