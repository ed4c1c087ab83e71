package cloudstore

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/google/uuid"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// Kinds of announced servers.
const (
	KindController = "controller"
	KindRegistry   = "registry"
)

// announcement is what this Store tells the cloud of servers.
type announcement struct {
	mu      sync.Mutex
	servers []Server // guarded by mu
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
func (s *Store) Announce(servers []Server) {
	s.announce.mu.Lock()
	s.announce.servers = slices.Clone(servers)
	s.announce.mu.Unlock()
	s.announce.wake()
}

// AnnounceNow is Announce that returns when the cloud's lists show it.
func (s *Store) AnnounceNow(ctx context.Context, servers []Server) error {
	s.Announce(servers)
	return s.writeAnnouncement(ctx)
}

// bootstrap makes the records that every cloud has, or checks them.
func (s *Store) bootstrap(ctx context.Context) error {
	for backoff := minBackoff; ; backoff = sleepBackoff(ctx, backoff) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		kv, err := s.get(ctx, keyMeta)
		if err != nil {
			s.log.Warn("etcd does not answer yet", zap.Error(err))
			continue
		}
		if kv != nil {
			var meta Meta
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
		c := new(Change)
		c.Must(MetaRef, 0)
		meta := Meta{CloudID: uuid.NewString(), Created: time.Now().UTC(), Schema: 1}
		c.Put(MetaRef, meta)
		c.Put(FenceRef, FenceRecord{At: meta.Created, Marks: []FenceMark{}})
		if _, err := s.commit(ctx, c); err == nil {
			s.log.Warn("etcd was empty: a new cloud begins", zap.String("cloud_id", meta.CloudID))
		} else if !errors.Is(err, errConflict) {
			s.log.Warn("cloud not begun yet", zap.Error(err))
		}
	}
}

// announcer keeps the lease, the announcement and the cloud's lists.
func (s *Store) announcer(ctx context.Context) {
	select {
	case <-s.loaded:
	case <-ctx.Done():
		return
	}
	for backoff := minBackoff; ctx.Err() == nil; {
		err := s.holdLease(ctx)
		if ctx.Err() != nil {
			return
		}
		s.log.Warn("announcement begins anew", zap.Error(err))
		backoff = sleepBackoff(ctx, backoff)
	}
}

// holdLease announces under one lease until that is lost.
func (s *Store) holdLease(ctx context.Context) error {
	lease, err := s.grant(ctx, s.cfg.ServerLease)
	if err != nil {
		return err
	}
	s.lease.Store(int64(lease))
	defer s.lease.Store(0)
	defer func() {
		if ctx.Err() != nil {
			s.withdraw(lease)
		}
	}()
	s.announce.wake()
	renew := time.NewTicker(s.cfg.ServerLease / 4)
	defer renew.Stop()
	renewed := time.Now()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-renew.C:
			_, err := hedged(ctx, readPolicy(s.cfg.ServerLease/2), func(ctx context.Context) (*clientv3.LeaseKeepAliveResponse, error) {
				return s.etcd.KeepAliveOnce(ctx, lease)
			})
			switch {
			case err == nil:
				renewed = time.Now()
			case !errors.Is(err, ErrUnavailable) || time.Since(renewed) > s.cfg.ServerLease:
				return fmt.Errorf("renew lease: %w", err)
			}
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
	return s.decide(withoutIdem(ctx), func(v *View, _ time.Time) (*Change, bool, error) {
		s.announce.mu.Lock()
		own := slices.Clone(s.announce.servers)
		s.announce.mu.Unlock()
		return v.Announce(s.cfg.ID, own, s.lease.Load())
	})
}

// Announce makes the announcements of one announcer what own is, for as long as
// its lease lasts, and the lists what is announced then, with a new generation.
func (v *View) Announce(announcer string, own []Server, lease int64) (*Change, bool, error) {
	if lease == 0 || v.Meta == nil {
		return nil, true, ErrNoChange
	}
	c := new(Change)
	all := maps.Clone(v.Servers)
	mine := announcer + "/"
	keep := make(map[string]bool)
	for _, srv := range own {
		id := mine + srv.Kind + "/" + srv.ID
		keep[id] = true
		if cur := v.Servers[id]; cur == nil || api.HashPart(cur) != api.HashPart(srv) || v.serverLeases[id] != lease {
			c.PutLeased(ServerRef(id), srv, lease)
		}
		all[id] = &srv
	}
	for id := range v.Servers {
		if strings.HasPrefix(id, mine) && !keep[id] {
			c.Delete(ServerRef(id))
			delete(all, id)
		}
	}
	lists := gather(v.Meta.CloudID, all)
	rev := int64(0)
	if v.Cluster != nil {
		rev, lists.Generation = v.Cluster.rev, v.Cluster.Generation
	}
	if v.Cluster == nil || api.HashPart(lists) != api.HashPart(v.Cluster.Cluster) {
		lists.Generation++
		c.Put(ClusterRef, lists)
	}
	if len(c.Ops) == 0 {
		return nil, true, ErrNoChange
	}
	c.Must(ClusterRef, rev)
	return c, false, nil
}

// gather makes the lists of what is announced. A registry that several
// controllers announce is listed once, and is ready if one of them says so.
func gather(cloud string, all map[string]*Server) api.Cluster {
	out := api.Cluster{CloudID: cloud, Controllers: []api.Server{}, Registries: []api.Server{}}
	registries := make(map[string]api.Server)
	for _, key := range slices.Sorted(maps.Keys(all)) {
		srv := all[key]
		if srv.Kind == KindController {
			out.Controllers = append(out.Controllers, srv.Server)
			for _, url := range srv.Push {
				if !slices.Contains(out.PushRegistries, url) {
					out.PushRegistries = append(out.PushRegistries, url)
				}
			}
			continue
		}
		was, ok := registries[srv.URL]
		ready := srv.State == api.ServerReady
		if !ok || was.State != api.ServerReady && ready || was.Version == "" && srv.Version != "" && ready {
			registries[srv.URL] = srv.Server
		}
	}
	for _, srv := range registries {
		out.Registries = append(out.Registries, srv)
	}
	byID := func(a, b api.Server) int { return cmp.Or(cmp.Compare(a.URL, b.URL), cmp.Compare(a.ID, b.ID)) }
	slices.SortFunc(out.Controllers, byID)
	slices.SortFunc(out.Registries, byID)
	return out
}

// withdraw leaves the lists, and gives up the duties by ending the lease.
func (s *Store) withdraw(lease clientv3.LeaseID) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := s.AnnounceNow(ctx, nil); err != nil {
		s.log.Info("not withdrawn from the lists, the lease will do it", zap.Error(err))
	}
	s.lease.Store(0)
	if _, err := s.etcd.Revoke(ctx, lease); err != nil {
		s.log.Info("lease not revoked, it ends by itself", zap.Error(err))
	}
}
