package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/agent/images"
	"github.com/ankacluster/ankacluster/controllerapi"
)

// saveScriptTimeout bounds the script before a save; its request has no own.
const saveScriptTimeout = time.Hour

// saver pushes instances' VMs as new tags.
type saver struct {
	runtime   hypervisor.Runtime
	registry  Registry
	vms       *vms
	instances *instances
	journal   *journal
	claims    *claims
	outcomes  *outcomes
	errors    *errorLog
	log       *zap.Logger
}

// work pushes an instance's VM as a new tag. When that succeeded the
// instance is over and its VM removed; when it failed the VM stays.
func (s *saver) work(ctx context.Context, r Record) {
	if r.Lives > 1 && r.VMName == "pushed" {
		// The push had ended before the agent was restarted.
		s.endSaved(ctx, r, nil)
		return
	}
	taskCtx, p := s.outcomes.reportProgress(ctx, r)
	script, err := s.save(taskCtx, r, p)
	p.end()
	switch {
	case ctx.Err() != nil:
	case err != nil:
		out := failed(err)
		out.Script = script
		s.outcomes.finishTask(ctx, r, Reporting, out)
	default:
		s.endSaved(ctx, r, script)
	}
}

func (s *saver) save(ctx context.Context, r Record, p *progress) (*controllerapi.ScriptResult, error) {
	task := r.Task.SaveImage
	req := task.Request
	start, err := s.instances.vmOf(r.Task.InstanceID)
	if err != nil {
		return nil, err
	}
	p.set(stagePushing, 0)
	var script *controllerapi.ScriptResult
	if req.Script != "" && r.Lives <= 1 { // a script is not run twice
		script, err = s.vms.execScript(ctx, start.VMUUID, req.Script, saveScriptTimeout)
		var bad *scriptFailed
		if err != nil && (!errors.As(err, &bad) || req.CancelOnScriptFailure) {
			return script, err
		}
	}
	if err := s.quiesceVM(ctx, start.VMUUID, req); err != nil {
		return script, err
	}
	if err := s.revertTarget(ctx, &r); err != nil {
		return script, fmt.Errorf("revert before push: %w", err)
	}
	return script, s.push(ctx, start.VMUUID, task)
}

// revertTarget removes the tag that the request names, or the latest, from the
// template that is pushed to. Which one that is, and that it is gone, is written
// down: asked again after a restart, "the latest" would be another.
func (s *saver) revertTarget(ctx context.Context, r *Record) error {
	task := *r.Task.SaveImage
	if !task.Request.RevertBeforePush || task.Target.ID == "" {
		return nil
	}
	note := func() error {
		r.Task.SaveImage = &task
		return s.journal.put(*r)
	}
	if task.Request.RevertTag == "" {
		latest, err := s.registry.Latest(ctx, task.PushRegistries, task.Target.ID)
		if err != nil {
			return err
		}
		if task.Request.RevertTag = latest; latest == "" {
			return nil // nothing was ever pushed there
		}
		if err := note(); err != nil {
			return err
		}
	}
	if err := s.registry.Revert(ctx, task.PushRegistries, task.Target.ID, task.Request.RevertTag); err != nil {
		return err
	}
	s.log.Info("reverted before push", zap.String("template", task.Target.Name), zap.String("tag", task.Request.RevertTag))
	task.Request.RevertBeforePush = false
	return note()
}

// stagePushing is shown while an image is saved; the instance is Pushing.
const stagePushing = "pushing"

// quiesceVM brings a VM into the state that is pushed: suspended or stopped.
func (s *saver) quiesceVM(ctx context.Context, uuid string, req controllerapi.SaveImageRequest) error {
	vm, err := s.runtime.Show(ctx, uuid)
	if err != nil {
		return err
	}
	if vm.Status != hypervisor.Running {
		return nil
	}
	if req.Suspend != nil && !*req.Suspend {
		return s.runtime.Stop(ctx, uuid, false)
	}
	err = s.runtime.Suspend(ctx, uuid)
	if errors.Is(err, hypervisor.ErrUnsupported) && !req.DoSuspendSanityTest {
		// To suspend is the default, and perhaps was not asked for.
		s.log.Info("image is saved without the guest's memory", zap.Error(err))
		return s.runtime.Stop(ctx, uuid, false)
	}
	if err != nil {
		return err
	}
	if !req.DoSuspendSanityTest {
		return nil
	}
	if err := s.vms.start(ctx, uuid, hypervisor.StartOptions{}); err != nil {
		return fmt.Errorf("suspend sanity test: %w", err)
	}
	return s.runtime.Suspend(ctx, uuid)
}

// push pushes to the push registries, or the node's own.
func (s *saver) push(ctx context.Context, uuid string, task *controllerapi.SaveImageTask) error {
	to, done, err := s.registry.Open(task.PushRegistries, hypervisor.Transfer{Repository: task.Target.Repository, Tag: task.Request.Tag, Write: true})
	if err != nil {
		return err
	}
	defer done()
	to.Prefix = images.Prefix(task.Target)
	name := cmp.Or(task.Target.Name, task.Request.NewTemplateName)
	if task.Target.Repository != "" { // whatever the configuration in it calls itself
		name = path.Base(task.Target.Repository)
	}
	return s.runtime.Push(ctx, uuid, to, hypervisor.PushOptions{Template: name, Tag: task.Request.Tag, Description: task.Request.Description})
}

// endSaved removes the instance's VM and reports. The note that the push is
// through is written first, so that a restart does not push a VM that is gone.
func (s *saver) endSaved(ctx context.Context, r Record, script *controllerapi.ScriptResult) {
	r.VMName = "pushed"
	if err := s.journal.put(r); err != nil {
		s.errors.fail(ctx, "journal", err)
	}
	for _, start := range s.journal.starts(r.Task.InstanceID) {
		s.claims.discard(start.Task.ID, errDiscarded)
	}
	s.outcomes.finishTask(ctx, r, Reporting, done(nil, script))
}
