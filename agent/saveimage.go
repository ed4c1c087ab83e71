package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/controllerapi"
)

// saveScriptTimeout bounds the script before a save; its request has no own.
const saveScriptTimeout = time.Hour

// workSaveImage pushes an instance's VM as a new tag. When that succeeded the
// instance is over and its VM removed; when it failed the VM stays.
func (a *Agent) workSaveImage(ctx context.Context, r Record) {
	if r.Lives > 1 && r.VMName == "pushed" {
		// The push had ended before the agent was restarted.
		a.endSaved(ctx, r, nil)
		return
	}
	taskCtx, p := a.reportProgress(ctx, r)
	script, err := a.saveImage(taskCtx, r, p)
	p.end()
	switch {
	case ctx.Err() != nil:
	case err != nil:
		out := failed(err)
		out.Script = script
		a.finishTask(ctx, r, Reporting, out)
	default:
		a.endSaved(ctx, r, script)
	}
}

func (a *Agent) saveImage(ctx context.Context, r Record, p *progress) (*controllerapi.ScriptResult, error) {
	task := r.Task.SaveImage
	req := task.Request
	start, err := a.instanceVM(r.Task.InstanceID)
	if err != nil {
		return nil, err
	}
	p.set(stagePushing, 0)
	var script *controllerapi.ScriptResult
	if req.Script != "" && r.Lives <= 1 { // a script is not run twice
		script, err = a.execScript(ctx, start.VMUUID, req.Script, saveScriptTimeout)
		var bad *scriptFailed
		if err != nil && (!errors.As(err, &bad) || req.CancelOnScriptFailure) {
			return script, err
		}
	}
	if err := a.quiesceVM(ctx, start.VMUUID, req); err != nil {
		return script, err
	}
	if err := a.revertTarget(ctx, &r); err != nil {
		return script, fmt.Errorf("revert before push: %w", err)
	}
	return script, a.pushImage(ctx, start.VMUUID, task)
}

// revertTarget removes the tag that the request names, or the latest, from the
// template that is pushed to. Which one that is, and that it is gone, is written
// down: asked again after a restart, "the latest" would be another.
func (a *Agent) revertTarget(ctx context.Context, r *Record) error {
	task := *r.Task.SaveImage
	if !task.Request.RevertBeforePush || task.Target.ID == "" {
		return nil
	}
	note := func() error {
		r.Task.SaveImage = &task
		return a.journal.put(*r)
	}
	if task.Request.RevertTag == "" {
		latest, err := a.deps.Registry.Latest(ctx, task.PushRegistries, task.Target.ID)
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
	if err := a.deps.Registry.Revert(ctx, task.PushRegistries, task.Target.ID, task.Request.RevertTag); err != nil {
		return err
	}
	a.log.Info("reverted before push", zap.String("template", task.Target.Name), zap.String("tag", task.Request.RevertTag))
	task.Request.RevertBeforePush = false
	return note()
}

// stagePushing is shown while an image is saved; the instance is Pushing.
const stagePushing = "pushing"

// quiesceVM brings a VM into the state that is pushed: suspended or stopped.
func (a *Agent) quiesceVM(ctx context.Context, uuid string, req controllerapi.SaveImageRequest) error {
	vm, err := a.deps.Runtime.Show(ctx, uuid)
	if err != nil {
		return err
	}
	if vm.Status != hypervisor.Running {
		return nil
	}
	if req.Suspend != nil && !*req.Suspend {
		return a.deps.Runtime.Stop(ctx, uuid, false)
	}
	err = a.deps.Runtime.Suspend(ctx, uuid)
	if errors.Is(err, hypervisor.ErrUnsupported) && !req.DoSuspendSanityTest {
		// To suspend is the default, so that nobody may have asked for it.
		a.log.Info("image is saved without the guest's memory", zap.Error(err))
		return a.deps.Runtime.Stop(ctx, uuid, false)
	}
	if err != nil {
		return err
	}
	if !req.DoSuspendSanityTest {
		return nil
	}
	if err := a.startVM(ctx, uuid, hypervisor.StartOptions{}); err != nil {
		return fmt.Errorf("suspend sanity test: %w", err)
	}
	return a.deps.Runtime.Suspend(ctx, uuid)
}

// pushImage pushes to the push registries, or the node's own.
func (a *Agent) pushImage(ctx context.Context, uuid string, task *controllerapi.SaveImageTask) error {
	url := a.deps.Registry.URL()
	if len(task.PushRegistries) > 0 {
		var done func()
		var err error
		if url, done, err = a.deps.Registry.Push(task.PushRegistries); err != nil {
			return err
		}
		defer done()
	}
	name := task.Target.Name
	if name == "" {
		name = task.Request.NewTemplateName
	}
	return a.deps.Runtime.Push(ctx, uuid, hypervisor.Source{
		URL: url, Prefix: repositoryPrefix(task.Target),
		Moved: func() int64 { return a.deps.Registry.Moved(task.Target.Repository) },
	}, hypervisor.PushOptions{Template: name, Tag: task.Request.Tag, Description: task.Request.Description})
}

// endSaved removes the instance's VM and reports. The note that the push is
// through is written first, so that a restart does not push a VM that is gone.
func (a *Agent) endSaved(ctx context.Context, r Record, script *controllerapi.ScriptResult) {
	r.VMName = "pushed"
	if err := a.journal.put(r); err != nil {
		a.errors.fail(ctx, "journal", err)
	}
	for _, s := range a.journal.starts(r.Task.InstanceID) {
		a.discard(s.Task.ID, errDiscarded)
	}
	a.finishTask(ctx, r, Reporting, done(nil, script))
}
