package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/agent"
	"github.com/ankacluster/ankacluster/agent/socket"
	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/internal/selfpath"
	"github.com/ankacluster/ankacluster/launchd"
)

// serviceName is the agent's name at the service manager.
const serviceName = "ankacluster"

// newLauncher chooses how the agent of a state directory is started: as a
// service of the system, which comes back after a crash and a reboot, wherever
// that can be done.
func newLauncher(c *cli.Context, dir state.Dir) (launcher, error) {
	noSudo := c.Bool("force-no-sudo")
	plain := background{dir, noSudo}
	if os.Geteuid() != 0 || noSudo || !serviceAvailable() {
		return plain, nil
	}
	svc, err := agentService(dir)
	if err != nil {
		return nil, err
	}
	return asService{dir, svc, plain, c.Bool("no-service")}, nil
}

// standInLaunchctl and standInDaemons are a stand-in of launchd. Only tests set them,
// when they link the program.
var standInLaunchctl, standInDaemons string

// agentService describes the service that runs the agent of dir.
func agentService(dir state.Dir) (*launchd.Service, error) {
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
		LogDir:      standInDaemons,
		Launchd:     launchd.Launchd{Launchctl: standInLaunchctl, Daemons: standInDaemons},
	})
}

// serviceAvailable reports whether this machine can run the agent as a service.
func serviceAvailable() bool { return launchd.Available() || standInLaunchctl != "" }

// asService runs the agent under launchd or systemd.
type asService struct {
	dir   state.Dir
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
	if installed, ours := s.installed(); installed && !ours {
		return hintf(fmt.Errorf("the service %s runs an agent of another state directory", serviceName),
			"disjoin that one first; see %s", s.svc.DefinitionPath())
	}
	switch err := errors.Join(s.svc.Install(), s.svc.Restart()); {
	case errors.Is(err, launchd.ErrDisabled):
		return hintf(err, "switch it on: sudo launchctl enable system/%s, or System Settings, General, Login Items & Extensions, Allow in the Background (a managed Mac: its profile). Then join again", serviceName)
	case err != nil:
		return hintf(err, "join with --no-service to run the agent without the service manager")
	}
	deadline := time.Now().Add(startTimeout)
	for {
		var status agent.Status
		err := socket.Ask(ctx, s.dir.Socket(), "/status", &status)
		if err == nil {
			return nil
		}
		st, _ := s.svc.Status() // only more detail for the error
		if gaveUp := st.State == launchd.Failed && st.Restarts >= crashLoop; gaveUp || time.Now().After(deadline) {
			return hintf(s.silent(st, gaveUp), "see %s", s.dir.LogFile())
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// crashLoop is after how many restarts an agent that has not answered is taken for
// one that never will.
const crashLoop = 3

// silent tells of an agent that does not answer.
func (s asService) silent(st launchd.Status, gaveUp bool) error {
	last := ""
	if st.LastExit != "" {
		last = "; it ended with " + st.LastExit
	}
	if gaveUp {
		return fmt.Errorf("the agent ends each time that it is started, %d times now%s", st.Restarts+1, last)
	}
	return fmt.Errorf("the agent did not answer within %s; its service is %s after %d restarts%s", startTimeout, st.State, st.Restarts, last)
}

// stop stops the service and also an agent that was started without it.
func (s asService) stop(ctx context.Context) error {
	if _, ours := s.installed(); ours {
		if err := s.svc.Stop(); err != nil {
			return err
		}
	}
	return s.plain.stop(ctx)
}

func (s asService) remove(ctx context.Context) error {
	if _, ours := s.installed(); ours {
		return s.svc.Uninstall()
	}
	return nil
}

// installed tells whether there is a service, and whether it runs the agent of this
// state directory: a machine has one service, and may for a trial have agents of
// other directories.
func (s asService) installed() (installed, ours bool) { return s.svc.Uses(string(s.dir)) }

// runsAsService reports whether the agent of dir is the service of this machine.
func runsAsService(dir state.Dir) bool {
	if !serviceAvailable() {
		return false
	}
	svc, err := agentService(dir)
	if err != nil {
		return false
	}
	_, ours := svc.Uses(string(dir))
	return ours
}
