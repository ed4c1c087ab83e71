package etcdkit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

var errLagging = errors.New("the watch does not keep up")

// watch keeps the view up to date until ctx ends.
func (c *Cache[V, C]) watch(ctx context.Context) {
	backoff, lag := MinBackoff, c.cfg.Lag
	load := true
	for ctx.Err() == nil {
		if load {
			if err := c.load(ctx); err != nil {
				if ctx.Err() == nil {
					c.log.Warn("state not loaded", zap.Error(err))
				}
				backoff = SleepBackoff(ctx, backoff)
				continue
			}
			load = false
			c.loadOnce.Do(func() { close(c.loaded) })
		}
		begun := c.Revision()
		err := c.follow(ctx, lag)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, rpctypes.ErrCompacted):
			c.log.Info("watch fell behind compaction, loading anew")
			load = true
		case errors.Is(err, ErrOtherHistory):
			c.log.Error("loading anew", zap.Error(err))
			load = true
		case c.Revision() > begun:
			backoff, lag = MinBackoff, c.cfg.Lag
		default:
			lag = min(2*lag, c.cfg.MaxLag)
		}
		c.log.Info("watch begins anew", zap.Error(err), zap.Int64("revision", c.Revision()))
		if !errors.Is(err, errLagging) {
			backoff = SleepBackoff(ctx, backoff)
		}
	}
}

// load reads the whole state at one revision and replaces the view by it.
func (c *Cache[V, C]) load(ctx context.Context) error {
	select {
	case <-c.restored: // this load is what it asks for
	default:
	}
	if c.cfg.Prepare != nil {
		if err := c.cfg.Prepare(ctx); err != nil {
			return err
		}
	}
	view := c.model.New()
	var of origin
	var touched C
	rev, err := c.client.snapshot(ctx, c.cfg.LoadWait, c.cfg.Prefix, func(resp *clientv3.GetResponse) {
		if page := c.originOf(resp); page.anchor != "" {
			of = page
		}
		for _, kv := range resp.Kvs {
			c.apply(view, &clientv3.Event{Type: clientv3.EventTypePut, Kv: kv}, &touched)
		}
	})
	if err != nil {
		return fmt.Errorf("read state: %w", err)
	}
	if err := c.model.Loaded(view, &touched); err != nil {
		return err
	}
	c.mu.Lock()
	c.model.Replace(view, c.view, of.cluster, c.of == (origin{}) || c.of == of, &touched)
	c.view, c.of = view, of
	c.advanceLocked(rev, &touched)
	c.mu.Unlock()
	c.model.Changed(&touched)
	return nil
}

func (c *Cache[V, C]) apply(v V, ev *clientv3.Event, touched *C) {
	if err := c.model.Apply(v, ev, touched); err != nil {
		c.log.Error("record skipped: it does not decode", zap.ByteString("key", ev.Kv.Key), zap.Error(err))
	}
}

// follow applies events until the watch breaks or lags.
func (c *Cache[V, C]) follow(ctx context.Context, lag time.Duration) error {
	// A watcher of our own, because its stream is then a new one, which the
	// client opens at the next member.
	w := clientv3.NewWatcher(c.client.Etcd)
	defer w.Close()
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	events := w.Watch(ctx, c.cfg.Prefix, clientv3.WithPrefix(), clientv3.WithRev(c.Revision()+1))

	var deadline <-chan time.Time // armed while a caller waits
	var poll <-chan time.Time
	for {
		select {
		case resp, ok := <-events:
			if !ok {
				return errors.New("watch closed")
			}
			if err := resp.Err(); err != nil {
				return err
			}
			c.applyEvents(&resp)
			if !c.awaited() {
				deadline, poll = nil, nil
			}
		case <-c.progress.lagging:
			if deadline == nil && c.awaited() {
				deadline, poll = time.After(lag), time.After(2*time.Millisecond)
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
		case <-c.restored:
			return ErrOtherHistory
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

func (c *Cache[V, C]) applyEvents(resp *clientv3.WatchResponse) {
	var touched C
	c.mu.Lock()
	for _, ev := range resp.Events {
		c.apply(c.view, ev, &touched)
	}
	switch {
	case len(resp.Events) > 0:
		// The header may be ahead of a batch of events; the last event is not.
		c.advanceLocked(resp.Events[len(resp.Events)-1].Kv.ModRevision, &touched)
	case resp.IsProgressNotify():
		c.advanceLocked(resp.Header.Revision, &touched)
	}
	c.mu.Unlock()
	c.model.Changed(&touched)
}
