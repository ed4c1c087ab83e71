package server

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"github.com/ankacluster/ankacluster/controllerapi/cloudstore"
	"github.com/ankacluster/ankacluster/controllerapi/listing"
	"github.com/ankacluster/ankacluster/internal/wire"
	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/google/uuid"
)

// templates serves the registry's templates.
func (s *Server) templates(r *http.Request) (any, error) {
	q := r.URL.Query()
	if id := q.Get("id"); id != "" {
		return s.catalog.template(r.Context(), id)
	}
	ask, given, err := listing.Templates.Read(q)
	if err != nil {
		return nil, wire.BadRequest("%v", err)
	}
	list, err := s.catalog.all(r.Context())
	if err != nil {
		return nil, err
	}
	var part wire.Part
	if given {
		list, part.Total, part.Next = listing.PartOfTemplates(ask, list, s.store.Now())
	}
	if list == nil {
		list = []registryapi.Template{}
	}
	part.Body = list
	if strings.EqualFold(q.Get("apiVer"), "v1") {
		part.Body = listing.Quick(list)
	}
	if !given {
		return part.Body, nil
	}
	return part, nil
}

func (s *Server) registryDisk(r *http.Request) (any, error) {
	if s.cfg.registry() == "" {
		return nil, wire.Fail("no registry is configured")
	}
	disk, err := retryRegistry(r.Context(), s.catalog.regs.any.Disk)
	if err != nil {
		return nil, registryAnswer(err)
	}
	return disk, nil
}

// registryAnswer passes on what the registry said, if it said anything.
func registryAnswer(err error) error {
	if answered, ok := registryapi.Answered(err); ok && answered.Failed() {
		return answered.Code.Fail(answered.Message)
	}
	return errNoRegistry(err)
}

func (s *Server) deleteTemplate(r *http.Request) (any, error) {
	id, err := idToDelete[string](r)
	if err != nil {
		return nil, err
	}
	if err := s.changeRegistry(r, id, func(*registryapi.Template) (string, error) { return "", nil }, func(ctx context.Context, _ string) error {
		return s.catalog.regs.change(ctx, func(ctx context.Context, registry *registryapi.Client) error {
			return registry.Delete(ctx, id)
		})
	}); err != nil {
		return nil, err
	}
	s.store.ForgetSize(r.Context(), api.TemplateID(id))
	s.events.api(r, api.EventDeleteRegistryVM, map[string]any{"vmid": id})
	return nil, nil
}

// revertTemplate removes a tag and every later one.
func (s *Server) revertTemplate(r *http.Request) (any, error) {
	type target struct {
		ID      string `json:"id"`
		Tag     string `json:"tag"`
		Version *int   `json:"version"`
		Number  *int   `json:"number"`
	}
	req, err := wire.Decode[target](r)
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	if q.Get("tag") != "" {
		req.Tag = q.Get("tag")
	}
	for _, name := range []string{"version", "number"} {
		if text := q.Get(name); text != "" {
			n, err := strconv.Atoi(text)
			if err != nil {
				return nil, wire.BadRequest("%s %q is not a number", name, text)
			}
			req.Version = &n
		}
	}
	if req.Version == nil {
		req.Version = req.Number
	}
	id, err := named(r, "id", req.ID)
	if err != nil {
		return nil, err
	}
	err = s.changeRegistry(r, id, func(t *registryapi.Template) (string, error) {
		return revertTag(t, req.Tag, req.Version)
	}, func(ctx context.Context, tag string) error {
		return s.catalog.regs.change(ctx, func(ctx context.Context, registry *registryapi.Client) error {
			return registry.Revert(ctx, id, registryapi.RevertTarget{Tag: tag})
		})
	})
	if err != nil {
		return nil, err
	}
	return wire.NullBody, nil
}

// revertTag names the tag that a revert begins with: without the name, a repeat
// of "the latest" would remove one more.
func revertTag(t *registryapi.Template, tag string, version *int) (string, error) {
	if v := t.Find(tag, version); v != nil {
		return v.Tag, nil
	}
	return "", noVersion(tag, version)
}

// changeRegistry changes the registry once, though it is asked several times and
// the registry may have done it though it did not answer: what is to be done is
// named exactly, and noted, before it is done.
func (s *Server) changeRegistry(r *http.Request, id string, name func(*registryapi.Template) (string, error), do func(context.Context, string) error) error {
	ctx := r.Context()
	var plan struct {
		Target string `json:"target"`
	}
	t, err := s.catalog.template(ctx, id)
	named := err
	if err == nil {
		plan.Target, named = name(&t)
	}
	if named != nil && !isAnswer(named) {
		return named
	}
	if named != nil {
		// Perhaps it is no more because an earlier sending of this request did it:
		// then the key holds an answer, or a plan.
		plan.Target = ""
	}
	again, err := cloudstore.Plan(ctx, s.store, &plan)
	if err != nil {
		return err
	}
	if named != nil {
		if again && plan.Target != "" {
			return nil
		}
		return named
	}
	first := true
	_, err = retryRegistry(ctx, func(ctx context.Context) (struct{}, error) {
		err := do(ctx, plan.Target)
		if answered, ok := registryapi.Answered(err); (again || !first) && ok && answered.Failed() {
			err = nil // it is no more: an earlier attempt did it
		}
		first = false
		return struct{}{}, err
	})
	if err != nil {
		return registryAnswer(err)
	}
	return nil
}

// isAnswer reports whether err says that something is not there, and not that
// something went wrong.
func isAnswer(err error) bool {
	_, fail := isFailure(err)
	return fail || errors.Is(err, errNoTemplate)
}

// removeFromNodes asks nodes to remove a template from their local stores.
func (s *Server) removeFromNodes(r *http.Request) (any, error) {
	req, err := wire.Decode[struct {
		NodeIDs []api.NodeID `json:"node_ids"`
	}](r)
	if err != nil {
		return nil, err
	}
	id := api.TemplateID(r.URL.Query().Get("id"))
	if id == "" {
		return nil, required("id")
	}
	if err := id.Check(); err != nil {
		return nil, wire.Fail(err.Error())
	}
	if err := s.fresh(r); err != nil {
		return nil, err
	}
	nodes := req.NodeIDs
	if len(nodes) == 0 {
		nodes = s.nodesWith(id)
	}
	if nodes == nil {
		nodes = []api.NodeID{}
	}
	body := map[string]any{"requests_sent": len(nodes), "node_ids": nodes}
	if len(nodes) == 0 {
		return body, nil
	}
	job := cloud.Rollout{ID: uuid.NewString(), Kind: api.TaskRemove, Template: api.TemplateRef{ID: id}, Nodes: nodes}
	return body, s.store.CreateRollout(r.Context(), job, body)
}

// nodesWith returns the nodes that hold any tag of a template.
func (s *Server) nodesWith(id api.TemplateID) (out []api.NodeID) {
	s.store.Read(func(v *cloud.View) {
		for _, n := range sortedNodes(v) {
			if state := v.Reports[n.ID]; state != nil {
				for _, img := range state.Images {
					if img.UUID == id {
						out = append(out, n.ID)
						break
					}
				}
			}
		}
	})
	return out
}
