package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/cmd/internal/clouds"
	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/termstyle"
	"github.com/ankacluster/ankacluster/internal/wire"
)

func whyCommand() *cli.Command {
	return cloudSub("why", "tell why a VM waits, and what ends the wait", "vm why VM [--json]", []cli.Flag{jsonFlag()}, whyVM)
}

func whyVM(c *cli.Context, cloud *clouds.Cloud) error {
	if err := want(c, "VM"); err != nil {
		return err
	}
	id, err := vmNamed(c.Context, cloud, c.Args().First())
	if err != nil {
		return err
	}
	why, err := cloud.Why(c.Context, id)
	switch {
	case errors.Is(err, wire.CodeNoSuchCall):
		return errors.New("the controller is of an older version, which cannot tell why a VM waits: upgrade it")
	case err != nil:
		return err
	case c.Bool("json"):
		return printJSON(c.App.Writer, why)
	}
	return printWhy(c.App.Writer, why)
}

func printWhy(out io.Writer, why controllerapi.Why) error {
	f := newFacts(out)
	level := termstyle.Warn
	if why.Cause == controllerapi.CausePlaced {
		level = termstyle.None
	}
	f.row(level, "why", "%s", why.Text)
	if why.Place > 0 {
		f.row(termstyle.None, "place", "%d of %d that wait, priority %d, for %s", why.Place, why.Waiting, why.Priority, brief(seconds(why.Waited)))
		f.row(termstyle.None, "nodes", "%d in the cloud", why.Nodes)
	}
	for _, rule := range why.Rules {
		f.row(termstyle.None, "", "%d %s; %d left", rule.Excluded.Count, rule.Text, rule.Left)
	}
	name := "handed back"
	for _, h := range why.HandedBack {
		again := ""
		if h.Again > 0 {
			again = fmt.Sprintf("; asked again in %s", brief(seconds(h.Again)))
		}
		f.row(termstyle.Warn, name, "by %s %s: %s%s", cmp.Or(h.Name, string(h.NodeID)), ago(h.At, time.Now()), h.Reason, again)
		name = ""
	}
	name = "you could"
	for _, advice := range why.Advice {
		f.row(termstyle.None, name, "%s", advice)
		name = ""
	}
	return f.w.Flush()
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
