package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/backoff"
)

// monitor finds VMs that do not answer.
type monitor struct {
	cfg       *state.Config
	runtime   hypervisor.Runtime
	inventory *inventory
	journal   *journal
	workers   *workers
	outcomes  *outcomes
	errors    *errorLog
	log       *zap.Logger
}

// run runs a command in every running VM from time to time, when join
// asked for it. A VM that does not answer is reported as failed and stopped
// (A13).
func (m *monitor) run(ctx context.Context) error {
	if !m.cfg.VMMonitor {
		return nil
	}
	for backoff.Sleep(ctx, m.cfg.VMStuckDelay) {
		var probes sync.WaitGroup
		for _, r := range m.journal.all() {
			if r.Task.Kind == controllerapi.TaskStart && r.State == Running && m.inventory.isRunning(r.VMUUID) {
				probes.Go(func() { m.probe(ctx, r) })
			}
		}
		probes.Wait()
	}
	return ctx.Err()
}

// errStuck is the cause of a script's end in a guest that does not answer.
var errStuck = errors.New("the VM does not answer")

func (m *monitor) probe(ctx context.Context, r Record) {
	res, err := m.runtime.Run(ctx, r.VMUUID, hypervisor.Script{Text: []byte("true\n"), Timeout: m.cfg.VMStuckTimeout})
	if ctx.Err() != nil || err == nil && !res.TimedOut && res.ExitCode == 0 {
		return
	}
	if errors.Is(err, hypervisor.ErrOutdated) {
		return // nothing can be asked, so nothing is known
	}
	switch {
	case err != nil:
	case res.TimedOut:
		err = fmt.Errorf("no answer within %s", m.cfg.VMStuckTimeout)
	default:
		err = fmt.Errorf("exit code %d", res.ExitCode)
	}
	if current, ok := m.journal.get(r.Task.ID); !ok || current.State != Running || current.Outcome != nil {
		return // it is being ended anyhow
	}
	m.log.Warn("VM is stuck", zap.String("instance_id", string(r.Task.InstanceID)), zap.Error(err))
	if err := m.runtime.Stop(ctx, r.VMUUID, true); err != nil {
		m.errors.fail(ctx, "stop a stuck VM", err)
	}
	// A script that is not monitored may hang in the same guest.
	m.workers.interrupt(r.Task.ID, errStuck)
	m.workers.begin(ctx, r.Task.ID, func(ctx context.Context, _ controllerapi.TaskID) {
		r.Lives++ // a second outcome needs a number above the first one's
		m.outcomes.finishTask(ctx, r, Retained, failed(errors.New("the VM did not answer its monitor: "+err.Error())))
	})
}
