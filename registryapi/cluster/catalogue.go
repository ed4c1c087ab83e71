package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/internal/etcdkit"
	"github.com/ankacluster/ankacluster/registryapi/storage"
)

// catalogue is a copy of what etcd has, fed by a watch, and the only way to
// change that.
type catalogue struct {
	etcd *clientv3.Client
	log  *zap.Logger
	wait time.Duration // bounds a read's wait for the proof, and half of a write's
	// changed is called after each batch of events, from the watching goroutine.
	changed func([]touched)

	reads, writes etcdkit.Pace

	mu      sync.RWMutex
	view    *view    // guarded by mu
	rev     int64    // guarded by mu; the view is all of etcd's state up to it
	etcdID  uint64   // guarded by mu; of the etcd cluster that the view is of
	waiters []waiter // guarded by mu
	proven  time.Time
	next    *round // guarded by mu; a look at etcd's revision that has not begun
	// news are the repositories that changed since news was last taken; guarded
	// by mu, so that they are there with the revision that brought them.
	news map[string]bool

	lagging chan struct{} // capacity 1: somebody waits for the watch
	kick    chan struct{} // capacity 1: next is set
	other   chan struct{} // capacity 1: etcd's history is not the one that was followed
}

type waiter struct {
	rev  int64
	done chan struct{}
}

// round is one read of etcd's revision, shared by all who asked before it began.
type round struct {
	done  chan struct{}
	begun time.Time
	rev   int64
	err   error
}

func newCatalogue(etcd *clientv3.Client, wait time.Duration, log *zap.Logger) *catalogue {
	return &catalogue{etcd: etcd, log: log, wait: wait, view: newView(), news: make(map[string]bool), changed: func([]touched) {},
		lagging: make(chan struct{}, 1), kick: make(chan struct{}, 1), other: make(chan struct{}, 1)}
}

func (c *catalogue) readPolicy(total time.Duration) etcdkit.Policy {
	p := etcdkit.ReadPolicy(total)
	p.Pace = &c.reads
	return p
}

func (c *catalogue) writePolicy(total time.Duration) etcdkit.Policy {
	p := etcdkit.WritePolicy(total)
	p.Pace = &c.writes
	return p
}

// read calls f with the view as it is. f does not block, and changes nothing.
func (c *catalogue) read(f func(v *view)) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	f(c.view)
}

// repository returns a copy of a repository as it is in the view; nil if it is
// not there.
func (c *catalogue) repository(name string) *repository {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if r := c.view.repos[name]; r != nil {
		return r.clone()
	}
	return nil
}

// identity names the catalogue: another one, and one restored from a backup,
// have another. "" is not known yet.
func (c *catalogue) identity() string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.view.id == "" {
		return ""
	}
	return fmt.Sprintf("%s/%x", c.view.id, c.etcdID)
}

// unavailable is what a caller hears when etcd does not answer.
func unavailable(err error) error {
	return fmt.Errorf("%w: this host reaches no majority of the cluster's etcd members (%w)", storage.ErrUnavailable, err)
}

// fresh returns once the view holds every change that was acknowledged, by any
// host, before the call.
func (c *catalogue) fresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.wait)
	defer cancel()
	c.mu.Lock()
	if c.next == nil {
		c.next = &round{done: make(chan struct{})}
	}
	r := c.next
	c.mu.Unlock()
	signal(c.kick)
	select {
	case <-r.done:
	case <-ctx.Done():
		return unavailable(ctx.Err())
	}
	if r.err != nil {
		return unavailable(r.err)
	}
	if err := c.await(ctx, r.rev); err != nil {
		return unavailable(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if r.begun.After(c.proven) {
		c.proven = r.begun
	}
	return nil
}

// provenWithin reports whether the view was proven fresh so recently.
func (c *catalogue) provenWithin(d time.Duration) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return !c.proven.IsZero() && time.Since(c.proven) < d
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default: // the one signal there is will do
	}
}

// await returns once the view is complete up to rev.
func (c *catalogue) await(ctx context.Context, rev int64) error {
	c.mu.Lock()
	if c.rev >= rev {
		c.mu.Unlock()
		return nil
	}
	w := waiter{rev: rev, done: make(chan struct{})}
	c.waiters = append(c.waiters, w)
	c.mu.Unlock()
	signal(c.lagging)
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		c.mu.Lock()
		defer c.mu.Unlock()
		c.waiters = slices.DeleteFunc(c.waiters, func(o waiter) bool { return o.done == w.done })
		return ctx.Err()
	}
}

func (c *catalogue) advanceLocked(rev int64) {
	c.rev = rev
	c.waiters = slices.DeleteFunc(c.waiters, func(w waiter) bool {
		if w.rev > rev {
			return false
		}
		close(w.done)
		return true
	})
}

func (c *catalogue) awaited() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.waiters) > 0
}

// run keeps the view up to date and serves fresh until ctx ends.
func (c *catalogue) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { c.readRevisions(ctx) })
	backoff := etcdkit.MinBackoff
	load := true
	for ctx.Err() == nil {
		if load {
			if err := c.load(ctx); err != nil {
				if ctx.Err() == nil {
					c.log.Warn("catalogue not loaded", zap.Error(err))
				}
				backoff = etcdkit.SleepBackoff(ctx, backoff)
				continue
			}
			load = false
		}
		before := c.revision()
		err := c.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		load = errors.Is(err, rpctypes.ErrCompacted) || errors.Is(err, errOtherHistory)
		c.log.Info("watch of the catalogue begins anew", zap.Error(err))
		if c.revision() > before {
			backoff = etcdkit.MinBackoff
		}
		backoff = etcdkit.SleepBackoff(ctx, backoff)
	}
}

func (c *catalogue) revision() int64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.rev
}

// readRevisions serves fresh, one read at a time.
func (c *catalogue) readRevisions(ctx context.Context) {
	for {
		select {
		case <-c.kick:
		case <-ctx.Done():
			return
		}
		c.mu.Lock()
		r := c.next
		c.next = nil
		rev, of := c.rev, c.etcdID
		c.mu.Unlock()
		if r == nil {
			continue
		}
		r.begun = time.Now()
		resp, err := etcdkit.Hedged(ctx, c.readPolicy(c.wait), func(ctx context.Context) (*clientv3.GetResponse, error) {
			return c.etcd.Get(ctx, keyID)
		})
		switch {
		case err != nil:
			r.err = err
		case of != 0 && (resp.Header.ClusterId != of || resp.Header.Revision < rev):
			r.err = errOtherHistory
			signal(c.other)
		default:
			r.rev = resp.Header.Revision
		}
		close(r.done)
	}
}

var (
	errOtherHistory = errors.New("etcd was restored from a backup, or has lost its data")
	errLagging      = errors.New("the watch does not keep up")
)

// load reads the whole catalogue at one revision, and founds it where there is
// none.
func (c *catalogue) load(ctx context.Context) error {
	select {
	case <-c.other: // this load is what it asks for
	default:
	}
	if _, err := etcdkit.Hedged(ctx, c.writePolicy(10*time.Second), func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return c.etcd.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(keyID), "=", 0)).
			Then(clientv3.OpPut(keyID, uuid.NewString())).Commit()
	}); err != nil {
		return err
	}
	v := newView()
	var rev int64
	var of uint64
	next, end := Prefix, clientv3.GetPrefixRangeEnd(Prefix)
	for {
		opts := []clientv3.OpOption{clientv3.WithRange(end), clientv3.WithLimit(500)}
		if rev != 0 {
			opts = append(opts, clientv3.WithRev(rev))
		}
		resp, err := etcdkit.Hedged(ctx, c.readPolicy(10*time.Second), func(ctx context.Context) (*clientv3.GetResponse, error) {
			return c.etcd.Get(ctx, next, opts...)
		})
		if err != nil {
			return err
		}
		if rev == 0 {
			rev, of = resp.Header.Revision, resp.Header.ClusterId
		}
		for _, kv := range resp.Kvs {
			if _, err := v.apply(kv, false); err != nil {
				c.log.Error("record skipped: it does not decode", zap.Error(err))
			}
		}
		if !resp.More {
			break
		}
		next = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
	all := []touched{{hosts: true}}
	for name := range v.repos {
		all = append(all, touched{repo: name})
	}
	c.mu.Lock()
	for name := range c.view.repos {
		if v.repos[name] == nil {
			all = append(all, touched{repo: name})
		}
	}
	c.view, c.etcdID = v, of
	c.newsLocked(all)
	c.advanceLocked(rev)
	c.mu.Unlock()
	c.changed(all)
	return nil
}

// follow applies events until the watch breaks or lags.
func (c *catalogue) follow(ctx context.Context) error {
	w := clientv3.NewWatcher(c.etcd) // its stream is a new one, which the client opens at the next member
	defer w.Close()
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	ch := w.Watch(ctx, Prefix, clientv3.WithPrefix(), clientv3.WithRev(c.revision()+1))
	var deadline, poll <-chan time.Time // armed while somebody waits
	for {
		select {
		case resp, ok := <-ch:
			if !ok {
				return errors.New("watch closed")
			}
			if err := resp.Err(); err != nil {
				return err
			}
			c.take(&resp)
			if !c.awaited() {
				deadline, poll = nil, nil
			}
		case <-c.lagging:
			if deadline == nil && c.awaited() {
				deadline, poll = time.After(time.Second), time.After(2*time.Millisecond)
			}
		case <-poll:
			// Events usually arrive by themselves; a revision that touched
			// nothing of ours is only told on request.
			poll = nil
			if c.awaited() {
				poll = time.After(50 * time.Millisecond)
				if err := w.RequestProgress(ctx); err != nil {
					return fmt.Errorf("request progress: %w", err)
				}
			}
		case <-c.other:
			return errOtherHistory
		case <-deadline:
			deadline = nil
			if c.awaited() {
				return errLagging
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (c *catalogue) newsLocked(all []touched) {
	for _, t := range all {
		if t.repo != "" {
			c.news[t.repo] = true
		}
	}
}

// takeNews calls f with the view and what changed in it since the last call. f
// does not block.
func (c *catalogue) takeNews(f func(v *view, news map[string]bool)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(c.view, c.news)
	clear(c.news)
}

func (c *catalogue) take(resp *clientv3.WatchResponse) {
	var all []touched
	c.mu.Lock()
	for _, ev := range resp.Events {
		t, err := c.view.apply(ev.Kv, ev.Type == clientv3.EventTypeDelete)
		if err != nil {
			c.log.Error("record skipped: it does not decode", zap.Error(err))
		}
		if t != (touched{}) {
			all = append(all, t)
		}
	}
	c.newsLocked(all)
	switch {
	case len(resp.Events) > 0:
		// The header may be ahead of a batch of events; the last event is not.
		c.advanceLocked(resp.Events[len(resp.Events)-1].Kv.ModRevision)
	case resp.IsProgressNotify():
		c.advanceLocked(resp.Header.Revision)
	}
	c.mu.Unlock()
	if len(all) > 0 {
		c.changed(all)
	}
}

// change runs a decision until what it wants is written. A decision that fails,
// or finds nothing to do, on what may be an old state is made again on a proven
// one before its word counts. storage.ErrUnavailable means that the change may
// have been made all the same.
func (c *catalogue) change(ctx context.Context, repo string, decide decision) error {
	ctx, cancel := context.WithTimeout(ctx, 2*c.wait)
	defer cancel()
	proven, backoff := false, time.Millisecond
	for {
		id := strings.ToLower(rand.Text()[:10])
		more, err := c.changeOnce(ctx, repo, decide, id, &proven, &backoff)
		if err != nil || !more {
			return err
		}
	}
}

func (c *catalogue) changeOnce(ctx context.Context, repo string, decide decision, id string, proven *bool, backoff *time.Duration) (more bool, err error) {
	sent, sentMore := false, false
	for {
		var ch *change
		var rev int64
		done := false
		now := time.Now().UTC()
		c.read(func(v *view) {
			r := v.repos[repo]
			if r == nil {
				r = newView().repo(repo)
			}
			rev, done = r.rev, slices.Contains(r.rec.Done, id)
			ch, err = decide(r, now)
		})
		switch {
		case done && sent:
			return sentMore, nil
		case err != nil || ch == nil:
			if *proven {
				return false, err
			}
			if err := c.fresh(ctx); err != nil {
				return false, err
			}
			*proven = true
			continue
		}
		ch.rec.Done = append(slices.Clone(ch.rec.Done), id)
		if n := len(ch.rec.Done); n > keepDone {
			ch.rec.Done = ch.rec.Done[n-keepDone:]
		}
		sent, sentMore = true, ch.more
		resp, err := etcdkit.Hedged(ctx, c.writePolicy(2*c.wait), func(ctx context.Context) (*clientv3.TxnResponse, error) {
			return c.etcd.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(repoKey(repo)), "=", rev)).
				Then(append([]clientv3.Op{clientv3.OpPut(repoKey(repo), encode(ch.rec))}, ch.ops...)...).Commit()
		})
		if err != nil {
			return false, unavailable(err)
		}
		if err := c.await(ctx, resp.Header.Revision); err != nil {
			if resp.Succeeded {
				return ch.more, nil // what follows proves its own freshness
			}
			return false, unavailable(err)
		}
		if resp.Succeeded {
			return ch.more, nil
		}
		*proven = true // what was read at the conflict's revision is as fresh as it gets
		if !done {
			*backoff = etcdkit.SleepBackoff(ctx, *backoff)
		}
		if ctx.Err() != nil {
			return false, unavailable(errors.New("too many writers"))
		}
	}
}

// put writes keys that no decision depends on; ops that fail are tried again by
// who calls.
func (c *catalogue) put(ctx context.Context, ops ...clientv3.Op) error {
	for part := range slices.Chunk(ops, maxOps) {
		if _, err := etcdkit.Hedged(ctx, c.writePolicy(2*c.wait), func(ctx context.Context) (*clientv3.TxnResponse, error) {
			return c.etcd.Txn(ctx).Then(part...).Commit()
		}); err != nil {
			return unavailable(err)
		}
	}
	return nil
}
