package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/cmd/internal/clouds"
	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/termstyle"
)

// vmCommand is for people at any machine: it speaks to a cloud's controllers.
func vmCommand() *cli.Command {
	return family("vm", "start, list, show, wait for and stop VMs of a cloud",
		`ankacluster vm COMMAND ... [--controllers URL,URL,…] [--context NAME]

A VM is named by its id, by the name it was started with, or by the beginning of
either that is of no other.

Example: ankacluster vm start sonoma --wait --controllers http://10.0.1.4:8090`,
		startCommand(),
		cloudSub("list", "list the VMs", "vm list [--watch] [--json]", []cli.Flag{watchFlag(), jsonFlag(), quietFlag("print ids only")}, listVMsOf),
		cloudSub("show", "show a VM, and how to reach it", "vm show VM [--json]", []cli.Flag{jsonFlag()}, showVM),
		cloudSub("logs", "print what a VM's start-up script printed", "vm logs VM", nil, vmLogs),
		whyCommand(), waitCommand(), stopCommand())
}

// vmNamed finds the instance that a word names: one that has ended only where no other
// has the name.
func vmNamed(ctx context.Context, cloud *clouds.Cloud, word string) (controllerapi.InstanceID, error) {
	list, err := cloud.Instances(ctx)
	if err != nil {
		return "", err
	}
	var all, ended []clouds.Named
	for _, vm := range list {
		n := clouds.Named{ID: string(vm.InstanceID), Name: vm.VM.Name}
		if vm.VM.InstanceState == controllerapi.Terminated {
			ended = append(ended, n)
		} else {
			all = append(all, n)
		}
	}
	found, err := clouds.Find("VM", word, all)
	if _, none := errors.AsType[*clouds.NotFound](err); none {
		if last, err := clouds.Find("VM", word, ended); err == nil {
			return controllerapi.InstanceID(last.ID), nil
		}
	}
	return controllerapi.InstanceID(found.ID), err
}

// labels are names of what VMs refer to by id.
type labels struct{ templates, nodes map[string]string }

// labelsOf asks for names; where they cannot be had, ids have to do.
func labelsOf(ctx context.Context, cloud *clouds.Cloud) labels {
	l := labels{make(map[string]string), make(map[string]string)}
	var wg sync.WaitGroup
	wg.Go(func() {
		list, _ := cloud.Registry.Templates(ctx)
		for _, t := range list {
			l.templates[t.ID] = t.Name
		}
	})
	wg.Go(func() {
		list, _ := cloud.Nodes(ctx)
		for _, n := range list {
			l.nodes[string(n.NodeID)] = n.NodeName
		}
	})
	wg.Wait()
	return l
}

// template is a VM's template with its tag.
func (l labels) template(vm controllerapi.Instance) string {
	name := cmp.Or(l.templates[string(vm.VMID)], string(vm.VMID))
	if vm.Tag != "" {
		name += ":" + vm.Tag
	}
	return name
}

func (l labels) node(vm controllerapi.Instance) string {
	return cmp.Or(l.nodes[string(vm.NodeID)], string(vm.NodeID))
}

// vmLevel is how well a VM in a state is.
func vmLevel(s controllerapi.InstanceState) termstyle.Level {
	switch s {
	case controllerapi.Started:
		return termstyle.Good
	case controllerapi.Error:
		return termstyle.Bad
	case controllerapi.Stopped, controllerapi.Terminated:
		return termstyle.None
	}
	return termstyle.Warn
}

func listVMsOf(c *cli.Context, cloud *clouds.Cloud) error {
	if err := want(c); err != nil {
		return err
	}
	if c.Bool("watch") {
		l := labelsOf(c.Context, cloud)
		return watchCloud(c, cloud.VMs(c.Context), func(out io.Writer, vms []controllerapi.Instance) error {
			if c.Bool("json") {
				return printJSON(out, vms)
			}
			return printVMs(out, vms, l, time.Now())
		})
	}
	list, err := cloud.Instances(c.Context)
	if err != nil {
		return err
	}
	vms := make([]controllerapi.Instance, len(list))
	for i, vm := range list {
		vms[i] = vm.VM
	}
	switch {
	case c.Bool("json"):
		return printJSON(c.App.Writer, vms)
	case c.Bool("quiet"):
		return printWords(c, vms2ids(vms))
	case len(vms) == 0:
		return done(c, nil, "there is no VM; ankacluster vm start TEMPLATE starts one")
	}
	return printVMs(c.App.Writer, vms, labelsOf(c.Context, cloud), time.Now())
}

func vms2ids(vms []controllerapi.Instance) []string {
	ids := make([]string, len(vms))
	for i, vm := range vms {
		ids[i] = string(vm.InstanceID)
	}
	return ids
}

// printWords prints a word a line, for scripts.
func printWords[S ~string](c *cli.Context, words []S) error {
	for _, w := range words {
		if _, err := fmt.Fprintln(c.App.Writer, string(w)); err != nil {
			return err
		}
	}
	return nil
}

func printVMs(out io.Writer, vms []controllerapi.Instance, l labels, now time.Time) error {
	slices.SortFunc(vms, func(a, b controllerapi.Instance) int {
		return cmp.Or(a.CRTime.Compare(b.CRTime), strings.Compare(string(a.InstanceID), string(b.InstanceID)))
	})
	short := clouds.Short(vms2ids(vms))
	t := newTable(out, "ID", "NAME", "TEMPLATE", "STATE", "NODE", "AGE", "WHY")
	for _, vm := range vms {
		t.add(short(string(vm.InstanceID)), vm.Name, l.template(vm), cell{vmState(vm), vmLevel(vm.InstanceState)}, l.node(vm),
			brief(now.Sub(vm.CRTime)), vm.Message)
	}
	t.dropEmpty()
	return t.print()
}

// vmState is a VM's state, with how far it is.
func vmState(vm controllerapi.Instance) string {
	if vm.InstanceState == controllerapi.Pulling && vm.Progress > 0 {
		return fmt.Sprintf("%s %.0f%%", vm.InstanceState, vm.Progress*100)
	}
	return string(vm.InstanceState)
}

func showVM(c *cli.Context, cloud *clouds.Cloud) error {
	vm, err := theVM(c, cloud)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, vm)
	}
	return printVM(c.App.Writer, vm, labelsOf(c.Context, cloud), time.Now())
}

// theVM is what the one argument names.
func theVM(c *cli.Context, cloud *clouds.Cloud) (controllerapi.Instance, error) {
	if err := want(c, "VM"); err != nil {
		return controllerapi.Instance{}, err
	}
	id, err := vmNamed(c.Context, cloud, c.Args().First())
	if err != nil {
		return controllerapi.Instance{}, err
	}
	return cloud.Instance(c.Context, id)
}

func printVM(out io.Writer, vm controllerapi.Instance, l labels, now time.Time) error {
	f := newFacts(out)
	f.row(termstyle.None, "id", "%s", vm.InstanceID)
	f.row(termstyle.None, "name", "%s", vm.Name)
	f.row(vmLevel(vm.InstanceState), "state", "%s, last change %s", vmState(vm), ago(vm.TS, now))
	f.row(vmLevel(vm.InstanceState), "why", "%s", vm.Message)
	f.row(termstyle.None, "template", "%s", l.template(vm))
	f.row(termstyle.None, "node", "%s", l.node(vm))
	f.row(termstyle.None, "asked for", "%s", ago(vm.CRTime, now))
	f.row(termstyle.None, "external id", "%s", vm.ExternalID)
	if info := vm.VMInfo; info != nil {
		f.row(termstyle.None, "size", "%s, %s of memory", count(info.CPUCores, "processor"), info.RAM)
		f.row(termstyle.None, "VM", "%s (%s), %s", info.Name, info.UUID, info.Status)
	}
	if s := vm.StartupScript; s != nil {
		f.row(scriptLevel(s), "script", "%s; ankacluster vm logs %s prints what it said", scriptEnd(s), clouds.Short(nil)(string(vm.InstanceID)))
	}
	if vm.InstanceState != controllerapi.Terminated {
		f.ways(vm.VMInfo)
	}
	return f.w.Flush()
}

// ways writes how to reach a VM.
func (f facts) ways(vm *controllerapi.VMInfo) {
	for _, way := range clouds.Ways(vm) {
		f.row(termstyle.None, way.Name, "%s", way.Command)
	}
}

func scriptLevel(s *controllerapi.ScriptResult) termstyle.Level {
	if s.DidTimeout || s.ReturnCode != 0 {
		return termstyle.Bad
	}
	return termstyle.Good
}

func scriptEnd(s *controllerapi.ScriptResult) string {
	if s.DidTimeout {
		return "it took too long and was ended"
	}
	return fmt.Sprintf("it ended with exit code %d", s.ReturnCode)
}

// vmLogs prints what the script printed, each where it printed it.
func vmLogs(c *cli.Context, cloud *clouds.Cloud) error {
	vm, err := theVM(c, cloud)
	if err != nil {
		return err
	}
	s := vm.StartupScript
	if s == nil {
		return hintf(errors.New("nothing is known of a start-up script of this VM"),
			"what a script prints is kept once it has ended: vm start --script FILE --wait")
	}
	_, _ = io.WriteString(c.App.Writer, s.Stdout)
	_, _ = io.WriteString(c.App.ErrWriter, s.Stderr)
	for _, e := range s.Errors {
		fmt.Fprintln(c.App.ErrWriter, e)
	}
	if scriptLevel(s) == termstyle.Bad {
		return errors.New("the script: " + scriptEnd(s))
	}
	return nil
}
