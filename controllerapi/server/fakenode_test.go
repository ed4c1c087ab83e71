package server

import (
	"context"
	"sync"
	"testing"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/google/uuid"
)

// fakeNode speaks the agent wire, with VMs in memory.
type fakeNode struct {
	t       testing.TB
	id      api.NodeID
	session string
	facts   api.NodeFacts
	load    api.NodeLoad
	seed    api.SeedSettings
	call    func() *api.Client // the next controller

	mu     sync.Mutex
	seq    int64                            // guarded by mu
	vms    map[api.InstanceID]*api.VMReport // guarded by mu
	images []api.NodeImage                  // guarded by mu
	tasks  []api.TaskID                     // guarded by mu
	sent   api.PartHashes                   // guarded by mu; acknowledged
	gen    struct {
		settings, cluster int64
		assignments       string
	}
	token  string
	last   api.SyncResponse
	remove []string
}

func newNode(t testing.TB, id string, controllers ...*controller) *fakeNode {
	next := 0
	var mu sync.Mutex
	return &fakeNode{
		t: t, id: api.NodeID(id), session: uuid.NewString(),
		facts: api.NodeFacts{Host: "10.0.0.1", CPUCount: 8, RAM: 16, HostArch: "arm64", DiskSize: 1 << 40, LicenseValid: true},
		call: func() *api.Client {
			mu.Lock()
			defer mu.Unlock()
			next++
			return controllers[next%len(controllers)].client()
		},
		vms: make(map[api.InstanceID]*api.VMReport),
	}
}

func (n *fakeNode) register() api.RegisterResponse {
	n.t.Helper()
	resp, err := n.call().Register(n.t.Context(), api.RegisterRequest{
		NodeID: n.id, Session: n.session, SessionStarted: time.Now(), Facts: n.facts, Seed: n.seed,
	})
	if err != nil {
		n.t.Fatalf("register: %v", err)
	}
	n.sync()
	return resp
}

// sync sends a heartbeat, and a second one when it is asked for all parts.
func (n *fakeNode) sync() api.SyncResponse {
	n.t.Helper()
	resp, err := n.trySync(n.t.Context(), false)
	if err != nil {
		n.t.Fatalf("sync: %v", err)
	}
	if resp.Resync {
		if resp, err = n.trySync(n.t.Context(), true); err != nil || resp.Resync {
			n.t.Fatalf("full sync: %v, resync %v", err, resp.Resync)
		}
	}
	return resp
}

func (n *fakeNode) trySync(ctx context.Context, full bool) (api.SyncResponse, error) {
	n.mu.Lock()
	n.seq++
	vms := []api.VMReport{}
	for _, vm := range n.vms {
		vms = append(vms, *vm)
	}
	images, tasks := append([]api.NodeImage{}, n.images...), append([]api.TaskID{}, n.tasks...)
	req := api.SyncRequest{
		NodeID: n.id, Session: n.session, Seq: n.seq, Token: n.token, Load: n.load,
		Hashes:             api.PartHashes{Facts: api.HashPart(n.facts), VMs: api.HashPart(vms), Images: api.HashPart(images), Tasks: api.HashPart(tasks)},
		SettingsGeneration: n.gen.settings, ClusterGeneration: n.gen.cluster, AssignmentGeneration: n.gen.assignments,
	}
	if full || n.sent.Facts != req.Hashes.Facts {
		req.Facts = &n.facts
	}
	if full || n.sent.VMs != req.Hashes.VMs {
		req.VMs = &vms
	}
	if full || n.sent.Images != req.Hashes.Images {
		req.Images = &images
	}
	if full || n.sent.Tasks != req.Hashes.Tasks {
		req.Tasks = &tasks
	}
	n.mu.Unlock()
	resp, err := n.call().Sync(ctx, req)
	if err != nil {
		return resp, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.token, n.last = resp.Token, resp
	if !resp.Resync {
		n.sent = req.Hashes
	}
	if resp.Settings != nil {
		n.gen.settings = resp.Settings.Generation
	}
	if resp.Cluster != nil {
		n.gen.cluster = resp.Cluster.Generation
	}
	if resp.Assignments != nil {
		n.gen.assignments, n.remove = resp.Assignments.Generation, resp.Assignments.Remove
	}
	return resp, nil
}

var allKinds = []api.TaskKind{api.TaskStart, api.TaskTerminate, api.TaskRestart, api.TaskSaveImage, api.TaskDistribute, api.TaskRemove, api.TaskUpgrade}

func (n *fakeNode) tryReserve(ctx context.Context, id string, wait time.Duration, kinds ...api.TaskKind) (*api.Task, error) {
	if len(kinds) == 0 {
		kinds = allKinds
	}
	resp, err := n.call().Reserve(ctx, api.ReserveRequest{
		NodeID: n.id, Session: n.session, ReservationID: id, Kinds: kinds, WaitMS: wait.Milliseconds(), FreeVMs: 2, FreeVCPU: 100, FreeRAM: 1 << 20,
	})
	return resp.Task, err
}

// reserve waits for a task of one of the kinds.
func (n *fakeNode) reserve(kinds ...api.TaskKind) *api.Task {
	n.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		task, err := n.tryReserve(n.t.Context(), uuid.NewString(), maxReserveWait, kinds...)
		if err != nil {
			n.t.Fatalf("reserve: %v", err)
		}
		if task != nil {
			return task
		}
	}
	n.t.Fatalf("reserve %v: no task within %s", kinds, patience)
	return nil
}

// report sends a report and returns whether the task is to be abandoned.
func (n *fakeNode) report(req api.ReportRequest) bool {
	n.t.Helper()
	req.NodeID, req.Session = n.id, n.session
	if req.Attempt == 0 {
		req.Attempt = 1
	}
	resp, err := n.call().Report(n.t.Context(), req)
	if err != nil {
		n.t.Fatalf("report %s %s: %v", req.TaskID, req.Phase, err)
	}
	return resp.Abandon
}

// start brings a start task to Started, or reports that it was abandoned.
func (n *fakeNode) start(task *api.Task) (abandoned bool) {
	n.t.Helper()
	vm := vmInfo(n.id, string(task.InstanceID))
	if n.report(api.ReportRequest{TaskID: task.ID, Attempt: task.Attempt, Seq: 1, Phase: api.PhaseProgress, Stage: api.StageStarting}) {
		return true
	}
	n.mu.Lock()
	n.vms[task.InstanceID] = &api.VMReport{InstanceID: task.InstanceID, Attempt: task.Attempt, Managed: true, VCPU: 4, RAM: 4096, Info: vm}
	n.mu.Unlock()
	if n.report(api.ReportRequest{TaskID: task.ID, Attempt: task.Attempt, Seq: 2, Phase: api.PhaseDone, VM: &vm}) {
		n.kill(task.InstanceID)
		return true
	}
	return false
}

// kill removes a VM.
func (n *fakeNode) kill(id api.InstanceID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.vms, id)
}

// terminate does a terminate task.
func (n *fakeNode) terminate(task *api.Task) {
	n.t.Helper()
	n.kill(task.InstanceID)
	n.report(api.ReportRequest{TaskID: task.ID, Seq: 1, Phase: api.PhaseDone})
}

func vmInfo(node api.NodeID, name string) api.VMInfo {
	return api.VMInfo{
		UUID: "vm-" + name, Status: "running", Name: "mgmtManaged-" + name, CPUCores: 4, RAM: "4G", NodeID: node,
		HostIP: "10.0.0.1", IP: "192.168.64.5", CreationDate: time.Unix(1700000000, 0).UTC(), StartDate: time.Unix(1700000100, 0).UTC(),
		PortForwarding: []api.PortForward{{GuestPort: 22, HostPort: 10000, Protocol: "tcp", Name: "ssh"}},
	}
}
