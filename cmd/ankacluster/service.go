package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/agent"
	"github.com/ankacluster/ankacluster/internal/selfpath"
	"github.com/ankacluster/ankacluster/launchd"
)

// serviceName is the agent's name at the service manager.
const serviceName = "ankacluster"

// newLauncher chooses how the agent of a state directory is started: as a
// service of the system, which comes back after a crash and a reboot, wherever
// that can be done.
func newLauncher(c *cli.Context, dir agent.Dir) (launcher, error) {
	noSudo := c.Bool("force-no-sudo")
	plain := background{dir, noSudo}
	if os.Geteuid() != 0 || noSudo || !launchd.Available() {
		return plain, nil
	}
	svc, err := agentService(dir)
	if err != nil {
		return nil, err
	}
	return asService{dir, svc, plain, c.Bool("no-service")}, nil
}

// agentService describes the service that runs the agent of dir.
func agentService(dir agent.Dir) (*launchd.Service, error) {
	self, err := selfpath.Program()
	if err != nil {
		return nil, err
	}
	return launchd.New(launchd.Config{
		Name:        serviceName,
		Description: "node agent of the build cloud",
		Executable:  self,
		Arguments:   []string{"run", "--state-dir", string(dir)},
		StopTimeout: stopTimeout,
	})
}

// asService runs the agent under launchd or systemd.
type asService struct {
	dir   agent.Dir
	svc   *launchd.Service
	plain background
	// avoid is true when the agent is to be an ordinary process after all.
	avoid bool
}

func (s asService) describe() string {
	if s.avoid {
		return s.plain.describe()
	}
	return "as the service " + serviceName
}

func (s asService) start(ctx context.Context) error {
	if s.avoid {
		return errors.Join(s.remove(ctx), s.plain.start(ctx))
	}
	if other := s.otherDir(); other {
		return hintf(fmt.Errorf("the service %s runs an agent of another state directory", serviceName),
			"disjoin that one first; see %s", launchd.DefinitionPath(serviceName))
	}
	if err := errors.Join(s.svc.Install(), s.svc.Restart()); err != nil {
		return hintf(err, "join with --no-service to run the agent without the service manager")
	}
	deadline := time.Now().Add(startTimeout)
	for {
		var status agent.Status
		err := agent.AskSocket(ctx, s.dir.Socket(), "/status", &status)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			state, _ := s.svc.Status() // only more detail for the error
			return hintf(fmt.Errorf("the agent did not answer within %s; its service is %s after %d restarts", startTimeout, state.State, state.Restarts), "see %s", s.dir.LogFile())
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// stop stops the service and also an agent that was started without it.
func (s asService) stop(ctx context.Context) error {
	if s.ours() {
		if err := s.svc.Stop(); err != nil {
			return err
		}
	}
	return s.plain.stop(ctx)
}

func (s asService) remove(ctx context.Context) error {
	if s.ours() {
		return s.svc.Uninstall()
	}
	return nil
}

// ours and otherDir tell whose agent an installed service runs: a machine has
// one service, and may for a trial have agents of other state directories.
func (s asService) ours() bool     { installed, same := s.installed(); return installed && same }
func (s asService) otherDir() bool { installed, same := s.installed(); return installed && !same }

func (s asService) installed() (installed, same bool) {
	text, err := os.ReadFile(launchd.DefinitionPath(serviceName))
	if err != nil {
		return false, false
	}
	return true, strings.Contains(string(text), string(s.dir))
}
