package cloud

import (
	"strconv"
	"sync/atomic"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/schedule"
)

// Records are immutable once they are in the cache: change a copy, and replace
// what pointers point to instead of writing through them.

// Meta is the cloud's identity.
type Meta struct {
	CloudID string    `json:"cloud_id"`
	Created time.Time `json:"created"`
	Schema  int       `json:"schema"`
}

// Instance is one instance with all that the cloud knows of it, except its
// start request, which is under Batch.
type Instance struct {
	Public  api.Instance `json:"public"`
	Request string       `json:"batch"` // key of the start request
	// Template is resolved when the instance is accepted.
	Template api.TemplateRef `json:"template"`
	Priority int             `json:"priority"`
	PinNode  api.NodeID      `json:"pin_node,omitempty"`
	VCPU     int             `json:"vcpu,omitempty"` // demand in resource mode
	RAM      int             `json:"ram,omitempty"`  // MB
	// Attempt counts placements, from 1. A VM of another attempt is not this
	// instance's VM.
	Attempt int      `json:"attempt"`
	Claim   *Claim   `json:"claim,omitempty"`
	Avoid   []Avoid  `json:"avoid,omitempty"`
	Restart *Restart `json:"restart,omitempty"`
	// LongOutput is true when the script's output is longer than what is shown
	// here; see Shorten.
	LongOutput bool `json:"long_output,omitempty"`
	// Image is the save-image request in progress, "" for none.
	Save string `json:"image,omitempty"`
	// Deleted is when the instance left the lists. Its record stays a while, so
	// that late reports and repeats find it.
	Deleted *time.Time `json:"buried,omitempty"`
	// Since is when the instance came into its state, for figures alone; zero for
	// the first state, and in records of before 0.2.
	Since time.Time `json:"since,omitzero"`

	failure Failure // why the change that is being made is a failed start
	Rev     int64   `json:"-"`
	Created int64   `json:"-"` // revision of the creation
	listed  lazyJSON
	task    atomic.Pointer[schedule.Task] // see ScheduleTask
}

// Claim binds an instance to a node.
type Claim struct {
	Node        api.NodeID `json:"node"`
	Session     string     `json:"session"`
	Reservation string     `json:"reservation"`
	At          time.Time  `json:"at"`
	Seq         int64      `json:"seq"`  // of the newest report taken
	Seen        time.Time  `json:"seen"` // when it was taken
	Done        bool       `json:"done,omitempty"`
}

// Avoid remembers a node that handed the instance back.
type Avoid struct {
	Node api.NodeID `json:"node"`
	At   time.Time  `json:"at"`
	Why  string     `json:"why,omitempty"`
	Rev  int64      `json:"rev,omitempty"` // about when; see UpdateInstance
}

// Restart is a restart in progress.
type Restart struct {
	ID   string          `json:"id"`
	At   time.Time       `json:"at"`
	Task api.RestartTask `json:"task"`
	Rev  int64           `json:"rev,omitempty"` // about when; see UpdateInstance
}

// TaskID returns the id of the instance's start task in its current attempt.
func (i *Instance) TaskID() api.TaskID {
	return api.TaskID(StartLetter + "." + string(i.Public.InstanceID) + "." + strconv.Itoa(i.Attempt))
}

// Pending reports whether the instance waits for a node.
func (i *Instance) Pending() bool {
	return i.Public.InstanceState == api.Scheduling && i.Claim == nil && i.Deleted == nil
}

// WaitsSince is when a pending instance came into the queue: when it was created,
// or handed back last. It is a stamp of some controller's clock, for figures.
func (i *Instance) WaitsSince() time.Time {
	if n := len(i.Avoid); n > 0 {
		return i.Avoid[n-1].At
	}
	return i.Public.CRTime
}

// Ended reports whether the instance's end was asked for, or has come.
func (i *Instance) Ended() bool {
	return i.Public.InstanceState == api.Terminating || i.Public.InstanceState == api.Terminated || i.Deleted != nil
}

// Node is what changes rarely of a node.
type Node struct {
	ID             api.NodeID `json:"id"`
	Session        string     `json:"session"`
	SessionStarted time.Time  `json:"session_started"`
	// Past are the sessions before, newest last: a register of theirs that comes
	// late changes nothing.
	Past       []string         `json:"past,omitempty"`
	Machine    api.HostIdentity `json:"host_identity,omitzero"`
	Registered time.Time        `json:"registered"`
	Facts      api.NodeFacts    `json:"facts"`
	FactsHash  string           `json:"facts_hash"`
	Settings   api.NodeSettings `json:"settings"`       // without groups and generation
	Join       string           `json:"join,omitempty"` // whose seeds were taken last

	Rev int64 `json:"-"`
}

// Host is the node's address for CI.
func (n *Node) Host() string { return orElse(n.Settings.Host, n.Facts.Host) }

// NodeReport is what a node said with its last sync that changed anything.
type NodeReport struct {
	Session    string          `json:"session"`
	Seq        int64           `json:"seq"`
	VMs        []ReportedVM    `json:"vms,omitempty"`
	VMsHash    string          `json:"vms_hash"`
	Images     []api.NodeImage `json:"images,omitempty"`
	ImagesHash string          `json:"images_hash"`
	Tasks      []api.TaskID    `json:"tasks,omitempty"`
	TasksHash  string          `json:"tasks_hash"`
	At         time.Time       `json:"at"`

	Rev    int64                   `json:"-"`
	placed map[schedule.Image]bool // Images, as placement looks them up
}

// ReportedVM is a VM on a node, as far as capacity and reconciliation need it.
type ReportedVM struct {
	Instance api.InstanceID `json:"instance,omitempty"`
	Attempt  int            `json:"attempt,omitempty"`
	Managed  bool           `json:"managed,omitempty"`
	UUID     string         `json:"uuid"`
	Status   string         `json:"status"`
	VCPU     int            `json:"vcpu,omitempty"`
	RAM      int            `json:"ram,omitempty"`
	// UnknownSince is the sync that first showed this managed VM without an
	// instance, 0 while it is known.
	UnknownSince int64 `json:"unknown_since,omitempty"`
}

// Running reports whether the VM takes a slot of the host.
func (v ReportedVM) Running() bool { return v.Status == "running" }

// NodeLease exists as long as a node's lease does.
type NodeLease struct {
	Session string `json:"session"`

	Lease int64 `json:"-"`
	Rev   int64 `json:"-"`
}

// HandoutLog lists the tasks that a node has been handed, so that a repeated
// reservation finds its task and no capacity is given twice: every hand-out
// compares and changes the log.
type HandoutLog struct {
	Handouts []Handout `json:"handed"`
	// UsedReservations are the beginnings of the last reservations whose tasks are over.
	UsedReservations []string `json:"spent,omitempty"`

	Rev int64 `json:"-"`
}

// Handout is one hand-out.
type Handout struct {
	Task        api.TaskID `json:"task"`
	Reservation string     `json:"reservation"`
	Session     string     `json:"session"`
	At          time.Time  `json:"at"`
}

// Server is an announcement of a controller or registry.
type Server struct {
	Kind string `json:"kind"` // controller or registry
	api.Server
	Push []string `json:"push,omitempty"` // a controller's push registries
}

// Leader names the process that does a duty at present.
type Leader struct {
	ID string `json:"id"`
}
