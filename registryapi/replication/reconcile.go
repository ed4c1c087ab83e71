package replication

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/content"
)

// reconcile makes the repository what its sources say, as far as its content is
// here, and starts the copies of what is not. sources are those whose state is
// read again; of the others the last known counts.
func (r *Replicator) reconcile(ctx context.Context, repo string, sources []*source) (copying bool, err error) {
	fetched := make(map[*source]registryapi.RepositoryState)
	for _, s := range sources {
		st, err := r.readState(ctx, s, repo)
		if err != nil {
			return false, err
		}
		if st.Incomplete {
			r.log.Warn("source cannot read all of a repository: nothing of it is deleted here; anka-registry verify tells there what is damaged",
				zap.String("endpoint", s.url), zap.String("repository", repo))
		}
		fetched[s] = st
	}
	var before, now []registryapi.RepositoryState
	holders := make(map[string][]*source) // by manifest
	r.mu.Lock()
	for _, s := range r.sources {
		old, known := s.known.repos[repo]
		if known {
			before = append(before, old)
		}
		st, ok := fetched[s]
		if !ok {
			st = old
		}
		if ok && st.Incomplete {
			st = withMissing(st, old)
			fetched[s] = st
		}
		now = append(now, st)
		for _, m := range st.Manifests {
			holders[m.Digest] = append(holders[m.Digest], s)
		}
	}
	r.mu.Unlock()
	w := merge(repo, now)
	have, err := r.local(repo)
	if err != nil {
		return false, err
	}
	p := decide(w, have, before)
	if err := r.apply(repo, w, have, p, len(before) > 0); err != nil {
		return false, err
	}
	r.mu.Lock()
	for s, st := range fetched {
		err = errors.Join(err, s.known.set(st))
	}
	r.mu.Unlock()
	if err != nil {
		return false, err
	}
	r.startCopies(ctx, repo, p.copies, w, holders)
	return len(p.copies) > 0, nil
}

// readState reads what the source has of the repository, if it still is the store
// that is followed.
func (r *Replicator) readState(ctx context.Context, s *source, repo string) (registryapi.RepositoryState, error) {
	st, err := r.fetchState(ctx, s, repo)
	if err != nil {
		return st, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if st.Store != "" && s.known.store != "" && st.Store != s.known.store {
		return st, fmt.Errorf("state at %s: %w", s.url, errOtherStore)
	}
	return st, nil
}

func (r *Replicator) fetchState(ctx context.Context, s *source, repo string) (registryapi.RepositoryState, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	st, err := s.rest.Repository(ctx, repo)
	if err != nil {
		return st, fmt.Errorf("state at %s: %w", s.url, err)
	}
	// What comes from outside names files here.
	for _, m := range st.Manifests {
		if _, err := oci.ParseDigest(m.Digest); err != nil {
			return st, fmt.Errorf("state at %s: %w", s.url, err)
		}
	}
	for _, t := range st.Tags {
		if err := oci.CheckTag(t.Tag); err != nil {
			return st, fmt.Errorf("state at %s: %w", s.url, err)
		}
		if _, err := oci.ParseDigest(t.Digest); err != nil {
			return st, fmt.Errorf("state at %s: %w", s.url, err)
		}
	}
	st.Name = repo
	return st, nil
}

func (r *Replicator) local(repo string) (local, error) {
	tags, err := r.store.Tags(repo)
	if err != nil {
		return local{}, err
	}
	have := local{tags: make(map[string]registryapi.TagState), complete: func(d string) bool { return r.complete(repo, digest.Digest(d)) }}
	for _, t := range tags {
		have.tags[t.Name] = registryapi.TagState{Tag: t.Name, Digest: t.Digest.String(), Order: t.Order, Pushed: t.Pushed}
	}
	return have, nil
}

func (r *Replicator) complete(repo string, d digest.Digest) bool {
	m, err := r.store.Manifest(repo, d)
	return err == nil && content.Complete(r.store, repo, m) == nil
}

// apply does what needs no content that is not here. known says whether any of
// the repository was copied before.
func (r *Replicator) apply(repo string, w wanted, have local, p plan, known bool) error {
	for _, tag := range p.deleteTags {
		if err := r.store.DeleteTag(repo, tag); err != nil && !errors.Is(err, content.ErrTagUnknown) {
			return fmt.Errorf("delete tag %s: %w", tag, err)
		}
		r.metrics.tags.Inc()
		delete(have.tags, tag)
		r.log.Info("tag deleted as at the source", zap.String("repository", repo), zap.String("tag", tag))
	}
	if len(p.putTags) > 0 || len(have.tags) > 0 {
		if err := r.keepMeta(repo, w); err != nil {
			return err
		}
	}
	for _, t := range p.putTags {
		have.tags[t.Tag] = t
		err := r.store.PutTag(repo, content.Tag{Name: t.Tag, Digest: digest.Digest(t.Digest), Order: t.Order, Pushed: t.Pushed})
		if err != nil {
			return fmt.Errorf("put tag %s: %w", t.Tag, err)
		}
		r.metrics.tags.Inc()
	}
	used := make(map[string]bool)
	for _, t := range have.tags {
		used[t.Digest] = true
	}
	for _, d := range p.deleteManifests {
		if used[d] { // by a tag that was pushed here
			continue
		}
		err := r.store.DeleteManifest(repo, digest.Digest(d))
		if err != nil && !errors.Is(err, content.ErrManifestUnknown) && !errors.Is(err, content.ErrInUse) {
			return fmt.Errorf("delete manifest %s: %w", d, err)
		}
	}
	if w.empty() && known && len(have.tags) == 0 {
		if err := r.store.DeleteRepository(repo); err != nil && !errors.Is(err, content.ErrRepositoryUnknown) {
			return fmt.Errorf("delete repository: %w", err)
		}
	}
	return nil
}

// keepMeta gives the template the id, time and architecture of the source, so
// that it is the same template everywhere.
func (r *Replicator) keepMeta(repo string, w wanted) error {
	have := r.store.Meta(repo)
	if w.ID == "" || have.ID == w.ID && have.Created.Equal(w.Created) && have.Arch == w.Arch {
		return nil
	}
	return r.store.SetMeta(repo, content.Meta{ID: w.ID, Created: w.Created, Arch: w.Arch})
}
