package agent

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	"go.uber.org/zap"

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

// keepSession registers the node and sends heartbeats until ctx ends.
func (a *Agent) keepSession(ctx context.Context) error {
	for {
		interval, err := a.register(ctx)
		if err != nil {
			return err
		}
		err = a.heartbeats(ctx, interval)
		if !errors.Is(err, controllerapi.ErrUnknownNode) {
			return err
		}
		// The cloud lost the node, or somebody deleted it while it was alive.
		a.log.Warn("the cloud does not know this node, registering again")
	}
}

// identifyWithin bounds how long the first registration waits for what the
// hypervisor has to say: a node without a licence is listed as inactive.
const identifyWithin = 3 * time.Second

// register begins the session, however long that takes.
func (a *Agent) register(ctx context.Context) (time.Duration, error) {
	select {
	case <-a.inventory.identified:
	case <-time.After(identifyWithin):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	for n := 0; ; n++ {
		a.wakeups.address.wake()
		req := controllerapi.RegisterRequest{
			NodeID: a.id, Session: a.session, SessionStarted: a.since.UTC(),
			Host: a.deps.Identity, Facts: a.statement.facts(), Seed: a.cfg.Seed, CloudID: a.knownCloud(),
		}
		callCtx, cancel := context.WithTimeout(ctx, a.cfg.RequestTimeout)
		resp, err := a.deps.Cloud.Register(balancer.WithHedgeAfter(callCtx, syncPatience), req)
		cancel()
		switch {
		case err == nil:
			a.adopt(&resp.Settings, &resp.Cluster, nil, time.Time{})
			a.mu.Lock()
			a.joined, a.syncError, a.refused = true, "", ""
			a.mu.Unlock()
			a.joinAccepted()
			a.wakeups.capacity.wake()
			a.log.Info("registered", zap.String("cloud_id", resp.Cluster.CloudID))
			return a.interval(resp.HeartbeatIntervalMS), nil
		case ctx.Err() != nil:
			return 0, ctx.Err()
		case isPermanent(err):
			return 0, fmt.Errorf("register: %w", err)
		}
		a.noteSyncError(err)
		a.noteRefusal(err)
		if n%20 == 0 {
			a.log.Warn("cannot register, trying on", zap.Error(err))
		}
		if !retryPace.Wait(ctx, n) {
			return 0, ctx.Err()
		}
	}
}

// joinAccepted notes that the cloud has the join's wishes: from now on its settings
// are its own, also over restarts (A2).
func (a *Agent) joinAccepted() {
	if !a.cfg.Seed.Overwrite {
		return
	}
	a.cfg.Seed.Overwrite = false
	if err := a.dir.SaveConfig(a.cfg); err != nil {
		a.log.Warn("the settings could not be stored", zap.Error(err))
	}
}

// interval is the server's pace, at least the configured one.
func (a *Agent) interval(serverMS int64) time.Duration {
	return max(a.cfg.Heartbeat, min(time.Duration(serverMS)*time.Millisecond, time.Minute))
}

// heartbeats syncs until ctx ends or the cloud wants something else of us. It
// touches nothing that can hang: neither the hypervisor nor the registry nor
// the disk (A1, A7).
func (a *Agent) heartbeats(ctx context.Context, interval time.Duration) error {
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
		case <-a.wakeups.heartbeat:
			// Let the rest of a burst arrive.
			if !backoff.Sleep(ctx, syncMin) {
				return ctx.Err()
			}
		}
		seq++
		a.wakeups.address.wake()
		// Before the look at the tasks: what is claimed after that look is not in
		// the request, and its absence from the answer says nothing.
		asked := time.Now()
		p := a.statement.parts()
		req := p.request(acked)
		req.NodeID, req.Session, req.Seq, req.Token = a.id, a.session, seq, token
		req.Load = a.statement.load()
		a.mu.Lock()
		req.SettingsGeneration, req.ClusterGeneration = a.settings.Generation, a.cluster.Generation
		if a.assigned != nil {
			req.AssignmentGeneration = a.assigned.Generation
		}
		a.mu.Unlock()

		sent := time.Now()
		callCtx, cancel := context.WithTimeout(ctx, min(beatTimeout, a.cfg.RequestTimeout))
		resp, err := a.deps.Cloud.Sync(balancer.WithHedgeAfter(callCtx, syncPatience), req)
		cancel()
		a.metrics.heartbeat(time.Since(sent), err)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if isPermanent(err) || errors.Is(err, controllerapi.ErrUnknownNode) {
				return fmt.Errorf("sync: %w", err)
			}
			if failures == 0 {
				a.log.Warn("heartbeat failed at every controller", zap.Error(err))
			}
			a.noteSyncError(err)
			timer.Reset(min(retryPace.Next(failures), interval))
			failures++
			continue
		}
		if failures > 0 {
			a.log.Info("heartbeats are answered again", zap.Int("failures", failures))
			failures = 0
		}
		acked, token = p.hashes, resp.Token
		a.adopt(resp.Settings, resp.Cluster, resp.Assignments, asked)
		a.mu.Lock()
		a.lastSync, a.syncError = asked, ""
		if resp.Assignments == nil && a.assigned != nil && !resp.Resync {
			a.askedAt = asked // unchanged is as good as sent again
		}
		a.mu.Unlock()
		if !a.journal.empty() {
			a.wakeups.plan.wake() // what a record waits for may be the age of the cloud's word
		}
		if resp.HeartbeatIntervalMS > 0 {
			interval = a.interval(resp.HeartbeatIntervalMS)
		}
		if resp.Resync {
			acked = controllerapi.PartHashes{}
			if p.known { // else the first look at the VMs brings the next heartbeat
				timer.Reset(syncMin)
				continue
			}
		}
		timer.Reset(a.untilBeat(asked, interval))
	}
}

// untilBeat places the node's heartbeats within the interval by a hash of its
// id, so that a fleet that was switched on at once does not beat at once.
func (a *Agent) untilBeat(last time.Time, interval time.Duration) time.Duration {
	h := fnv.New64a()
	h.Write([]byte(a.id))
	phase := time.Duration(h.Sum64() % uint64(interval))
	next := last.Truncate(interval).Add(phase)
	for next.Sub(last) < interval/4 {
		next = next.Add(interval)
	}
	return time.Until(next)
}

// adopt takes over what the cloud said. Nil parts are unchanged.
func (a *Agent) adopt(s *controllerapi.NodeSettings, c *controllerapi.Cluster, as *controllerapi.Assignments, asked time.Time) {
	a.mu.Lock()
	if s != nil {
		a.settings = *s
	}
	if as != nil {
		a.assigned, a.askedAt = as, asked
	}
	newCluster := c != nil && len(c.Controllers) > 0
	if newCluster {
		a.cluster = *c
	}
	a.mu.Unlock()
	if s != nil {
		a.log.Info("settings", zap.String("name", s.Name), zap.Int("max_vm_count", s.MaxVMCount),
			zap.String("capacity_mode", s.CapacityMode), zap.Bool("drain_mode", s.DrainMode))
		a.wakeups.capacity.wake()
	}
	if as != nil {
		a.wakeups.plan.wake()
	}
	if newCluster {
		if err := a.dir.SaveCluster(*c); err != nil {
			a.log.Warn("the list of servers could not be stored", zap.Error(err))
		}
		if a.deps.OnCluster != nil {
			a.deps.OnCluster(*c)
		}
	}
}

func (a *Agent) knownCloud() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cluster.CloudID
}

func (a *Agent) noteSyncError(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.syncError = err.Error()
}

// noteRefusal remembers that a controller understood the registration and does
// not want it, which repeating will hardly change.
func (a *Agent) noteRefusal(err error) {
	var refused *controllerapi.APIError
	if !errors.As(err, &refused) || refused.HTTPStatus >= 500 {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refused = refused.Message
}
