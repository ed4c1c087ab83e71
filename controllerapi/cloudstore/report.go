package cloudstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
)

const (
	// maxAttempts is how often an instance is tried before it is in error.
	maxAttempts = 10
	// progressStep and progressEvery bound the writes that a pull's progress
	// costs.
	progressStep  = 0.05
	progressEvery = time.Second
	// seenEvery is how often a report that says nothing new is written, to show
	// that the task is alive.
	seenEvery = time.Minute
)

// Report takes what a node says of a task. It reports whether the task is not
// the node's any more.
func (s *Store) Report(ctx context.Context, req *api.ReportRequest) (abandon bool, err error) {
	if err := s.CheckSession(ctx, req.NodeID, req.Session); err != nil {
		return false, err
	}
	kind, ref, rest := splitTask(req.TaskID)
	id := api.InstanceID(ref)
	switch kind {
	case taskStart:
		if err := s.storeOutput(ctx, req, instanceRef(id), ref); err != nil {
			return false, err
		}
		err = s.updateInstance(ctx, id, nil, func(v *View, i *Instance, now time.Time) error {
			return i.reportStart(v, req, now)
		})
		if err == nil && req.Phase == api.PhaseDone {
			s.learnSize(ctx, id, req.VM)
		}
	case taskTerminate:
		err = s.updateInstance(ctx, id, nil, func(v *View, i *Instance, now time.Time) error {
			return i.reportTerminate(req, now)
		})
	case taskRestart:
		err = s.updateInstance(ctx, id, nil, func(v *View, i *Instance, now time.Time) error {
			return i.reportRestart(v, req, rest, now)
		})
	case taskImage:
		err = s.reportImage(ctx, req, ref)
	case taskJob:
		err = s.reportJob(ctx, req, ref)
	default:
		return true, nil
	}
	if errors.Is(err, ErrNotFound) || errors.Is(err, errNotYours) {
		return true, nil
	}
	return false, err
}

// errNotYours: the task is another node's, or over.
var errNotYours = errors.New("task is not this node's")

// reportStart takes a report of a start task.
func (i *Instance) reportStart(v *View, req *api.ReportRequest, now time.Time) error {
	if i.Ended() || i.Claim == nil || i.Claim.Node != req.NodeID || i.Attempt != req.Attempt || i.TaskID() != req.TaskID {
		return errNotYours
	}
	if req.Seq <= i.Claim.Seq || i.Claim.Done {
		return errNoChange
	}
	claim := *i.Claim
	claim.Seq, claim.Seen, claim.Session = req.Seq, now, req.Session
	before := i.Public
	i.Claim = &claim
	if req.VM != nil {
		i.Public.VMInfo = v.complete(req.NodeID, req.VM)
	}
	switch req.Phase {
	case api.PhaseProgress:
		i.progress(req, now)
		moved := i.Public.InstanceState != before.InstanceState || req.VM != nil && !sameVM(before.VMInfo, i.Public.VMInfo) ||
			diff(i.Public.Progress, before.Progress) >= progressStep && v.AgeOf(i, now) >= progressEvery
		if !moved && v.AgeOf(i, now) < seenEvery {
			return errNoChange
		}
		i.Public.TS = now
	case api.PhaseDone:
		claim.Done = true
		i.takeScript(req.Script)
		i.Public.Progress = 1
		i.Public.Message = ""
		i.become(api.Started, now)
		i.Public.TS = now
	case api.PhaseFailed:
		claim.Done = true
		i.takeScript(req.Script)
		i.failure = FailedAtNode
		i.fail(orElse(req.Message, "the node could not start the VM"), now)
	case api.PhaseReturned:
		why := orElse(req.Message, "handed back by the node")
		if i.Attempt >= maxAttempts {
			claim.Done = true
			i.failure = FailedHandedBack
			i.fail(fmt.Sprintf("handed back by nodes %d times, at last: %s", i.Attempt, why), now)
			return nil
		}
		i.requeue(why, now)
	}
	return nil
}

func (i *Instance) progress(req *api.ReportRequest, now time.Time) {
	if req.Stage == api.StagePulling {
		i.become(api.Pulling, now)
		i.Public.Progress = min(max(req.Progress, 0), 1)
		return
	}
	i.become(api.Scheduling, now)
}

func (i *Instance) takeScript(r *api.ScriptResult) {
	if r != nil {
		i.Public.StartupScript, i.LongOutput = shorten(r)
	}
}

// reportTerminate takes a report of a terminate task.
func (i *Instance) reportTerminate(req *api.ReportRequest, now time.Time) error {
	if i.Public.InstanceState != api.Terminating {
		return errNoChange // confirmed before
	}
	if i.Claim == nil || i.Claim.Node != req.NodeID {
		return errNotYours
	}
	switch req.Phase {
	case api.PhaseDone:
		i.become(api.Terminated, now)
		i.Public.TS = now
	case api.PhaseFailed, api.PhaseReturned:
		if i.Public.Message == req.Message {
			return errNoChange
		}
		i.Public.Message = req.Message
		i.Public.TS = now
	default:
		return errNoChange
	}
	return nil
}

// reportRestart takes a report of a restart; meanwhile the state stays Started.
func (i *Instance) reportRestart(v *View, req *api.ReportRequest, restart string, now time.Time) error {
	if i.Ended() || i.Claim == nil || i.Claim.Node != req.NodeID {
		return errNotYours
	}
	if i.Restart == nil || i.Restart.ID != restart {
		return errNoChange // reported before
	}
	switch req.Phase {
	case api.PhaseDone:
		i.Restart = nil
		i.become(api.Started, now)
	case api.PhaseFailed, api.PhaseReturned:
		i.fail(orElse(req.Message, "the node could not restart the VM"), now)
	case api.PhaseProgress:
		if req.VM == nil || sameVM(i.Public.VMInfo, v.complete(req.NodeID, req.VM)) {
			return errNoChange
		}
	}
	if req.VM != nil {
		i.Public.VMInfo = v.complete(req.NodeID, req.VM)
	}
	i.Public.TS = now
	return nil
}

// complete fills in what the cloud knows better of a VM than its node: where CI
// reaches it.
func (v *View) complete(node api.NodeID, vm *api.VMInfo) *api.VMInfo {
	out := *vm
	out.NodeID = node
	if n := v.Nodes[node]; n != nil && (n.Settings.Host != "" || out.HostIP == "") {
		out.HostIP = n.Host()
	}
	return &out
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
