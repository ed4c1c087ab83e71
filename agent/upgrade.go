package agent

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/backoff"
)

// ErrRestart is what Run returns when another version of the agent is in place:
// the process has to begin anew, from the program that is at its path now.
var ErrRestart = errors.New("the agent has to be restarted for another version")

// Upgrader replaces the agent's program.
type Upgrader interface {
	// Version is what runs now.
	Version() string
	// Prepare downloads and verifies a version; it changes nothing.
	Prepare(ctx context.Context, t controllerapi.UpgradeTask) error
	// Begin puts the prepared version in place.
	Begin(t controllerapi.UpgradeTask) error
}

// drainLimit is how long an upgrade waits for tasks in hand. A start-up script
// may last a day; the upgrade is then given back, and asked for again.
const drainLimit = 10 * time.Minute

// upgrade replaces the agent's program.
type upgrade struct {
	upgrader Upgrader // nil refuses upgrades
	workers  *workers
	outcomes *outcomes
	headroom *headroom
	log      *zap.Logger
	wakeups  wakeups
	upgraded wakeup // an upgrade is in place
}

// work brings another version of the agent. It ends in the process of
// that version, which finds the task in the journal, or in the old one again,
// after a rollback.
func (u *upgrade) work(ctx context.Context, r Record) {
	t := *r.Task.Upgrade
	up := u.upgrader
	if up == nil {
		u.outcomes.finishTask(ctx, r, Reporting, failed(errors.New("this node does not let the cloud upgrade its agent: join again with --allow-upgrades, or install the new version on the Mac")))
		return
	}
	if up.Version() == t.Version {
		u.outcomes.finishTask(ctx, r, Reporting, done(nil, nil))
		return
	}
	// Downloading needs no quiet; waiting for it after the download keeps the
	// time short in which the node takes nothing.
	if err := up.Prepare(ctx, t); err != nil {
		if ctx.Err() == nil {
			u.outcomes.finishTask(ctx, r, Reporting, failed(err))
		}
		return
	}
	u.drain(true)
	defer u.drain(false)
	if !u.drained(ctx, r.Task.ID) {
		if ctx.Err() == nil {
			u.outcomes.finishTask(ctx, r, Reporting, returned(errors.New("the node's tasks did not end in time for an upgrade")))
		}
		return
	}
	if err := up.Begin(t); err != nil {
		u.outcomes.finishTask(ctx, r, Reporting, failed(err))
		return
	}
	u.log.Info("upgrade in place, restarting", zap.String("from", up.Version()), zap.String("to", t.Version))
	u.upgraded.wake()
	<-ctx.Done() // the task goes on in the next process
}

// drained waits until no other task is being worked on. VMs that run are not
// tasks: they outlive the agent.
func (u *upgrade) drained(ctx context.Context, self controllerapi.TaskID) bool {
	for deadline := time.Now().Add(drainLimit); time.Now().Before(deadline); {
		busy := u.workers.tasks()
		delete(busy, self)
		if len(busy) == 0 {
			return true
		}
		if !backoff.Sleep(ctx, 200*time.Millisecond) {
			return false
		}
	}
	return false
}

// drain makes the node take no more starts, or take them again.
func (u *upgrade) drain(on bool) {
	u.headroom.draining.Store(on)
	u.wakeups.capacity.wake()
}

// run ends Run when an upgrade is in place.
func (u *upgrade) run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-u.upgraded:
		return ErrRestart
	}
}
