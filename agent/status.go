package agent

import (
	"time"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/agent/images"
	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/buildinfo"
)

// Status is what `ankacluster status --machine-readable` prints. The keys of
// Config are documented and read by scripts; the rest is ours.
type Status struct {
	Status string       `json:"status"` // running
	Config StatusConfig `json:"config"`

	NodeID       controllerapi.NodeID `json:"node_id"`
	PID          int                  `json:"pid"`
	Since        time.Time            `json:"since"`
	Registered   bool                 `json:"registered"`
	CloudID      string               `json:"cloud_id"`
	LastSync     time.Time            `json:"last_sync"`
	SyncError    string               `json:"sync_error,omitempty"`
	Refused      string               `json:"refused,omitempty"` // why the cloud does not register the node
	DrainMode    bool                 `json:"drain_mode"`
	Host         string               `json:"host"`
	Runtime      string               `json:"runtime"` // anka or tart
	Hypervisor   hypervisor.Version   `json:"hypervisor"`
	Inactive     string               `json:"inactive,omitempty"` // why the node takes no VMs
	LookedAt     time.Time            `json:"looked_at"`
	LookError    string               `json:"look_error,omitempty"`
	VMs          []VMStatus           `json:"vms"`
	Tasks        []TaskStatus         `json:"tasks"`
	Images       []ImageStatus        `json:"images"`
	LastErrors   []EventStatus        `json:"last_errors"`
	Endpoints    any                  `json:"endpoints,omitempty"` // filled in by the process that owns the pools
	MetricsURL   string               `json:"metrics_url,omitempty"`
	RegistryURL  string               `json:"registry_url,omitempty"` // the loopback proxy
	StateDir     string               `json:"state_dir"`
	FreeDiskByte uint64               `json:"free_disk_space"`
}

// StatusConfig has the documented keys; durations are nanoseconds.
type StatusConfig struct {
	VMLimit               int           `json:"vm_limit"`
	OptimizationThreshold int           `json:"optimization_threshold"`
	TLSCerts              StatusTLS     `json:"tls_certs"`
	NumWorkers            int           `json:"num_workers"`
	ControllerAddresses   []string      `json:"controller_addresses"`
	Version               string        `json:"version"`
	CapacityMode          string        `json:"capacity_mode"`
	Heartbeat             time.Duration `json:"heartbeat"`
	NodeName              string        `json:"node_name"`
	VMStuckCheckDelay     time.Duration `json:"vm_stuck_check_delay"`
	VMStuckCheckTimeout   time.Duration `json:"vm_stuck_check_timeout"`
}

// StatusTLS names the certificate files in use.
type StatusTLS struct {
	UseTLS  bool   `json:"use_tls"`
	CACert  string `json:"ca_cert"`
	Cert    string `json:"cert"`
	CertKey string `json:"cert_key"`
}

// VMStatus is a VM that runs or that the agent manages.
type VMStatus struct {
	UUID       string                   `json:"uuid"`
	Name       string                   `json:"name"`
	Status     string                   `json:"status"`
	IP         string                   `json:"ip,omitempty"`
	Started    time.Time                `json:"start_date"`
	Managed    bool                     `json:"managed"`
	InstanceID controllerapi.InstanceID `json:"instance_id,omitempty"`
}

// TaskStatus is a claimed task.
type TaskStatus struct {
	ID         controllerapi.TaskID     `json:"id"`
	Kind       controllerapi.TaskKind   `json:"kind"`
	InstanceID controllerapi.InstanceID `json:"instance_id,omitempty"`
	State      State                    `json:"state"`
	Claimed    time.Time                `json:"claimed"`
	Untold     bool                     `json:"untold,omitempty"` // its end is not acknowledged yet
	LastError  string                   `json:"last_error,omitempty"`
}

// ImageStatus is an image that the agent pulled.
type ImageStatus struct {
	Name     string    `json:"name"`
	Tag      string    `json:"tag"`
	Size     uint64    `json:"size"`
	Used     time.Time `json:"last_used"`
	Complete bool      `json:"complete"`
}

// statusPage makes the Status of what the owners know.
type statusPage struct {
	cfg       *state.Config
	dir       state.Dir
	node      controllerapi.NodeID
	host      Host
	registry  Registry
	members   *membership
	inventory *inventory
	address   *address
	fitness   *fitness
	images    *images.Cache
	journal   *journal
	errors    *errorLog
}

// make returns the agent's state as of now.
func (p *statusPage) make() Status {
	records := p.journal.all()
	load := p.host.Load()
	list, member := p.inventory.list(), p.members.get()
	c := p.cfg.Credentials
	s := Status{
		Status: "running",
		Config: StatusConfig{
			VMLimit: member.settings.MaxVMCount, OptimizationThreshold: p.cfg.OptimizationThreshold,
			TLSCerts:   StatusTLS{UseTLS: c.TLS || c.Cert != "" || c.CACert != "", CACert: c.CACert, Cert: c.Cert, CertKey: c.CertKey},
			NumWorkers: p.cfg.NumWorkers, ControllerAddresses: []string{}, Version: buildinfo.Version,
			CapacityMode: member.settings.CapacityMode, Heartbeat: p.cfg.Heartbeat, NodeName: member.settings.Name,
			VMStuckCheckDelay: p.cfg.VMStuckDelay, VMStuckCheckTimeout: p.cfg.VMStuckTimeout,
		},
		NodeID: p.node, Since: member.since, Registered: member.joined, CloudID: member.cluster.CloudID,
		LastSync: member.lastSync, SyncError: member.syncError, Refused: member.refused, DrainMode: member.settings.DrainMode, Host: p.address.get(),
		Runtime: p.cfg.Runtime, Hypervisor: p.inventory.hypervisor(), Inactive: p.fitness.unfit(), LookedAt: list.at, LookError: list.err,
		VMs: []VMStatus{}, Tasks: []TaskStatus{}, Images: []ImageStatus{},
		LastErrors: p.errors.list(), RegistryURL: p.registry.URL(), StateDir: string(p.dir),
		FreeDiskByte: load.FreeDiskSpace,
	}
	s.Config.ControllerAddresses = append(s.Config.ControllerAddresses, p.cfg.Controllers...)
	for _, vm := range list.vms {
		isManaged := managed(vm.Name, p.cfg.VMPrefix)
		if !isManaged && vm.Status != hypervisor.Running {
			continue
		}
		v := VMStatus{UUID: vm.UUID, Name: vm.Name, Status: string(vm.Status), IP: vm.IP, Started: vm.Started, Managed: isManaged}
		if r, ok := ownerOf(records, vm); ok {
			v.InstanceID = r.Task.InstanceID
		}
		s.VMs = append(s.VMs, v)
	}
	for _, r := range records {
		if r.State == Running && r.Outcome == nil {
			continue // a VM, not a task
		}
		s.Tasks = append(s.Tasks, TaskStatus{ID: r.Task.ID, Kind: r.Task.Kind, InstanceID: r.Task.InstanceID,
			State: r.State, Claimed: r.Claimed, Untold: r.Outcome != nil, LastError: r.LastError})
	}
	for _, c := range p.images.Pulled() {
		s.Images = append(s.Images, ImageStatus{Name: c.Name, Tag: c.Tag, Size: c.Size, Used: c.Used, Complete: c.Complete})
	}
	return s
}
