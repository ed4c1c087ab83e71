package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/internal/wire"
	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/content"
)

// Messages that clients match on.
const (
	msgNoSuchTemplate = "VM not in the registry"
	msgNoSuchTag      = "No such tag "
)

// listTemplates answers all templates, or one with its versions.
func (s *Server) listTemplates(r *http.Request) (any, error) {
	if id := r.URL.Query().Get("id"); id != "" {
		return s.template(r, id)
	}
	all, err := s.names(r).Templates(r.Context())
	if err != nil {
		return nil, unreadable(err)
	}
	list := make([]registryapi.Template, len(all))
	for i, t := range all {
		t.Versions = nil
		list[i] = t
	}
	return list, nil
}

// listTemplatesV1 is the deprecated list of one-key objects.
func (s *Server) listTemplatesV1(r *http.Request) (any, error) {
	if id := r.URL.Query().Get("id"); id != "" {
		return s.template(r, id)
	}
	all, err := s.names(r).Templates(r.Context())
	if err != nil {
		return nil, unreadable(err)
	}
	list := make([]map[string]string, 0, len(all))
	for _, t := range all {
		list = append(list, map[string]string{t.ID: t.Name})
	}
	return list, nil
}

// template finds one template by its id.
func (s *Server) template(r *http.Request, id string) (registryapi.Template, error) {
	all, err := s.names(r).Templates(r.Context())
	if err != nil {
		return registryapi.Template{}, unreadable(err)
	}
	for _, t := range all {
		if strings.EqualFold(t.ID, id) {
			return t, nil
		}
	}
	return registryapi.Template{}, registryapi.ErrNoSuchTemplate.Fail(msgNoSuchTemplate)
}

// version finds a version by tag, or by number, or the latest when neither is
// given.
func version(t registryapi.Template, tag string, number *int) (registryapi.Version, error) {
	if v := t.Find(tag, number); v != nil {
		return *v, nil
	}
	if tag != "" {
		return registryapi.Version{}, registryapi.ErrNoSuchVersion.Fail(msgNoSuchTag + tag)
	}
	return registryapi.Version{}, registryapi.ErrNoSuchVersion.Failf("No such version %s", numberOf(number))
}

// revertTarget is what the query and the body may say, in the words of the
// documentation and of its examples.
type revertTarget struct {
	ID      string `json:"id"`
	Tag     string `json:"tag"`
	Version *int   `json:"version"`
	Number  *int   `json:"number"`
}

func readTarget(r *http.Request) (revertTarget, error) {
	var target revertTarget
	if r.Method != http.MethodGet {
		var err error
		if target, err = wire.Decode[revertTarget](r); err != nil {
			return target, err
		}
	}
	q := r.URL.Query()
	if id := q.Get("id"); id != "" {
		target.ID = id
	}
	if tag := q.Get("tag"); tag != "" {
		target.Tag = tag
	}
	for _, name := range []string{"version", "number"} {
		if text := q.Get(name); text != "" {
			n, err := strconv.Atoi(text)
			if err != nil {
				return target, wire.BadRequest("%s: %.50q is not a number", name, text)
			}
			target.Version = &n
		}
	}
	if target.Version == nil {
		target.Version = target.Number
	}
	if target.ID == "" {
		return target, wire.BadRequest("id is required")
	}
	return target, nil
}

// target finds the template and the version that a request is about.
func (s *Server) target(r *http.Request) (t registryapi.Template, v registryapi.Version, err error) {
	target, err := readTarget(r)
	if err != nil {
		return t, v, err
	}
	return s.find(r, target)
}

func (s *Server) find(r *http.Request, target revertTarget) (t registryapi.Template, v registryapi.Version, err error) {
	if t, err = s.template(r, target.ID); err != nil {
		return t, v, err
	}
	v, err = version(t, target.Tag, target.Version)
	return t, v, err
}

// vmInfo answers the pushed configuration of a version.
func (s *Server) vmInfo(r *http.Request) (any, error) {
	t, v, err := s.target(r)
	if err != nil {
		return nil, err
	}
	c, err := s.content(r, t.Repository, v.Digest)
	if errors.Is(err, content.ErrUnavailable) {
		return nil, unreadable(err)
	}
	if err != nil {
		return nil, registryapi.ErrNoSuchVersion.Fail(msgNoSuchTag + v.Tag)
	}
	cfg, err := s.names(r).Config(r.Context(), t.Repository, c)
	if errors.Is(err, content.ErrUnavailable) {
		return nil, unreadable(err)
	}
	if err != nil {
		return nil, wire.Failf("Tag %s has no VM configuration", v.Tag)
	}
	return json.RawMessage(cfg.JSON), nil
}

// revert removes a version and every later one, newest first, so that a stop in
// between leaves a shorter history and no gap. The template goes with its first
// version. Files go when nothing else refers to them.
//
// Repeated after a lost answer, it does no more than the first time. Of a target
// that is named that is plain. "The latest" is another one by then: what it was is
// noted until the answer is delivered, and a request that finds such a note, at any
// server of the store, is a repeat.
func (s *Server) revert(r *http.Request) (any, error) {
	target, err := readTarget(r)
	if err != nil {
		return nil, err
	}
	named := target.Tag != "" || target.Version != nil
	n := content.Note{Kind: "revert", Key: []string{strings.ToLower(target.ID), target.Tag, numberOf(target.Version)}}
	pending, again := s.names(r).Noted(r.Context(), n)
	if !named && again {
		target.Tag = pending
	}
	t, from, err := s.find(r, target)
	if err != nil {
		if fail := new(wire.Error); again && errors.As(err, &fail) {
			s.delivering(r, named, n)
			return nil, nil // done before
		}
		return nil, err
	}
	n.What = from.Tag
	if err := s.names(r).Revert(r.Context(), t.Repository, from.Tag, n); err != nil {
		return nil, storeError(err, from.Tag)
	}
	s.delivering(r, named, n)
	s.log.Info("template reverted", zap.String("template", t.Name), zap.String("template_id", t.ID), zap.String("tag", from.Tag))
	return nil, nil
}

func numberOf(n *int) string {
	if n == nil {
		return ""
	}
	return strconv.Itoa(*n)
}

type deliveryKey struct{}

// untilDelivered forgets the note of a revert of "the latest" once its answer is
// written to a client that is still there.
func (s *Server) untilDelivered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var n content.Note
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), deliveryKey{}, &n)))
		if n.Kind != "" && r.Context().Err() == nil {
			s.names(r).Forget(r.Context(), n)
		}
	})
}

func (s *Server) delivering(r *http.Request, named bool, n content.Note) {
	if p, ok := r.Context().Value(deliveryKey{}).(*content.Note); ok && !named {
		*p = n
	}
}

func (s *Server) deleteTemplate(r *http.Request) (any, error) {
	target, err := readTarget(r)
	if err != nil {
		return nil, err
	}
	n := content.Note{Kind: "template", Key: []string{strings.ToLower(target.ID)}}
	t, err := s.template(r, target.ID)
	if fail := new(wire.Error); errors.As(err, &fail) {
		if _, before := s.names(r).Noted(r.Context(), n); before {
			return nil, nil // a repeat
		}
	}
	if err != nil {
		return nil, err
	}
	if err := s.names(r).DeleteRepository(r.Context(), t.Repository, n); err != nil {
		return nil, storeError(err, "")
	}
	s.log.Info("template deleted", zap.String("template", t.Name), zap.String("template_id", t.ID))
	return nil, nil
}

func (s *Server) setArch(r *http.Request) (any, error) {
	req, err := wire.Decode[struct {
		ID   string `json:"id"`
		Arch string `json:"arch"`
	}](r)
	if err != nil {
		return nil, err
	}
	if req.Arch != "arm64" && req.Arch != "amd64" {
		return nil, wire.BadRequest("arch: %.50q is neither arm64 nor amd64", req.Arch)
	}
	t, err := s.template(r, req.ID)
	if err != nil {
		return nil, err
	}
	if err := s.names(r).SetArch(r.Context(), t.Repository, req.Arch); err != nil {
		return nil, storeError(err, "")
	}
	return nil, nil
}

func (s *Server) content(r *http.Request, repo, d string) (content.Content, error) {
	parsed, err := oci.ParseDigest(d)
	if err != nil {
		return content.Content{}, err
	}
	m, err := s.names(r).Manifest(r.Context(), repo, parsed)
	if err != nil {
		return content.Content{}, err
	}
	return content.ParseManifest(m.MediaType, m.Raw)
}

// storeError puts what the store refuses into the REST API's words.
func storeError(err error, tag string) error {
	switch {
	case errors.Is(err, content.ErrRepositoryUnknown):
		return registryapi.ErrNoSuchTemplate.Fail(msgNoSuchTemplate)
	case errors.Is(err, content.ErrTagUnknown):
		return registryapi.ErrNoSuchVersion.Fail(msgNoSuchTag + tag)
	case storageTrouble(err) != nil:
		return wire.Fail(storageTrouble(err).Error())
	case errors.Is(err, content.ErrInUse):
		return registryapi.ErrInUse.Fail(err.Error())
	case errors.Is(err, content.ErrUnavailable):
		return unreadable(err)
	}
	return err
}

// unreadable is the answer when nothing can be said of templates.
func unreadable(err error) error {
	if errors.Is(err, content.ErrUnavailable) {
		return wire.Unavailable(err.Error(), err)
	}
	return wire.Unavailable("the storage cannot be read", err)
}
