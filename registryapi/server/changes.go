package server

import (
	"errors"
	"net/http"
	"time"

	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/internal/wire"
	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/content"
)

const (
	// maxWait keeps a long poll below what proxies allow a silent connection.
	maxWait = 50 * time.Second
	// peekEvery is how soon a change made by another server of the directory
	// is seen while somebody waits.
	peekEvery = 200 * time.Millisecond
	// maxChanges bounds an answer; the rest comes with the next.
	maxChanges = 1000
)

// changes answers what happened after a cursor, and waits for it if asked to.
func (s *Server) changes(r *http.Request) (any, error) {
	q := r.URL.Query()
	var wait time.Duration
	if text := q.Get("wait"); text != "" {
		var err error
		if wait, err = time.ParseDuration(text); err != nil || wait < 0 {
			return nil, wire.BadRequest("wait: %.50q is not a duration such as 30s", text)
		}
	}
	deadline := time.NewTimer(min(wait, maxWait))
	defer deadline.Stop()
	peek := time.NewTicker(peekEvery)
	defer peek.Stop()
	cursor := content.Cursor(q.Get("since"))
	for {
		changed := s.store.Changed()
		found, next, reset, err := s.store.Changes(cursor, maxChanges)
		if err != nil {
			return nil, wire.Unavailable("the journal cannot be read", err)
		}
		answer := registryapi.Changes{Cursor: string(next), Reset: reset, Changes: found, Time: time.Now(), Store: s.store.ID()}
		if answer.Changes == nil {
			answer.Changes = []registryapi.Change{}
		}
		// A caller without a cursor compares everything at once, even if
		// nothing was ever pushed.
		if q.Get("since") == "" {
			answer.Reset = true
		}
		if len(found) > 0 || answer.Reset || wait == 0 {
			return answer, nil
		}
		select {
		case <-changed:
		case <-peek.C:
		case <-s.drained:
			return answer, nil
		case <-deadline.C:
			return answer, nil
		case <-r.Context().Done():
			return answer, nil
		}
	}
}

func (s *Server) repositories(*http.Request) (any, error) {
	all, err := s.store.Repositories()
	if err != nil {
		return nil, wire.Unavailable("the storage cannot be read", err)
	}
	return all, nil
}

// repository answers the state of one repository, for replicas.
func (s *Server) repository(r *http.Request) (any, error) {
	name := r.URL.Query().Get("name")
	if err := oci.CheckRepository(name); err != nil {
		return nil, wire.BadRequest("name: %v", err)
	}
	meta := s.store.Meta(name)
	state := registryapi.RepositoryState{
		Name: name, ID: meta.ID, Created: meta.Created, Arch: meta.Arch, Store: s.store.ID(),
		Tags: []registryapi.TagState{}, Manifests: []registryapi.ManifestState{},
	}
	tags, damaged, err := s.store.ReadTags(name)
	if err != nil {
		return nil, wire.Unavailable("the storage cannot be read", err)
	}
	state.Incomplete = len(damaged) > 0
	for _, t := range tags {
		state.Tags = append(state.Tags, registryapi.TagState{Tag: t.Name, Digest: t.Digest.String(), Order: t.Order, Pushed: t.Pushed})
	}
	manifests, err := s.store.Manifests(name)
	if err != nil {
		return nil, wire.Unavailable("the storage cannot be read", err)
	}
	for _, d := range manifests {
		m, err := s.store.Manifest(name, d)
		if errors.Is(err, content.ErrManifestUnknown) {
			state.Incomplete = true // damaged, or deleted meanwhile: then that is told next
			continue
		}
		if err != nil {
			return nil, wire.Unavailable("the storage cannot be read", err)
		}
		state.Manifests = append(state.Manifests, registryapi.ManifestState{
			Digest: d.String(), MediaType: m.MediaType, Size: int64(len(m.Raw)), Pushed: m.Pushed,
		})
	}
	return state, nil
}
