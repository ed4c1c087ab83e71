package replication

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/internal/backoff"
	"github.com/ankacluster/ankacluster/internal/clienttls"
	"github.com/ankacluster/ankacluster/registryapi"
)

// follow reads the change feed of s and marks what changed. At the start, and
// whenever the source no longer knows our place in the feed, all is marked.
func (r *Replicator) follow(ctx context.Context, s *source) {
	cursor, failures := "", 0
	for ctx.Err() == nil {
		asked := time.Now()
		changes, err := r.poll(ctx, s, cursor)
		if err == nil {
			err = r.sameStore(ctx, s, changes.Store)
		}
		if err == nil && changes.Reset {
			err = r.compareAll(ctx, s)
		}
		if ctx.Err() != nil {
			return
		}
		r.seen(s, err)
		if err != nil {
			retryPace.Wait(ctx, failures) // the loop looks at ctx
			failures++
			continue
		}
		failures = 0
		now := time.Now()
		for _, c := range changes.Changes {
			// By the source's clock alone: ours may differ.
			r.queue.mark(c.Repository, now.Add(-changes.Time.Sub(c.Time)), s)
		}
		if len(changes.Changes) == 0 && cursor == changes.Cursor && now.Sub(asked) < 100*time.Millisecond {
			// A source that drains answers at once.
			backoff.Sleep(ctx, 200*time.Millisecond)
		}
		cursor = changes.Cursor
	}
}

func (r *Replicator) poll(ctx context.Context, s *source, cursor string) (registryapi.Changes, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Poll+15*time.Second)
	defer cancel()
	return s.rest.Changes(ctx, cursor, r.cfg.Poll)
}

// sameStore makes sure that the source still is the store that was copied, or
// another that has all of it: a former replica, or a copy. Anything else is the
// wrong disk, or a directory whose file system is not mounted, and what it lacks
// was not deleted by anybody.
func (r *Replicator) sameStore(ctx context.Context, s *source, id string) error {
	r.mu.Lock()
	was, had := s.known.store, maps.Clone(s.known.repos)
	r.mu.Unlock()
	if id == "" || id == was {
		return nil
	}
	if was == "" {
		had = nil // what there is was copied by a version that did not ask
	}
	for repo, old := range had {
		st, err := r.fetchState(ctx, s, repo)
		if err != nil {
			return err
		}
		if len(withMissing(st, old).Tags) > len(st.Tags) {
			return fmt.Errorf("%w, and lacks tags of %s: nothing is deleted or copied here; if that is meant, stop this registry, remove %s and start it", errOtherStore, repo, s.known.docs.Place())
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return s.known.setStore(id)
}

var errOtherStore = errors.New("the source has another store than the one that was copied")

// compareAll marks every repository that the source has or had.
func (r *Replicator) compareAll(ctx context.Context, s *source) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	list, err := s.rest.Repositories(ctx)
	if err != nil {
		return err
	}
	r.mu.Lock()
	had := make([]string, 0, len(s.known.repos))
	for repo := range s.known.repos {
		had = append(had, repo)
	}
	r.mu.Unlock()
	if len(list) == 0 && len(had) > 0 {
		return fmt.Errorf("the source lists no repository at all, and had %d: nothing is deleted here; if that is meant, remove %s and what was copied", len(had), s.known.docs.Place())
	}
	now := time.Now()
	for _, repo := range append(list, had...) {
		r.queue.mark(repo, now, s)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s.state.Compared = true
	return nil
}

// seen records that s answered, or did not, and logs when that changes.
func (r *Replicator) seen(s *source, err error) {
	r.mu.Lock()
	was := s.state
	s.state.Connected, s.state.Error = err == nil, ""
	why, unknown, untrusted := clienttls.Reason(err)
	if unknown {
		why += "; name that authority's certificate in --registry-ca-cert (ANKA_REGISTRY_CA_CERT)"
	}
	switch {
	case err == nil:
		s.state.LastSeen = time.Now()
	case untrusted:
		s.state.Error = "the source is not trusted: " + why
	default:
		s.state.Error = err.Error()
	}
	now := s.state
	r.mu.Unlock()
	switch {
	case untrusted && now.Error != was.Error: // it does not pass by itself
		r.log.Error("replication source not trusted", zap.String("endpoint", s.url), zap.String("reason", why))
		r.metrics.errors.Inc()
	case err != nil && (was.Connected || was.LastSeen.IsZero() && was.Error == ""):
		r.log.Warn("replication source lost", zap.String("endpoint", s.url), zap.Error(err))
		r.metrics.errors.Inc()
	case err == nil && !was.Connected:
		r.log.Info("replication source followed", zap.String("endpoint", s.url))
	}
}

// State tells how far the replication is.
func (r *Replicator) State() registryapi.Replication {
	pending, oldest := r.queue.waiting()
	st := registryapi.Replication{
		Active: r.active.Load(), Pending: pending, CopiedBytes: r.copied.Load(), Sources: []registryapi.ReplicationSource{},
	}
	if pending > 0 {
		st.LagSeconds = max(time.Since(oldest).Seconds(), 0)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	st.Errors, st.LastError = r.errors, r.lastErr
	st.InSync = st.Active && pending == 0
	for _, s := range r.sources {
		st.InSync = st.InSync && s.state.Compared && s.state.Connected
		st.Sources = append(st.Sources, s.state)
	}
	for j, run := range r.jobs {
		st.Copies = append(st.Copies, registryapi.ReplicationCopy{
			Repository: j.repo, Digest: j.digest, Done: run.done.Load(), Total: run.total.Load(),
		})
	}
	return st
}
