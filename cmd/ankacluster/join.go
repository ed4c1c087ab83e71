package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/agent"
	"github.com/ankacluster/ankacluster/agent/node"
	"github.com/ankacluster/ankacluster/agent/socket"
	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/controllerapi"
)

// listedTimeout is how long join waits for the cloud to list the node.
const listedTimeout = 60 * time.Second

func joinCommand() *cli.Command {
	return &cli.Command{
		Name:      "join",
		Usage:     "join this host to a build cloud and start its agent",
		ArgsUsage: "URL[,URL…]",
		Description: `Tests every controller and its registry, joins when at least one answers,
and returns once the cloud lists this node. The agent then spreads its
requests over all servers, also those it learns of later. Joining again
changes the settings.

Example:
   sudo ankacluster join http://10.0.1.4:8090,http://10.0.1.5:8090,http://10.0.1.6:8090`,
		Flags:  joinFlags(),
		Action: joinAction,
	}
}

func joinAction(c *cli.Context) error {
	ctx, out := c.Context, c.App.Writer
	cfg, err := joinConfig(c)
	if err != nil {
		return hintf(usageError{err}, "ankacluster join --help explains the flags")
	}
	dir, err := writableStateDir(c)
	if err != nil {
		return err
	}
	hypervisor, err := chooseRuntime(c, dir, &cfg)
	if err != nil {
		return err
	}
	if err := refuseShared(cfg, dir); err != nil {
		return err
	}
	if err := onlyAgent(cfg, dir); err != nil {
		return err
	}
	if err := refuseTranslated(ctx); err != nil {
		return err
	}
	if err := refuseRivals(ctx, c.App.ErrWriter); err != nil {
		return err
	}
	fmt.Fprintln(out, hypervisor)
	if c.Bool("skip-tests") {
		fmt.Fprintln(out, "tests skipped")
	} else {
		fmt.Fprintf(out, "testing %s and the registries ...\n", count(len(cfg.Controllers), "controller"))
		checks, err := checkServers(ctx, cfg)
		if err != nil {
			return usageError{err}
		}
		printChecks(out, checks)
		err = judgeChecks(checks, func() string { return otherRegistry(ctx, cfg, checks) })
		if _, notJoined := dir.Config(); errors.Is(err, errNoRegistry) && notJoined == nil {
			// A node that has joined works on, and its settings may be what is mended.
			fmt.Fprintf(c.App.ErrWriter, "warning: no registry answers; no VM starts here until one does\n")
			err = nil
		}
		if err != nil {
			return err
		}
	}
	launch, err := newLauncher(c, dir)
	if err != nil {
		return err
	}
	id, again, err := storeJoin(ctx, out, dir, &cfg, c, launch)
	if err != nil {
		return err
	}
	if c.Bool("foreground") {
		fmt.Fprintf(out, "joining as node %s; the agent runs until it is interrupted\n", id)
		return runAgent(ctx, dir)
	}
	fmt.Fprintf(out, "starting the agent (%s) ...\n", launch.describe())
	if err := launch.start(ctx); err != nil {
		return err
	}
	fmt.Fprintln(out, "waiting until the cloud lists this node ...")
	state, err := waitListed(ctx, dir, cfg, id, nextCommand(c, dir, "status"))
	if errors.Is(err, errRefused) && !again {
		// Nothing of a join that was refused stays.
		err = errors.Join(err, launch.stop(ctx), launch.remove(ctx), dir.Forget())
	}
	if errors.Is(err, errRefused) && len(cfg.Seed.Groups) > 0 {
		// The answer has no code for a group that is unknown; where it is another
		// trouble, the message before the hint says so.
		err = hintf(err, `a group that does not exist is made with: curl -d '{"name":"%s"}' %s/api/v1/group`, cfg.Seed.Groups[0], cfg.Controllers[0])
	}
	if err != nil {
		return err
	}
	word := "joined"
	if again {
		word = "re-joined"
	}
	fmt.Fprintf(out, "%s as node %s, state %s\n", word, id, state)
	fmt.Fprintf(out, "next: %s\n", nextCommand(c, dir, "status"))
	return nil
}

// onlyAgent refuses a second agent for the VMs of one hypervisor.
func onlyAgent(cfg state.Config, dir state.Dir) error {
	h, taken := state.HypervisorHolder(cfg)
	if !taken || h.Dir == dir {
		return nil
	}
	other := "ankacluster disjoin"
	if h.Dir != state.Dir(systemStateDir()) {
		other += " --state-dir " + quoted(string(h.Dir))
	}
	if os.Geteuid() != 0 {
		other += " -f"
	}
	return hintf(fmt.Errorf("cannot join: an agent runs on this host already (process %d, state directory %s); two would end each other's VMs", h.PID, h.Dir),
		"end that one first: %s", other)
}

// storeJoin writes down what the agent needs. A node that had joined before is
// re-joined: its running agent is stopped first, its VMs are not.
func storeJoin(ctx context.Context, out io.Writer, dir state.Dir, cfg *state.Config, c *cli.Context, launch launcher) (controllerapi.NodeID, bool, error) {
	if err := dir.Make(); err != nil {
		return "", false, cannotStore(err)
	}
	_, err := dir.Config()
	again := err == nil
	if again {
		fmt.Fprintln(out, "this node had joined before: its settings are changed, its VMs stay")
		if err := launch.stop(ctx); err != nil {
			return "", again, err
		}
	} else if pid := dir.RunningPID(); pid != 0 {
		return "", again, hintf(fmt.Errorf("an agent that is not joined runs as process %d", pid), "sudo kill %d, then join again", pid)
	}
	if err := dir.Make(); err != nil {
		return "", again, cannotStore(err)
	}
	cfg.Seed.Overwrite, cfg.Seed.Join = again && seedsGiven(cfg.Seed), uuid.NewString()
	if cfg.Seed.Name == nil {
		if host, err := os.Hostname(); err == nil {
			name, _, _ := strings.Cut(host, ".")
			cfg.Seed.Name = &name
			if cfg.Seed.Overwrite {
				cfg.Seed.Name = nil // only what was asked for
			}
		}
	}
	id, err := dir.Identity(controllerapi.NodeID(c.String("node-id")))
	if err != nil {
		return "", again, cannotStore(err)
	}
	// What was announced before may be of another cloud; the agent learns anew.
	if err := dir.ForgetCluster(); err != nil {
		return "", again, err
	}
	if err := dir.SaveConfig(*cfg); err != nil {
		return "", again, cannotStore(err)
	}
	return id, again, nil
}

func cannotStore(err error) error {
	return hintf(fmt.Errorf("cannot write the state directory: %w", err), "choose another one with --state-dir, or free some space")
}

// errRefused: the cloud does not want the node as it is.
var errRefused = errors.New("the cloud refused this node")

// waitListed waits until the agent has registered and a controller lists the
// node.
func waitListed(ctx context.Context, dir state.Dir, cfg state.Config, id controllerapi.NodeID, look string) (controllerapi.NodeState, error) {
	ctx, cancel := context.WithTimeout(ctx, listedTimeout)
	defer cancel()
	plain, err := node.NewPlain(cfg, checkTimeout)
	if err != nil {
		return "", err
	}
	last := errors.New("the agent has not registered yet")
	for {
		var s agent.Status
		err := socket.Ask(ctx, dir.Socket(), "/status", &s)
		switch {
		case err != nil:
			last = err
		case s.Refused != "":
			return "", fmt.Errorf("%w: %s", errRefused, s.Refused)
		case !s.Registered && s.SyncError != "":
			last = errors.New(s.SyncError)
		case s.Registered:
			state, err := listed(ctx, plain, cfg.Controllers, id)
			if err == nil {
				return state, nil
			}
			last = err
		}
		select {
		case <-ctx.Done():
			return "", hintf(fmt.Errorf("the agent runs, but the cloud did not list the node within %s: %w", listedTimeout, last),
				"it goes on trying; see %s and %s", look, dir.LogFile())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// listed asks the controllers in turn for the node.
func listed(ctx context.Context, p node.Plain, urls []string, id controllerapi.NodeID) (controllerapi.NodeState, error) {
	var errs []error
	for _, u := range urls {
		n, err := controllerapi.NewClient(u, p.At(u)).Node(ctx, id)
		if err == nil {
			return n.State, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", u, err))
	}
	return "", errors.Join(errs...)
}
