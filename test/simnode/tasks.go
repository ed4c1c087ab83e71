package simnode

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/test/history"
)

// errTerminated is why the work on a start ends when the instance is terminated.
var errTerminated = errors.New("the instance was terminated")

// resume takes up the journal of an earlier life: a start that has its VM is
// reported again, one that has none goes back to the queue.
func (n *Node) resume(ctx context.Context, tasks *errgroup.Group) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for id, h := range n.held {
		report := controllerapi.ReportRequest{TaskID: id, Attempt: h.task.Attempt, Phase: controllerapi.PhaseReturned, Message: "the agent was restarted"}
		if v := n.vms[h.task.InstanceID]; v != nil && v.task == id {
			info := v.info
			report.Phase, report.VM, report.Message = controllerapi.PhaseDone, &info, ""
		}
		tasks.Go(func() error { return n.report(ctx, report, h) })
	}
}

// take begins a claimed task.
func (n *Node) take(ctx context.Context, tasks *errgroup.Group, t controllerapi.Task) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.held[t.ID] != nil || n.refused[t.ID] {
		return // brought twice, or too late
	}
	delete(n.orphans, t.ID)
	ctx, cancel := context.WithCancelCause(ctx)
	h := &held{task: t, cancel: cancel}
	n.held[t.ID] = h
	tasks.Go(func() error {
		defer cancel(nil)
		switch t.Kind {
		case controllerapi.TaskStart:
			return n.start(ctx, h)
		case controllerapi.TaskTerminate:
			return n.terminate(ctx, t.InstanceID, t.ID, t.Attempt)
		case controllerapi.TaskRestart:
			return n.restart(ctx, h)
		}
		return n.report(ctx, controllerapi.ReportRequest{TaskID: t.ID, Attempt: t.Attempt, Phase: controllerapi.PhaseFailed,
			Message: fmt.Sprintf("a simulated node cannot do %s", t.Kind)}, h)
	})
}

// start makes a VM for an instance, which is Started once the report is
// confirmed.
func (n *Node) start(ctx context.Context, h *held) error {
	t := h.task
	n.mu.Lock()
	if v := n.vms[t.InstanceID]; v != nil && v.attempt != t.Attempt {
		n.deleteLocked(v)
	}
	n.mu.Unlock()
	if n.cfg.StartTime > 0 {
		progress := controllerapi.ReportRequest{TaskID: t.ID, Attempt: t.Attempt, Phase: controllerapi.PhaseProgress, Stage: controllerapi.StageStarting}
		if err := n.report(ctx, progress, h); err != nil {
			return err
		}
		timer := time.NewTimer(n.cfg.StartTime)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return nil // terminated, or the end of this life
		case <-timer.C:
		}
	}

	n.mu.Lock()
	if n.held[t.ID] != h || ctx.Err() != nil {
		n.mu.Unlock()
		return nil // abandoned or terminated meanwhile
	}
	info := n.createLocked(t).info
	n.mu.Unlock()
	return n.report(ctx, controllerapi.ReportRequest{TaskID: t.ID, Attempt: t.Attempt, Phase: controllerapi.PhaseDone, VM: &info}, h)
}

// createLocked adds a VM to the simulated hypervisor, which like the real one
// has no idea of whether it should exist.
func (n *Node) createLocked(t controllerapi.Task) *vm {
	if v := n.vms[t.InstanceID]; v != nil {
		return v
	}
	now := time.Now().UTC()
	id := uuid.NewString()
	v := &vm{instance: t.InstanceID, attempt: t.Attempt, task: t.ID, began: n.recordedNow(), info: controllerapi.VMInfo{
		UUID: id, Status: "running", Name: "mgmtManaged-" + string(t.InstanceID), CreationDate: now, StartDate: now, Timestamp: now,
		CPUCores: 2, RAM: "4G", NodeID: n.cfg.ID, HostIP: "127.0.0.1", IP: "192.168.64.2",
		PortForwarding: []controllerapi.PortForward{{GuestPort: 22, HostPort: 10000 + len(n.vms), Protocol: "tcp", Name: "ssh"}},
	}}
	n.vms[t.InstanceID] = v
	n.ledger.began(n.cfg.ID, *v, len(n.vms), n.capacityLocked())
	return v
}

// deleteLocked removes a VM and lets the long poll ask for another.
func (n *Node) deleteLocked(v *vm) {
	if n.vms[v.instance] != v {
		return
	}
	delete(n.vms, v.instance)
	n.ledger.ended(n.cfg.ID, *v)
	n.wakeLocked()
}

// restart gives the VM a new start date, as a forced stop and a start do.
func (n *Node) restart(ctx context.Context, h *held) error {
	report := controllerapi.ReportRequest{TaskID: h.task.ID, Attempt: h.task.Attempt, Phase: controllerapi.PhaseFailed, Message: "the VM is not on this node"}
	n.mu.Lock()
	if v := n.vms[h.task.InstanceID]; v != nil {
		v.info.StartDate = time.Now().UTC()
		info := v.info
		report.Phase, report.VM, report.Message = controllerapi.PhaseDone, &info, ""
	}
	n.mu.Unlock()
	return n.report(ctx, report, h)
}

// terminate removes what the node has of an instance and says so. It may be
// told of the same termination by a sync and by a task.
func (n *Node) terminate(ctx context.Context, id controllerapi.InstanceID, task controllerapi.TaskID, attempt int) error {
	n.mu.Lock()
	for _, h := range n.held {
		if h.task.InstanceID == id && h.task.Kind != controllerapi.TaskTerminate {
			if h.cancel != nil {
				h.cancel(errTerminated)
			}
			delete(n.held, h.task.ID)
		}
	}
	if v := n.vms[id]; v != nil {
		n.deleteLocked(v)
	}
	h := n.held[task]
	n.mu.Unlock()
	return n.report(ctx, controllerapi.ReportRequest{TaskID: task, Attempt: attempt, Phase: controllerapi.PhaseDone}, h)
}

// report sends a report until it is confirmed, and forgets the task when the
// report was its last. h is nil for a task that was never claimed.
func (n *Node) report(ctx context.Context, r controllerapi.ReportRequest, h *held) error {
	n.mu.Lock()
	r.NodeID, r.Session, r.Seq = n.cfg.ID, n.session.id, 1
	if h != nil {
		h.seq++
		r.Seq = h.seq
	}
	finished := n.recordReportLocked(r, h)
	n.mu.Unlock()
	for {
		call, cancel := context.WithTimeout(ctx, n.cfg.CallTimeout)
		began := time.Now()
		resp, err := n.api.Report(call, r)
		cancel()
		if ctx.Err() == nil && n.hooks.Reported != nil {
			n.hooks.Reported(time.Since(began), err)
		}
		switch {
		case err == nil:
			finished(!resp.Abandon)
			n.confirmed(r, resp.Abandon, h)
			return nil
		case ctx.Err() != nil:
			finished(false)
			return nil
		case lost(err):
			finished(false)
			return err
		}
		pause(ctx, 500*time.Millisecond)
	}
}

func (n *Node) recordedNow() history.Moment {
	if n.hooks.History == nil {
		return 0
	}
	return n.hooks.History.Now()
}

// recordReportLocked records that a started VM is reported. The function that it
// returns is to be called with whether the cloud accepted it. A report that is
// refused at last may still have counted when it was sent before, without an
// answer.
func (n *Node) recordReportLocked(r controllerapi.ReportRequest, h *held) (finished func(accepted bool)) {
	rec := n.hooks.History
	if rec == nil || h == nil || h.task.Kind != controllerapi.TaskStart || r.Phase != controllerapi.PhaseDone {
		return func(bool) {}
	}
	id, began := h.task.InstanceID, rec.Now()
	if v := n.vms[id]; v != nil {
		began = v.began
	}
	rec.Reporting(r, began)
	return func(accepted bool) {
		if accepted {
			rec.Reported(id, r)
		} else {
			rec.Unconfirmed(id, r)
		}
	}
}

// confirmed draws the consequences of an answered report.
func (n *Node) confirmed(r controllerapi.ReportRequest, abandon bool, h *held) {
	n.mu.Lock()
	defer n.mu.Unlock()
	last := abandon || r.Phase != controllerapi.PhaseProgress
	if h != nil && last && n.held[r.TaskID] == h {
		delete(n.held, r.TaskID)
		n.wakeLocked()
	}
	if h == nil || h.task.Kind != controllerapi.TaskStart {
		return
	}
	v := n.vms[h.task.InstanceID]
	switch {
	case abandon && v != nil && v.task == r.TaskID:
		n.deleteLocked(v)
	case !abandon && r.Phase == controllerapi.PhaseDone:
		n.ledger.confirmed(n.cfg.ID, h.task.InstanceID, r.Attempt)
	}
}
