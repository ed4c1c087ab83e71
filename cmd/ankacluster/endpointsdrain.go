package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/agent/node"
	"github.com/ankacluster/ankacluster/agent/socket"
	"github.com/ankacluster/ankacluster/balancer"
	"github.com/ankacluster/ankacluster/internal/termstyle"
)

// drainCommand takes a server out of use on this node.
func drainCommand() *cli.Command {
	return &cli.Command{
		Name:  "drain",
		Usage: "send a server no new requests from here, for example while it is repaired",
		UsageText: `ankacluster endpoints drain URL [--force] [--json]

The agent of this node, and of this node alone, sends the server no new request;
those under way end. It stays so over restarts of the agent and of the server,
until undrain. In the list of endpoints it is "drained by hand".

The last usable server of a pool is refused: the node would be cut off. --force
drains it all the same.

A proxy is told where no agent runs, or by its --socket; its drains end with it.

Example: sudo ankacluster endpoints drain http://10.0.1.5:8090`,
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "force", Usage: "drain also the last usable server of a pool", DisableDefaultText: true},
		}, tellFlags()...),
		Action: func(c *cli.Context) error { return runDrain(c, node.PathDrain) },
	}
}

// undrainCommand ends what drainCommand began.
func undrainCommand() *cli.Command {
	return &cli.Command{
		Name:  "undrain",
		Usage: "send a drained server requests again",
		UsageText: `ankacluster endpoints undrain URL [--json]

The server comes back as one that was down does: with a small share that grows,
and not before its readiness checks pass.

Example: sudo ankacluster endpoints undrain http://10.0.1.5:8090`,
		Flags:  tellFlags(),
		Action: func(c *cli.Context) error { return runDrain(c, node.PathUndrain) },
	}
}

func tellFlags() []cli.Flag {
	return append(placeFlags(),
		&cli.BoolFlag{Name: "json", Aliases: []string{"j", "machine-readable"}, Usage: "print JSON", DisableDefaultText: true},
		&cli.StringFlag{Name: "socket", Usage: "tell the process behind this status socket `PATH`"})
}

func runDrain(c *cli.Context, route string) error {
	if err := want(c, "URL"); err != nil {
		return err
	}
	above := c.Lineage()[1]
	for _, name := range above.LocalFlagNames() {
		if name != "state-dir" || above.String(name) != os.Getenv(stateDirEnv) {
			return usagef("--%s stands before %s: flags stand behind it", name, c.Command.Name)
		}
	}
	req := node.DrainRequest{URL: c.Args().First(), Force: c.Bool("force")}
	if _, err := balancer.ParseEndpoint(req.URL); err != nil {
		return usageError{err}
	}
	answers, err := tellEndpoints(c, route, req)
	switch {
	case errors.Is(err, node.CodeLastUsable):
		return hintf(err, "its requests would fail; wait until another is usable (%s), or add --force", strings.TrimSuffix(c.Command.HelpName, " "+c.Command.Name))
	case err != nil:
		return err
	}
	for _, a := range answers {
		if err := writeDrain(c, a); err != nil {
			return err
		}
	}
	return nil
}

// tellEndpoints tells the socket named, else the agent, else every proxy that has the
// server.
func tellEndpoints(c *cli.Context, route string, req node.DrainRequest) ([]node.DrainAnswer, error) {
	var a node.DrainAnswer
	if path := c.String("socket"); path != "" {
		err := socket.Tell(c.Context, path, route, req, &a)
		if errors.Is(err, socket.ErrNotRunning) {
			err = fmt.Errorf("nothing answers at --socket %s", path)
		}
		return []node.DrainAnswer{a}, err
	}
	dir, err := joinedDir(c)
	if err != nil {
		return nil, err
	}
	if err = socket.Tell(c.Context, dir.Socket(), route, req, &a); !errors.Is(err, socket.ErrNotRunning) {
		return []node.DrainAnswer{a}, err
	}
	var answers []node.DrainAnswer
	var refusals []error
	for _, path := range proxySockets() {
		ctx, cancel := context.WithTimeout(c.Context, 2*time.Second)
		err := socket.Tell(ctx, path, route, req, &a)
		cancel()
		switch {
		case err == nil:
			answers = append(answers, a)
		case !errors.Is(err, socket.ErrNotRunning): // a proxy that was killed leaves its socket
			refusals = append(refusals, err)
		}
	}
	switch {
	case len(answers) > 0:
		return answers, nil
	case len(refusals) > 0:
		return nil, errors.Join(refusals...)
	}
	return nil, noneRuns()
}

func writeDrain(c *cli.Context, a node.DrainAnswer) error {
	out := c.App.Writer
	if c.Bool("json") {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(a)
	}
	back := "ankacluster endpoints undrain --socket " + quoted(c.String("socket"))
	if c.String("socket") == "" {
		dir, err := stateDir(c)
		if err != nil {
			return err
		}
		back = nextCommand(c, dir, "endpoints undrain")
	}
	return printDrain(out, a, back+" "+a.URL)
}

// printDrain says what a drain, or its end, came to. back is what ends it.
func printDrain(out io.Writer, a node.DrainAnswer, back string) error {
	l := termstyle.Of(out)
	busy, other := int64(0), ""
	state := balancer.EndpointStatus{}
	for _, s := range a.Pools {
		for i, e := range s.Endpoints {
			if e.URL != a.URL {
				continue
			}
			state = e
			busy += e.InFlight + e.LongPolls + e.Transfers
			for j, also := range s.Endpoints {
				if j != i && e.Server != "" && also.Server == e.Server && also.State != balancer.Draining {
					other = also.URL
				}
			}
		}
	}
	var lines []string
	switch {
	case a.Drained:
		lines = append(lines, fmt.Sprintf("%s is drained: no new request goes there; %s", a.URL, underWay(busy)))
		if other != "" {
			lines = append(lines, fmt.Sprintf("the same server is still used at its other address: drain %s as well", other))
		}
	case len(a.Pools) == 0:
		lines = append(lines, a.URL+" is not drained any more; it is no server of this node now")
	case state.State == balancer.Down:
		lines = append(lines, fmt.Sprintf("%s is not drained any more, and is used once its checks pass: %s", a.URL, state.Reason))
	default:
		lines = append(lines, fmt.Sprintf("%s is used again, with a share that grows", a.URL))
	}
	for _, name := range slices.Sorted(maps.Keys(a.Pools)) {
		lines = append(lines, fmt.Sprintf("%s: %s", name, usable(l, a.Pools[name])))
	}
	switch {
	case a.Drained && a.OutlastsRestart:
		lines = append(lines, "it stays so, also when the agent restarts, until you type:", "  "+back)
	case a.Drained:
		lines = append(lines, "it stays so until the process ends, or you type:", "  "+back)
	}
	for _, line := range lines {
		parts := []string{line}
		if !strings.HasPrefix(line, " ") { // a command stays whole
			parts = termstyle.Wrap(line, l.Width())
		}
		if _, err := fmt.Fprintln(out, strings.Join(parts, "\n")); err != nil {
			return err
		}
	}
	return nil
}

// underWay is how many requests a server has still to answer.
func underWay(n int64) string {
	if n == 0 {
		return "none is under way"
	}
	return count(int(n), "request") + " under way may end"
}
