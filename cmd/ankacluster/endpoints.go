package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/agent"
	"github.com/ankacluster/ankacluster/balancer"
)

// endpointsCommand shows what the running agent, or the proxies of this user,
// know of their servers.
func endpointsCommand() *cli.Command {
	return &cli.Command{
		Name:  "endpoints",
		Usage: "show the servers that the agent or the proxy balances over, and why one is left out",
		UsageText: `ankacluster endpoints [--why] [--watch] [--json]

Asks the agent of this node, or else the proxies that run as this user.

Example: sudo ankacluster endpoints --why`,
		Flags: append(placeFlags(),
			&cli.BoolFlag{Name: "why", Usage: "add the reason, last error, breaker, latency and requests of each", DisableDefaultText: true},
			&cli.BoolFlag{Name: "watch", Aliases: []string{"w"}, Usage: "show again every second until interrupted", DisableDefaultText: true},
			&cli.BoolFlag{Name: "json", Aliases: []string{"j", "machine-readable"}, Usage: "print JSON", DisableDefaultText: true},
			&cli.StringFlag{Name: "socket", Usage: "ask the process behind this status socket `PATH`"},
		),
		Action: runEndpoints,
	}
}

func runEndpoints(c *cli.Context) error {
	if c.NArg() > 0 {
		return usagef("unexpected argument %q", c.Args().First())
	}
	out := c.App.Writer
	for {
		pools, err := askEndpoints(c)
		if err != nil {
			return err
		}
		if err := writeEndpoints(out, c, pools); err != nil {
			return err
		}
		if !c.Bool("watch") {
			return nil
		}
		select {
		case <-c.Context.Done():
			return nil
		case <-time.After(time.Second):
		}
		if !c.Bool("json") {
			fmt.Fprintln(out)
		}
	}
}

type poolMap map[string]balancer.Status

func writeEndpoints(out io.Writer, c *cli.Context, pools poolMap) error {
	if c.Bool("json") {
		enc := json.NewEncoder(out)
		if !c.Bool("watch") {
			enc.SetIndent("", "  ")
		}
		return enc.Encode(pools)
	}
	return printEndpoints(out, pools, c.Bool("why"), time.Now())
}

// askEndpoints asks the socket named, else the agent, else every proxy.
func askEndpoints(c *cli.Context) (poolMap, error) {
	if socket := c.String("socket"); socket != "" {
		var pools poolMap
		err := agent.AskSocket(c.Context, socket, "/endpoints", &pools)
		if errors.Is(err, agent.ErrNotRunning) {
			err = fmt.Errorf("nothing answers at --socket %s", socket)
		}
		return pools, err
	}
	dir, err := joinedDir(c)
	if err != nil {
		return nil, err
	}
	var pools poolMap
	agentErr := agent.AskSocket(c.Context, dir.Socket(), "/endpoints", &pools)
	if agentErr == nil {
		return pools, nil
	}
	if pools = askProxies(c.Context); len(pools) > 0 {
		return pools, nil
	}
	if errors.Is(agentErr, agent.ErrNotRunning) {
		return nil, hintf(errors.New("neither an agent nor a proxy is running here"),
			"join this node with ankacluster join, or start ankacluster proxy; for a proxy of another user, name its --socket")
	}
	return nil, agentErr
}

// askProxies asks the sockets that this user's proxies left; those of proxies
// that were killed do not answer and are passed over.
func askProxies(ctx context.Context) poolMap {
	sockets, _ := filepath.Glob(filepath.Join(proxySocketDir(), "*.sock")) // the pattern is well formed
	all := make(poolMap)
	for _, socket := range sockets {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		var pools poolMap
		err := agent.AskSocket(ctx, socket, "/endpoints", &pools)
		cancel()
		if err != nil {
			continue
		}
		for name, s := range pools {
			if len(sockets) > 1 {
				name += " (process " + strings.TrimSuffix(filepath.Base(socket), ".sock") + ")"
			}
			all[name] = s
		}
	}
	return all
}

func printEndpoints(out io.Writer, pools poolMap, why bool, now time.Time) error {
	names := slices.SortedFunc(maps.Keys(pools), func(a, b string) int {
		return cmp.Or(cmp.Compare(poolRank(a), poolRank(b)), cmp.Compare(a, b))
	})
	for i, name := range names {
		if i > 0 {
			fmt.Fprintln(out)
		}
		s := pools[name]
		fmt.Fprintf(out, "%s: %d of %d usable", poolTitle(name), s.Usable, len(s.Endpoints))
		if note := poolNote(s); note != "" {
			fmt.Fprintf(out, "; %s", note)
		}
		fmt.Fprintln(out)
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		for _, e := range s.Endpoints {
			fmt.Fprintf(w, "  %s\t%s\t%s\tshare %.0f%%\tin flight %d\t%s\n", e.URL, stateWord(e, now), origins(e),
				e.Share*100, e.InFlight+e.Transfers, success(e))
			if why {
				for _, line := range whyLines(e, now) {
					fmt.Fprintf(w, "    %s\n", line)
				}
			}
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// poolRank puts the blobs behind the registries that they are of.
func poolRank(name string) int {
	if strings.HasPrefix(name, "blobs") {
		return 1
	}
	return 0
}

func poolTitle(name string) string {
	if poolRank(name) > 0 {
		return name + " (the registries once more, for large transfers)"
	}
	return name
}

// poolNote is what is wrong with the pool as a whole, "" if nothing is.
func poolNote(s balancer.Status) string {
	switch {
	case s.LocalFault != "":
		return "this machine's network: " + s.LocalFault
	case s.FailedOpen && s.Usable == 0:
		return "FAILED OPEN: none is well, so all are tried"
	case s.FailedOpen:
		return "FAILED OPEN: few are well, so the others are tried after them"
	}
	return ""
}

// stateWord is as short as `ejected 12s ago, retry in 3s`.
func stateWord(e balancer.EndpointStatus, now time.Time) string {
	word := fmt.Sprintf("%s %s", e.State, ago(e.Since, now))
	switch {
	case e.State == balancer.Healthy && e.Weight < 1:
		word += fmt.Sprintf(", returning at %.0f%%", e.Weight*100)
	case e.State == balancer.Down || e.State == balancer.Ejected:
		word += fmt.Sprintf(" (%s), next probe in %s", e.Reason, tenths(e.NextProbe.Sub(now)))
	}
	return word
}

func origins(e balancer.EndpointStatus) string {
	words := make([]string, 0, len(e.Origins))
	for _, o := range e.Origins {
		words = append(words, string(o))
	}
	return strings.Join(words, "+")
}

func success(e balancer.EndpointStatus) string {
	if e.Requests == 0 {
		return "no requests yet\t"
	}
	if e.LatencyP95 == 0 { // only such as have no usual time
		return fmt.Sprintf("%.1f%% ok\t", e.SuccessRate*100)
	}
	return fmt.Sprintf("%.1f%% ok\tp50 %.1f ms, p95 %.1f ms", e.SuccessRate*100, e.LatencyP50, e.LatencyP95)
}

// whyLines answer: why is it in this state, and may the next request go there?
func whyLines(e balancer.EndpointStatus, now time.Time) []string {
	choose := "no"
	if e.Eligible {
		choose = "yes"
	}
	lines := []string{
		fmt.Sprintf("last transition %s: %s", ago(e.Since, now), e.Reason),
		fmt.Sprintf("next pick may choose it: %s; breaker %s%s; next probe in %s", choose, e.Breaker, until(e.BreakerUntil, now), tenths(e.NextProbe.Sub(now))),
		fmt.Sprintf("requests %d, failed %d, late %d, ejected %d times; %d in flight, %d long polls, %d transfers",
			e.Requests, e.Failures, e.Late, e.Ejections, e.InFlight, e.LongPolls, e.Transfers),
	}
	if e.LastError != "" {
		lines = append(lines, "last error: "+e.LastError)
	}
	return lines
}

func until(t *time.Time, now time.Time) string {
	if t == nil {
		return ""
	}
	return " for " + tenths(t.Sub(now))
}

func tenths(d time.Duration) string {
	return fmt.Sprintf("%.1fs", max(0, d.Seconds()))
}
