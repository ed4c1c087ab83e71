package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/controllerapi"
)

// fakeCloud is the controllers' side of the wire, in memory, as far as an agent
// can tell.
type fakeCloud struct {
	mu        sync.Mutex
	changed   chan struct{} // closed and replaced at every change
	session   string
	settings  controllerapi.NodeSettings
	cluster   controllerapi.Cluster
	instances map[controllerapi.InstanceID]*fakeInstance
	others    []controllerapi.Task // tasks that are no start and no terminate
	handed    map[string]controllerapi.Task
	handedIn  map[string]string // session, by reservation
	remove    []string
	registers []controllerapi.RegisterRequest
	syncs     []fakeSync
	reports   []controllerapi.ReportRequest
	vms       []controllerapi.VMReport
	images    []controllerapi.NodeImage
	facts     controllerapi.NodeFacts
	reserves  []controllerapi.ReserveRequest

	// unknownAfter is how many syncs show a VM without an instance before it is
	// listed for removal; 0 is never.
	unknownAfter int
	unknown      map[string]int // by UUID, in this session

	// hideUnheld: a claim is assigned only once the node lists its task, as with
	// controllers that know of answers under way.
	hideUnheld bool
	tasks      []controllerapi.TaskID // as last told

	// before, if set, runs before each call; its error is the call's.
	before func(ctx context.Context, call string) error
}

type fakeSync struct {
	at  time.Time
	req controllerapi.SyncRequest
}

type fakeInstance struct {
	id       controllerapi.InstanceID
	state    controllerapi.InstanceState
	attempt  int
	claimed  bool
	session  string // that claimed it
	task     controllerapi.StartTask
	seq      int64
	done     bool
	vm       *controllerapi.VMInfo
	script   *controllerapi.ScriptResult
	message  string
	stages   []string
	returned int
	// held is set after a return: no start is handed out.
	held bool
}

func (i *fakeInstance) taskID() controllerapi.TaskID {
	return controllerapi.TaskID(fmt.Sprintf("s.%s.%d", i.id, i.attempt))
}

func newFakeCloud() *fakeCloud {
	return &fakeCloud{
		changed:   make(chan struct{}),
		settings:  controllerapi.NodeSettings{Generation: 1, Name: "node1", MaxVMCount: 2, CapacityMode: state.CapacityNumber},
		cluster:   controllerapi.Cluster{CloudID: "cloud1", Generation: 1, Controllers: []controllerapi.Server{{URL: "http://c1"}}},
		instances: make(map[controllerapi.InstanceID]*fakeInstance),
		handed:    make(map[string]controllerapi.Task),
		handedIn:  make(map[string]string),
	}
}

func (c *fakeCloud) changeLocked() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// do changes the cloud.
func (c *fakeCloud) do(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	c.changeLocked()
}

var demoTemplate = controllerapi.TemplateRef{ID: "tpl-1", Name: "demo", Tag: "v1", Repository: "demo", Size: 1000}

// start asks for an instance.
func (c *fakeCloud) start(id controllerapi.InstanceID, edit func(*controllerapi.StartTask)) {
	task := controllerapi.StartTask{Template: demoTemplate}
	if edit != nil {
		edit(&task)
	}
	c.do(func() {
		c.instances[id] = &fakeInstance{id: id, state: controllerapi.Scheduling, attempt: 1, task: task}
	})
}

func (c *fakeCloud) terminate(id controllerapi.InstanceID) {
	c.do(func() {
		i := c.instances[id]
		if !i.claimed {
			i.state = controllerapi.Terminated
			return
		}
		i.state = controllerapi.Terminating
	})
}

// get returns a copy of an instance.
func (c *fakeCloud) get(id controllerapi.InstanceID) fakeInstance {
	c.mu.Lock()
	defer c.mu.Unlock()
	return *c.instances[id]
}

func (c *fakeCloud) enter(ctx context.Context, call string) error {
	if c.before != nil {
		return c.before(ctx, call)
	}
	return ctx.Err()
}

func (c *fakeCloud) Register(ctx context.Context, req controllerapi.RegisterRequest) (controllerapi.RegisterResponse, error) {
	if err := c.enter(ctx, "register"); err != nil {
		return controllerapi.RegisterResponse{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.session, c.unknown = req.Session, make(map[string]int)
	c.registers = append(c.registers, req)
	return controllerapi.RegisterResponse{NodeID: req.NodeID, Settings: c.settings, Cluster: c.cluster, HeartbeatIntervalMS: 5000}, nil
}

func (c *fakeCloud) Sync(ctx context.Context, req controllerapi.SyncRequest) (controllerapi.SyncResponse, error) {
	if err := c.enter(ctx, "sync"); err != nil {
		return controllerapi.SyncResponse{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if req.Session != c.session {
		return controllerapi.SyncResponse{}, controllerapi.ErrSessionEnded
	}
	c.syncs = append(c.syncs, fakeSync{time.Now(), req})
	if req.VMs != nil {
		c.vms = *req.VMs
	}
	if req.Images != nil {
		c.images = *req.Images
	}
	if req.Facts != nil {
		c.facts = *req.Facts
	}
	if req.Tasks != nil {
		c.tasks = *req.Tasks
		c.requeueLocked(req.Session, *req.Tasks)
	}
	if c.unknownAfter > 0 {
		c.findUnknownLocked()
	}
	as := controllerapi.Assignments{Instances: []controllerapi.Assignment{}, Remove: slices.Clone(c.remove)}
	for _, id := range slices.Sorted(maps.Keys(c.instances)) {
		if i := c.instances[id]; i.claimed && i.state != controllerapi.Terminated && (!c.hideUnheld || i.done || slices.Contains(c.tasks, i.taskID())) {
			as.Instances = append(as.Instances, controllerapi.Assignment{InstanceID: id, Attempt: i.attempt, TaskID: i.taskID(), Terminate: i.state == controllerapi.Terminating})
		}
	}
	as.Generation = controllerapi.HashPart(as)
	resp := controllerapi.SyncResponse{HeartbeatIntervalMS: 5000, Resync: len(c.syncs) == 1}
	if as.Generation != req.AssignmentGeneration {
		resp.Assignments = &as
	}
	if c.settings.Generation != req.SettingsGeneration {
		s := c.settings
		resp.Settings = &s
	}
	return resp, nil
}

// requeueLocked places anew what an earlier life of the agent had claimed and
// this one does not know.
func (c *fakeCloud) requeueLocked(session string, tasks []controllerapi.TaskID) {
	for _, i := range c.instances {
		if i.claimed && !i.done && i.session != session && i.state != controllerapi.Terminating && !slices.Contains(tasks, i.taskID()) {
			i.claimed, i.seq = false, 0
			i.attempt++
			c.changeLocked()
		}
	}
	for id, t := range c.handed { // what was handed to an earlier life is handed again
		if t.Kind == controllerapi.TaskStart || c.handedIn[id] == session {
			continue
		}
		if t.Kind != controllerapi.TaskTerminate {
			if slices.Contains(tasks, t.ID) || c.reportedLocked(t.ID) {
				continue
			}
			c.others = append(c.others, t)
		}
		delete(c.handed, id)
		c.changeLocked()
	}
}

func (c *fakeCloud) reportedLocked(id controllerapi.TaskID) bool {
	return slices.ContainsFunc(c.reports, func(r controllerapi.ReportRequest) bool { return r.TaskID == id })
}

func (c *fakeCloud) findUnknownLocked() {
	c.remove = nil
	for _, vm := range c.vms {
		i := c.instances[vm.InstanceID]
		if !vm.Managed || i != nil && i.claimed && i.attempt == vm.Attempt && i.state != controllerapi.Terminated {
			continue
		}
		if c.unknown[vm.Info.UUID]++; c.unknown[vm.Info.UUID] >= c.unknownAfter {
			c.remove = append(c.remove, vm.Info.UUID)
		}
	}
}

func (c *fakeCloud) Reserve(ctx context.Context, req controllerapi.ReserveRequest) (controllerapi.ReserveResponse, error) {
	if err := c.enter(ctx, "reserve"); err != nil {
		return controllerapi.ReserveResponse{}, err
	}
	timeout := time.NewTimer(time.Duration(req.WaitMS) * time.Millisecond)
	defer timeout.Stop()
	c.mu.Lock()
	c.reserves = append(c.reserves, req)
	c.mu.Unlock()
	for {
		c.mu.Lock()
		task := c.takeLocked(req)
		changed := c.changed
		c.mu.Unlock()
		if task != nil {
			if err := c.enter(ctx, "reserved"); err != nil {
				return controllerapi.ReserveResponse{}, err // the answer is lost
			}
			return controllerapi.ReserveResponse{Task: task}, nil
		}
		select {
		case <-ctx.Done():
			return controllerapi.ReserveResponse{}, ctx.Err()
		case <-timeout.C:
			return controllerapi.ReserveResponse{}, nil
		case <-changed:
		}
	}
}

func (c *fakeCloud) takeLocked(req controllerapi.ReserveRequest) *controllerapi.Task {
	if t, ok := c.handed[req.ReservationID]; ok {
		return &t
	}
	hand := func(t controllerapi.Task) *controllerapi.Task {
		c.handed[req.ReservationID], c.handedIn[req.ReservationID] = t, req.Session
		return &t
	}
	for k, t := range c.others {
		if slices.Contains(req.Kinds, t.Kind) {
			c.others = slices.Delete(c.others, k, k+1)
			return hand(t)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(c.instances)) {
		i := c.instances[id]
		switch {
		case i.state == controllerapi.Terminating && slices.Contains(req.Kinds, controllerapi.TaskTerminate) && !c.isHanded(controllerapi.TerminateTaskID(id)):
			return hand(controllerapi.Task{ID: controllerapi.TerminateTaskID(id), Kind: controllerapi.TaskTerminate, InstanceID: id, Attempt: i.attempt})
		case i.state == controllerapi.Scheduling && !i.claimed && !i.held && slices.Contains(req.Kinds, controllerapi.TaskStart) && req.FreeVMs > 0:
			i.claimed, i.session = true, req.Session
			start := i.task
			return hand(controllerapi.Task{ID: i.taskID(), Kind: controllerapi.TaskStart, InstanceID: id, Attempt: i.attempt, Start: &start})
		}
	}
	return nil
}

func (c *fakeCloud) isHanded(id controllerapi.TaskID) bool {
	for _, t := range c.handed {
		if t.ID == id {
			return true
		}
	}
	return false
}

func (c *fakeCloud) Report(ctx context.Context, req controllerapi.ReportRequest) (controllerapi.ReportResponse, error) {
	if err := c.enter(ctx, "report"); err != nil {
		return controllerapi.ReportResponse{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.changeLocked()
	c.reports = append(c.reports, req)
	for _, i := range c.instances {
		switch req.TaskID {
		case i.taskID():
			return controllerapi.ReportResponse{Abandon: !c.takeReportLocked(i, req)}, nil
		case controllerapi.TerminateTaskID(i.id):
			if req.Phase == controllerapi.PhaseDone && i.state == controllerapi.Terminating {
				i.state = controllerapi.Terminated
			}
			return controllerapi.ReportResponse{}, nil
		}
	}
	for _, t := range c.handed {
		if t.ID == req.TaskID && t.Kind != controllerapi.TaskStart {
			return controllerapi.ReportResponse{}, nil
		}
	}
	return controllerapi.ReportResponse{Abandon: true}, nil
}

func (c *fakeCloud) takeReportLocked(i *fakeInstance, req controllerapi.ReportRequest) bool {
	i.session = req.Session
	if i.state == controllerapi.Terminating || i.state == controllerapi.Terminated || !i.claimed || req.Attempt != i.attempt {
		return false
	}
	if req.Seq <= i.seq {
		return true
	}
	i.seq = req.Seq
	if req.VM != nil {
		i.vm = req.VM
	}
	if req.Script != nil {
		i.script = req.Script
	}
	switch req.Phase {
	case controllerapi.PhaseProgress:
		i.stages = append(i.stages, req.Stage)
	case controllerapi.PhaseDone:
		i.state, i.done = controllerapi.Started, true
	case controllerapi.PhaseFailed:
		i.state, i.message, i.done = controllerapi.Error, req.Message, true
	case controllerapi.PhaseReturned:
		i.claimed, i.message, i.held, i.seq = false, req.Message, true, 0
		i.attempt++
		i.returned++
	}
	return true
}

// save asks for an image of an instance.
func (c *fakeCloud) save(id controllerapi.TaskID, of controllerapi.InstanceID, task controllerapi.SaveImageTask) {
	c.do(func() {
		c.others = append(c.others, controllerapi.Task{ID: id, Kind: controllerapi.TaskSaveImage, InstanceID: of, Attempt: 1, SaveImage: &task})
	})
}

// outcome is a task's end as it was reported last.
func (c *fakeCloud) outcome(id controllerapi.TaskID) (end controllerapi.ReportRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.reports {
		if r.TaskID == id && r.Phase != controllerapi.PhaseProgress {
			end = r
		}
	}
	return end
}

// fakeRuntime is a hypervisor in memory.
type fakeRuntime struct {
	mu    sync.Mutex
	n     int
	vms   []hypervisor.VM
	limit int // of running VMs; 0 is none
	// unlicensed: the licence has expired.
	unlicensed bool
	pulls      int
	clones     int
	calls      []string
	// before, if set, runs before a command does its work; its error is the
	// command's. after runs after it, so that the work is done and the answer lost.
	before, after func(ctx context.Context, verb, id string) error
	script        func(ctx context.Context, text string) (hypervisor.ScriptResult, error)
	pushed        []hypervisor.PushOptions
	unsupported   error // what Check answers
	byRepository  bool  // images are listed by repository, without an id
	listsIP       bool  // a list tells addresses
	notGrown      error // what Grown answers
}

func (f *fakeRuntime) call(ctx context.Context, verb, id string, work func() error) error {
	f.mu.Lock()
	f.calls = append(f.calls, verb+" "+id)
	before, after := f.before, f.after
	f.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if before != nil {
		if err := before(ctx, verb, id); err != nil {
			return err
		}
	}
	f.mu.Lock()
	err := work()
	f.mu.Unlock()
	if err == nil && after != nil {
		return after(ctx, verb, id)
	}
	return err
}

func (f *fakeRuntime) find(id string) *hypervisor.VM {
	for i := range f.vms {
		if f.vms[i].UUID == id || f.vms[i].Name == id {
			return &f.vms[i]
		}
	}
	return nil
}

// on runs a command on one VM.
func (f *fakeRuntime) on(ctx context.Context, verb, id string, work func(*hypervisor.VM) error) error {
	return f.call(ctx, verb, id, func() error {
		vm := f.find(id)
		if vm == nil {
			return fmt.Errorf("%s %s: %w", verb, id, hypervisor.ErrNotFound)
		}
		return work(vm)
	})
}

func (f *fakeRuntime) Check(hypervisor.Options, hypervisor.StartOptions, string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.unsupported
}

func (f *fakeRuntime) Version(ctx context.Context) (hypervisor.Version, error) {
	v := hypervisor.Version{Product: "fake", Version: "3.9"}
	err := f.call(ctx, "version", "", func() error { v.LicenseValid = !f.unlicensed; return nil })
	return v, err
}

func (f *fakeRuntime) List(ctx context.Context) (vms []hypervisor.VM, err error) {
	err = f.call(ctx, "list", "", func() error {
		for _, vm := range f.vms {
			row := hypervisor.VM{UUID: vm.UUID, Name: vm.Name, Tag: vm.Tag, Repository: vm.Repository, Status: vm.Status}
			if f.listsIP {
				row.IP = vm.IP
			}
			vms = append(vms, row)
		}
		return nil
	})
	return vms, err
}

func (f *fakeRuntime) Show(ctx context.Context, id string) (out hypervisor.VM, err error) {
	err = f.on(ctx, "show", id, func(vm *hypervisor.VM) error { out = *vm; return nil })
	return out, err
}

func (f *fakeRuntime) Pull(ctx context.Context, img hypervisor.Image, from hypervisor.Source) error {
	return f.call(ctx, "pull", img.ID, func() error {
		f.pulls++
		vm := hypervisor.VM{UUID: img.ID, Name: img.Name, Tag: img.Tag, Status: hypervisor.Stopped}
		if f.byRepository {
			vm.UUID, vm.Name, vm.Repository = "", "127.0.0.1:1/"+img.Repository+":"+img.Tag, img.Repository
		}
		f.vms = append(f.vms, vm)
		return nil
	})
}

func (f *fakeRuntime) Push(ctx context.Context, id string, to hypervisor.Source, o hypervisor.PushOptions) error {
	return f.on(ctx, "push", id, func(vm *hypervisor.VM) error {
		if vm.Status == hypervisor.Running {
			return errors.New("it runs")
		}
		f.pushed = append(f.pushed, o)
		return nil
	})
}

func (f *fakeRuntime) RemoveImage(ctx context.Context, img hypervisor.Image) error {
	return f.call(ctx, "remove-image", img.ID, func() error {
		f.vms = slices.DeleteFunc(f.vms, func(vm hypervisor.VM) bool { return img.Has(vm) && (img.Tag == "" || vm.Tag == img.Tag) })
		return nil
	})
}

func (f *fakeRuntime) Clone(ctx context.Context, img hypervisor.Image, name string) (uuid string, err error) {
	err = f.call(ctx, "clone", img.ID, func() error {
		if !slices.ContainsFunc(f.vms, img.Has) {
			return fmt.Errorf("clone %s: %w", img.ID, hypervisor.ErrNotFound)
		}
		if f.find(name) != nil {
			return hypervisor.ErrNameTaken
		}
		f.n++
		f.clones++
		uuid = fmt.Sprintf("vm-%d", f.n)
		f.vms = append(f.vms, hypervisor.VM{UUID: uuid, Name: name, Status: hypervisor.Stopped, CPU: 4, RAM: 4096})
		return nil
	})
	return uuid, err
}

func (f *fakeRuntime) Configure(ctx context.Context, id string, o hypervisor.Options) error {
	return f.on(ctx, "modify", id, func(vm *hypervisor.VM) error {
		if o.CPU > 0 {
			vm.CPU = o.CPU
		}
		return nil
	})
}

func (f *fakeRuntime) Start(ctx context.Context, id string, o hypervisor.StartOptions) error {
	return f.on(ctx, "start", id, func(vm *hypervisor.VM) error {
		running := 0
		for _, other := range f.vms {
			if other.Status == hypervisor.Running {
				running++
			}
		}
		if f.limit > 0 && running >= f.limit {
			return hypervisor.ErrTooMany
		}
		vm.Status, vm.IP, vm.Started = hypervisor.Running, "192.168.64.5", time.Now().UTC()
		vm.Ports = []hypervisor.Port{{Name: "ssh", Guest: 22, Host: 10000, Protocol: "tcp"}}
		return nil
	})
}

func (f *fakeRuntime) Stop(ctx context.Context, id string, force bool) error {
	return f.on(ctx, "stop", id, func(vm *hypervisor.VM) error { vm.Status, vm.IP = hypervisor.Stopped, ""; return nil })
}

func (f *fakeRuntime) Suspend(ctx context.Context, id string) error {
	return f.on(ctx, "suspend", id, func(vm *hypervisor.VM) error { vm.Status = hypervisor.Suspended; return nil })
}

func (f *fakeRuntime) Delete(ctx context.Context, id string) error {
	return f.call(ctx, "delete", id, func() error {
		f.vms = slices.DeleteFunc(f.vms, func(vm hypervisor.VM) bool { return vm.UUID == id })
		return nil
	})
}

func (f *fakeRuntime) Run(ctx context.Context, id string, s hypervisor.Script) (res hypervisor.ScriptResult, err error) {
	err = f.on(ctx, "run", id, func(*hypervisor.VM) error { return nil })
	if err != nil || f.script == nil {
		return res, err
	}
	if s.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.Timeout)
		defer cancel()
	}
	res, err = f.script(ctx, string(s.Text))
	if errors.Is(err, context.DeadlineExceeded) {
		return hypervisor.ScriptResult{ExitCode: -1, TimedOut: true}, nil
	}
	return res, err
}

func (f *fakeRuntime) DownloadSize(ctx context.Context, img hypervisor.Image, from hypervisor.Source) (uint64, error) {
	return 1000, f.call(ctx, "size", img.ID, func() error { return nil })
}

func (f *fakeRuntime) AttachUSB(ctx context.Context, id, device string) error {
	return f.on(ctx, "attach", id, func(*hypervisor.VM) error { return nil })
}

// names returns the names of the managed VMs.
func (f *fakeRuntime) names() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for _, vm := range f.vms {
		if managed(vm.Name, state.DefaultVMPrefix) {
			names = append(names, vm.Name)
		}
	}
	return names
}

// peek returns a copy of a VM or image, or nil.
func (f *fakeRuntime) peek(id string) *hypervisor.VM {
	f.mu.Lock()
	defer f.mu.Unlock()
	if vm := f.find(id); vm != nil {
		c := *vm
		return &c
	}
	return nil
}

// cloned and pulled count what was done.
func (f *fakeRuntime) cloned() int { f.mu.Lock(); defer f.mu.Unlock(); return f.clones }
func (f *fakeRuntime) pulled() int { f.mu.Lock(); defer f.mu.Unlock(); return f.pulls }

func (f *fakeRuntime) count(call string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, c := range f.calls {
		if c == call {
			n++
		}
	}
	return n
}

// fakeHost is a machine with a disk of 1 TB.
type fakeHost struct {
	mu      sync.Mutex
	arch    string
	free    uint64
	address string
	onLoad  func() // runs with each look at the load
}

func (h *fakeHost) Facts() controllerapi.NodeFacts {
	return controllerapi.NodeFacts{CPUCount: 8, RAM: 16, HostArch: h.arch, DiskSize: 1e12}
}

func (h *fakeHost) Load() controllerapi.NodeLoad {
	if h.onLoad != nil {
		h.onLoad()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return controllerapi.NodeLoad{FreeDiskSpace: h.free}
}

func (h *fakeHost) Address() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.address
}

// fakeRegistry is the registries: tags of templates, oldest first.
type fakeRegistry struct {
	url  string // "" is one where nothing listens
	size uint64 // of each image; 0 is not known

	mu       sync.Mutex
	tags     map[controllerapi.TemplateID][]string // guarded by mu
	reverted []string                              // guarded by mu
}

func (f *fakeRegistry) URL() string      { return cmp.Or(f.url, "http://127.0.0.1:1") }
func (*fakeRegistry) Moved(string) int64 { return 0 }
func (f *fakeRegistry) Size(context.Context, string, string) (uint64, error) {
	if f.size == 0 {
		return 0, errors.New("no registry answers")
	}
	return f.size, nil
}
func (f *fakeRegistry) Open(registries []string, _ hypervisor.Transfer) (hypervisor.Source, func(), error) {
	if len(registries) > 0 {
		return hypervisor.Source{URL: "http://127.0.0.1:2"}, func() {}, nil
	}
	return hypervisor.Source{URL: f.URL()}, func() {}, nil
}

func (f *fakeRegistry) Latest(_ context.Context, _ []string, id controllerapi.TemplateID) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if tags := f.tags[id]; len(tags) > 0 {
		return tags[len(tags)-1], nil
	}
	return "", nil
}

func (f *fakeRegistry) Revert(_ context.Context, _ []string, id controllerapi.TemplateID, tag string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if k := slices.Index(f.tags[id], tag); k >= 0 {
		f.tags[id] = f.tags[id][:k]
		f.reverted = append(f.reverted, tag)
	}
	return nil
}

// stage is a node in a test: an agent that can be killed and started again over
// one directory, cloud and hypervisor.
type stage struct {
	t        *testing.T
	cloud    *fakeCloud
	over     Cloud       // how the agent reaches the cloud; nil is directly
	log      *zap.Logger // nil is none, or the test's
	runtime  *fakeRuntime
	registry *fakeRegistry
	host     *fakeHost
	dir      state.Dir
	cfg      state.Config

	agent *Agent
	stop  context.CancelFunc
	ended chan error
}

func newStage(t *testing.T) *stage {
	cfg := state.DefaultConfig()
	cfg.Controllers = []string{"http://c1"}
	return &stage{
		t: t, cloud: newFakeCloud(), runtime: &fakeRuntime{}, dir: state.Dir(t.TempDir()), cfg: cfg,
		registry: &fakeRegistry{tags: make(map[controllerapi.TemplateID][]string)},
		host:     &fakeHost{arch: "amd64", free: 9e11, address: "10.0.0.1"},
	}
}

// up starts the agent.
func (s *stage) up() {
	s.t.Helper()
	log := s.log
	switch {
	case log != nil:
	case testing.Verbose():
		log = zaptest.NewLogger(s.t)
	default:
		log = zap.NewNop()
	}
	a, err := New(s.cfg, s.dir, "node-1", Deps{
		Cloud: cmp.Or[Cloud](s.over, s.cloud), Runtime: s.runtime, Host: s.host, Registry: s.registry, Log: log,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	s.agent, s.stop, s.ended = a, stop, make(chan error, 1)
	go func() { s.ended <- a.Run(ctx) }()
}

// down ends the agent. To its directory and its VMs it looks like a kill: what
// was not written is lost.
func (s *stage) down() {
	s.t.Helper()
	s.stop()
	if err := <-s.ended; err != nil {
		s.t.Fatalf("agent ended: %v", err)
	}
}

// until waits, in the bubble's time, for a condition.
func (s *stage) until(what string, ok func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(10 * time.Minute); !ok(); {
		if time.Now().After(deadline) {
			s.t.Fatalf("after 10 minutes still not: %s\nrecords: %+v\nVMs: %+v", what, s.agent.journal.all(), s.runtime.vms)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (s *stage) untilState(id controllerapi.InstanceID, want controllerapi.InstanceState) {
	s.t.Helper()
	s.until(fmt.Sprintf("%s %s", id, want), func() bool { return s.cloud.get(id).state == want })
}

// started starts an instance and waits until the cloud knows it as Started.
func (s *stage) started(id controllerapi.InstanceID) {
	s.t.Helper()
	s.cloud.start(id, nil)
	s.untilState(id, controllerapi.Started)
}

// inBubble runs a test with a fake clock.
func inBubble(t *testing.T, f func(*testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// damage leaves half of a file.
func damage(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data[:len(data)/2], 0o600); err != nil {
		t.Fatal(err)
	}
}
