package controllerapi

import "time"

// Kinds of events: what callers of the API did, and what the cloud did.
const (
	EventStartVM          = "StartVM"
	EventTerminateVM      = "TerminateVM"
	EventDistribute       = "DistributeTemplateToNodes"
	EventDeleteRegistryVM = "DeleteRegistryVm"
	EventConfigNode       = "ConfigNode"
	EventDeleteNode       = "DeleteNode"

	EventVMStarted        = "VMStarted"
	EventVMFailedToStart  = "VMFailedToStart"
	EventVMTerminated     = "VMTerminated"
	EventTemplatePulled   = "TemplatePulled"
	EventNodeUnregistered = "NodeUnregistered"
)

// Types of events.
const (
	EventAPIAction    = "apiAction"
	EventSystemAction = "systemAction"
)

// Event is one line of the event log, and one POST to ANKA_EVENT_LOG_URL.
type Event struct {
	ID         string         `json:"id"`
	Time       time.Time      `json:"time"`
	Type       string         `json:"type"`
	Event      string         `json:"event"`
	Controller string         `json:"controller"`
	User       string         `json:"user,omitempty"`
	RequestID  string         `json:"request_id,omitempty"`
	Facts      map[string]any `json:"facts"`
}
