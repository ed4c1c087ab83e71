package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/balancer"
	"github.com/ankacluster/ankacluster/cmd/internal/clouds"
	"github.com/ankacluster/ankacluster/controllerapi"
)

// startPatience is how long a start waits for its answer: the controller may wait for
// registries, one after another.
const startPatience = 30 * time.Second

func startCommand() *cli.Command {
	flags := []cli.Flag{
		&cli.BoolFlag{Name: "wait", Usage: "wait until it has started, and print how to reach it", DisableDefaultText: true},
		&cli.DurationFlag{Name: "timeout", Usage: "with --wait: give up after `DURATION`; what was started stays", DefaultText: "none"},
		&cli.StringFlag{Name: "name", Usage: "a `NAME` for the VM, by which these commands find it"},
		&cli.IntFlag{Name: "count", Aliases: []string{"n"}, Value: 1, Usage: "start `N` VMs"},
		&cli.StringFlag{Name: "group", Usage: "on a node of the group `GROUP`"},
		&cli.StringFlag{Name: "node", Usage: "on the node `NODE`"},
		&cli.IntFlag{Name: "priority", Usage: "from 1 to 10000, `N`; the lower, the sooner", DefaultText: "1000"},
		&cli.IntFlag{Name: "cpu", Usage: "give it `N` processors", DefaultText: "the template's"},
		&cli.IntFlag{Name: "ram", Usage: "give it `MB` of memory", DefaultText: "the template's"},
		&cli.StringFlag{Name: "script", Usage: "run the script in `FILE` in it; - is standard input"},
		&cli.StringSliceFlag{Name: "metadata", Usage: "keep `KEY=VALUE` with it; may be repeated"},
		&cli.StringFlag{Name: "external-id", Usage: "keep `ID`, of a job for one, with it"},
		jsonFlag(), quietFlag("print ids only"),
	}
	return cloudSub("start", "start VMs of a template",
		`vm start TEMPLATE[:TAG] [--wait] [--name NAME] [--group GROUP] …

A template is named by its name or id; without TAG it is the latest version. A
start that is repeated because its answer was lost starts nothing twice.

Example: ankacluster vm start sonoma:v2 --wait --name nightly`, flags, startVMs)
}

func waitCommand() *cli.Command {
	return cloudSub("wait", "wait until VMs have started, or are gone",
		"vm wait VM... [--for started|gone] [--timeout DURATION]", []cli.Flag{
			&cli.StringFlag{Name: "for", Value: waitStarted, Usage: "`WHAT` to wait for: started or gone"},
			&cli.DurationFlag{Name: "timeout", Usage: "give up after `DURATION`", DefaultText: "none"},
			jsonFlag(), quietFlag("print nothing"),
		}, waitForVMs)
}

func stopCommand() *cli.Command {
	return cloudSub("stop", "end VMs: they are deleted with all that they hold",
		"vm stop VM... [--wait]", []cli.Flag{
			&cli.BoolFlag{Name: "wait", Usage: "wait until they are gone", DisableDefaultText: true},
			&cli.DurationFlag{Name: "timeout", Usage: "with --wait: give up after `DURATION`", DefaultText: "none"},
			jsonFlag(), quietFlag("print nothing"),
		}, stopVMs)
}

func startVMs(c *cli.Context, cloud *clouds.Cloud) error {
	if err := want(c, "TEMPLATE"); err != nil {
		return err
	}
	req, name, err := startRequest(c, cloud)
	if err != nil {
		return err
	}
	ids, err := cloud.Start(balancer.WithPatience(c.Context, startPatience), req)
	if err != nil {
		return explainStart(err, name, req)
	}
	switch {
	case c.Bool("wait"):
		return awaitVMs(c, cloud, ids, waitStarted)
	case c.Bool("json"):
		return printJSON(c.App.Writer, ids)
	case c.Bool("quiet"):
		return printWords(c, ids)
	}
	if err := printWords(c, ids); err != nil {
		return err
	}
	return done(c, nil, "%s of %s asked for; next: ankacluster vm wait %s", count(len(ids), "VM"), name, clouds.Short(nil)(string(ids[0])))
}

// startRequest makes the request, with ids in place of names.
func startRequest(c *cli.Context, cloud *clouds.Cloud) (req controllerapi.StartRequest, name string, err error) {
	word, tag := splitRef(c.Args().First())
	list, err := cloud.Registry.Templates(c.Context)
	if err != nil {
		return req, "", err
	}
	all := make([]clouds.Named, len(list))
	for i, t := range list {
		all[i] = clouds.Named{ID: t.ID, Name: t.Name}
	}
	found, err := clouds.Find("template", word, all)
	if err != nil {
		return req, "", err
	}
	req = controllerapi.StartRequest{
		VMID: controllerapi.TemplateID(found.ID), Tag: tag, Name: c.String("name"), Count: new(c.Int("count")),
		ExternalID: c.String("external-id"), VCPU: c.Int("cpu"), VRAM: c.Int("ram"),
	}
	if c.IsSet("priority") {
		req.Priority = new(c.Int("priority"))
	}
	if req.StartupScript, err = readScript(c.String("script")); err != nil {
		return req, "", err
	}
	req.ScriptMonitoring = req.StartupScript != "" // what it prints is kept
	if req.Metadata, err = metadata(c.StringSlice("metadata")); err != nil {
		return req, "", err
	}
	if word := c.String("group"); word != "" {
		if req.GroupID, err = groupNamed(c.Context, cloud, word); err != nil {
			return req, "", err
		}
	}
	if word := c.String("node"); word != "" {
		node, err := nodeNamed(c.Context, cloud, word)
		if err != nil {
			return req, "", err
		}
		req.NodeID = node.NodeID
	}
	return req, found.Name, nil
}

// explainStart says what to do about a start that was refused.
func explainStart(err error, name string, req controllerapi.StartRequest) error {
	if errors.Is(err, controllerapi.ErrNoSuchVersion) {
		return hintf(fmt.Errorf("template %s has no tag %q", name, req.Tag), "ankacluster template show %s lists its tags", name)
	}
	return err
}

func readScript(path string) (string, error) {
	switch path {
	case "":
		return "", nil
	case "-":
		path = "/dev/stdin"
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", usagef("--script: %w", err)
	}
	return base64.StdEncoding.EncodeToString(text), nil
}

// metadata reads KEY=VALUE. What is a whole number, true or false is kept as that.
func metadata(pairs []string) (controllerapi.Metadata, error) {
	if len(pairs) == 0 {
		return nil, nil
	}
	m := make(controllerapi.Metadata)
	for _, pair := range pairs {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return nil, usagef("--metadata %q must be KEY=VALUE", pair)
		}
		m[key] = value
		if n, err := strconv.ParseInt(value, 10, 64); err == nil {
			m[key] = n
		}
		if value == "true" || value == "false" {
			m[key] = value == "true"
		}
	}
	return m, nil
}

// theVMs are what the arguments name.
func theVMs(c *cli.Context, cloud *clouds.Cloud) ([]controllerapi.InstanceID, error) {
	if c.NArg() == 0 {
		return nil, usagef("VM is missing; run '%s --help'", c.Command.HelpName)
	}
	var ids []controllerapi.InstanceID
	for _, word := range c.Args().Slice() {
		id, err := vmNamed(c.Context, cloud, word)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func waitForVMs(c *cli.Context, cloud *clouds.Cloud) error {
	what := c.String("for")
	if what != waitStarted && what != waitGone {
		return usagef("--for %s: it must be %s or %s", what, waitStarted, waitGone)
	}
	ids, err := theVMs(c, cloud)
	if err != nil {
		return err
	}
	return awaitVMs(c, cloud, ids, what)
}

func stopVMs(c *cli.Context, cloud *clouds.Cloud) error {
	ids, err := theVMs(c, cloud)
	if err != nil {
		return err
	}
	for i, id := range ids {
		if err := cloud.Terminate(c.Context, id); err != nil && !errors.Is(err, controllerapi.ErrNotFound) {
			return fmt.Errorf("%s: %w", c.Args().Get(i), explainCloud(err))
		}
	}
	switch {
	case c.Bool("wait"):
		return awaitVMs(c, cloud, ids, waitGone)
	case c.Bool("quiet"):
		return nil
	}
	return done(c, ids, "the end of %s is asked for; ankacluster vm stop --wait waits for it", count(len(ids), "VM"))
}

// awaitVMs waits, says what happens meanwhile, and tells the end.
func awaitVMs(c *cli.Context, cloud *clouds.Cloud, ids []controllerapi.InstanceID, what string) error {
	ctx := c.Context
	if limit := c.Duration("timeout"); limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, limit, fmt.Errorf("not %s within %s", what, limit))
		defer cancel()
	}
	w := newVMWait(c, ids, what)
	for vms, err := range cloud.VMs(ctx) {
		if errors.Is(err, controllerapi.ErrUnauthorized) {
			return err
		}
		if err != nil {
			w.trouble(err)
			continue
		}
		if w.see(vms, time.Now()) {
			break
		}
	}
	return w.end(ctx)
}
