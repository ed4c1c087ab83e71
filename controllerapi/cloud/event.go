package cloud

import (
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
)

// Failure is a reason why an instance was not started.
type Failure string

// The reasons, a closed set for metrics; the instance's message has the details.
const (
	FailedAtNode     Failure = "node"        // the node reported that it cannot be started
	FailedHandedBack Failure = "handed_back" // too many nodes gave it back
	FailedNoNode     Failure = "no_node"     // no node took it in time
	FailedNodeLost   Failure = "node_lost"   // its node was offline, silent or removed
)

// Stage is a part of the way from the request to the running VM.
type Stage string

// The stages. StageTotal is from the request to Started.
const (
	StageQueued   Stage = "queued"   // until a node took it, the last time
	StagePulling  Stage = "pulling"  // the template comes to the node
	StageStarting Stage = "starting" // clone, boot, script: all else at the node
	StageTotal    Stage = "total"
)

// StartObserver hears how starts go; each is told at one controller.
type StartObserver interface {
	Took(template api.TemplateRef, stage Stage, d time.Duration)
	Failed(template api.TemplateRef, why Failure)
}

// ObserveStart tells the observer of a change of state. The times were stamped by
// the controllers that made the changes, so clocks that differ show here.
func ObserveStart(o StartObserver, before, after *Instance) {
	from, to, now := before.Public.InstanceState, after.Public.InstanceState, after.Since
	if from != api.Scheduling && from != api.Pulling {
		return
	}
	took := func(stage Stage, since time.Time) {
		if !since.IsZero() {
			o.Took(after.Template, stage, max(now.Sub(since), 0))
		}
	}
	switch {
	case to == api.Error:
		why := after.failure
		switch {
		case why != "":
		case before.Claim == nil:
			why = FailedNoNode
		default:
			why = FailedNodeLost
		}
		o.Failed(after.Template, why)
	case from == api.Pulling && after.Claim != nil && (to == api.Scheduling || to == api.Started):
		took(StagePulling, before.Since)
	}
	if to == api.Started && after.Claim != nil {
		o.Took(after.Template, StageQueued, max(after.Claim.At.Sub(after.WaitsSince()), 0))
		began := after.Claim.At
		if from == api.Scheduling && before.Since.After(began) {
			began = before.Since // the pull's end
		}
		took(StageStarting, began)
		took(StageTotal, after.Public.CRTime)
	}
}

// EventOf returns the event that a change of state is, "" for none.
func EventOf(before, after *Instance) (kind string, facts map[string]any) {
	from, to := before.Public.InstanceState, after.Public.InstanceState
	switch {
	case to == api.Started && (from == api.Scheduling || from == api.Pulling):
		kind = api.EventVMStarted
	case to == api.Error && (from == api.Scheduling || from == api.Pulling):
		kind = api.EventVMFailedToStart
	case to == api.Terminated && from != to:
		kind = api.EventVMTerminated
	case from == api.Pulling && to == api.Scheduling && after.Claim != nil:
		kind = api.EventTemplatePulled
	default:
		return "", nil
	}
	facts = map[string]any{
		"instance_id": after.Public.InstanceID, "vmid": after.Public.VMID, "tag": after.Public.Tag,
		"node_id": after.Public.NodeID, "external_id": after.Public.ExternalID,
	}
	if after.Public.Message != "" {
		facts["message"] = after.Public.Message
	}
	return kind, facts
}
