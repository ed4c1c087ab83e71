package agent

import (
	"context"
	"errors"

	"github.com/ankacluster/ankacluster/agent/images"
	"github.com/ankacluster/ankacluster/controllerapi"
)

// imageTasks brings images to the node and removes them because the cloud says so.
type imageTasks struct {
	images   *images.Cache
	journal  *journal
	outcomes *outcomes
	wakeups  wakeups
}

// distribute brings a template's tag to the node.
func (i *imageTasks) distribute(ctx context.Context, r Record) {
	taskCtx, p := i.outcomes.reportProgress(ctx, r)
	_, release, err := i.images.Ensure(taskCtx, r.Task.Distribute.Template, func(f float64) { p.set(controllerapi.StagePulling, f) })
	p.end()
	switch {
	case err == nil:
		release()
		i.outcomes.finishTask(ctx, r, Reporting, done(nil, nil))
	case ctx.Err() != nil:
	case errors.Is(context.Cause(taskCtx), errAbandoned):
		i.journal.drop(r.Task.ID)
	default:
		i.outcomes.finishTask(ctx, r, Reporting, failed(err))
	}
}

// remove removes all tags of a template that the cloud pulled from the node. A VM that
// has the template's id but runs is no image and stays.
func (i *imageTasks) remove(ctx context.Context, r Record) {
	err := i.images.RemoveTemplate(ctx, r.Task.Remove.TemplateID)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		i.outcomes.finishTask(ctx, r, Reporting, failed(err))
	default:
		i.outcomes.finishTask(ctx, r, Reporting, done(nil, nil))
	}
	i.wakeups.inventory.wake()
}
