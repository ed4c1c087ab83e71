package agent

import (
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/controllerapi"
)

// Causes for which a worker is cancelled.
var (
	errDiscarded = errors.New("the claim no longer stands")
	errAbandoned = errors.New("the cloud told the node to abandon the task")
)

// claims takes tasks in and gives them up. It is safe for concurrent use.
type claims struct {
	journal *journal
	workers *workers
	ended   *recentlyEnded
	errors  *errorLog
	log     *zap.Logger
	wakeups wakeups
}

// accept writes a claimed task down; the plan takes it up.
func (c *claims) accept(t controllerapi.Task) error {
	if _, ok := c.journal.get(t.ID); ok {
		return nil
	}
	c.log.Info("task claimed", zap.String("kind", string(t.Kind)), zap.String("task", string(t.ID)),
		zap.String("instance_id", string(t.InstanceID)), zap.Int("attempt", t.Attempt))
	r := Record{Task: t, State: Claimed, Claimed: time.Now(), Lives: 1}
	if err := t.Check(); err != nil {
		out := failed(err)
		out.Seq = seqPerLife
		r.State, r.Outcome = Reporting, &out
	}
	if t.Kind == controllerapi.TaskStart && c.ended.has(t.InstanceID, t.Attempt) {
		// A late delivery of what was ended here already (F2, F3).
		out := returned(errors.New("the instance was ended on this node before"))
		out.Seq = seqPerLife
		r.State, r.Outcome = Reporting, &out
	}
	return c.journal.put(r)
}

// discard marks a record for removal and stops its worker. The plan does the
// rest once the worker has gone.
func (c *claims) discard(id controllerapi.TaskID, cause error) {
	r, ok := c.journal.get(id)
	if !ok {
		return
	}
	if r.Task.InstanceID != "" {
		c.ended.add(r.Task.InstanceID, r.Task.Attempt, time.Now())
	}
	w := c.workers.at(id)
	if r.State != Removing {
		r.State, r.Outcome = Removing, nil
		if err := c.journal.put(r); err != nil {
			c.errors.note("journal", err)
			c.log.Error("journal", zap.Error(err)) // the next plan tries again
			return
		}
		if w != nil {
			w.cancel(cause)
		}
	}
	c.wakeups.plan.wake()
}
