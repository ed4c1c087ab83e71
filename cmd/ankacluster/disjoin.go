package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/urfave/cli/v2"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/ankacluster/ankacluster/agent"
	"github.com/ankacluster/ankacluster/agent/node"
	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/controllerapi"
)

// unregisterTimeout bounds the goodbye at the cloud.
const unregisterTimeout = 20 * time.Second

func disjoinCommand() *cli.Command {
	return &cli.Command{
		Name:  "disjoin",
		Usage: "leave the build cloud: stop the agent, remove the cloud's VMs from this host",
		Description: `Stops the agent, removes the VMs that it started for the cloud, tells the cloud,
and forgets the settings. Templates stay, and so does the node's id: joined
again, it is the same node.

Example:
   sudo ankacluster disjoin`,
		Flags:  placeFlags(),
		Action: disjoinAction,
	}
}

func disjoinAction(c *cli.Context) error {
	dir, err := writableStateDir(c)
	if own, ok := ownJoined(); err != nil && ok && os.Geteuid() != 0 && c.String("state-dir") == "" {
		fmt.Fprintf(c.App.ErrWriter, "about your own agent, in %s\n", own)
		dir, err = own, nil
	}
	if err != nil {
		return err
	}
	ctx, out := c.Context, c.App.Writer
	launch, err := newLauncher(c, dir)
	if err != nil {
		return err
	}
	cfg, err := dir.Config()
	if errors.Is(err, state.ErrNotJoined) {
		if err := errors.Join(launch.stop(ctx), launch.remove(ctx)); err != nil {
			return err
		}
		fmt.Fprintln(out, "this node has not joined a cloud: nothing to do")
		return nil
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "stopping the agent ...")
	if err := errors.Join(launch.stop(ctx), launch.remove(ctx)); err != nil {
		return err
	}
	var problems []error
	problems = append(problems, removeVMs(ctx, out, dir, cfg))
	problems = append(problems, unregister(ctx, out, dir, cfg))
	if err := dir.Forget(); err != nil {
		problems = append(problems, err)
	}
	if err := errors.Join(problems...); err != nil {
		return hintf(fmt.Errorf("the agent has gone, but not all is clean: %w", err), "a node that the cloud still lists can be removed with DELETE /api/v1/node")
	}
	fmt.Fprintln(out, "disjoined")
	return nil
}

func removeVMs(ctx context.Context, out io.Writer, dir state.Dir, cfg state.Config) error {
	rt, runner := node.NewRuntime(dir, cfg, zap.NewNop(), nil)
	if _, err := runner.KillLeftovers(); err != nil {
		return err
	}
	vms, err := agent.RemoveOwn(ctx, rt, dir, cfg.VMPrefix)
	listVMs(out, "removed", "", vms.Removed)
	listVMs(out, "left alone", ", which this node's cloud did not start", vms.Kept)
	return err
}

// listVMs writes a line for each VM, after one that says what became of them.
func listVMs(out io.Writer, what, note string, names []string) {
	if len(names) == 0 {
		return
	}
	fmt.Fprintf(out, "%s %s%s:\n", what, count(len(names), "VM"), note)
	for _, name := range names {
		fmt.Fprintf(out, "  %s\n", name)
	}
}

// unregister tells the cloud, through whichever controller is well.
func unregister(ctx context.Context, out io.Writer, dir state.Dir, cfg state.Config) error {
	id, err := dir.Identity("")
	if err != nil {
		return err
	}
	pools, err := node.NewPools(cfg, dir.Cluster(), zap.NewNop())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, unregisterTimeout)
	defer cancel()
	running, stop := context.WithCancel(ctx)
	g, running := errgroup.WithContext(running)
	g.Go(func() error { return pools.Run(running) })
	err = pools.Client().Unregister(ctx, controllerapi.UnregisterRequest{NodeID: id, Session: dir.Session()})
	stop()
	_ = g.Wait() // ended by stop
	switch {
	case err == nil:
		fmt.Fprintln(out, "the cloud has let go of this node")
	case errors.Is(err, controllerapi.ErrUnknownNode), errors.Is(err, controllerapi.ErrNotFound):
		err = nil
	default:
		err = fmt.Errorf("tell the cloud: %w", err)
	}
	return err
}
