package agent

import (
	"context"
	"fmt"

	"github.com/ankacluster/ankacluster/controllerapi"
)

// tasks has the owner of each kind of task.
type tasks struct {
	journal   *journal
	outcomes  *outcomes
	starter   *starter
	instances *instances
	saver     *saver
	images    *imageTasks
	upgrade   *upgrade
}

// work takes a claimed task up.
func (t *tasks) work(ctx context.Context, id controllerapi.TaskID) {
	r, ok := t.journal.get(id)
	if !ok || r.State != Claimed {
		return
	}
	if err := r.Task.Check(); err != nil { // an agent of before wrote it down unchecked
		t.outcomes.finishTask(ctx, r, Reporting, failed(err))
		return
	}
	t.outcomes.metrics.taskStarted(r.Task.Kind)
	switch r.Task.Kind {
	case controllerapi.TaskStart:
		t.starter.work(ctx, r)
	case controllerapi.TaskTerminate:
		t.instances.terminate(ctx, r)
	case controllerapi.TaskRestart:
		t.instances.restart(ctx, r)
	case controllerapi.TaskSaveImage:
		t.saver.work(ctx, r)
	case controllerapi.TaskDistribute:
		t.images.distribute(ctx, r)
	case controllerapi.TaskRemove:
		t.images.remove(ctx, r)
	case controllerapi.TaskUpgrade:
		t.upgrade.work(ctx, r)
	default:
		t.outcomes.finishTask(ctx, r, Reporting, failed(fmt.Errorf("this agent does not know tasks of kind %q", r.Task.Kind)))
	}
}
