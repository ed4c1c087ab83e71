package agent

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/balancer"
	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/backoff"
)

const (
	// beatTimeout bounds one heartbeat, whatever --request-timeout allows: it has
	// to be repeated before the cloud calls the node Offline. The balancer has
	// tried every controller long before.
	beatTimeout = 20 * time.Second
	// syncPatience is how long a heartbeat or a registration may take before
	// another controller is asked as well: copies of what a large cloud is late to
	// answer would make it later.
	syncPatience = time.Second
	// syncMin is the least time between two heartbeats, so that a burst of
	// changes is one.
	syncMin = 200 * time.Millisecond
)

// retryPace is that of a call that failed at every controller.
var retryPace = backoff.Pace{Min: 250 * time.Millisecond, Max: 5 * time.Second}

// session keeps the node registered and sends its heartbeats.
type session struct {
	cfg        *state.Config
	dir        state.Dir
	caller     caller
	host       controllerapi.HostIdentity
	cloud      Cloud
	onCluster  func(controllerapi.Cluster) // is called with the servers that the cloud announces; may be nil
	statement  *statement
	identified <-chan struct{} // closed once there is something to say of the node
	members    *membership
	assigned   *assignments
	journal    *journal
	wakeups    wakeups
	metrics    *metrics
	log        *zap.Logger
}

// caller is whom the controllers know this process as.
type caller struct {
	node    controllerapi.NodeID
	session string // of this process
}

// run registers the node and sends heartbeats until ctx ends.
func (s *session) run(ctx context.Context) error {
	for {
		interval, err := s.register(ctx)
		if err != nil {
			return err
		}
		err = s.heartbeats(ctx, interval)
		if !errors.Is(err, controllerapi.ErrUnknownNode) {
			return err
		}
		// The cloud lost the node, or it was deleted while it was alive.
		s.log.Warn("the cloud does not know this node, registering again")
	}
}

// identifyWithin bounds how long the first registration waits for what the
// hypervisor has to say: a node without a licence is listed as inactive.
const identifyWithin = 3 * time.Second

// register begins the session, however long that takes.
func (s *session) register(ctx context.Context) (time.Duration, error) {
	select {
	case <-s.identified:
	case <-time.After(identifyWithin):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	for n := 0; ; n++ {
		s.wakeups.address.wake()
		known := s.members.get()
		req := controllerapi.RegisterRequest{
			NodeID: s.caller.node, Session: s.caller.session, SessionStarted: known.since.UTC(),
			Host: s.host, Facts: s.statement.facts(), Seed: s.cfg.Seed, CloudID: known.cluster.CloudID,
		}
		callCtx, cancel := context.WithTimeout(ctx, s.cfg.RequestTimeout)
		resp, err := s.cloud.Register(balancer.WithHedgeAfter(callCtx, syncPatience), req)
		cancel()
		switch {
		case err == nil:
			s.adopt(&resp.Settings, &resp.Cluster, nil, time.Time{})
			s.members.change(func(m *standing) { m.joined, m.syncError, m.refused = true, "", "" })
			s.joinAccepted()
			s.wakeups.capacity.wake()
			s.log.Info("registered", zap.String("cloud_id", resp.Cluster.CloudID))
			return s.interval(resp.HeartbeatIntervalMS), nil
		case ctx.Err() != nil:
			return 0, ctx.Err()
		case isPermanent(err):
			return 0, fmt.Errorf("register: %w", err)
		}
		s.members.change(func(m *standing) { m.syncError = err.Error() })
		s.noteRefusal(err)
		if n%20 == 0 {
			s.log.Warn("cannot register, trying on", zap.Error(err))
		}
		if !retryPace.Wait(ctx, n) {
			return 0, ctx.Err()
		}
	}
}

// joinAccepted notes that the cloud has the join's wishes: from now on its settings
// are its own, also over restarts (A2).
func (s *session) joinAccepted() {
	if !s.cfg.Seed.Overwrite {
		return
	}
	s.cfg.Seed.Overwrite = false
	if err := s.dir.SaveConfig(*s.cfg); err != nil {
		s.log.Warn("the settings could not be stored", zap.Error(err))
	}
}

// interval is the server's pace, at least the configured one.
func (s *session) interval(serverMS int64) time.Duration {
	return max(s.cfg.Heartbeat, min(time.Duration(serverMS)*time.Millisecond, time.Minute))
}

// heartbeats syncs until ctx ends or the cloud wants something else of us. It
// touches nothing that can hang: neither the hypervisor nor the registry nor
// the disk (A1, A7).
func (s *session) heartbeats(ctx context.Context, interval time.Duration) error {
	var acked controllerapi.PartHashes
	var seq int64
	var token string
	timer := time.NewTimer(0)
	defer timer.Stop()
	for failures := 0; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		case <-s.wakeups.heartbeat:
			// Let the rest of a burst arrive.
			if !backoff.Sleep(ctx, syncMin) {
				return ctx.Err()
			}
		}
		seq++
		s.wakeups.address.wake()
		// Before the look at the tasks: what is claimed after that look is not in
		// the request, and its absence from the answer says nothing.
		asked := time.Now()
		p := s.statement.parts()
		req := p.request(acked)
		req.NodeID, req.Session, req.Seq, req.Token = s.caller.node, s.caller.session, seq, token
		req.Load = s.statement.load()
		known := s.members.get()
		req.SettingsGeneration, req.ClusterGeneration = known.settings.Generation, known.cluster.Generation
		req.AssignmentGeneration = s.assigned.generation()

		sent := time.Now()
		callCtx, cancel := context.WithTimeout(ctx, min(beatTimeout, s.cfg.RequestTimeout))
		resp, err := s.cloud.Sync(balancer.WithHedgeAfter(callCtx, syncPatience), req)
		cancel()
		s.metrics.heartbeat(time.Since(sent), err)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if isPermanent(err) || errors.Is(err, controllerapi.ErrUnknownNode) {
				return fmt.Errorf("sync: %w", err)
			}
			if failures == 0 {
				s.log.Warn("heartbeat failed at every controller", zap.Error(err))
			}
			s.members.change(func(m *standing) { m.syncError = err.Error() })
			timer.Reset(min(retryPace.Next(failures), interval))
			failures++
			continue
		}
		if failures > 0 {
			s.log.Info("heartbeats are answered again", zap.Int("failures", failures))
			failures = 0
		}
		acked, token = p.hashes, resp.Token
		s.adopt(resp.Settings, resp.Cluster, resp.Assignments, asked)
		s.members.change(func(m *standing) { m.lastSync, m.syncError = asked, "" })
		if resp.Assignments == nil && !resp.Resync {
			s.assigned.confirm(asked)
		}
		if !s.journal.empty() {
			s.wakeups.plan.wake() // what a record waits for may be the age of the cloud's word
		}
		if resp.HeartbeatIntervalMS > 0 {
			interval = s.interval(resp.HeartbeatIntervalMS)
		}
		if resp.Resync {
			acked = controllerapi.PartHashes{}
			if p.known { // else the first look at the VMs brings the next heartbeat
				timer.Reset(syncMin)
				continue
			}
		}
		timer.Reset(s.untilBeat(asked, interval))
	}
}

// untilBeat places the node's heartbeats within the interval by a hash of its
// id, so that a fleet that was switched on at once does not beat at once.
func (s *session) untilBeat(last time.Time, interval time.Duration) time.Duration {
	h := fnv.New64a()
	h.Write([]byte(s.caller.node))
	phase := time.Duration(h.Sum64() % uint64(interval))
	next := last.Truncate(interval).Add(phase)
	for next.Sub(last) < interval/4 {
		next = next.Add(interval)
	}
	return time.Until(next)
}

// adopt takes over what the cloud said. Nil parts are unchanged.
func (s *session) adopt(settings *controllerapi.NodeSettings, c *controllerapi.Cluster, as *controllerapi.Assignments, asked time.Time) {
	newCluster := c != nil && len(c.Controllers) > 0
	s.members.change(func(m *standing) {
		if settings != nil {
			m.settings = *settings
		}
		if newCluster {
			m.cluster = *c
		}
	})
	if as != nil {
		s.assigned.take(as, asked)
	}
	if settings != nil {
		s.log.Info("settings", zap.String("name", settings.Name), zap.Int("max_vm_count", settings.MaxVMCount),
			zap.String("capacity_mode", settings.CapacityMode), zap.Bool("drain_mode", settings.DrainMode))
		s.wakeups.capacity.wake()
	}
	if as != nil {
		s.wakeups.plan.wake()
	}
	if newCluster {
		if err := s.dir.SaveCluster(*c); err != nil {
			s.log.Warn("the list of servers could not be stored", zap.Error(err))
		}
		if s.onCluster != nil {
			s.onCluster(*c)
		}
	}
}

// noteRefusal remembers that a controller understood the registration and does
// not want it, which repeating will hardly change.
func (s *session) noteRefusal(err error) {
	refused, ok := controllerapi.Answered(err)
	if !ok || refused.Status >= 500 {
		return
	}
	s.members.change(func(m *standing) { m.refused = refused.Message })
}

// isPermanent reports whether the cloud has ended this session, or will not have
// it.
func isPermanent(err error) bool {
	return errors.Is(err, controllerapi.ErrSessionEnded) || errors.Is(err, controllerapi.ErrOtherHost)
}
