package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/agent"
	"github.com/ankacluster/ankacluster/agent/node"
	"github.com/ankacluster/ankacluster/agent/socket"
	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/balancer"
	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/termstyle"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "show what the agent does: servers, VMs, tasks, last errors",
		Description: `Example:
   sudo ankacluster status
   sudo ankacluster status --machine-readable | jq .endpoints`,
		Flags: append(placeFlags(),
			&cli.BoolFlag{Name: "watch", Aliases: []string{"w"}, Usage: "show again every second until interrupted", DisableDefaultText: true},
			&cli.BoolFlag{Name: "machine-readable", Aliases: []string{"json", "j"}, Usage: "print JSON", DisableDefaultText: true}),
		Action: statusAction,
	}
}

// fullStatus is the agent's status with its pools decoded.
type fullStatus struct {
	agent.Status
	Endpoints *node.PoolStatus `json:"endpoints,omitempty"`
}

func statusAction(c *cli.Context) error {
	dir, err := joinedDir(c)
	if err != nil {
		return err
	}
	show := func(out io.Writer) error { return showStatus(c, dir, out) }
	if c.Bool("watch") {
		return watch(c, show)
	}
	return show(c.App.Writer)
}

func showStatus(c *cli.Context, dir state.Dir, out io.Writer) error {
	var raw json.RawMessage
	err := socket.Ask(c.Context, dir.Socket(), "/status", &raw)
	if errors.Is(err, socket.ErrNotRunning) {
		return notRunning(dir)
	}
	if err != nil {
		return err
	}
	if c.Bool("json") {
		_, err := fmt.Fprintln(out, string(raw))
		return err
	}
	var s fullStatus
	if err := json.Unmarshal(raw, &s); err != nil {
		return fmt.Errorf("the agent's answer: %w", err)
	}
	if err := printStatus(out, s, time.Now()); err != nil {
		return err
	}
	l := termstyle.Of(out)
	for _, text := range cloudProblems(c.Context, dir) {
		for i, line := range termstyle.Wrap("cloud: "+text, l.Width()-2) {
			if i > 0 {
				line = "       " + line
			}
			fmt.Fprintln(out, line)
		}
	}
	return nil
}

// problemsTimeout bounds the question what is wrong with the cloud: status must
// answer at once, also when no controller does.
const problemsTimeout = time.Second

// cloudProblems asks the controllers, one after another, what a person should do
// something about. None is told when none answers: the endpoints show that.
func cloudProblems(ctx context.Context, dir state.Dir) []string {
	cfg, err := dir.Config()
	if err != nil {
		return nil
	}
	p, err := node.NewPlain(cfg, checkTimeout)
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, problemsTimeout)
	defer cancel()
	for _, u := range cfg.Controllers {
		if cluster, err := controllerapi.NewClient(u, p.At(u)).Cluster(ctx); err == nil {
			return cluster.Problems
		}
	}
	return nil
}

// notRunning explains why no agent answers.
func notRunning(dir state.Dir) error {
	_, err := dir.Config()
	switch {
	case errors.Is(err, state.ErrNotJoined):
		return hintf(state.ErrNotJoined, "ankacluster join http://CONTROLLER:PORT[,…]")
	case err != nil:
		return err
	case dir.RunningPID() != 0:
		return hintf(fmt.Errorf("the agent runs as process %d but does not answer", dir.RunningPID()), "see %s", dir.LogFile())
	}
	return hintf(errors.New("this node has joined, but its agent is not running"), "see %s; joining again starts it", dir.LogFile())
}

func printStatus(out io.Writer, s fullStatus, now time.Time) error {
	l, w := termstyle.Of(out), bufio.NewWriter(out)
	row := func(level termstyle.Level, name, format string, args ...any) {
		lines := termstyle.Wrap(fmt.Sprintf(format, args...), l.Width()-14)
		for i, line := range lines {
			if i > 0 {
				name = ""
			}
			fmt.Fprintf(w, "%s%s\n", l.Bold(fmt.Sprintf("%-12s", name)), l.Paint(level, line))
		}
	}
	row(termstyle.None, "node", "%s (%s)", s.Config.NodeName, s.NodeID)
	row(termstyle.None, "agent", "running for %s, process %d, version %s", brief(now.Sub(s.Since)), s.PID, s.Config.Version)
	switch {
	case !s.Registered:
		row(termstyle.Bad, "cloud", "not registered yet: %s", s.SyncError)
	case s.SyncError != "":
		row(termstyle.Bad, "cloud", "last heartbeat %s; since then: %s", ago(s.LastSync, now), s.SyncError)
	default:
		row(termstyle.None, "cloud", "last heartbeat %s", ago(s.LastSync, now))
	}
	if s.DrainMode {
		row(termstyle.Warn, "", "drain mode: takes no VMs until the cloud ends it")
	}
	row(termstyle.None, "capacity", "%d of %s run, capacity mode %s", runningVMs(s), count(s.Config.VMLimit, "VM"), s.Config.CapacityMode)
	switch {
	case s.LookError != "":
		row(termstyle.Bad, "hypervisor", "%s, not answering: %s", s.Runtime, s.LookError)
	case s.Runtime != state.RuntimeTart && !s.Hypervisor.LicenseValid:
		row(termstyle.Bad, "hypervisor", "%s: %s %s, licence %s", s.Runtime, s.Hypervisor.Product, s.Hypervisor.Version, licenceWord(s))
	default:
		row(termstyle.None, "hypervisor", "%s: %s %s, licence %s", s.Runtime, s.Hypervisor.Product, s.Hypervisor.Version, licenceWord(s))
	}
	if s.Inactive != "" {
		row(termstyle.Bad, "", "takes no VMs: %s", s.Inactive)
	}
	row(termstyle.None, "disk", "%s free", size(s.FreeDiskByte))
	if s.Endpoints != nil {
		printPool(w, l, "controllers", s.Endpoints.Controllers, now)
		printPool(w, l, "registries", s.Endpoints.Registries, now)
	}
	for i, vm := range s.VMs {
		heading(w, l, i, "VMs")
		what := "not the cloud's"
		switch {
		case vm.InstanceID != "":
			what = "instance " + string(vm.InstanceID)
		case vm.Managed:
			what = "no instance is known of it"
		}
		fmt.Fprintf(w, "  %s\n", termstyle.Printable(vm.Name))
		indented(w, l, strings.Join(slices.DeleteFunc([]string{vm.Status, vm.IP, what}, func(s string) bool { return s == "" }), ", "))
	}
	for i, t := range s.Tasks {
		heading(w, l, i, "tasks")
		fmt.Fprintf(w, "  %s  %s for %s\n", t.Kind, t.State, brief(now.Sub(t.Claimed)))
		if t.Untold {
			indented(w, l, "its end is not acknowledged yet")
		}
		indented(w, l, t.LastError)
	}
	for i, e := range s.LastErrors {
		heading(w, l, i, "last errors")
		times := ""
		if e.Count > 1 {
			times = fmt.Sprintf(", %d times", e.Count)
		}
		fmt.Fprintf(w, "  %s  %s%s\n", ago(e.Time, now), termstyle.Printable(e.What), times)
		indented(w, l, e.Message)
	}
	return w.Flush()
}

// heading stands before the first item of a list.
func heading(w io.Writer, l termstyle.Look, i int, word string) {
	if i == 0 {
		fmt.Fprintln(w, l.Bold(word))
	}
}

func runningVMs(s fullStatus) int {
	n := 0
	for _, vm := range s.VMs {
		if vm.Status == "running" {
			n++
		}
	}
	return n
}

func licenceWord(s fullStatus) string {
	if s.Runtime == state.RuntimeTart {
		if s.Hypervisor.License == "Fair Source" {
			return "Fair Source: free up to 100 cores in all your Macs"
		}
		return s.Hypervisor.License + ": any number of cores, no competing use"
	}
	if !s.Hypervisor.LicenseValid {
		return "not valid: the node takes no VMs; see anka license show"
	}
	return s.Hypervisor.License
}

// printPool shows each endpoint with its state, since when, and why.
func printPool(w io.Writer, l termstyle.Look, name string, p balancer.Status, now time.Time) {
	if len(p.Endpoints) == 0 {
		fmt.Fprintf(w, "%snone is known yet\n", l.Bold(fmt.Sprintf("%-12s", name)))
		return
	}
	fmt.Fprintf(w, "%s%s\n", l.Bold(fmt.Sprintf("%-12s", name)), usable(l, p))
	for i := range p.Endpoints {
		printEndpoint(w, l, p.Endpoints, i, now)
	}
}
