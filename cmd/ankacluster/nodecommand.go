package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/cmd/internal/clouds"
	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/termstyle"
)

// nodeCommand shows and changes what a cloud knows of its Macs.
func nodeCommand() *cli.Command {
	return family("node", "list, show, drain and configure the nodes of a cloud",
		`ankacluster node COMMAND ... [--controllers URL,URL,…] [--context NAME]

A node is named by its id, its name, or the beginning of either that is of no other.

Example: ankacluster node drain mac-7 --wait`,
		cloudSub("list", "list the nodes", "node list [--watch] [--json]", []cli.Flag{watchFlag(), jsonFlag(), quietFlag("print ids only")}, listNodes),
		cloudSub("show", "show a node", "node show NODE [--json]", []cli.Flag{jsonFlag()}, showNode),
		cloudSub("drain", "give a node no new VMs; those that run go on",
			"node drain NODE [--wait]", []cli.Flag{
				&cli.BoolFlag{Name: "wait", Usage: "wait until no VM is left on it", DisableDefaultText: true},
				&cli.DurationFlag{Name: "timeout", Usage: "with --wait: give up after `DURATION`; it stays drained", DefaultText: "none"},
			}, drainNode),
		cloudSub("undrain", "give a node VMs again", "node undrain NODE", nil, func(c *cli.Context, cloud *clouds.Cloud) error {
			return setDrain(c, cloud, false, "%s takes VMs again")
		}),
		cloudSub("config", "change the settings of a node", "node config NODE [--max-vm-count N] [--name NAME] …", []cli.Flag{
			&cli.IntFlag{Name: "max-vm-count", Usage: "run at most `N` VMs at once", DefaultText: "unchanged"},
			&cli.StringFlag{Name: "name", Usage: "call it `NAME`"},
			&cli.StringFlag{Name: "host", Usage: "`ADDRESS` at which CI systems reach its VMs"},
			&cli.StringFlag{Name: "capacity-mode", Usage: "count VMs or processors and memory: `MODE` number or resource"},
			&cli.IntFlag{Name: "vcpu-override", Usage: "in mode resource: it has `N` virtual processors; 0 is its own", DefaultText: "unchanged"},
			&cli.IntFlag{Name: "ram-override", Usage: "in mode resource: it has `GB` of memory; 0 is its own", DefaultText: "unchanged"},
		}, configNode),
		cloudSub("remove", "forget a node that does not come back", `node remove NODE --yes

Its VMs count as lost. A node whose agent still runs comes back by itself: ankacluster
disjoin, typed there, is the way to leave.`, yesFlag(), removeNode))
}

// nodeNamed finds the node that a word names.
func nodeNamed(ctx context.Context, cloud *clouds.Cloud, word string) (controllerapi.Node, error) {
	list, err := cloud.Nodes(ctx)
	if err != nil {
		return controllerapi.Node{}, err
	}
	all := make([]clouds.Named, len(list))
	for i, n := range list {
		all[i] = clouds.Named{ID: string(n.NodeID), Name: n.NodeName}
	}
	found, err := clouds.Find("node", word, all)
	if err != nil {
		return controllerapi.Node{}, err
	}
	return list[slices.Index(all, found)], nil
}

func theNode(c *cli.Context, cloud *clouds.Cloud) (controllerapi.Node, error) {
	if err := want(c, "NODE"); err != nil {
		return controllerapi.Node{}, err
	}
	return nodeNamed(c.Context, cloud, c.Args().First())
}

func listNodes(c *cli.Context, cloud *clouds.Cloud) error {
	if err := want(c); err != nil {
		return err
	}
	if c.Bool("watch") {
		return watchCloud(c, cloud.FollowNodes(c.Context), func(out io.Writer, nodes []controllerapi.Node) error {
			if c.Bool("json") {
				return printJSON(out, nodes)
			}
			return printNodes(out, nodes)
		})
	}
	nodes, err := cloud.Nodes(c.Context)
	switch {
	case err != nil:
		return err
	case c.Bool("json"):
		return printJSON(c.App.Writer, nodes)
	case c.Bool("quiet"):
		ids := make([]controllerapi.NodeID, len(nodes))
		for i, n := range nodes {
			ids[i] = n.NodeID
		}
		return printWords(c, ids)
	case len(nodes) == 0:
		return done(c, nil, "no node has joined yet; sudo ankacluster join http://CONTROLLER:8090, on a Mac, does it")
	}
	return printNodes(c.App.Writer, nodes)
}

func nodeLevel(s controllerapi.NodeState) termstyle.Level {
	switch s {
	case controllerapi.NodeActive:
		return termstyle.Good
	case controllerapi.NodeDrain, controllerapi.NodeUpdating:
		return termstyle.Warn
	}
	return termstyle.Bad
}

func printNodes(out io.Writer, nodes []controllerapi.Node) error {
	slices.SortFunc(nodes, func(a, b controllerapi.Node) int {
		return cmp.Or(strings.Compare(a.NodeName, b.NodeName), strings.Compare(string(a.NodeID), string(b.NodeID)))
	})
	t := newTable(out, "NAME", "STATE", "VMS", "CPU", "RAM", "DISK FREE", "TEMPLATES", "GROUPS", "ADDRESS")
	for _, n := range nodes {
		t.add(cmp.Or(n.NodeName, string(n.NodeID)), cell{string(n.State), nodeLevel(n.State)}, usedOf(n), percent(n.CPUUtil), percent(n.RAMUtil),
			size(n.FreeDiskSpace), len(n.Templates), strings.Join(groupNames(n), ","), n.IPAddress)
	}
	return t.print()
}

// usedOf is what a node carries of what it can.
func usedOf(n controllerapi.Node) string {
	if n.CapacityMode == "resource" {
		return fmt.Sprintf("%d (%d/%d cpu)", n.VMCount, n.VCPUCount, n.Capacity)
	}
	return fmt.Sprintf("%d/%d", n.VMCount, n.Capacity)
}

func percent(f float64) string { return fmt.Sprintf("%.0f%%", f*100) }

func groupNames(n controllerapi.Node) []string {
	names := make([]string, len(n.Groups))
	for i, g := range n.Groups {
		names[i] = g.Name
	}
	return names
}

func showNode(c *cli.Context, cloud *clouds.Cloud) error {
	n, err := theNode(c, cloud)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, n)
	}
	return printNode(c.App.Writer, n, time.Now())
}

func printNode(out io.Writer, n controllerapi.Node, now time.Time) error {
	f := newFacts(out)
	f.row(termstyle.None, "node", "%s (%s)", n.NodeName, n.NodeID)
	f.row(nodeLevel(n.State), "state", "%s, heard of %s", n.State, ago(n.LastUpdated, now))
	f.row(termstyle.Bad, "why", "%s", n.InactiveReason)
	f.row(termstyle.None, "address", "%s", n.IPAddress)
	f.row(termstyle.None, "VMs", "%s, capacity mode %s", usedOf(n), n.CapacityMode)
	f.row(termstyle.None, "machine", "%s, %s, %d GB of memory", n.HostArch, count(int(n.CPUCount), "processor"), n.RAM)
	f.row(termstyle.None, "load", "processors %s, memory %s", percent(n.CPUUtil), percent(n.RAMUtil))
	f.row(termstyle.None, "disk", "%s free of %s", size(n.FreeDiskSpace), size(n.DiskSize))
	f.row(termstyle.None, "hypervisor", "%s %s", n.AnkaVersion.Product, n.AnkaVersion.Version)
	f.row(termstyle.None, "agent", "%s", n.AgentVersion)
	f.row(termstyle.None, "groups", "%s", strings.Join(groupNames(n), ", "))
	var images []string
	for _, i := range n.Templates {
		images = append(images, cmp.Or(i.Name, string(i.UUID))+":"+i.Tag)
	}
	f.row(termstyle.None, "templates", "%s", strings.Join(images, ", "))
	return f.w.Flush()
}

func setDrain(c *cli.Context, cloud *clouds.Cloud, drain bool, said string) error {
	n, err := theNode(c, cloud)
	if err != nil {
		return err
	}
	if err := cloud.ConfigureNode(c.Context, controllerapi.NodeConfig{NodeID: n.NodeID, DrainMode: &drain}); err != nil {
		return err
	}
	return done(c, nil, said, n.NodeName)
}

func drainNode(c *cli.Context, cloud *clouds.Cloud) error {
	if err := setDrain(c, cloud, true, "%s takes no new VMs until ankacluster node undrain"); err != nil || !c.Bool("wait") {
		return err
	}
	n, err := theNode(c, cloud)
	if err != nil {
		return err
	}
	ctx := c.Context
	if limit := c.Duration("timeout"); limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, fmt.Errorf("VMs run on %s after %s", n.NodeName, limit))
		defer cancel()
	}
	said := -1
	for vms, err := range cloud.VMs(ctx) {
		if err != nil {
			continue // it goes on at another controller
		}
		left := 0
		for _, vm := range vms {
			if vm.NodeID == n.NodeID && vm.InstanceState != controllerapi.Terminated && vm.InstanceState != controllerapi.Error {
				left++
			}
		}
		if left == 0 {
			return done(c, nil, "no VM is left on %s", n.NodeName)
		}
		if left != said {
			fmt.Fprintf(c.App.ErrWriter, "%s on %s\n", count(left, "VM"), n.NodeName)
			said = left
		}
	}
	return hintf(context.Cause(ctx), "it stays drained; ankacluster node drain %s --wait waits again", n.NodeName)
}

func configNode(c *cli.Context, cloud *clouds.Cloud) error {
	n, err := theNode(c, cloud)
	if err != nil {
		return err
	}
	req := controllerapi.NodeConfig{NodeID: n.NodeID}
	for name, to := range map[string]**int{"max-vm-count": &req.MaxVMCount, "vcpu-override": &req.VCPUOverride, "ram-override": &req.RAMOverride} {
		if c.IsSet(name) {
			*to = new(c.Int(name))
		}
	}
	for name, to := range map[string]**string{"name": &req.Name, "host": &req.Host, "capacity-mode": &req.CapacityMode} {
		if c.IsSet(name) {
			*to = new(c.String(name))
		}
	}
	if req == (controllerapi.NodeConfig{NodeID: n.NodeID}) {
		return usagef("nothing to change; run '%s --help' for the settings", c.Command.HelpName)
	}
	if err := cloud.ConfigureNode(c.Context, req); err != nil {
		return err
	}
	return done(c, nil, "the settings of %s are changed; it takes them over with its next heartbeat", n.NodeName)
}

func removeNode(c *cli.Context, cloud *clouds.Cloud) error {
	n, err := theNode(c, cloud)
	if err != nil {
		return err
	}
	if !c.Bool("yes") {
		return usagef("remove %s forgets it with its %s: repeat it with --yes, there is no way back", n.NodeName, count(int(n.VMCount), "VM"))
	}
	if err := cloud.RemoveNode(c.Context, n.NodeID); err != nil {
		return err
	}
	return done(c, nil, "%s is removed", n.NodeName)
}
