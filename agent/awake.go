package agent

import (
	"context"
	"os"
	"os/exec"
	"strconv"
	"time"

	"go.uber.org/zap"
)

// awake keeps the host from sleeping while VMs run or tasks are worked on: a
// daemon alone does not, and a Mac that is asleep takes its VMs with it. The
// command holds sleep off for as long as it runs, and ends with this process.
type awake struct {
	command string      // "" on hosts without it
	needed  func() bool // VMs run, or tasks are worked on
	log     *zap.Logger
}

func (a *awake) run(ctx context.Context) error {
	if a.command == "" {
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
			case <-ended: // it was ended from outside
				held = nil
			default:
			}
		}
		switch needed := a.needed(); {
		case needed && held == nil:
			cmd := exec.Command(a.command, "-ims", "-w", strconv.Itoa(os.Getpid()))
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
