package controllerapi

import (
	"bytes"
	"encoding/json"
	"time"
)

// Distinct types for ids that must not be swapped.
type (
	InstanceID string
	NodeID     string
	GroupID    string
	TemplateID string
	TaskID     string
)

// InstanceState is one of the nine documented words. Clients fail on any other.
type InstanceState string

const (
	Scheduling  InstanceState = "Scheduling"
	Pulling     InstanceState = "Pulling"
	Started     InstanceState = "Started"
	Stopping    InstanceState = "Stopping"
	Stopped     InstanceState = "Stopped"
	Pushing     InstanceState = "Pushing"
	Error       InstanceState = "Error"
	Terminating InstanceState = "Terminating"
	Terminated  InstanceState = "Terminated"
)

// NodeState is one of the documented words.
type NodeState string

const (
	NodeOffline   NodeState = "Offline"
	NodeInactive  NodeState = "Inactive (Invalid License)"
	NodeActive    NodeState = "Active"
	NodeUpdating  NodeState = "Updating"
	NodeUnhealthy NodeState = "Unhealthy"
	NodeDrain     NodeState = "Drain Mode"
)

// Status is the body of GET /api/v1/status.
type Status struct {
	Status          string `json:"status"` // "Running"
	Version         string `json:"version"`
	RegistryAddress string `json:"registry_address"`
	RegistryStatus  string `json:"registry_status"` // "Running" or "FAIL"
	License         string `json:"license"`
	// ServerID is the id under which the controller is in Cluster.Controllers; two
	// addresses with the same one are of one controller.
	ServerID string `json:"server_id,omitempty"`
}

// StartRequest is the body of POST /api/v1/vm. Only VMID is required. How long a
// field may be, in bytes, is in its tag: see internal/wire.
type StartRequest struct {
	VMID                   TemplateID        `json:"vmid" max:"256"`
	Tag                    string            `json:"tag,omitempty" max:"256"`
	Version                *int              `json:"version,omitempty"`
	Name                   string            `json:"name,omitempty" max:"256"`
	ExternalID             string            `json:"external_id,omitempty" max:"1024"`
	Count                  *int              `json:"count,omitempty"` // default 1
	NodeID                 NodeID            `json:"node_id,omitempty" max:"256"`
	StartupScript          string            `json:"startup_script,omitempty" max:"1048576"` // base64
	StartupScriptCondition int               `json:"startup_script_condition,omitempty"`     // 0 network up, 1 booted
	ScriptMonitoring       bool              `json:"script_monitoring,omitempty"`
	ScriptTimeout          int               `json:"script_timeout,omitempty"`      // seconds, default 90
	ScriptFailHandler      int               `json:"script_fail_handler,omitempty"` // 0 stop, 1 keep, 2 delete
	NameTemplate           string            `json:"name_template,omitempty" max:"256"`
	GroupID                GroupID           `json:"group_id,omitempty" max:"256"`
	Group                  string            `json:"group,omitempty" max:"256"`
	Priority               *int              `json:"priority,omitempty"` // 1..10000, default 1000, lower is more urgent
	USBDevice              string            `json:"usb_device,omitempty" max:"256"`
	VCPU                   int               `json:"vcpu,omitempty"`
	VRAM                   int               `json:"vram,omitempty"` // MB
	Metadata               Metadata          `json:"metadata,omitempty" max:"16384"`
	MACAddress             string            `json:"mac_address,omitempty"`
	VLANTag                string            `json:"vlan_tag,omitempty" max:"256"`
	PortForwardingOverride []PortForwardRule `json:"port_forwarding_override,omitempty"`
	NetworkMode            string            `json:"network_mode,omitempty"` // shared, host, bridge, disconnected
	Disk                   *DiskRequest      `json:"disk,omitempty"`
	NetworkLocal           string            `json:"network_local,omitempty"` // forceOn, forceOff
	VideoController        string            `json:"video_controller,omitempty"`
	HVAPIC                 string            `json:"hvapic,omitempty"`
	CSRActiveConfig        string            `json:"csr_active_config,omitempty"`
	HWSerial               string            `json:"hw_serial,omitempty" max:"256"`
	HWUUID                 string            `json:"hw_uuid,omitempty" max:"256"`
	VNCPassword            string            `json:"vnc_password,omitempty" max:"256"`
}

// PortForwardRule asks for a port forward. Ports are strings on the wire;
// integers are accepted.
type PortForwardRule struct {
	Name      string     `json:"name" max:"256"`
	GuestPort FlexString `json:"guest_port"`
	HostIP    string     `json:"host_ip,omitempty"`
	HostPort  FlexString `json:"host_port,omitempty"`
}

// DiskRequest grows a VM's disk before it starts.
type DiskRequest struct {
	Size                string `json:"size"` // with unit T, G, M or K
	SkipContainerResize bool   `json:"skip_container_resize,omitempty"`
}

// Metadata is what users keep with an instance: strings, booleans and integers.
type Metadata map[string]any

// UnmarshalJSON keeps integers to the last digit, as json.Number.
func (m *Metadata) UnmarshalJSON(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	return d.Decode((*map[string]any)(m))
}

// FlexString is a string that some clients send as a JSON number.
type FlexString string

// UnmarshalJSON accepts a JSON string or number.
func (s *FlexString) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] != '"' {
		var n json.Number
		if err := json.Unmarshal(data, &n); err != nil {
			return err
		}
		*s = FlexString(n.String())
		return nil
	}
	return json.Unmarshal(data, (*string)(s))
}

// Instance is one requested VM, as GET /api/v1/vm?id= answers it.
type Instance struct {
	InstanceID    InstanceID    `json:"instance_id"`
	InstanceState InstanceState `json:"instance_state"`
	VMID          TemplateID    `json:"vmid"`
	AnkaRegistry  string        `json:"anka_registry"`
	TS            time.Time     `json:"ts"`      // last update
	CRTime        time.Time     `json:"cr_time"` // creation
	Progress      float64       `json:"progress"`
	VLAN          string        `json:"vlan"`
	GroupID       GroupID       `json:"group_id"`
	USBDevice     string        `json:"usb_device,omitempty"`
	Arch          string        `json:"arch,omitempty"` // amd64, arm64 or unknown
	Tag           string        `json:"tag,omitempty"`
	NodeID        NodeID        `json:"node_id,omitempty"`
	InflightReqID string        `json:"inflight_reqid,omitempty"`
	Name          string        `json:"name,omitempty"`
	ExternalID    string        `json:"external_id,omitempty"`
	Message       string        `json:"message,omitempty"`
	MACAddress    string        `json:"mac_address,omitempty"`
	Version       *int          `json:"version,omitempty"`
	Metadata      Metadata      `json:"metadata,omitempty"`
	StartupScript *ScriptResult `json:"startup_script,omitempty"`
	VMInfo        *VMInfo       `json:"vminfo,omitempty"`
}

// ListedInstance is one element of GET /api/v1/vm.
type ListedInstance struct {
	InstanceID InstanceID `json:"instance_id"`
	ExternalID *string    `json:"external_id"`
	Name       *string    `json:"name"`
	VM         Instance   `json:"vm"`
}

// ScriptResult is what a start-up or save-image script did. Stdout and Stderr
// keep the last 1 MB.
type ScriptResult struct {
	ReturnCode int      `json:"return_code"`
	Errors     []string `json:"errors,omitempty" max:"65536"`
	DidTimeout bool     `json:"did_timeout"`
	Stdout     string   `json:"stdout" max:"13631488"`
	Stderr     string   `json:"stderr" max:"13631488"`
}

// VMInfo is the VM as the node's hypervisor shows it.
type VMInfo struct {
	UUID                string        `json:"uuid"`
	Status              string        `json:"status"` // running, stopped, suspended, failed, ...
	Name                string        `json:"name"`
	Version             string        `json:"version"`
	CreationDate        time.Time     `json:"creation_date"`
	AccessDate          time.Time     `json:"access_date"`
	StartDate           time.Time     `json:"start_date"`
	StopDate            time.Time     `json:"stop_date"`
	Timestamp           time.Time     `json:"timestamp"`
	CPUCores            int           `json:"cpu_cores"`
	RAM                 string        `json:"ram"` // such as "4G"
	NodeID              NodeID        `json:"node_id"`
	HostIP              string        `json:"host_ip"` // the node's --host, what CI connects to
	IP                  string        `json:"ip"`      // guest address, "" until known
	VNCPort             int           `json:"vnc_port,omitempty"`
	VNCConnectionString string        `json:"vnc_connection_string,omitempty"`
	VNCPassword         string        `json:"vnc_password,omitempty"`
	PortForwarding      []PortForward `json:"port_forwarding,omitempty"`
}

// PortForward is a port forward in force.
type PortForward struct {
	GuestPort int    `json:"guest_port"`
	HostPort  int    `json:"host_port"`
	Protocol  string `json:"protocol"` // tcp
	Name      string `json:"name"`
}

// Node is one Mac, as GET /api/v1/node answers it. Byte counts are bytes, RAM
// is GB, VRAM is MB.
type Node struct {
	NodeID         NodeID      `json:"node_id"`
	NodeName       string      `json:"node_name"`
	CPUCount       uint        `json:"cpu_count"`
	RAM            uint        `json:"ram"`
	VMCount        uint        `json:"vm_count"`
	VCPUCount      uint        `json:"vcpu_count"`
	VRAM           uint        `json:"vram"`
	CPUUtil        float64     `json:"cpu_util"` // 0..1
	RAMUtil        float64     `json:"ram_util"` // 0..1
	IPAddress      string      `json:"ip_address"`
	State          NodeState   `json:"state"`
	Capacity       uint        `json:"capacity"`
	CapacityMode   string      `json:"capacity_mode"` // number or resource
	VCPUOverride   int         `json:"vcpu_override"`
	RAMOverride    int         `json:"ram_override"`
	DiskSize       uint64      `json:"disk_size"`
	FreeDiskSpace  uint64      `json:"free_disk_space"`
	AnkaDiskUsage  uint64      `json:"anka_disk_usage"`
	HostArch       string      `json:"host_arch"` // amd64 or arm64, always
	AnkaVersion    AnkaVersion `json:"anka_version"`
	Groups         []Group     `json:"groups,omitempty"`
	USBDevices     []USBDevice `json:"usb_devices"`
	Templates      []NodeImage `json:"templates"`
	LastUpdated    time.Time   `json:"last_updated"`
	Timestamp      int64       `json:"timestamp"` // Unix seconds
	AgentVersion   string      `json:"agent_version"`
	VLANs          []string    `json:"vlans,omitempty"`
	DisableLogging bool        `json:"disable_central_logging,omitempty"`
	InactiveReason string      `json:"inactive_reason,omitempty"` // "" when it is the licence
}

// AnkaVersion is the hypervisor on a node.
type AnkaVersion struct {
	Product string `json:"product"`
	Version string `json:"version"`
	Build   string `json:"build"`
	License string `json:"license"`
	Expires string `json:"expires"`
}

// USBDevice is a device attached to a node; Group names what it is asked by.
type USBDevice struct {
	ID    string `json:"id"`
	Name  string `json:"name"`
	Group string `json:"group"`
	Busy  bool   `json:"busy"`
}

// NodeImage is a template tag in a node's local store.
type NodeImage struct {
	UUID TemplateID `json:"uuid"`
	Name string     `json:"name"`
	Tag  string     `json:"tag"`
}

// Group is a node group.
type Group struct {
	ID              GroupID  `json:"id"`
	Name            string   `json:"name"`
	Description     string   `json:"description"`
	FallbackGroupID *GroupID `json:"fallback_group_id"`
}

// Cluster is the body of GET /api/v1/cluster: the servers of the cloud that are
// alive now. It is an addition of ours.
type Cluster struct {
	CloudID     string   `json:"cloud_id"`
	Generation  int64    `json:"generation"` // grows with every change of the lists
	Controllers []Server `json:"controllers"`
	Registries  []Server `json:"registries"`
	// PushRegistries is where images are pushed; empty means Registries.
	PushRegistries []string `json:"push_registries,omitempty"`
	// Problems are what a person should do something about, as the controller that
	// answers GET /api/v1/cluster sees it. They are no part of what nodes are told.
	Problems []string `json:"problems,omitempty"`
}

// Server is a controller or registry that has announced itself.
type Server struct {
	ID      string `json:"id"`
	URL     string `json:"url"`
	State   string `json:"state"` // ready or draining
	Version string `json:"version"`
}

// Server states.
const (
	ServerReady    = "ready"
	ServerDraining = "draining"
)
