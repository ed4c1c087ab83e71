package cloudstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"github.com/ankacluster/ankacluster/internal/etcdkit"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

const (
	// pageSize of the first load; a page of full-grown records stays well below
	// the size of a message that etcd refuses.
	pageSize = 500
	// lagLimit is how long the watch may be behind a revision that etcd has
	// confirmed before it is begun anew, at another member. It doubles while
	// that does not help, up to maxLag: on a starved machine new watches would
	// only add to the load.
	lagLimit = 300 * time.Millisecond
	maxLag   = 3 * time.Second
)

var errLagging = errors.New("the watch does not keep up")

// watch keeps the view up to date until ctx ends.
func (s *Store) watch(ctx context.Context) {
	backoff, lag := etcdkit.MinBackoff, lagLimit
	load := true
	for ctx.Err() == nil {
		if load {
			if err := s.load(ctx); err != nil {
				s.log.Warn("state not loaded", zap.Error(err))
				backoff = etcdkit.SleepBackoff(ctx, backoff)
				continue
			}
			load = false
			s.loadOnce.Do(func() { close(s.loaded) })
		}
		begun := s.Revision()
		err := s.follow(ctx, lag)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, rpctypes.ErrCompacted):
			s.log.Info("watch fell behind compaction, loading anew")
			load = true
		case errors.Is(err, ErrOtherHistory):
			s.log.Error("loading anew", zap.Error(err))
			load = true
		case s.Revision() > begun:
			backoff, lag = etcdkit.MinBackoff, lagLimit
		default:
			lag = min(2*lag, maxLag)
		}
		s.log.Info("watch begins anew", zap.Error(err), zap.Int64("revision", s.Revision()))
		if !errors.Is(err, errLagging) {
			backoff = etcdkit.SleepBackoff(ctx, backoff)
		}
	}
}

// load reads the whole state at one revision and replaces the view by it.
func (s *Store) load(ctx context.Context) error {
	select {
	case <-s.restored: // this load is what it asks for
	default:
	}
	view := cloud.NewView()
	var rev int64
	var of origin
	var ch cloud.Changes // all is new; only the clock is looked at
	next, end := watched, clientv3.GetPrefixRangeEnd(watched)
	for {
		opts := []clientv3.OpOption{clientv3.WithRange(end), clientv3.WithLimit(pageSize)}
		if rev != 0 {
			opts = append(opts, clientv3.WithRev(rev))
		}
		resp, err := etcdkit.Hedged(ctx, s.kit.ReadPolicy(), func(ctx context.Context) (*clientv3.GetResponse, error) {
			return s.etcd.Get(ctx, next, opts...)
		})
		if err != nil {
			return fmt.Errorf("read state: %w", err)
		}
		if rev == 0 {
			rev = resp.Header.Revision
		}
		if page := originOf(resp); page.meta != "" {
			of = page
		}
		for _, kv := range resp.Kvs {
			if err := apply(view, &clientv3.Event{Type: clientv3.EventTypePut, Kv: kv}, &ch); err != nil {
				s.log.Error("record skipped: it does not decode", zap.ByteString("key", kv.Key), zap.Error(err))
			}
		}
		if !resp.More {
			break
		}
		next = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
	if known := s.CloudID(); known != "" && (view.Meta == nil || view.Meta.CloudID != known) {
		return fmt.Errorf("etcd does not hold the cloud %s any more: restore a snapshot, or restart the controllers to begin a new cloud", known)
	}
	view.Sort()
	ch.Queue, ch.Cluster = true, true
	for id := range view.Nodes {
		ch.Node(id)
	}
	s.mu.Lock()
	for id := range s.view.Nodes {
		ch.Node(id)
	}
	if s.of != (origin{}) && s.of != of {
		s.ages.Reset()
	}
	view.Ages = s.ages
	s.view, s.of = view, of
	now := s.now()
	s.ages.Adopt(ch.Fence, ch.FenceRev, now)
	s.advanceLocked(rev)
	s.mu.Unlock()
	s.changed(ch)
	return nil
}

// follow applies events until the watch breaks or lags.
func (s *Store) follow(ctx context.Context, lag time.Duration) error {
	// A watcher of our own, because its stream is then a new one, which the
	// client opens at the next member.
	w := clientv3.NewWatcher(s.etcd)
	defer w.Close()
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	ch := w.Watch(ctx, watched, clientv3.WithPrefix(), clientv3.WithRev(s.Revision()+1))

	var deadline <-chan time.Time // armed while somebody waits
	var poll <-chan time.Time
	for {
		select {
		case resp, ok := <-ch:
			if !ok {
				return errors.New("watch closed")
			}
			if err := resp.Err(); err != nil {
				return err
			}
			s.applyEvents(&resp)
			if !s.awaited() {
				deadline, poll = nil, nil
			}
		case <-s.lagging:
			if deadline == nil && s.awaited() {
				deadline, poll = time.After(lag), time.After(2*time.Millisecond)
			}
		case <-poll:
			// Events usually arrive by themselves; a revision that touched
			// nothing of ours is only told on request.
			poll = nil
			if s.awaited() {
				poll = time.After(50 * time.Millisecond)
				if err := w.RequestProgress(ctx); err != nil {
					return fmt.Errorf("request progress: %w", err)
				}
			}
		case <-s.restored:
			return ErrOtherHistory
		case <-deadline:
			deadline = nil
			if s.awaited() {
				return errLagging
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *Store) applyEvents(resp *clientv3.WatchResponse) {
	var ch cloud.Changes
	s.mu.Lock()
	for _, ev := range resp.Events {
		if err := apply(s.view, ev, &ch); err != nil {
			s.log.Error("record skipped: it does not decode", zap.ByteString("key", ev.Kv.Key), zap.Error(err))
		}
	}
	switch {
	case len(resp.Events) > 0:
		// The header may be ahead of a batch of events; the last event is not.
		s.advanceLocked(resp.Events[len(resp.Events)-1].Kv.ModRevision)
	case resp.IsProgressNotify():
		s.advanceLocked(resp.Header.Revision)
	}
	s.ages.Adopt(ch.Fence, ch.FenceRev, s.now())
	s.mu.Unlock()
	s.changed(ch)
}

func (s *Store) changed(ch cloud.Changes) {
	if ch.Cluster {
		s.announce.wake()
	}
	for id := range ch.Nodes {
		if s.node(id) == nil {
			s.renewed.Delete(id)
		}
	}
	if s.OnChange != nil {
		s.OnChange(ch)
	}
}
