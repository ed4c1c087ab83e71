package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/agent/command"
	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/agent/images"
	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/backoff"
)

const (
	// tooManyTries is after how many refusals for want of a slot the start goes
	// to another node (A12).
	tooManyTries = 3
	// tooManyWait is between them: a VM that is being stopped frees its slot.
	tooManyWait = 2 * time.Second
)

// starter starts VMs for instances.
type starter struct {
	cfg      *state.Config
	node     controllerapi.NodeID
	runtime  hypervisor.Runtime
	vms      *vms
	images   *images.Cache
	journal  *journal
	claims   *claims
	outcomes *outcomes
	address  *address
	headroom *headroom
	members  *membership
	errors   *errorLog
	log      *zap.Logger
	slots    chan struct{} // one token a start that is being prepared; capacity NumWorkers
}

// work starts a VM for an instance. It runs from the top whenever an agent
// finds the record Claimed: the instance was never reported as Started, so
// what an earlier try left is in no use, and is removed first.
func (s *starter) work(ctx context.Context, r Record) {
	taskCtx, p := s.outcomes.reportProgress(ctx, r)
	vm, script, err := s.bringUp(taskCtx, &r, p)
	p.end()
	if ctx.Err() != nil || taskCancelled(taskCtx) || errors.Is(err, errDiscarded) {
		return // ended from outside: the record says what is next
	}
	if err == nil {
		info := vmInfo(vm, s.node, s.address.get())
		info.VNCPassword = r.Task.Start.Request.VNCPassword
		r.VMUUID = vm.UUID
		s.outcomes.finishTask(ctx, r, Running, done(&info, script))
		s.runUnmonitoredScript(ctx, r)
		return
	}
	out, state := failed(err), Reporting
	out.Script = script
	var bad *scriptFailed
	switch {
	case errors.As(err, &bad):
		state = s.handleScriptFailure(ctx, r)
		info := vmInfo(vm, s.node, s.address.get())
		out.VM = &info
	case isNodeSpecific(err):
		out.Phase = controllerapi.PhaseReturned
	}
	if state == Reporting {
		if err := s.vms.removeOwned(ctx, r); err != nil {
			// Reported or not, its VM must go: the record stays as the reminder.
			s.errors.fail(ctx, "remove VM of a failed start", err)
			if ctx.Err() != nil {
				return
			}
			state = Retained
		}
	}
	s.outcomes.finishTask(ctx, r, state, out)
	if state == Retained && !errors.As(err, &bad) {
		s.claims.discard(r.Task.ID, errDiscarded)
	}
}

func taskCancelled(ctx context.Context) bool {
	return errors.Is(context.Cause(ctx), errAbandoned) || errors.Is(context.Cause(ctx), errDiscarded)
}

// isNodeSpecific reports whether another node may have more luck.
func isNodeSpecific(err error) bool {
	return errors.Is(err, hypervisor.ErrTooMany) || errors.Is(err, hypervisor.ErrLicense) ||
		errors.Is(err, hypervisor.ErrMissing) || errors.Is(err, hypervisor.ErrForeign) || errors.Is(err, images.ErrNoSpace) || errors.Is(err, images.ErrIDTaken) ||
		errors.Is(err, hypervisor.ErrOutdated) || errors.Is(err, hypervisor.ErrKeychain)
}

// bringUp prepares, starts and waits for a VM, trying anew after failures that
// a new try may cure.
func (s *starter) bringUp(ctx context.Context, r *Record, p *progress) (hypervisor.VM, *controllerapi.ScriptResult, error) {
	var vm hypervisor.VM
	release, err := s.takeSlot(ctx)
	if err != nil {
		return vm, nil, err
	}
	defer func() { release() }()
	tooMany := 0
	for try := 1; ; try++ {
		vm, err = s.prepare(ctx, r, p)
		if err == nil {
			break
		}
		if cause := context.Cause(ctx); cause != nil || errors.Is(err, errDiscarded) {
			return vm, nil, cmp.Or(cause, err)
		}
		s.errors.note("start "+string(r.Task.InstanceID), err)
		s.log.Warn("start failed", zap.String("instance_id", string(r.Task.InstanceID)), zap.Int("try", try), zap.Error(err))
		if rmErr := s.vms.removeOwned(ctx, *r); rmErr != nil {
			return vm, nil, errors.Join(err, rmErr)
		}
		wait := retryPace.Next(try)
		switch {
		case errors.Is(err, hypervisor.ErrTooMany):
			s.headroom.slotRefused(ctx)
			if tooMany++; tooMany >= tooManyTries {
				return vm, nil, err
			}
			wait = tooManyWait
		case errors.Is(err, hypervisor.ErrKeychain):
			s.headroom.fitness.mark(noKeychain, noKeychainFor)
			return vm, nil, err
		case errors.Is(err, hypervisor.ErrNotInRegistry), isNodeSpecific(err), errors.Is(err, errBadRequest), errors.Is(err, hypervisor.ErrUnsupported), errors.Is(err, command.ErrRefused):
			return vm, nil, err
		case try > s.cfg.OptimizationThreshold:
			return vm, nil, fmt.Errorf("start failed %d times: %w", try, err)
		case try == s.cfg.OptimizationThreshold:
			if !errors.Is(err, errOptions) { // what cannot be set takes no room
				s.images.MakeRoomFor(ctx, err, r.Task.Start.Template.Size)
			}
		}
		if !backoff.Sleep(ctx, wait) {
			return vm, nil, context.Cause(ctx)
		}
	}
	release() // scripts run outside the slots (A8)
	release = func() {}
	req := r.Task.Start.Request
	if req.StartupScript == "" || !req.ScriptMonitoring {
		return vm, nil, nil
	}
	p.set(controllerapi.StageScript, 0)
	script, err := s.vms.runScript(ctx, vm.UUID, req)
	if full, showErr := s.runtime.Show(ctx, vm.UUID); showErr == nil {
		vm = full // also after a script that ran before the network was up
	}
	return vm, script, err
}

func (s *starter) takeSlot(ctx context.Context) (release func(), err error) {
	select {
	case s.slots <- struct{}{}:
		return func() { <-s.slots }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// prepare does everything up to a VM that can be used: image, clone, options,
// start, address.
func (s *starter) prepare(ctx context.Context, r *Record, p *progress) (hypervisor.VM, error) {
	var vm hypervisor.VM
	task := r.Task.Start
	opts, err := options(task.Request)
	if err != nil {
		return vm, err
	}
	if err := s.runtime.Check(opts, hypervisor.StartOptions{VNCPassword: task.Request.VNCPassword}, task.Request.USBDevice); err != nil {
		return vm, err
	}
	if err := s.vms.removeOwned(ctx, *r); err != nil {
		return vm, fmt.Errorf("remove what an earlier try left: %w", err)
	}
	img, releaseImage, err := s.images.Ensure(ctx, task.Template, func(f float64) { p.set(controllerapi.StagePulling, f) })
	if err != nil {
		return vm, err
	}
	defer releaseImage()

	p.set(controllerapi.StageCloning, 0)
	r.VMUUID = ""
	if r.VMName, err = s.nameVM(ctx, r); err != nil {
		return vm, err
	}
	if err := s.journal.put(*r); err != nil {
		return vm, err
	}
	if r.VMUUID, err = s.runtime.Clone(ctx, img, r.VMName); err != nil {
		return vm, err
	}
	if err := s.journal.put(*r); err != nil {
		return vm, err
	}
	if err := s.runtime.Configure(ctx, r.VMUUID, opts); err != nil {
		return vm, fmt.Errorf("%w: %w", errOptions, err)
	}
	p.set(controllerapi.StageStarting, 0)
	grow := opts.DiskSize != "" && !opts.SkipResize
	if err := s.vms.start(ctx, r.VMUUID, hypervisor.StartOptions{VNCPassword: task.Request.VNCPassword, GrowDisk: grow}); err != nil {
		return vm, err
	}
	if dev := task.Request.USBDevice; dev != "" {
		if err := s.runtime.AttachUSB(ctx, r.VMUUID, dev); err != nil {
			return vm, err
		}
	}
	vm, err = s.vms.waitUp(ctx, r.VMUUID, task.Request)
	if rt, ok := s.runtime.(hypervisor.Grower); ok && err == nil && grow {
		if err := rt.Grown(ctx, r.VMUUID); err != nil && ctx.Err() == nil {
			// The VM is of use all the same.
			s.errors.note("disk of "+string(r.Task.InstanceID), err)
			s.log.Warn("the disk was not grown", zap.String("instance_id", string(r.Task.InstanceID)), zap.Error(err))
		}
	}
	return vm, err
}

// nameVM makes the VM's name from the request's template, and sees to it that
// no other VM has it.
func (s *starter) nameVM(ctx context.Context, r *Record) (string, error) {
	task := r.Task.Start
	pattern := task.Request.NameTemplate
	if pattern == "" {
		pattern = "$template_name-$instance_id"
	}
	nodeName := s.members.get().settings.Name
	name := s.cfg.VMPrefix + "-" + strings.NewReplacer(
		"$template_name", task.Template.Name,
		"$template_id", string(task.Template.ID),
		"$instance_id", string(r.Task.InstanceID),
		"$node_id", string(s.node),
		"$node_name", nodeName,
		"$ts", strconv.FormatInt(r.Claimed.Unix(), 10),
	).Replace(pattern)
	name = strings.Map(func(c rune) rune {
		if c < ' ' || c == '/' || c == 0x7f {
			return '-'
		}
		return c
	}, name)
	vms, err := s.runtime.List(ctx)
	if err != nil {
		return "", err
	}
	taken := make(map[string]bool)
	for _, vm := range vms {
		taken[vm.Name] = true
	}
	for _, other := range s.journal.all() {
		if other.Task.ID != r.Task.ID {
			taken[other.VMName] = true
		}
	}
	if taken[name] {
		name += "-" + string(r.Task.InstanceID) + "-" + strconv.Itoa(r.Task.Attempt)
	}
	for n, base := 2, name; taken[name]; n++ {
		name = base + "-" + strconv.Itoa(n)
	}
	return name, nil
}

// errOptions: the VM cannot be made what the request asks for.
var errOptions = errors.New("set the VM's options")

// errBadRequest: no node can do what the request asks for.
var errBadRequest = errors.New("the request cannot be fulfilled")

// options translates a request.
func options(req controllerapi.StartRequest) (hypervisor.Options, error) {
	o := hypervisor.Options{
		CPU: req.VCPU, RAM: req.VRAM, NetworkMode: req.NetworkMode, VLAN: req.VLANTag, MAC: req.MACAddress,
		NetworkLocal: req.NetworkLocal, VideoController: req.VideoController, HVAPIC: req.HVAPIC,
		CSRActiveConfig: req.CSRActiveConfig, HWSerial: req.HWSerial, HWUUID: req.HWUUID,
		ReplacePorts: len(req.PortForwardingOverride) > 0,
	}
	if req.Disk != nil {
		o.DiskSize, o.SkipResize = req.Disk.Size, req.Disk.SkipContainerResize
	}
	for i, p := range req.PortForwardingOverride {
		guest, err := strconv.Atoi(string(p.GuestPort))
		if err != nil || guest < 1 || guest > 65535 {
			return o, fmt.Errorf("%w: port_forwarding_override: guest_port %q is not a port", errBadRequest, p.GuestPort)
		}
		rule := hypervisor.PortRule{Name: p.Name, GuestPort: guest, HostIP: p.HostIP}
		if p.HostPort != "" {
			if rule.HostPort, err = strconv.Atoi(string(p.HostPort)); err != nil || rule.HostPort < 0 || rule.HostPort > 65535 {
				return o, fmt.Errorf("%w: port_forwarding_override: host_port %q is not a port", errBadRequest, p.HostPort)
			}
		}
		if rule.Name == "" {
			rule.Name = "rule" + strconv.Itoa(i+1)
		}
		o.Ports = append(o.Ports, rule)
	}
	return o, nil
}

// handleScriptFailure does with the VM what the request says: 0 stops it, 1
// keeps it, 2 deletes it. It returns the record's state after that.
func (s *starter) handleScriptFailure(ctx context.Context, r Record) State {
	switch r.Task.Start.Request.ScriptFailHandler {
	case 1:
		return Retained
	case 2:
		return Reporting
	}
	if err := s.runtime.Stop(ctx, r.VMUUID, true); err != nil {
		s.errors.fail(ctx, "stop VM after its script failed", err)
	}
	return Retained
}

// runUnmonitoredScript runs a start-up script that the start does not wait for.
func (s *starter) runUnmonitoredScript(ctx context.Context, r Record) {
	req := r.Task.Start.Request
	if req.StartupScript == "" || req.ScriptMonitoring || ctx.Err() != nil {
		return
	}
	if current, ok := s.journal.get(r.Task.ID); !ok || current.State != Running {
		return
	}
	res, err := s.vms.execScript(ctx, r.VMUUID, req.StartupScript, maxScriptTimeout)
	if ctx.Err() != nil {
		return
	}
	fields := []zap.Field{zap.String("instance_id", string(r.Task.InstanceID)), zap.Error(err)}
	if res != nil {
		fields = append(fields, zap.Int("return_code", res.ReturnCode))
	}
	s.log.Info("start-up script ended", fields...)
}
