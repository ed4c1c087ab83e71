package controllerapi

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"
)

// Paths of the agent wire; all are POST.
const (
	PathAgentRegister   = "/api/v1/agent/register"
	PathAgentUnregister = "/api/v1/agent/unregister"
	PathAgentSync       = "/api/v1/agent/sync"
	PathAgentReserve    = "/api/v1/agent/reserve"
	PathAgentReport     = "/api/v1/agent/report"
)

// NodeFacts is what a node says of itself and what changes rarely.
type NodeFacts struct {
	Host         string      `json:"host"` // address for CI
	CPUCount     uint        `json:"cpu_count"`
	RAM          uint        `json:"ram"`       // GB
	HostArch     string      `json:"host_arch"` // amd64 or arm64
	DiskSize     uint64      `json:"disk_size"` // bytes
	AnkaVersion  AnkaVersion `json:"anka_version"`
	AgentVersion string      `json:"agent_version"`
	VLANs        []string    `json:"vlans,omitempty"`
	USBDevices   []USBDevice `json:"usb_devices,omitempty"`
	LicenseValid bool        `json:"license_valid"`
	// Inactive is why the node takes no VMs, "" when it does or when its licence is
	// the reason.
	Inactive string `json:"inactive,omitempty"`
}

// NodeLoad is what changes all the time. A controller stores it only when it
// differs noticeably from what is stored.
type NodeLoad struct {
	CPUUtil       float64 `json:"cpu_util"` // 0..1
	RAMUtil       float64 `json:"ram_util"` // 0..1
	FreeDiskSpace uint64  `json:"free_disk_space"`
	AnkaDiskUsage uint64  `json:"anka_disk_usage"`
	// Numbers is nil from agents of before 0.2.
	Numbers *NodeNumbers `json:"numbers,omitempty"`
}

// NodeNumbers are the few figures of a node that its controllers show for it, so
// that a fleet is seen without a scraper on every Mac. Counts are since the agent
// began.
type NodeNumbers struct {
	Controllers       int `json:"controllers"` // in the agent's pool
	ControllersUsable int `json:"controllers_usable"`
	Registries        int `json:"registries"`
	RegistriesUsable  int `json:"registries_usable"`
	// FailedOpen is true while a pool has too few usable endpoints and tries all.
	FailedOpen   bool   `json:"failed_open,omitempty"`
	BeatsFailed  uint64 `json:"heartbeats_failed,omitempty"` // heartbeats that no controller answered
	Retries      uint64 `json:"retries,omitempty"`           // requests sent again after a failure
	Resumes      uint64 `json:"resumes,omitempty"`           // downloads that went on at another registry
	Pulls        uint64 `json:"pulls,omitempty"`
	PullsFailed  uint64 `json:"pulls_failed,omitempty"`
	Starts       uint64 `json:"starts,omitempty"` // start commands of the hypervisor
	StartsFailed uint64 `json:"starts_failed,omitempty"`
}

// NodeSettings belong to the cloud. Flags of join only seed them.
type NodeSettings struct {
	// Generation changes whenever any other field does. It is compared for
	// equality only: it does not grow.
	Generation            int64     `json:"generation"`
	Name                  string    `json:"name"`
	Host                  string    `json:"host,omitempty"` // set by an operator; replaces the facts' host
	MaxVMCount            int       `json:"max_vm_count"`
	CapacityMode          string    `json:"capacity_mode"` // number or resource
	VCPUOverride          int       `json:"vcpu_override"`
	RAMOverride           int       `json:"ram_override"` // MB
	DrainMode             bool      `json:"drain_mode"`
	DisableCentralLogging bool      `json:"disable_central_logging"`
	IgnoreARMVMLimit      bool      `json:"ignore_arm_vm_limit,omitempty"` // lifts the limit of 2 VMs on arm64
	GroupIDs              []GroupID `json:"group_ids,omitempty"`
}

// SeedSettings are join's flags. A nil field was not given. They take effect
// when the node is first seen, or, with Overwrite, on a re-join that asks for
// changed settings.
type SeedSettings struct {
	Name         *string  `json:"name,omitempty" max:"256"`
	MaxVMCount   *int     `json:"max_vm_count,omitempty"`
	CapacityMode *string  `json:"capacity_mode,omitempty"`
	VCPUOverride *int     `json:"vcpu_override,omitempty"`
	RAMOverride  *int     `json:"ram_override,omitempty"`
	DrainMode    *bool    `json:"drain_mode,omitempty"`
	Groups       []string `json:"groups,omitempty" max:"256"` // names; an unknown one refuses the registration
	// IgnoreARMVMLimit and DisableCentralLogging are as in NodeSettings.
	IgnoreARMVMLimit      *bool `json:"ignore_arm_vm_limit,omitempty"`
	DisableCentralLogging *bool `json:"disable_central_logging,omitempty"`
	Overwrite             bool  `json:"overwrite,omitempty"`
	// Join is the join that asks, "" when that is not known. It overwrites once,
	// however often the agent is restarted before it could note so.
	Join string `json:"join,omitempty"`
}

// HostIdentity tells the host that a node is from one that has a copy of its
// disk. An empty field is not known.
type HostIdentity struct {
	// Hardware is KIND:ID. A node whose hardware is a Mac ("mac") is on no other
	// as long as the cloud knows it; other kinds, such as machines that are made
	// anew around the same disk, may follow each other.
	Hardware string `json:"hardware,omitempty"`
	// Place tells copies on one host apart: the agent's state directory.
	Place string `json:"place,omitempty"`
}

// HardwareMac is the kind of a Mac's platform UUID.
const HardwareMac = "mac:"

// Other reports whether h is known to be another host than the one that was; live
// is true while that one is heard of.
func (h HostIdentity) Other(was HostIdentity, live bool) bool {
	differ := func(a, b string) bool { return a != "" && b != "" && a != b }
	if differ(h.Hardware, was.Hardware) {
		return live || strings.HasPrefix(h.Hardware, HardwareMac) && strings.HasPrefix(was.Hardware, HardwareMac)
	}
	return live && differ(h.Place, was.Place)
}

// RegisterRequest begins a session of a node.
type RegisterRequest struct {
	NodeID  NodeID `json:"node_id"` // made by the agent at join and kept
	Session string `json:"session"` // new for every life of the agent process
	// SessionStarted is for people. The order of sessions is that in which they
	// register: a session that another has replaced cannot come back.
	SessionStarted time.Time    `json:"session_started"`
	Host           HostIdentity `json:"host_identity,omitzero"`
	Facts          NodeFacts    `json:"facts"`
	Seed           SeedSettings `json:"seed"`
	// CloudID is the cloud that the node belonged to before, "" at the first
	// join. A controller of another cloud says so in its log: its etcd may have
	// lost its data.
	CloudID string `json:"cloud_id,omitempty"`
}

// RegisterResponse is the cloud's answer.
type RegisterResponse struct {
	NodeID              NodeID       `json:"node_id"`
	Settings            NodeSettings `json:"settings"`
	Cluster             Cluster      `json:"cluster"`
	HeartbeatIntervalMS int64        `json:"heartbeat_interval_ms"`
}

// SyncRequest is the heartbeat. Nil parts did not change since the last
// acknowledged sync; present parts are complete statements, not differences.
type SyncRequest struct {
	NodeID  NodeID       `json:"node_id"`
	Session string       `json:"session"`
	Seq     int64        `json:"seq"` // grows by one a sync within a session
	Load    NodeLoad     `json:"load"`
	Facts   *NodeFacts   `json:"facts,omitempty"`
	VMs     *[]VMReport  `json:"vms,omitempty"`
	Images  *[]NodeImage `json:"images,omitempty"`
	// Tasks are the claimed tasks that the agent still holds: queued, at work,
	// or ended but not yet reported. A claim that is missing here for longer
	// than it takes to learn of it is lost and goes back to the queue.
	Tasks *[]TaskID `json:"tasks,omitempty"`
	// Hashes are of the parts as the agent has them now, also of those that are
	// nil here. A controller that has another part stored, and was not sent
	// it, answers Resync.
	Hashes PartHashes `json:"hashes"`
	// Token is that of the last answer, from whichever controller; "" at first.
	Token string `json:"token,omitempty"`
	// Known generations; what differs is answered.
	SettingsGeneration   int64  `json:"settings_generation"`
	ClusterGeneration    int64  `json:"cluster_generation"`
	AssignmentGeneration string `json:"assignment_generation"`
}

// PartHashes are HashPart of each part of a sync. The parts are hashed as they
// are sent, so a nil slice must be sent as an empty one, in a fixed order.
type PartHashes struct {
	Facts  string `json:"facts"`
	VMs    string `json:"vms"`
	Images string `json:"images"`
	Tasks  string `json:"tasks"`
}

// HashPart returns a short hash of a part's JSON. Any function of the part
// would do as long as an agent keeps to it; the controller only compares.
func HashPart(part any) string {
	data, err := json.Marshal(part)
	if err != nil {
		panic("controllerapi: a sync part does not encode: " + err.Error())
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:12])
}

// SyncResponse carries what changed. Nil parts are as the agent knows them.
type SyncResponse struct {
	Resync              bool          `json:"resync,omitempty"` // send every part with the next sync, at once
	HeartbeatIntervalMS int64         `json:"heartbeat_interval_ms"`
	Token               string        `json:"token"` // opaque; goes back with the next sync
	Settings            *NodeSettings `json:"settings,omitempty"`
	Cluster             *Cluster      `json:"cluster,omitempty"`
	Assignments         *Assignments  `json:"assignments,omitempty"`
}

// Assignments is the desired state of a node: every instance that the cloud
// has placed on it. A managed VM without an assignment is unknown; the agent
// removes it only when the cloud lists it in Remove. An agent that finds an
// assignment of which its journal knows nothing, and that has no VM, reports
// the task as PhaseReturned, and refuses it if it comes after that. A claim that
// may be on its way to the agent is not listed at first.
type Assignments struct {
	Generation string       `json:"generation"`
	Instances  []Assignment `json:"instances"`
	// Remove names VMs (by UUID) that are managed, were reported often enough
	// without an instance, and shall be deleted.
	Remove []string `json:"remove,omitempty"`
}

// Assignment binds an instance to a node by attempt. A VM of another attempt is
// not the instance's VM.
type Assignment struct {
	InstanceID InstanceID `json:"instance_id"`
	Attempt    int        `json:"attempt"`
	TaskID     TaskID     `json:"task_id"`
	// Terminate is true once the instance is Terminating: its VM must go.
	Terminate bool `json:"terminate,omitempty"`
}

// VMReport is one VM that exists on the node.
type VMReport struct {
	InstanceID InstanceID `json:"instance_id,omitempty"` // "" when the agent does not know
	Attempt    int        `json:"attempt,omitempty"`
	// Managed is true for VMs that carry the cloud's name prefix. Others only
	// take capacity.
	Managed bool   `json:"managed"`
	VCPU    int    `json:"vcpu"`
	RAM     int    `json:"ram"` // MB
	Info    VMInfo `json:"info"`
}

// TaskKind says what a task asks for.
type TaskKind string

const (
	TaskStart      TaskKind = "start"
	TaskTerminate  TaskKind = "terminate"
	TaskRestart    TaskKind = "restart"
	TaskSaveImage  TaskKind = "save_image"
	TaskDistribute TaskKind = "distribute"
	TaskRemove     TaskKind = "remove_template"
	TaskUpgrade    TaskKind = "upgrade"
)

// ReserveRequest asks for one task. It is a long poll of at most WaitMS.
type ReserveRequest struct {
	NodeID        NodeID      `json:"node_id"`
	Session       string      `json:"session"`
	ReservationID string      `json:"reservation_id"` // new for each task wanted; kept over repeats
	Kinds         []TaskKind  `json:"kinds"`          // what the agent has a free worker for
	WaitMS        int64       `json:"wait_ms"`        // at most 50 000
	FreeVMs       int         `json:"free_vms"`       // slots that the node itself believes free
	FreeVCPU      int         `json:"free_vcpu"`
	FreeRAM       int         `json:"free_ram"` // MB
	Images        []NodeImage `json:"images,omitempty"`
}

// ReserveResponse has a task, or nil when none came within the wait.
type ReserveResponse struct {
	Task *Task `json:"task"`
}

// Task is one piece of work that a node has claimed. Its ID is opaque, except
// that TerminateTaskID names an instance's terminate task: it may be reported
// without having been reserved.
type Task struct {
	ID         TaskID     `json:"id"`
	Kind       TaskKind   `json:"kind"`
	InstanceID InstanceID `json:"instance_id,omitempty"`
	Attempt    int        `json:"attempt"`

	Start      *StartTask      `json:"start,omitempty"`
	Restart    *RestartTask    `json:"restart,omitempty"`
	SaveImage  *SaveImageTask  `json:"save_image,omitempty"`
	Distribute *DistributeTask `json:"distribute,omitempty"`
	Remove     *RemoveTask     `json:"remove,omitempty"`
	Upgrade    *UpgradeTask    `json:"upgrade,omitempty"`
}

// TemplateRef names one version of a template with all that a pull needs.
type TemplateRef struct {
	ID         TemplateID `json:"id"`
	Name       string     `json:"name"`
	Tag        string     `json:"tag"`
	Repository string     `json:"repository"` // OCI repository with prefix
	Digest     string     `json:"digest"`     // manifest digest, "" if unknown
	Size       uint64     `json:"size"`       // bytes
}

// TerminateTaskID returns the id of an instance's terminate task.
func TerminateTaskID(id InstanceID) TaskID { return TaskID("t." + string(id)) }

// StartTask starts a VM for an instance. Request holds the options of the
// start call with defaults filled in.
type StartTask struct {
	Template TemplateRef  `json:"template"`
	Request  StartRequest `json:"request"`
}

// RestartTask restarts an instance's VM by a forced stop and a start.
type RestartTask struct {
	USBDevice   string `json:"usb_device,omitempty"`
	VNCPassword string `json:"vnc_password,omitempty"`
}

// SaveImageTask pushes an instance's VM as a new version of a template.
type SaveImageTask struct {
	RequestID string           `json:"request_id"`
	Request   SaveImageRequest `json:"request"`
	// Target is the template that is pushed to; its ID is "" for a new one.
	Target TemplateRef `json:"target"`
	// PushRegistries are tried in order; empty means the nodes' registries.
	PushRegistries []string `json:"push_registries,omitempty"`
}

// SaveImageRequest is the body of POST /api/v1/image.
type SaveImageRequest struct {
	ID                    InstanceID `json:"id" max:"256"`
	Tag                   string     `json:"tag" max:"256"`
	NewTemplateName       string     `json:"new_template_name,omitempty" max:"256"`
	TargetVMID            TemplateID `json:"target_vm_id,omitempty" max:"256"`
	Description           string     `json:"description,omitempty"`
	Suspend               *bool      `json:"suspend,omitempty"`              // default true
	Script                string     `json:"script,omitempty" max:"1048576"` // base64
	RevertBeforePush      bool       `json:"revert_before_push,omitempty"`
	RevertTag             string     `json:"revert_tag,omitempty" max:"256"`
	DoSuspendSanityTest   bool       `json:"do_suspend_sanity_test,omitempty"`
	CancelOnScriptFailure bool       `json:"cancel_on_script_failure,omitempty"`
}

// DistributeTask brings a template tag onto a node.
type DistributeTask struct {
	RequestID string      `json:"request_id"`
	Template  TemplateRef `json:"template"`
}

// RemoveTask removes a template from a node's local store.
type RemoveTask struct {
	TemplateID TemplateID `json:"template_id"`
}

// UpgradeTask replaces the agent's binary.
type UpgradeTask struct {
	Version string `json:"version"`
	Path    string `json:"path"`   // below a controller's URL
	SHA256  string `json:"sha256"` // hex
}

// TaskPhase is where a task stands.
type TaskPhase string

const (
	PhaseProgress TaskPhase = "progress" // still at work
	PhaseDone     TaskPhase = "done"     // as asked
	PhaseFailed   TaskPhase = "failed"   // will not work, here or elsewhere
	PhaseReturned TaskPhase = "returned" // not here: another node may try
)

// Stages of a start task, in order; each maps to an instance state.
const (
	StagePulling  = "pulling"  // Pulling
	StageCloning  = "cloning"  // Scheduling
	StageStarting = "starting" // Scheduling
	StageScript   = "script"   // Scheduling
)

// ReportRequest tells of one task. Seq grows by one a report of that task and
// attempt, beginning with 1. A report is at most MaxReport long: scripts' output
// is cut to its last MB by the agent.
type ReportRequest struct {
	NodeID   NodeID        `json:"node_id"`
	Session  string        `json:"session"`
	TaskID   TaskID        `json:"task_id"`
	Attempt  int           `json:"attempt"`
	Seq      int64         `json:"seq"`
	Phase    TaskPhase     `json:"phase"`
	Stage    string        `json:"stage,omitempty"`
	Progress float64       `json:"progress,omitempty"` // 0..1
	VM       *VMInfo       `json:"vm,omitempty"`
	Script   *ScriptResult `json:"script,omitempty"`
	Message  string        `json:"message,omitempty" max:"65536"` // why it failed or was returned
}

// ReportResponse tells the agent whether the claim still stands.
type ReportResponse struct {
	// Abandon is true when the task is no longer this node's (terminated,
	// claimed elsewhere, node removed): stop work and remove what it made.
	Abandon bool `json:"abandon,omitempty"`
}

// MaxReport is the longest body of a report, in bytes. It leaves room for two
// outputs of 1 MB whose every byte is escaped, which makes six of one (\u001b).
const MaxReport = 13 << 20

// MaxSync is the longest body of a heartbeat, in bytes: thousands of images.
const MaxSync = 1 << 20

// UnregisterRequest removes a node on disjoin, with its tasks and keys.
type UnregisterRequest struct {
	NodeID  NodeID `json:"node_id"`
	Session string `json:"session"`
}
