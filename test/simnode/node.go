package simnode

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/ankacluster/ankacluster/balancer"
	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/test/history"
)

// Config describes a simulated node.
type Config struct {
	ID       controllerapi.NodeID
	Arch     string // "" means arm64
	Capacity int    // VMs at once; 0 means 2
	// StartTime is how long a VM takes to start; 0 is at once.
	StartTime time.Duration
	// Heartbeat is the time between two syncs; 0 follows the cloud's answer.
	Heartbeat time.Duration
	// Wait is the length of a long poll; 0 means DefaultWait.
	Wait time.Duration
	// Images are in the node's store from the beginning. Any other template is
	// fetched at once.
	Images []controllerapi.NodeImage
	Groups []string
	// CallTimeout bounds every call but the long poll; 0 means 10 s.
	CallTimeout time.Duration
}

// DefaultWait is the length of a long poll, as the agent has it.
const DefaultWait = 25 * time.Second

// Hooks are told what the node sees. Nil ones are not called.
type Hooks struct {
	// Synced is called after every sync with its duration and error.
	Synced func(time.Duration, error)
	// Reported is called after every report.
	Reported func(time.Duration, error)
	// History records claims and reports of starts.
	History *history.Recorder
}

// Node is one simulated node.
type Node struct {
	cfg    Config
	api    *controllerapi.Client
	ledger *Ledger
	hooks  Hooks
	// Neither changes, nor do their hashes: ten thousand nodes in one process
	// would hash most of the time.
	facts                 controllerapi.NodeFacts
	images                []controllerapi.NodeImage
	factsHash, imagesHash string

	mu       sync.Mutex
	session  session
	settings controllerapi.NodeSettings
	vms      map[controllerapi.InstanceID]*vm
	held     map[controllerapi.TaskID]*held
	cloudID  string
	// orphans are assignments that the journal does not know, with when they were
	// first seen; refused are those that were returned for it.
	orphans map[controllerapi.TaskID]time.Time
	refused map[controllerapi.TaskID]bool
	// wake ends a long poll whose statement of free slots is out of date.
	wake context.CancelFunc
}

// vm is an entry of the simulated hypervisor.
type vm struct {
	instance controllerapi.InstanceID
	attempt  int
	task     controllerapi.TaskID
	info     controllerapi.VMInfo
	began    history.Moment
}

// held is a task that was claimed and whose end the cloud has not confirmed.
type held struct {
	task   controllerapi.Task
	seq    int64
	cancel context.CancelCauseFunc // of the goroutine at work, nil for none
}

// session is what ends with a life of the agent.
type session struct {
	id            string
	seq           int64
	token         string
	acked         controllerapi.PartHashes
	settingsGen   int64
	clusterGen    int64
	assignmentGen string
	interval      time.Duration
}

// New returns a node that has no VMs yet.
func New(cfg Config, api *controllerapi.Client, ledger *Ledger, hooks Hooks) *Node {
	if cfg.Arch == "" {
		cfg.Arch = "arm64"
	}
	if cfg.Capacity == 0 {
		cfg.Capacity = 2
	}
	if cfg.Wait == 0 {
		cfg.Wait = DefaultWait
	}
	if cfg.CallTimeout == 0 {
		cfg.CallTimeout = 10 * time.Second
	}
	facts, images := facts(cfg.Arch), append([]controllerapi.NodeImage{}, cfg.Images...)
	return &Node{cfg: cfg, api: api, ledger: ledger, hooks: hooks,
		facts: facts, factsHash: controllerapi.HashPart(facts), images: images, imagesHash: controllerapi.HashPart(images),
		vms: make(map[controllerapi.InstanceID]*vm), held: make(map[controllerapi.TaskID]*held),
		orphans: make(map[controllerapi.TaskID]time.Time), refused: make(map[controllerapi.TaskID]bool)}
}

// Run is one life of the agent: it registers and works until ctx ends. It
// returns nil then, and controllerapi.ErrSessionEnded when another life of the
// same node has begun.
func (n *Node) Run(ctx context.Context) error {
	started := time.Now()
	for ctx.Err() == nil {
		if err := n.register(ctx, started); err != nil {
			if errors.Is(err, controllerapi.ErrSessionEnded) {
				return err
			}
			pause(ctx, time.Second)
			continue
		}
		err := n.work(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, controllerapi.ErrUnknownNode):
			// The cloud has forgotten us: begin again, with our VMs.
		default:
			return err
		}
	}
	return nil
}

// work runs the loops of a session until one of them cannot go on.
func (n *Node) work(ctx context.Context) error {
	tasks, ctx := errgroup.WithContext(ctx)
	n.resume(ctx, tasks)
	tasks.Go(func() error { return n.syncLoop(ctx, tasks) })
	tasks.Go(func() error { return n.reserveLoop(ctx, tasks) })
	return tasks.Wait()
}

func (n *Node) register(ctx context.Context, started time.Time) error {
	id := string(n.cfg.ID)
	n.mu.Lock()
	n.session = session{id: uuid.NewString()}
	req := controllerapi.RegisterRequest{
		NodeID: n.cfg.ID, Session: n.session.id, SessionStarted: started, Facts: n.facts, CloudID: n.cloudID,
		Seed: controllerapi.SeedSettings{Name: &id, MaxVMCount: &n.cfg.Capacity, IgnoreARMVMLimit: new(true), Groups: n.cfg.Groups},
	}
	n.mu.Unlock()
	ctx, cancel := context.WithTimeout(balancer.WithWait(ctx, syncPatience), n.cfg.CallTimeout)
	defer cancel()
	resp, err := n.api.Register(ctx, req)
	if err != nil {
		return fmt.Errorf("register %s: %w", id, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.settings, n.cloudID = resp.Settings, resp.Cluster.CloudID
	n.session.settingsGen, n.session.clusterGen = resp.Settings.Generation, resp.Cluster.Generation
	n.session.interval = time.Duration(resp.HeartbeatIntervalMS) * time.Millisecond
	return nil
}

func facts(arch string) controllerapi.NodeFacts {
	return controllerapi.NodeFacts{
		Host: "127.0.0.1", CPUCount: 8, RAM: 16, HostArch: arch, DiskSize: 512 << 30, AgentVersion: "simulated",
		AnkaVersion:  controllerapi.AnkaVersion{Product: "simulated", Version: "3.9.0", License: "enterprise plus"},
		LicenseValid: true,
	}
}

// capacity is what the cloud has set, else what the node was made with.
func (n *Node) capacityLocked() int {
	if n.settings.MaxVMCount > 0 {
		return n.settings.MaxVMCount
	}
	return n.cfg.Capacity
}

// freeLocked is how many more starts the node can take.
func (n *Node) freeLocked() int {
	used := len(n.vms)
	for _, h := range n.held {
		if h.task.Kind == controllerapi.TaskStart && n.vms[h.task.InstanceID] == nil {
			used++
		}
	}
	return max(n.capacityLocked()-used, 0)
}

// reports returns the VMs as a sync tells them, in a fixed order.
func (n *Node) vmReportsLocked() []controllerapi.VMReport {
	list := make([]controllerapi.VMReport, 0, len(n.vms))
	for _, v := range n.vms {
		list = append(list, controllerapi.VMReport{InstanceID: v.instance, Attempt: v.attempt, Managed: true, VCPU: v.info.CPUCores, RAM: 4096, Info: v.info})
	}
	slices.SortFunc(list, func(a, b controllerapi.VMReport) int { return strings.Compare(a.Info.UUID, b.Info.UUID) })
	return list
}

func (n *Node) heldIDsLocked() []controllerapi.TaskID {
	ids := make([]controllerapi.TaskID, 0, len(n.held))
	for id := range n.held {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// phase spreads nodes evenly over a heartbeat, the same after every restart.
func (n *Node) phase(interval time.Duration) time.Duration {
	h := fnv.New64a()
	_, _ = h.Write([]byte(n.cfg.ID))
	return time.Duration(h.Sum64() % uint64(max(interval, 1)))
}

// pause waits about d, or until ctx ends, and reports which.
func pause(ctx context.Context, d time.Duration) bool {
	d = d/2 + rand.N(d/2+1)
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
