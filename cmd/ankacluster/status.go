package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/agent"
	"github.com/ankacluster/ankacluster/balancer"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "show what the agent does: servers, VMs, tasks, last errors",
		Description: `Example:
   sudo ankacluster status
   sudo ankacluster status --machine-readable | jq .endpoints`,
		Flags: append(placeFlags(),
			&cli.BoolFlag{Name: "machine-readable", Aliases: []string{"json", "j"}, Usage: "print JSON", DisableDefaultText: true}),
		Action: statusAction,
	}
}

// fullStatus is the agent's status with its pools decoded.
type fullStatus struct {
	agent.Status
	Endpoints *poolStatus `json:"endpoints,omitempty"`
}

func statusAction(c *cli.Context) error {
	dir, err := joinedDir(c)
	if err != nil {
		return err
	}
	var raw json.RawMessage
	err = agent.AskSocket(c.Context, dir.Socket(), "/status", &raw)
	if errors.Is(err, agent.ErrNotRunning) {
		return notRunning(dir)
	}
	if err != nil {
		return err
	}
	if c.Bool("machine-readable") {
		_, err := fmt.Fprintln(c.App.Writer, string(raw))
		return err
	}
	var s fullStatus
	if err := json.Unmarshal(raw, &s); err != nil {
		return fmt.Errorf("the agent's answer: %w", err)
	}
	return printStatus(c.App.Writer, s, time.Now())
}

// notRunning explains why no agent answers.
func notRunning(dir agent.Dir) error {
	_, err := dir.Config()
	switch {
	case errors.Is(err, agent.ErrNotJoined):
		return hintf(agent.ErrNotJoined, "ankacluster join http://CONTROLLER:PORT[,…]")
	case err != nil:
		return err
	case dir.RunningPID() != 0:
		return hintf(fmt.Errorf("the agent runs as process %d but does not answer", dir.RunningPID()), "see %s", dir.LogFile())
	}
	return hintf(errors.New("this node has joined, but its agent is not running"), "see %s; joining again starts it", dir.LogFile())
}

func printStatus(out io.Writer, s fullStatus, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }

	row("node\t%s (%s)", s.Config.NodeName, s.NodeID)
	row("agent\trunning since %s, process %d, version %s", brief(now.Sub(s.Since)), s.PID, s.Config.Version)
	switch {
	case !s.Registered:
		row("cloud\tnot registered yet: %s", s.SyncError)
	case s.SyncError != "":
		row("cloud\tlast heartbeat %s; since then: %s", ago(s.LastSync, now), s.SyncError)
	default:
		row("cloud\tlast heartbeat %s", ago(s.LastSync, now))
	}
	if s.DrainMode {
		row("\tdrain mode: takes no VMs until the cloud ends it")
	}
	row("capacity\t%d VMs, mode %s; %d run", s.Config.VMLimit, s.Config.CapacityMode, runningVMs(s))
	if s.LookError != "" {
		row("hypervisor\t%s, not answering: %s", s.Runtime, s.LookError)
	} else {
		row("hypervisor\t%s: %s %s, licence %s", s.Runtime, s.Hypervisor.Product, s.Hypervisor.Version, licenceWord(s))
	}
	if s.Inactive != "" {
		row("takes no VMs\t%s", s.Inactive)
	}
	row("disk\t%s free", size(s.FreeDiskByte))
	if s.Endpoints != nil {
		printPool(row, "controllers", s.Endpoints.Controllers, now)
		printPool(row, "registries", s.Endpoints.Registries, now)
	}
	for i, vm := range s.VMs {
		what := "not the cloud's"
		switch {
		case vm.InstanceID != "":
			what = "instance " + string(vm.InstanceID)
		case vm.Managed:
			what = "no instance is known of it"
		}
		row("%s\t%s\t%s\t%s\t%s", heading("VMs", i), vm.Name, vm.Status, vm.IP, what)
	}
	for i, t := range s.Tasks {
		note := t.LastError
		if t.Untold {
			note = "its end is not acknowledged yet. " + note
		}
		row("%s\t%s\t%s\tsince %s\t%s", heading("tasks", i), t.Kind, t.State, brief(now.Sub(t.Claimed)), note)
	}
	for i, e := range s.LastErrors {
		count := ""
		if e.Count > 1 {
			count = fmt.Sprintf(" (%d times)", e.Count)
		}
		row("%s\t%s\t%s: %s%s", heading("last errors", i), ago(e.Time, now), e.What, e.Message, count)
	}
	return w.Flush()
}

// heading stands before the first row of a list.
func heading(word string, i int) string {
	if i == 0 {
		return word
	}
	return ""
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
	if s.Runtime == agent.RuntimeTart {
		return "Fair Source: free up to 100 cores in all your Macs"
	}
	if !s.Hypervisor.LicenseValid {
		return "not valid: the node takes no VMs; see anka license show"
	}
	return s.Hypervisor.License
}

// printPool shows each endpoint with its state, since when, and why.
func printPool(row func(string, ...any), name string, p balancer.Status, now time.Time) {
	if note := poolNote(p); note != "" {
		row("%s\t%s", name, note)
	}
	for i, e := range p.Endpoints {
		row("%s\t%s\t%s", heading(name, i), e.URL, stateWord(e, now))
	}
	if len(p.Endpoints) == 0 {
		row("%s\tnone known yet", name)
	}
}
