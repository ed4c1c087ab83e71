package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/ankacluster/ankacluster/agent"
	"github.com/ankacluster/ankacluster/controllerapi"
)

// unregisterTimeout bounds the goodbye at the cloud.
const unregisterTimeout = 20 * time.Second

func disjoinCommand() *cli.Command {
	return &cli.Command{
		Name:  "disjoin",
		Usage: "leave the build cloud: stop the agent, remove the cloud's VMs from this host",
		Description: `Stops the agent, removes the VMs that the cloud started here, tells the cloud,
and forgets the settings. Templates stay, and so does the node's id: joined
again, it is the same node.

Example:
   sudo ankacluster disjoin`,
		Flags:  placeFlags(),
		Action: disjoinAction,
	}
}

func disjoinAction(c *cli.Context) error {
	dir, err := place(c)
	if err != nil {
		return err
	}
	ctx, out := c.Context, c.App.Writer
	launch, err := newLauncher(c, dir)
	if err != nil {
		return err
	}
	cfg, err := dir.Config()
	if errors.Is(err, agent.ErrNotJoined) {
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

func removeVMs(ctx context.Context, out io.Writer, dir agent.Dir, cfg agent.Config) error {
	rt, runner := newRuntime(dir, cfg, zap.NewNop(), nil)
	if _, err := runner.KillLeftovers(); err != nil {
		return err
	}
	removed, err := agent.RemoveManaged(ctx, rt, cfg.VMPrefix)
	if len(removed) > 0 {
		fmt.Fprintf(out, "removed %d VMs: %s\n", len(removed), strings.Join(removed, ", "))
	}
	return err
}

// unregister tells the cloud, through whichever controller is well.
func unregister(ctx context.Context, out io.Writer, dir agent.Dir, cfg agent.Config) error {
	id, err := dir.Identity("")
	if err != nil {
		return err
	}
	pools, err := newPools(cfg, dir.Cluster(), zap.NewNop())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, unregisterTimeout)
	defer cancel()
	running, stop := context.WithCancel(ctx)
	g, running := errgroup.WithContext(running)
	g.Go(func() error { return pools.run(running) })
	err = pools.client().Unregister(ctx, controllerapi.UnregisterRequest{NodeID: id, Session: dir.Session()})
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
