package main

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/agent"
	"github.com/ankacluster/ankacluster/agent/node"
	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/launchd"
)

// runCommand is the agent's process, as join and the system's service start it.
func runCommand() *cli.Command {
	return &cli.Command{
		Name:   "run",
		Usage:  "run the node agent in the foreground (join starts it)",
		Hidden: true,
		Flags:  placeFlags(),
		Action: func(c *cli.Context) error {
			dir, err := writableStateDir(c)
			if err != nil {
				return err
			}
			err = launchd.Run(c.Context, serviceName, func(ctx context.Context) error { return runAgent(ctx, dir) })
			if errors.Is(err, agent.ErrRestart) {
				return becomeNewVersion()
			}
			return err
		},
	}
}

// runAgent is the life of the agent's process, with advice for who reads its end.
func runAgent(ctx context.Context, dir state.Dir) error {
	err := node.Run(ctx, dir)
	switch {
	case errors.Is(err, state.ErrClaimed):
		return hintf(err, "ankacluster disjoin --state-dir DIR ends one of them")
	case errors.Is(err, controllerapi.ErrOtherHost):
		return hintf(err, "nothing was changed on either host. To give this one an identity of its own: rm '%s', then ankacluster join again. If this host replaces the other, delete the node in the cloud first", filepath.Join(string(dir), "node.json"))
	}
	return err
}
