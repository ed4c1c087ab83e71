package cloudstore

import (
	"context"
	"sync"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// Loads move all the time and are worth little an hour later. Each Store collects
// what moved noticeably and overwrites one key with it every few seconds: all
// Stores see it pass by, at the cost of one write for any number of nodes.

const (
	loadEvery = 10 * time.Second
	// maxLoads in one broadcast keep it well below what etcd takes.
	maxLoads = 2000
)

// loads are the nodes' loads that are to be broadcast.
type loads struct {
	mu     sync.Mutex
	byNode map[api.NodeID]api.NodeLoad // guarded by mu
}

// noteLoad takes a node's load, to be told if it moved so far that a person would
// see it.
func (s *Store) noteLoad(id api.NodeID, load api.NodeLoad) {
	var known api.NodeLoad
	var ok bool
	s.Read(func(v *cloud.View) { known, ok = v.Loads[id] })
	if ok && cloud.AboutSameLoad(known, load) {
		return
	}
	s.loads.mu.Lock()
	defer s.loads.mu.Unlock()
	s.loads.byNode[id] = load
}

// broadcastLoads tells the other Stores of loads until ctx ends.
func (s *Store) broadcastLoads(ctx context.Context) {
	tick := time.NewTicker(loadEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		loads := s.takeLoads()
		lease := clientv3.LeaseID(s.lease.Load())
		if len(loads) == 0 || lease == 0 {
			continue
		}
		c := new(cloud.Change)
		c.PutLeased(cloud.LoadRef(s.cfg.ID), loads, int64(lease))
		if _, err := s.commit(ctx, c); err != nil && ctx.Err() == nil {
			s.log.Warn("nodes' load not told", zap.Error(err)) // later syncs tell it again
		}
	}
}

func (s *Store) takeLoads() map[api.NodeID]api.NodeLoad {
	s.loads.mu.Lock()
	defer s.loads.mu.Unlock()
	out := make(map[api.NodeID]api.NodeLoad, min(len(s.loads.byNode), maxLoads))
	for id, load := range s.loads.byNode {
		if len(out) == maxLoads {
			break
		}
		out[id] = load
		delete(s.loads.byNode, id)
	}
	return out
}
