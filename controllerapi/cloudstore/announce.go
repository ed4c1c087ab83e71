package cloudstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"github.com/ankacluster/ankacluster/internal/etcdkit"
	"github.com/google/uuid"
	"go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// announcement is what this Store tells the cloud of servers.
type announcement struct {
	mu      sync.Mutex
	servers []cloud.Server // guarded by mu
	wakeUp  chan struct{}
}

func (a *announcement) wake() {
	select {
	case a.wakeUp <- struct{}{}:
	default:
	}
}

// Announce replaces what this Store tells the cloud of servers. It takes effect
// soon, and ends with this Store's lease.
func (s *Store) Announce(servers []cloud.Server) {
	s.announce.mu.Lock()
	s.announce.servers = slices.Clone(servers)
	s.announce.mu.Unlock()
	s.announce.wake()
}

// AnnounceNow is Announce that returns when the cloud's lists show it.
func (s *Store) AnnounceNow(ctx context.Context, servers []cloud.Server) error {
	s.Announce(servers)
	return s.writeAnnouncement(ctx)
}

// bootstrap makes the records that every cloud has, or checks them.
func (s *Store) bootstrap(ctx context.Context) error {
	for backoff := etcdkit.MinBackoff; ; backoff = etcdkit.SleepBackoff(ctx, backoff) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		kv, err := s.kit.Get(ctx, keyMeta)
		if err != nil {
			s.log.Warn("etcd does not answer yet", zap.Error(err))
			continue
		}
		if kv != nil {
			var meta cloud.Meta
			if err := json.Unmarshal(kv.Value, &meta); err != nil {
				return fmt.Errorf("etcd's record of the cloud: %w", err)
			}
			if s.cfg.CloudID != "" && meta.CloudID != s.cfg.CloudID {
				return fmt.Errorf("etcd holds the cloud %s, but %s is configured: are these the right etcd endpoints?", meta.CloudID, s.cfg.CloudID)
			}
			return nil
		}
		if s.cfg.CloudID != "" {
			return fmt.Errorf("etcd is empty, but the cloud %s is configured: its data is lost; restore a snapshot, or leave the cloud id out to begin a new cloud", s.cfg.CloudID)
		}
		c := new(cloud.Change)
		c.Must(cloud.MetaRef, 0)
		meta := cloud.Meta{CloudID: uuid.NewString(), Created: time.Now().UTC(), Schema: 1}
		c.Put(cloud.MetaRef, meta)
		c.Put(cloud.FenceRef, cloud.FenceRecord{At: meta.Created, Marks: []cloud.FenceMark{}})
		if _, err := s.commit(ctx, c); err == nil {
			s.log.Warn("etcd was empty: a new cloud begins", zap.String("cloud_id", meta.CloudID))
		} else if !errors.Is(err, etcdkit.ErrConflict) {
			s.log.Warn("cloud not begun yet", zap.Error(err))
		}
	}
}

// announcer keeps the lease, the announcement and the cloud's lists.
func (s *Store) announcer(ctx context.Context) {
	select {
	case <-s.Loaded():
	case <-ctx.Done():
		return
	}
	for backoff := etcdkit.MinBackoff; ctx.Err() == nil; {
		err := s.holdLease(ctx)
		if ctx.Err() != nil {
			return
		}
		s.log.Warn("announcement begins anew", zap.Error(err))
		backoff = etcdkit.SleepBackoff(ctx, backoff)
	}
}

// holdLease announces under one lease until that is lost.
func (s *Store) holdLease(ctx context.Context) error {
	lease, err := s.kit.Grant(ctx, s.cfg.ServerLease)
	if err != nil {
		return err
	}
	s.lease.Store(int64(lease))
	defer s.lease.Store(0)
	defer func(whole context.Context) {
		if whole.Err() != nil {
			s.withdraw(lease)
		}
	}(ctx)
	s.announce.wake()
	var keeping sync.WaitGroup
	defer keeping.Wait()
	ctx, lost := context.WithCancelCause(ctx)
	defer lost(nil)
	keeping.Go(func() { lost(s.kit.KeepLease(ctx, lease, s.cfg.ServerLease)) })
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.announce.wakeUp:
			if err := s.writeAnnouncement(ctx); err != nil && ctx.Err() == nil {
				s.log.Warn("announcement not written yet", zap.Error(err))
				time.AfterFunc(time.Second, s.announce.wake)
			}
		}
	}
}

// writeAnnouncement writes what differs: this Store's announcements, and the
// lists with a new generation.
func (s *Store) writeAnnouncement(ctx context.Context) error {
	return s.decide(etcdkit.WithoutIdem(ctx), func(v *cloud.View, _ time.Time) (*cloud.Change, bool, error) {
		s.announce.mu.Lock()
		own := slices.Clone(s.announce.servers)
		s.announce.mu.Unlock()
		return v.Announce(s.cfg.ID, own, s.lease.Load())
	})
}

// withdraw leaves the lists, and gives up the duties by ending the lease.
func (s *Store) withdraw(lease clientv3.LeaseID) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := s.AnnounceNow(ctx, nil); err != nil {
		s.log.Info("not withdrawn from the lists, the lease will do it", zap.Error(err))
	}
	s.lease.Store(0)
	if _, err := s.kit.Etcd.Revoke(ctx, lease); err != nil {
		s.log.Info("lease not revoked, it ends by itself", zap.Error(err))
	}
}
