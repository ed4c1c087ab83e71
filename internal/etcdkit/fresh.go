package etcdkit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// ErrOtherHistory: etcd's revisions are not those that were followed. It was
// restored from a backup, or has lost its data; until the state is loaded anew,
// nothing is known of it.
var ErrOtherHistory = errors.New("etcd was restored from a backup, or has lost its data")

// progress is how far a view is.
type progress struct {
	rev     int64 // the view is all of etcd's state up to it
	waiters []waiter
	lagging chan struct{} // capacity 1: a caller waits for the watch
}

type waiter struct {
	rev  int64
	done chan struct{}
}

// freshRound is one read of etcd's revision, shared by all calls from before it
// began.
type freshRound struct {
	done  chan struct{}
	begun time.Time
	rev   int64
	err   error
}

// freshness is when the view was proven fresh last, and the next proof, if it was asked for.
type freshness struct {
	mu        sync.Mutex
	next      *freshRound   // guarded by mu
	proven    time.Time     // guarded by mu; the view holds all that was acknowledged before
	wake      chan struct{} // capacity 1: next is set
	proveWake chan struct{} // capacity 1: the proof gets old
}

// Fresh returns once the view holds every write that was acknowledged, by any
// client of etcd, before the call.
func (c *Cache[V, C]) Fresh(ctx context.Context) error {
	c.fresh.mu.Lock()
	if c.fresh.next == nil {
		c.fresh.next = &freshRound{done: make(chan struct{})}
	}
	round := c.fresh.next
	c.fresh.mu.Unlock()
	signal(c.fresh.wake)
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Wait)
	defer cancel()
	select {
	case <-round.done:
	case <-ctx.Done():
		return fmt.Errorf("read revision: %w (%w)", ErrUnavailable, ctx.Err())
	}
	if round.err != nil {
		return fmt.Errorf("read revision: %w", round.err)
	}
	if err := c.WaitRevision(ctx, round.rev); err != nil {
		return err
	}
	c.fresh.mu.Lock()
	defer c.fresh.mu.Unlock()
	if round.begun.After(c.fresh.proven) {
		c.fresh.proven = round.begun
	}
	return nil
}

// Proof returns how long ago the view is known to have held everything that had
// been acknowledged.
func (c *Cache[V, C]) Proof() time.Duration {
	c.fresh.mu.Lock()
	defer c.fresh.mu.Unlock()
	return time.Since(c.fresh.proven)
}

// ProveSoon has the view proven fresh, and does not wait for it.
func (c *Cache[V, C]) ProveSoon() { signal(c.fresh.proveWake) }

// prove proves the view fresh whenever that is asked for, until ctx ends.
func (c *Cache[V, C]) prove(ctx context.Context) {
	for {
		select {
		case <-c.fresh.proveWake:
		case <-ctx.Done():
			return
		}
		if err := c.Fresh(ctx); err != nil && ctx.Err() == nil {
			c.log.Debug("view not proven fresh", zap.Error(err)) // callers of Fresh hear of it themselves
		}
	}
}

// readRevisions serves Fresh, one read at a time.
func (c *Cache[V, C]) readRevisions(ctx context.Context) {
	for {
		select {
		case <-c.fresh.wake:
		case <-ctx.Done():
			return
		}
		c.fresh.mu.Lock()
		round := c.fresh.next
		c.fresh.next = nil
		c.fresh.mu.Unlock()
		if round == nil {
			continue
		}
		round.begun = time.Now()
		c.mu.RLock()
		rev, of := c.progress.rev, c.of
		c.mu.RUnlock()
		resp, err := c.client.get(ctx, c.cfg.Wait, c.cfg.Anchor)
		switch {
		case err != nil:
			round.err = err
		case of != (origin{}) && (of != c.originOf(resp) || resp.Header.Revision < rev):
			round.err = ErrOtherHistory
			signal(c.restored)
		default:
			round.rev = resp.Header.Revision
		}
		close(round.done)
	}
}

// origin is the etcd that a view is of.
type origin struct {
	cluster uint64 // etcd's own id of it
	anchor  string // what the anchor holds
}

// originOf takes the origin from an answer that holds the anchor, if etcd does.
func (c *Cache[V, C]) originOf(resp *clientv3.GetResponse) origin {
	of := origin{cluster: resp.Header.ClusterId}
	for _, kv := range resp.Kvs {
		if string(kv.Key) == c.cfg.Anchor {
			of.anchor = string(kv.Value)
		}
	}
	return of
}

// WaitRevision returns once the view is complete up to rev.
func (c *Cache[V, C]) WaitRevision(ctx context.Context, rev int64) error {
	c.mu.Lock()
	if c.progress.rev >= rev {
		c.mu.Unlock()
		return nil
	}
	w := waiter{rev: rev, done: make(chan struct{})}
	c.progress.waiters = append(c.progress.waiters, w)
	c.mu.Unlock()
	signal(c.progress.lagging)
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		c.mu.Lock()
		c.progress.waiters = slices.DeleteFunc(c.progress.waiters, func(o waiter) bool { return o.done == w.done })
		c.mu.Unlock()
		return fmt.Errorf("wait for revision %d: %w (%w)", rev, ErrUnavailable, ctx.Err())
	}
}

// advanceLocked notes that the view is complete up to rev. A load after a
// restore of etcd may go back; the view is then what etcd has.
func (c *Cache[V, C]) advanceLocked(rev int64, touched *C) {
	c.progress.rev = rev
	c.model.Advance(c.view, rev, touched)
	c.progress.waiters = slices.DeleteFunc(c.progress.waiters, func(w waiter) bool {
		if w.rev > rev {
			return false
		}
		close(w.done)
		return true
	})
}

// awaited reports whether a caller waits for the watch.
func (c *Cache[V, C]) awaited() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.progress.waiters) > 0
}
