package simnode

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/ankacluster/ankacluster/balancer"
	"github.com/ankacluster/ankacluster/controllerapi"
)

// lost reports whether err ends the session.
func lost(err error) bool {
	return errors.Is(err, controllerapi.ErrUnknownNode) || errors.Is(err, controllerapi.ErrSessionEnded)
}

// syncLoop sends heartbeats until the session ends.
func (n *Node) syncLoop(ctx context.Context, tasks *errgroup.Group) error {
	next := time.Now().Add(n.phase(n.interval()))
	for {
		timer := time.NewTimer(time.Until(next))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		again, err := n.sync(ctx, tasks)
		if lost(err) {
			return err
		}
		next = next.Add(n.interval())
		if now := time.Now(); again || next.Before(now) {
			next = now
		}
		if err != nil {
			next = time.Now().Add(min(n.interval(), time.Second))
		}
	}
}

func (n *Node) interval() time.Duration {
	if n.cfg.Heartbeat > 0 {
		return n.cfg.Heartbeat
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.session.interval > 0 {
		return n.session.interval
	}
	return 5 * time.Second
}

// syncPatience is how long a heartbeat or registration may take before another
// controller is asked too.
const syncPatience = time.Second

// emptyHash is of a part that lists nothing.
var emptyHash = controllerapi.HashPart([]string{})

// sync sends one heartbeat. again asks for the next one at once.
func (n *Node) sync(ctx context.Context, tasks *errgroup.Group) (again bool, err error) {
	n.mu.Lock()
	n.session.seq++
	s := n.session
	vms, ids := n.vmReportsLocked(), n.heldIDsLocked()
	n.mu.Unlock()

	hashes := controllerapi.PartHashes{Facts: n.factsHash, Images: n.imagesHash, VMs: emptyHash, Tasks: emptyHash}
	if len(vms) > 0 {
		hashes.VMs = controllerapi.HashPart(vms)
	}
	if len(ids) > 0 {
		hashes.Tasks = controllerapi.HashPart(ids)
	}
	req := controllerapi.SyncRequest{NodeID: n.cfg.ID, Session: s.id, Seq: s.seq, Hashes: hashes, Token: s.token,
		Load:               controllerapi.NodeLoad{CPUUtil: 0.1, RAMUtil: 0.2, FreeDiskSpace: 256 << 30},
		SettingsGeneration: s.settingsGen, ClusterGeneration: s.clusterGen, AssignmentGeneration: s.assignmentGen}
	if hashes.Facts != s.acked.Facts {
		req.Facts = &n.facts
	}
	if hashes.VMs != s.acked.VMs {
		req.VMs = &vms
	}
	if hashes.Images != s.acked.Images {
		req.Images = &n.images
	}
	if hashes.Tasks != s.acked.Tasks {
		req.Tasks = &ids
	}

	// Nobody waits for a heartbeat: a second copy of it after some milliseconds
	// would only make a busy cloud busier.
	call, cancel := context.WithTimeout(balancer.WithWait(ctx, syncPatience), n.cfg.CallTimeout)
	defer cancel()
	began := time.Now()
	resp, err := n.api.Sync(call, req)
	if ctx.Err() != nil {
		return false, nil
	}
	if n.hooks.Synced != nil {
		n.hooks.Synced(time.Since(began), err)
	}
	if err != nil {
		return false, err
	}
	n.learn(resp, hashes)
	if resp.Assignments != nil {
		n.follow(ctx, tasks, *resp.Assignments)
	}
	return resp.Resync, nil
}

// learn takes over what an answer says.
func (n *Node) learn(resp controllerapi.SyncResponse, sent controllerapi.PartHashes) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := &n.session
	s.acked, s.token = sent, resp.Token
	if resp.Resync {
		s.acked = controllerapi.PartHashes{}
	}
	if resp.HeartbeatIntervalMS > 0 {
		s.interval = time.Duration(resp.HeartbeatIntervalMS) * time.Millisecond
	}
	if resp.Settings != nil {
		n.settings, s.settingsGen = *resp.Settings, resp.Settings.Generation
		n.wakeLocked()
	}
	if resp.Cluster != nil {
		s.clusterGen, n.cloudID = resp.Cluster.Generation, resp.Cluster.CloudID
	}
	if resp.Assignments != nil {
		s.assignmentGen = resp.Assignments.Generation
	}
}

// follow makes what the node has agree with what the cloud has placed on it.
func (n *Node) follow(ctx context.Context, tasks *errgroup.Group, want controllerapi.Assignments) {
	for _, a := range want.Instances {
		n.mu.Lock()
		v, h := n.vms[a.InstanceID], n.held[a.TaskID]
		n.mu.Unlock()
		switch {
		case a.Terminate:
			tasks.Go(func() error {
				return n.terminate(ctx, a.InstanceID, controllerapi.TerminateTaskID(a.InstanceID), a.Attempt)
			})
		case v == nil && h == nil && n.givenUp(a.TaskID, time.Now()):
			// A claim whose answer never reached us.
			tasks.Go(func() error {
				return n.report(ctx, controllerapi.ReportRequest{TaskID: a.TaskID, Attempt: a.Attempt, Phase: controllerapi.PhaseReturned, Message: "not known to the node"}, nil)
			})
		}
	}
	for _, id := range want.Remove {
		n.mu.Lock()
		for _, v := range n.vms {
			if v.info.UUID == id {
				n.deleteLocked(v)
			}
		}
		n.mu.Unlock()
	}
}

// orphanPatience is how long an unknown assignment is waited for: the answer that
// brings its task may be on its way.
const orphanPatience = 15 * time.Second

// givenUp reports whether an assignment that the journal knows nothing of has
// been unknown for long. Before that it makes the long poll begin anew: under the
// same reservation it gets the same task. A task that was given up is not taken
// any more, should its answer arrive after all.
func (n *Node) givenUp(id controllerapi.TaskID, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	since, seen := n.orphans[id]
	if !seen {
		n.orphans[id] = now
		n.wakeLocked()
		return false
	}
	if now.Sub(since) < orphanPatience {
		return false
	}
	n.refused[id] = true
	return true
}

// reserveLoop keeps a long poll open and hands out what it brings.
func (n *Node) reserveLoop(ctx context.Context, tasks *errgroup.Group) error {
	reservation := uuid.NewString()
	for ctx.Err() == nil {
		poll, cancel := context.WithTimeout(balancer.WithWait(ctx, n.cfg.Wait), n.cfg.Wait+n.cfg.CallTimeout)
		n.mu.Lock()
		n.wake = cancel
		req := controllerapi.ReserveRequest{NodeID: n.cfg.ID, Session: n.session.id, ReservationID: reservation,
			Kinds: []controllerapi.TaskKind{controllerapi.TaskTerminate, controllerapi.TaskRestart}, WaitMS: n.cfg.Wait.Milliseconds(),
			FreeVMs: n.freeLocked(), FreeVCPU: 16, FreeRAM: 14336, Images: n.images}
		if req.FreeVMs > 0 && !n.settings.DrainMode {
			req.Kinds = append(req.Kinds, controllerapi.TaskStart)
		}
		n.mu.Unlock()

		if n.hooks.History != nil {
			n.hooks.History.Reserving(reservation)
		}
		resp, err := n.api.Reserve(poll, req)
		woken := poll.Err() != nil && ctx.Err() == nil
		cancel()
		switch {
		case lost(err):
			return err
		case err != nil && !woken:
			pause(ctx, time.Second)
		case err == nil && resp.Task != nil:
			if n.hooks.History != nil && resp.Task.Kind == controllerapi.TaskStart {
				n.hooks.History.Reserved(reservation, n.cfg.ID, resp.Task.InstanceID, resp.Task.Attempt)
			}
			reservation = uuid.NewString()
			n.take(ctx, tasks, *resp.Task)
		}
	}
	return nil
}

// wakeLocked makes the long poll begin anew with what is free now. Its
// reservation stays, so that a task claimed meanwhile comes with the repeat.
func (n *Node) wakeLocked() {
	if n.wake != nil {
		n.wake()
	}
}

// Holds returns the instances that have a VM on the node.
func (n *Node) Holds() []controllerapi.InstanceID {
	n.mu.Lock()
	defer n.mu.Unlock()
	ids := make([]controllerapi.InstanceID, 0, len(n.vms))
	for id := range n.vms {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}
