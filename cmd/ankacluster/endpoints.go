package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/agent/socket"
	"github.com/ankacluster/ankacluster/balancer"
	"github.com/ankacluster/ankacluster/internal/ownership"
	"github.com/ankacluster/ankacluster/internal/termstyle"
)

// endpointsCommand shows what the running agent, or the proxies of this user,
// know of their servers.
func endpointsCommand() *cli.Command {
	return &cli.Command{
		Name:  "endpoints",
		Usage: "show the servers that the agent or the proxy balances over, and why one is left out",
		UsageText: `ankacluster endpoints [--why] [--watch] [--json]
ankacluster endpoints drain|undrain URL

Asks the agent of this node, or else the proxies that run as this user.

Example: sudo ankacluster endpoints --why`,
		Flags: append(placeFlags(),
			&cli.BoolFlag{Name: "why", Usage: "add the reason, last error, breaker, latency and requests of each", DisableDefaultText: true},
			&cli.BoolFlag{Name: "watch", Aliases: []string{"w"}, Usage: "show again every second until interrupted", DisableDefaultText: true},
			&cli.BoolFlag{Name: "json", Aliases: []string{"j", "machine-readable"}, Usage: "print JSON", DisableDefaultText: true},
			&cli.StringFlag{Name: "socket", Usage: "ask the process behind this status socket `PATH`"},
		),
		Subcommands: []*cli.Command{drainCommand(), undrainCommand()},
		Action:      runEndpoints,
	}
}

func runEndpoints(c *cli.Context) error {
	if name := c.Args().First(); name != "" {
		return unknownCommand("ankacluster endpoints", name, c.Command.Subcommands)
	}
	show := func(out io.Writer) error {
		pools, err := askEndpoints(c)
		if err != nil {
			return err
		}
		return writeEndpoints(out, c, pools)
	}
	if !c.Bool("watch") {
		return show(c.App.Writer)
	}
	return watch(c, show)
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
	if path := c.String("socket"); path != "" {
		var pools poolMap
		err := socket.Ask(c.Context, path, "/endpoints", &pools)
		if errors.Is(err, socket.ErrNotRunning) {
			err = fmt.Errorf("nothing answers at --socket %s", path)
		}
		return pools, err
	}
	dir, err := joinedDir(c)
	if err != nil {
		return nil, err
	}
	var pools poolMap
	agentErr := socket.Ask(c.Context, dir.Socket(), "/endpoints", &pools)
	if agentErr == nil {
		return pools, nil
	}
	if pools = askProxies(c.Context); len(pools) > 0 {
		return pools, nil
	}
	if errors.Is(agentErr, socket.ErrNotRunning) {
		return nil, noneRuns()
	}
	return nil, agentErr
}

func noneRuns() error {
	return hintf(errors.New("neither an agent nor a proxy is running here"),
		"join this node with ankacluster join, or start ankacluster proxy; for a proxy of another user, name its --socket")
}

// askProxies asks the sockets that this user's proxies left; those of proxies
// that were killed do not answer and are passed over.
func askProxies(ctx context.Context) poolMap {
	sockets := proxySockets()
	all := make(poolMap)
	for _, path := range sockets {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		var pools poolMap
		err := socket.Ask(ctx, path, "/endpoints", &pools)
		cancel()
		if err != nil {
			continue
		}
		for name, s := range pools {
			if len(sockets) > 1 {
				name += " (process " + strings.TrimSuffix(filepath.Base(path), ".sock") + ")"
			}
			all[name] = s
		}
	}
	return all
}

func proxySockets() (sockets []string) {
	for _, dir := range proxySocketDirs() {
		if _, err := os.Lstat(dir); err != nil || ownership.MakePrivateDir(dir) != nil {
			continue // there is none, or somebody else may answer there
		}
		found, _ := filepath.Glob(filepath.Join(dir, "*.sock")) // the pattern is well formed
		sockets = append(sockets, found...)
	}
	return sockets
}

func printEndpoints(out io.Writer, pools poolMap, why bool, now time.Time) error {
	names := slices.SortedFunc(maps.Keys(pools), func(a, b string) int {
		return cmp.Or(cmp.Compare(poolRank(a), poolRank(b)), cmp.Compare(a, b))
	})
	l, w := termstyle.Of(out), bufio.NewWriter(out)
	first := true
	for _, name := range names {
		s := pools[name]
		if poolRank(name) > 0 && !why && sameStates(s, pools[strings.Replace(name, "blobs", "registries", 1)]) {
			continue // they would say the same once more
		}
		if !first {
			fmt.Fprintln(w)
		}
		first = false
		fmt.Fprintf(w, "%s: %s\n", l.Bold(poolTitle(name)), usable(l, s))
		for i, e := range s.Endpoints {
			printEndpoint(w, l, s.Endpoints, i, now)
			indented(w, l, traffic(e))
			if why {
				for _, line := range whyLines(e, now) {
					indented(w, l, line)
				}
			}
		}
	}
	return w.Flush()
}

// usable is how a pool is as a whole.
func usable(l termstyle.Look, s balancer.Status) string {
	well, all := servers(s.Endpoints)
	text := fmt.Sprintf("%d of %d usable", well, all)
	switch {
	case s.Usable == 0:
		text = l.Bad(text)
	case s.Usable < len(s.Endpoints):
		text = l.Warn(text)
	}
	if all < len(s.Endpoints) {
		text += fmt.Sprintf(", at %d addresses", len(s.Endpoints))
	}
	if note := poolNote(s); note != "" {
		text += "; " + l.Bad(note)
	}
	return text
}

// servers counts the servers at the endpoints, and those of them that are usable: one
// that has two addresses is one.
func servers(endpoints []balancer.EndpointStatus) (usable, all int) {
	well := make(map[string]bool)
	for _, e := range endpoints {
		id := cmp.Or(e.Server, e.URL)
		well[id] = well[id] || e.State == balancer.Healthy || e.State == balancer.Unknown
	}
	for _, w := range well {
		if w {
			usable++
		}
	}
	return usable, len(well)
}

// sameServer is the address before the i-th one that is of the same server, or "".
func sameServer(endpoints []balancer.EndpointStatus, i int) string {
	for _, e := range endpoints[:i] {
		if e.Server != "" && e.Server == endpoints[i].Server {
			return e.URL
		}
	}
	return ""
}

// printEndpoint writes an endpoint with its state, and why it is out of use.
func printEndpoint(w io.Writer, l termstyle.Look, endpoints []balancer.EndpointStatus, i int, now time.Time) {
	e := endpoints[i]
	level := stateLevel(e)
	fmt.Fprintf(w, "  %s%s  %s\n", l.Sign(level), e.URL, l.Paint(level, stateWord(e, now)))
	if level == termstyle.Bad {
		indented(w, l, e.Reason)
	}
	if other := sameServer(endpoints, i); other != "" {
		indented(w, l, "the same server as "+other)
	}
}

// indented writes text below the line that it is about.
func indented(w io.Writer, l termstyle.Look, text string) {
	for _, line := range termstyle.Wrap(text, l.Width()-6) {
		fmt.Fprintf(w, "      %s\n", line)
	}
}

func stateLevel(e balancer.EndpointStatus) termstyle.Level {
	switch {
	case e.State == balancer.Healthy && e.Weight < 1, e.State == balancer.Draining:
		return termstyle.Warn
	case e.State == balancer.Healthy:
		return termstyle.Good
	case e.State == balancer.Down, e.State == balancer.Ejected:
		return termstyle.Bad
	}
	return termstyle.None
}

// sameStates reports whether each endpoint of one pool is in the state that it has
// in the other.
func sameStates(a, b balancer.Status) bool {
	return poolNote(a) == "" && slices.EqualFunc(a.Endpoints, b.Endpoints, func(x, y balancer.EndpointStatus) bool {
		return x.URL == y.URL && x.State == y.State
	})
}

// traffic is what goes to an endpoint, and how well it answers.
func traffic(e balancer.EndpointStatus) string {
	busy := fmt.Sprintf("%d in flight", e.InFlight+e.Transfers)
	switch {
	case e.Requests == 0:
		return "no requests yet, " + busy
	case e.State == balancer.Unknown && e.LatencyP50 == 0:
		return fmt.Sprintf("%s, no answer yet, %s", count(int(e.Requests), "request"), busy)
	}
	text := fmt.Sprintf("%.0f%% of the last minute's requests, %.1f%% ok, %s", e.Share*100, e.SuccessRate*100, busy)
	if e.LatencyP95 > 0 { // others are only such as have no usual time
		text += fmt.Sprintf(", half within %.1f ms, 95%% within %.1f ms", e.LatencyP50, e.LatencyP95)
	}
	return text
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
	case s.Usable == 0 && len(s.Endpoints) > 0 && !slices.ContainsFunc(s.Endpoints, func(e balancer.EndpointStatus) bool { return e.Eligible }):
		return "ALL ARE DRAINED: requests fail"
	case s.FailedOpen:
		return "FAILED OPEN: few are well, so the others are tried after them"
	}
	return ""
}

// stateWord is as short as `ejected for 12s, next probe in 3.0s`.
func stateWord(e balancer.EndpointStatus, now time.Time) string {
	if e.State == balancer.Draining {
		return "drained by hand since " + moment(e.Since, now)
	}
	word := fmt.Sprintf("%s for %s", e.State, brief(now.Sub(e.Since)))
	switch {
	case e.State == balancer.Healthy && e.Weight < 1:
		word += fmt.Sprintf(", returning at %.0f%%", e.Weight*100)
	case e.State == balancer.Down || e.State == balancer.Ejected:
		word += ", next probe in " + tenths(e.NextProbe.Sub(now))
	}
	return word
}

// moment is a time of the day, with the day when that is another one.
func moment(t, now time.Time) string {
	layout := "2006-01-02 15:04"
	if t, now = t.Local(), now.Local(); t.YearDay() == now.YearDay() && now.Sub(t) < 24*time.Hour {
		layout = "15:04:05"
	}
	return t.Format(layout)
}

func origins(e balancer.EndpointStatus) string {
	words := make([]string, 0, len(e.Origins))
	for _, o := range e.Origins {
		words = append(words, map[balancer.Origin]string{
			balancer.OriginJoin: "given", balancer.OriginLearned: "announced by the cloud", balancer.OriginCached: "announced before the last start",
		}[o])
	}
	return strings.Join(words, ", ")
}

// whyLines answer: why is it in this state, and may the next request go there?
func whyLines(e balancer.EndpointStatus, now time.Time) []string {
	choose := "no"
	if e.Eligible {
		choose = "yes"
	}
	lines := []string{
		origins(e),
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
