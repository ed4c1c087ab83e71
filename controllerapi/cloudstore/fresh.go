package cloudstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ankacluster/ankacluster/internal/etcdkit"
	"go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// ErrOtherHistory: etcd's revisions are not those that were followed. It was
// restored from a backup, or has lost its data; until the state is loaded anew,
// nothing is known of it.
var ErrOtherHistory = errors.New("etcd was restored from a backup, or has lost its data")

type waiter struct {
	rev  int64
	done chan struct{}
}

// freshRound is one read of etcd's revision, shared by all who asked before it
// began.
type freshRound struct {
	done  chan struct{}
	begun time.Time
	rev   int64
	err   error
}

// Fresh returns once the view holds every write that was acknowledged, by any
// Store, before the call.
func (s *Store) Fresh(ctx context.Context) error {
	s.freshMu.Lock()
	if s.freshNext == nil {
		s.freshNext = &freshRound{done: make(chan struct{})}
	}
	round := s.freshNext
	s.freshMu.Unlock()
	select {
	case s.freshWake <- struct{}{}:
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.RequestTimeout)
	defer cancel()
	select {
	case <-round.done:
	case <-ctx.Done():
		return fmt.Errorf("read revision: %w (%w)", ErrUnavailable, ctx.Err())
	}
	if round.err != nil {
		return fmt.Errorf("read revision: %w", round.err)
	}
	if err := s.WaitRevision(ctx, round.rev); err != nil {
		return err
	}
	s.freshMu.Lock()
	defer s.freshMu.Unlock()
	if round.begun.After(s.proven) {
		s.proven = round.begun
	}
	return nil
}

// proof returns how long ago the view is known to have held everything that had
// been acknowledged.
func (s *Store) proof() time.Duration {
	s.freshMu.Lock()
	defer s.freshMu.Unlock()
	return time.Since(s.proven)
}

// prove proves the view fresh whenever that is asked for, until ctx ends.
func (s *Store) prove(ctx context.Context) {
	for {
		select {
		case <-s.proveWake:
		case <-ctx.Done():
			return
		}
		if err := s.Fresh(ctx); err != nil && ctx.Err() == nil {
			s.log.Debug("view not proven fresh", zap.Error(err)) // those who need it hear of it themselves
		}
	}
}

// readRevisions serves Fresh, one read at a time.
func (s *Store) readRevisions(ctx context.Context) {
	for {
		select {
		case <-s.freshWake:
		case <-ctx.Done():
			return
		}
		s.freshMu.Lock()
		round := s.freshNext
		s.freshNext = nil
		s.freshMu.Unlock()
		if round == nil {
			continue
		}
		round.begun = time.Now()
		s.mu.RLock()
		rev, of := s.rev, s.of
		s.mu.RUnlock()
		resp, err := etcdkit.Hedged(ctx, s.kit.ReadPolicy(), func(ctx context.Context) (*clientv3.GetResponse, error) {
			return s.etcd.Get(ctx, keyMeta)
		})
		switch {
		case err != nil:
			round.err = err
		case of != (origin{}) && (of != originOf(resp) || resp.Header.Revision < rev):
			round.err = ErrOtherHistory
			select {
			case s.restored <- struct{}{}:
			default:
			}
		default:
			round.rev = resp.Header.Revision
		}
		close(round.done)
	}
}

// Revision returns the revision of etcd up to which the view is complete.
func (s *Store) Revision() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.rev
}

// origin is the etcd that a view is of.
type origin struct {
	cluster uint64 // etcd's own id of it
	meta    string // what keyMeta holds
}

// originOf takes the origin from an answer that holds keyMeta, if etcd does.
func originOf(resp *clientv3.GetResponse) origin {
	of := origin{cluster: resp.Header.ClusterId}
	for _, kv := range resp.Kvs {
		if string(kv.Key) == keyMeta {
			of.meta = string(kv.Value)
		}
	}
	return of
}

// WaitRevision returns once the view is complete up to rev.
func (s *Store) WaitRevision(ctx context.Context, rev int64) error {
	s.mu.Lock()
	if s.rev >= rev {
		s.mu.Unlock()
		return nil
	}
	w := waiter{rev: rev, done: make(chan struct{})}
	s.waiters = append(s.waiters, w)
	s.mu.Unlock()
	select {
	case s.lagging <- struct{}{}:
	default:
	}
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		s.mu.Lock()
		s.waiters = slices.DeleteFunc(s.waiters, func(o waiter) bool { return o.done == w.done })
		s.mu.Unlock()
		return fmt.Errorf("wait for revision %d: %w (%w)", rev, ErrUnavailable, ctx.Err())
	}
}

// advanceLocked notes that the view is complete up to rev. A load after a
// restore of etcd may go back; the view is then what etcd has.
func (s *Store) advanceLocked(rev int64) {
	s.rev, s.view.Rev = rev, rev
	s.ages.Note(rev, s.now())
	s.waiters = slices.DeleteFunc(s.waiters, func(w waiter) bool {
		if w.rev > rev {
			return false
		}
		close(w.done)
		return true
	})
}

// awaited reports whether somebody waits for the watch.
func (s *Store) awaited() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.waiters) > 0
}
