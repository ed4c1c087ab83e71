package agent

import (
	"context"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
)

// keepAwake keeps the host from sleeping while VMs run or tasks are worked on: a
// daemon alone does not, and a Mac that is asleep takes its VMs with it. The
// command holds sleep off for as long as it runs, and ends with this process.
func (a *Agent) keepAwake(ctx context.Context) error {
	path := a.deps.Caffeinate
	if path == "" {
		return nil
	}
	var held *exec.Cmd
	var ended chan struct{}
	release := func() {
		if held != nil {
			_ = held.Process.Kill()
			<-ended
			held = nil
		}
	}
	defer release()
	tick := time.NewTicker(awakeEvery)
	defer tick.Stop()
	for complained := false; ; {
		if held != nil {
			select {
			case <-ended: // somebody ended it
				held = nil
			default:
			}
		}
		switch needed := a.needsAwake(); {
		case needed && held == nil:
			cmd := exec.Command(path, "-ims", "-w", strconv.Itoa(os.Getpid()))
			if err := cmd.Start(); err != nil {
				if !complained {
					a.log.Warn("the host may fall asleep under its VMs", zap.Error(err))
				}
				complained = true
				break
			}
			held, ended = cmd, make(chan struct{})
			go func(done chan struct{}) { _ = cmd.Wait(); close(done) }(ended)
		case !needed:
			release()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// awakeEvery is far below the shortest time after which a Mac falls asleep.
const awakeEvery = 10 * time.Second

func (a *Agent) needsAwake() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.busy) > 0 || slices.ContainsFunc(a.inventory.vms, func(vm hypervisor.VM) bool { return vm.Status == hypervisor.Running })
}
