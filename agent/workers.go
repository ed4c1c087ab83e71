package agent

import (
	"context"
	"sync"

	"github.com/ankacluster/ankacluster/controllerapi"
)

// workers are the goroutines that work on records, one a record at most. It is safe
// for concurrent use.
type workers struct {
	wakeups wakeups

	group sync.WaitGroup // of the workers, and of what works beside them

	mu   sync.Mutex
	busy map[controllerapi.TaskID]*worker // guarded by mu
}

// worker is a goroutine that works on a record.
type worker struct {
	cancel context.CancelCauseFunc
	done   chan struct{}
}

func newWorkers(w wakeups) *workers {
	return &workers{wakeups: w, busy: make(map[controllerapi.TaskID]*worker)}
}

// begin runs work on a task unless a worker is at it.
func (w *workers) begin(ctx context.Context, id controllerapi.TaskID, work func(context.Context, controllerapi.TaskID)) {
	ctx, cancel := context.WithCancelCause(ctx)
	this := &worker{cancel: cancel, done: make(chan struct{})}
	w.mu.Lock()
	if w.busy[id] != nil {
		w.mu.Unlock()
		cancel(nil)
		return
	}
	w.busy[id] = this
	w.mu.Unlock()
	w.group.Go(func() {
		work(ctx, id)
		cancel(nil)
		w.mu.Lock()
		delete(w.busy, id)
		w.mu.Unlock()
		close(this.done)
		w.wakeups.inventory.wake()
		w.wakeups.plan.wake()
		w.wakeups.heartbeat.wake()
		w.wakeups.capacity.wake()
	})
}

// at returns the worker of a task, or nil.
func (w *workers) at(id controllerapi.TaskID) *worker {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.busy[id]
}

// interrupt ends the work on a task and waits until it has ended.
func (w *workers) interrupt(id controllerapi.TaskID, cause error) {
	if at := w.at(id); at != nil {
		at.cancel(cause)
		<-at.done
	}
}

// stop ends all work and waits until it has ended.
func (w *workers) stop(cause error) {
	w.mu.Lock()
	for _, at := range w.busy {
		at.cancel(cause)
	}
	w.mu.Unlock()
	w.group.Wait()
}

// tasks returns the tasks that are worked on.
func (w *workers) tasks() map[controllerapi.TaskID]bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	busy := make(map[controllerapi.TaskID]bool, len(w.busy))
	for id := range w.busy {
		busy[id] = true
	}
	return busy
}

// any reports whether a task is worked on.
func (w *workers) any() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.busy) > 0
}
