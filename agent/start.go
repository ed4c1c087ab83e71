package agent

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/backoff"
)

const (
	// upTimeout is how long a started VM may take until it has an address.
	upTimeout = 5 * time.Minute
	// upLook is how often it is looked at.
	upLook = time.Second
	// tooManyTries is after how many refusals for want of a slot the start goes
	// to another node (A12).
	tooManyTries = 3
	// tooManyWait is between them: a VM that is being stopped frees its slot.
	tooManyWait = 2 * time.Second
	// defaultScriptTimeout is the documented one, for monitored scripts.
	defaultScriptTimeout = 90 * time.Second
	// maxScriptTimeout bounds what a request may ask for (A8).
	maxScriptTimeout = 24 * time.Hour
)

// Errors that send a start to another node.
var errNoSpace = errors.New("not enough disk space")

// workStart starts a VM for an instance. It runs from the top whenever an agent
// finds the record Claimed: the instance was never told to be Started, so
// nobody uses what an earlier try left, and that is removed first.
func (a *Agent) workStart(ctx context.Context, r Record) {
	taskCtx, p := a.reportProgress(ctx, r)
	vm, script, err := a.bringUp(taskCtx, &r, p)
	p.end()
	if ctx.Err() != nil || taskCancelled(taskCtx) || errors.Is(err, errDiscarded) {
		return // ended from outside: the record says what is next
	}
	if err == nil {
		info := vmInfo(vm, a.id, a.address.get())
		info.VNCPassword = r.Task.Start.Request.VNCPassword
		r.VMUUID = vm.UUID
		a.finishTask(ctx, r, Running, done(&info, script))
		a.runUnmonitoredScript(ctx, r)
		return
	}
	out, state := failed(err), Reporting
	out.Script = script
	var bad *scriptFailed
	switch {
	case errors.As(err, &bad):
		state = a.handleScriptFailure(ctx, r)
		info := vmInfo(vm, a.id, a.address.get())
		out.VM = &info
	case isNodeSpecific(err):
		out.Phase = controllerapi.PhaseReturned
	}
	if state == Reporting {
		if err := a.removeOwned(ctx, r); err != nil {
			// Reported or not, its VM must go: the record stays as the reminder.
			a.errors.fail(ctx, "remove VM of a failed start", err)
			if ctx.Err() != nil {
				return
			}
			state = Retained
		}
	}
	a.finishTask(ctx, r, state, out)
	if state == Retained && !errors.As(err, &bad) {
		a.discard(r.Task.ID, errDiscarded)
	}
}

func taskCancelled(ctx context.Context) bool {
	return errors.Is(context.Cause(ctx), errAbandoned) || errors.Is(context.Cause(ctx), errDiscarded)
}

// isNodeSpecific reports whether another node may have more luck.
func isNodeSpecific(err error) bool {
	return errors.Is(err, hypervisor.ErrTooMany) || errors.Is(err, hypervisor.ErrLicense) ||
		errors.Is(err, hypervisor.ErrMissing) || errors.Is(err, hypervisor.ErrForeign) || errors.Is(err, errNoSpace) ||
		errors.Is(err, hypervisor.ErrOutdated) || errors.Is(err, hypervisor.ErrKeychain)
}

// bringUp prepares, starts and waits for a VM, trying anew after failures that
// a new try may cure.
func (a *Agent) bringUp(ctx context.Context, r *Record, p *progress) (hypervisor.VM, *controllerapi.ScriptResult, error) {
	var vm hypervisor.VM
	release, err := a.takeSlot(ctx)
	if err != nil {
		return vm, nil, err
	}
	defer func() { release() }()
	tooMany := 0
	for try := 1; ; try++ {
		vm, err = a.prepare(ctx, r, p)
		if err == nil {
			break
		}
		if cause := context.Cause(ctx); cause != nil || errors.Is(err, errDiscarded) {
			return vm, nil, cmp.Or(cause, err)
		}
		a.errors.note("start "+string(r.Task.InstanceID), err)
		a.log.Warn("start failed", zap.String("instance_id", string(r.Task.InstanceID)), zap.Int("try", try), zap.Error(err))
		if rmErr := a.removeOwned(ctx, *r); rmErr != nil {
			return vm, nil, errors.Join(err, rmErr)
		}
		wait := retryPace.Next(try)
		switch {
		case errors.Is(err, hypervisor.ErrTooMany):
			a.slotRefused(ctx)
			if tooMany++; tooMany >= tooManyTries {
				return vm, nil, err
			}
			wait = tooManyWait
		case errors.Is(err, hypervisor.ErrKeychain):
			a.fitness.mark(noKeychain, noKeychainFor)
			return vm, nil, err
		case errors.Is(err, hypervisor.ErrNotInRegistry), isNodeSpecific(err), errors.Is(err, errBadRequest), errors.Is(err, hypervisor.ErrUnsupported):
			return vm, nil, err
		case try > a.cfg.OptimizationThreshold:
			return vm, nil, fmt.Errorf("start failed %d times: %w", try, err)
		case try == a.cfg.OptimizationThreshold:
			a.images.clean(ctx, a.images.roomFor(err), "starts keep failing")
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
	script, err := a.runScript(ctx, vm.UUID, req)
	if full, showErr := a.deps.Runtime.Show(ctx, vm.UUID); showErr == nil {
		vm = full // also after a script that ran before the network was up
	}
	return vm, script, err
}

func (a *Agent) takeSlot(ctx context.Context) (release func(), err error) {
	select {
	case a.slots <- struct{}{}:
		return func() { <-a.slots }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// prepare does everything up to a VM that can be used: image, clone, options,
// start, address.
func (a *Agent) prepare(ctx context.Context, r *Record, p *progress) (hypervisor.VM, error) {
	var vm hypervisor.VM
	task := r.Task.Start
	opts, err := options(task.Request)
	if err != nil {
		return vm, err
	}
	if err := a.deps.Runtime.Check(opts, hypervisor.StartOptions{VNCPassword: task.Request.VNCPassword}, task.Request.USBDevice); err != nil {
		return vm, err
	}
	if err := a.removeOwned(ctx, *r); err != nil {
		return vm, fmt.Errorf("remove what an earlier try left: %w", err)
	}
	img, releaseImage, err := a.images.ensure(ctx, task.Template, func(f float64) { p.set(controllerapi.StagePulling, f) })
	if err != nil {
		return vm, err
	}
	defer releaseImage()

	p.set(controllerapi.StageCloning, 0)
	r.VMUUID = ""
	if r.VMName, err = a.nameVM(ctx, r); err != nil {
		return vm, err
	}
	if err := a.journal.put(*r); err != nil {
		return vm, err
	}
	if r.VMUUID, err = a.deps.Runtime.Clone(ctx, img, r.VMName); err != nil {
		return vm, err
	}
	if err := a.journal.put(*r); err != nil {
		return vm, err
	}
	if err := a.deps.Runtime.Configure(ctx, r.VMUUID, opts); err != nil {
		return vm, err
	}
	p.set(controllerapi.StageStarting, 0)
	grow := opts.DiskSize != "" && !opts.SkipResize
	if err := a.startVM(ctx, r.VMUUID, hypervisor.StartOptions{VNCPassword: task.Request.VNCPassword, GrowDisk: grow}); err != nil {
		return vm, err
	}
	if dev := task.Request.USBDevice; dev != "" {
		if err := a.deps.Runtime.AttachUSB(ctx, r.VMUUID, dev); err != nil {
			return vm, err
		}
	}
	vm, err = a.waitUp(ctx, r.VMUUID, task.Request)
	if rt, ok := a.deps.Runtime.(hypervisor.Grower); ok && err == nil && grow {
		if err := rt.Grown(ctx, r.VMUUID); err != nil && ctx.Err() == nil {
			// The VM is of use all the same.
			a.errors.note("disk of "+string(r.Task.InstanceID), err)
			a.log.Warn("the disk was not grown", zap.String("instance_id", string(r.Task.InstanceID)), zap.Error(err))
		}
	}
	return vm, err
}

func (a *Agent) startVM(ctx context.Context, uuid string, o hypervisor.StartOptions) error {
	began := time.Now()
	o.Timeout = a.cfg.StartTimeout
	err := a.deps.Runtime.Start(ctx, uuid, o)
	a.metrics.started(time.Since(began), err)
	if err == nil {
		a.fitness.slotGranted()
	}
	return err
}

// waitUp waits until the VM runs and, unless it has no network or its script
// wants to run before, has an address and its port forwards.
func (a *Agent) waitUp(ctx context.Context, uuid string, req controllerapi.StartRequest) (hypervisor.VM, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, upTimeout, fmt.Errorf("the VM had no address after %s", upTimeout))
	defer cancel()
	needNetwork := req.NetworkMode != "disconnected" && !(req.StartupScript != "" && req.ScriptMonitoring && req.StartupScriptCondition == 1)
	for {
		vm, err := a.deps.Runtime.Show(ctx, uuid)
		switch {
		case err != nil && ctx.Err() != nil:
			return vm, context.Cause(ctx)
		case errors.Is(err, hypervisor.ErrNotFound):
			return vm, err
		case err == nil && vm.Status == hypervisor.Running && (!needNetwork || vm.IP != ""):
			return vm, nil
		case err == nil && (vm.Status == hypervisor.Stopped || vm.Status == hypervisor.Failed):
			err = fmt.Errorf("the VM is %s right after its start", vm.Status)
			if vm.Failure != nil {
				err = fmt.Errorf("%w: %w", err, vm.Failure)
			}
			return vm, err
		}
		if !backoff.Sleep(ctx, upLook) {
			return vm, context.Cause(ctx)
		}
	}
}

// nameVM makes the VM's name from the request's template, and sees to it that
// no other VM has it.
func (a *Agent) nameVM(ctx context.Context, r *Record) (string, error) {
	task := r.Task.Start
	pattern := task.Request.NameTemplate
	if pattern == "" {
		pattern = "$template_name-$instance_id"
	}
	a.mu.Lock()
	nodeName := a.settings.Name
	a.mu.Unlock()
	name := a.cfg.VMPrefix + "-" + strings.NewReplacer(
		"$template_name", task.Template.Name,
		"$template_id", string(task.Template.ID),
		"$instance_id", string(r.Task.InstanceID),
		"$node_id", string(a.id),
		"$node_name", nodeName,
		"$ts", strconv.FormatInt(r.Claimed.Unix(), 10),
	).Replace(pattern)
	name = strings.Map(func(c rune) rune {
		if c < ' ' || c == '/' || c == 0x7f {
			return '-'
		}
		return c
	}, name)
	vms, err := a.deps.Runtime.List(ctx)
	if err != nil {
		return "", err
	}
	taken := make(map[string]bool)
	for _, vm := range vms {
		taken[vm.Name] = true
	}
	for _, other := range a.journal.all() {
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

// scriptFailed is a monitored script that ended badly.
type scriptFailed struct{ reason string }

func (e *scriptFailed) Error() string { return "start-up script: " + e.reason }

// runScript runs a monitored script. The result is set whenever it ran.
func (a *Agent) runScript(ctx context.Context, uuid string, req controllerapi.StartRequest) (*controllerapi.ScriptResult, error) {
	timeout := defaultScriptTimeout
	if req.ScriptTimeout > 0 {
		timeout = min(time.Duration(req.ScriptTimeout)*time.Second, maxScriptTimeout)
	}
	return a.execScript(ctx, uuid, req.StartupScript, timeout)
}

// execScript runs a base64 script in a VM; timeout 0 means none.
func (a *Agent) execScript(ctx context.Context, uuid, script string, timeout time.Duration) (*controllerapi.ScriptResult, error) {
	text, err := base64.StdEncoding.DecodeString(script)
	if err != nil {
		return nil, &scriptFailed{"it is not base64: " + err.Error()}
	}
	res, err := a.deps.Runtime.Run(ctx, uuid, hypervisor.Script{Text: text, Timeout: timeout})
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	out := &controllerapi.ScriptResult{
		ReturnCode: res.ExitCode, DidTimeout: res.TimedOut,
		Stdout: strings.ToValidUTF8(string(res.Stdout), "\uFFFD"), Stderr: strings.ToValidUTF8(string(res.Stderr), "\uFFFD"),
	}
	switch {
	case errors.Is(err, hypervisor.ErrOutdated):
		return nil, err // the script did not run; a node with a newer version can do it
	case err != nil:
		out.ReturnCode, out.Errors = -1, []string{err.Error()}
		return out, &scriptFailed{err.Error()}
	case res.TimedOut:
		return out, &scriptFailed{fmt.Sprintf("it did not end within %s", timeout)}
	case res.ExitCode != 0:
		return out, &scriptFailed{fmt.Sprintf("exit code %d", res.ExitCode)}
	}
	return out, nil
}

// handleScriptFailure does with the VM what the request says: 0 stops it, 1
// keeps it, 2 deletes it. It returns the record's state after that.
func (a *Agent) handleScriptFailure(ctx context.Context, r Record) State {
	switch r.Task.Start.Request.ScriptFailHandler {
	case 1:
		return Retained
	case 2:
		return Reporting
	}
	if err := a.deps.Runtime.Stop(ctx, r.VMUUID, true); err != nil {
		a.errors.fail(ctx, "stop VM after its script failed", err)
	}
	return Retained
}

// runUnmonitoredScript runs a script that nobody waits for.
func (a *Agent) runUnmonitoredScript(ctx context.Context, r Record) {
	req := r.Task.Start.Request
	if req.StartupScript == "" || req.ScriptMonitoring || ctx.Err() != nil {
		return
	}
	if current, ok := a.journal.get(r.Task.ID); !ok || current.State != Running {
		return
	}
	res, err := a.execScript(ctx, r.VMUUID, req.StartupScript, maxScriptTimeout)
	if ctx.Err() != nil {
		return
	}
	fields := []zap.Field{zap.String("instance_id", string(r.Task.InstanceID)), zap.Error(err)}
	if res != nil {
		fields = append(fields, zap.Int("return_code", res.ReturnCode))
	}
	a.log.Info("start-up script ended", fields...)
}
