package cloud

import (
	"errors"
	"fmt"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
)

const (
	// MaxAttempts is how often an instance is tried before it is in error.
	MaxAttempts = 10
	// progressStep and progressEvery bound the writes that a pull's progress
	// costs.
	progressStep  = 0.05
	progressEvery = time.Second
	// seenEvery is how often a report that says nothing new is written, to show
	// that the task is alive.
	seenEvery = time.Minute
)

// ErrNotYours: the task is another node's, or over.
var ErrNotYours = errors.New("task is not this node's")

// ReportStart takes a report of a start task.
func (i *Instance) ReportStart(v *View, req *api.ReportRequest, now time.Time) error {
	if i.Ended() || i.Claim == nil || i.Claim.Node != req.NodeID || i.Attempt != req.Attempt || i.TaskID() != req.TaskID {
		return ErrNotYours
	}
	if req.Seq <= i.Claim.Seq || i.Claim.Done {
		return ErrNoChange
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
			return ErrNoChange
		}
		i.Public.TS = now
	case api.PhaseDone:
		claim.Done = true
		i.takeScript(req.Script)
		i.Public.Progress = 1
		i.Public.Message = ""
		i.Become(api.Started, now)
		i.Public.TS = now
	case api.PhaseFailed:
		claim.Done = true
		i.takeScript(req.Script)
		i.failure = FailedAtNode
		i.Fail(orElse(req.Message, "the node could not start the VM"), now)
	case api.PhaseReturned:
		why := orElse(req.Message, "handed back by the node")
		if i.Attempt >= MaxAttempts {
			claim.Done = true
			i.failure = FailedHandedBack
			i.Fail(fmt.Sprintf("handed back by nodes %d times, at last: %s", i.Attempt, why), now)
			return nil
		}
		i.Requeue(why, now)
	}
	return nil
}

func (i *Instance) progress(req *api.ReportRequest, now time.Time) {
	if req.Stage == api.StagePulling {
		i.Become(api.Pulling, now)
		i.Public.Progress = min(max(req.Progress, 0), 1)
		return
	}
	i.Become(api.Scheduling, now)
}

func (i *Instance) takeScript(r *api.ScriptResult) {
	if r != nil {
		i.Public.StartupScript, i.LongOutput = Shorten(r)
	}
}

// ReportTerminate takes a report of a terminate task.
func (i *Instance) ReportTerminate(req *api.ReportRequest, now time.Time) error {
	if i.Public.InstanceState != api.Terminating {
		return ErrNoChange // confirmed before
	}
	if i.Claim == nil || i.Claim.Node != req.NodeID {
		return ErrNotYours
	}
	switch req.Phase {
	case api.PhaseDone:
		i.Become(api.Terminated, now)
		i.Public.TS = now
	case api.PhaseFailed, api.PhaseReturned:
		if i.Public.Message == req.Message {
			return ErrNoChange
		}
		i.Public.Message = req.Message
		i.Public.TS = now
	default:
		return ErrNoChange
	}
	return nil
}

// ReportRestart takes a report of a restart; meanwhile the state stays Started.
func (i *Instance) ReportRestart(v *View, req *api.ReportRequest, restart string, now time.Time) error {
	if i.Ended() || i.Claim == nil || i.Claim.Node != req.NodeID {
		return ErrNotYours
	}
	if i.Restart == nil || i.Restart.ID != restart {
		return ErrNoChange // reported before
	}
	switch req.Phase {
	case api.PhaseDone:
		i.Restart = nil
		i.Become(api.Started, now)
	case api.PhaseFailed, api.PhaseReturned:
		i.Fail(orElse(req.Message, "the node could not restart the VM"), now)
	case api.PhaseProgress:
		if req.VM == nil || sameVM(i.Public.VMInfo, v.complete(req.NodeID, req.VM)) {
			return ErrNoChange
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
