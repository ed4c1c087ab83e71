package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/internal/termstyle"
	"github.com/ankacluster/ankacluster/internal/wire"
	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/transfer"
)

// templateCommand is for people without the anka command: it speaks to the
// registry itself.
func templateCommand() *cli.Command {
	return &cli.Command{
		Name:  "template",
		Usage: "list, show, pull, push, tag and delete VM templates",
		UsageText: `ankacluster template COMMAND ... [--url URL[,URL...]]

A template is named by its name, its id or its repository; a version of it by
NAME:TAG. --url is a controller or a registry; without it, the controllers of the
context in use are asked, or else those that this node joined.

Example: ankacluster template list --url http://10.0.1.4:8090`,
		Subcommands: []*cli.Command{
			sub("list", "list the templates", "template list [--copies] [--url URL] [--json]",
				[]cli.Flag{&cli.BoolFlag{Name: "copies", Usage: "list tags with the hosts of the cluster that have them", DisableDefaultText: true}}, listTemplates),
			sub("show", "show a template's versions", "template show NAME [--url URL] [--json]", nil, showTemplate),
			sub("pull", "fetch a version's files into a directory",
				`template pull NAME[:TAG] DIR [--url URL[,URL...]]

Without TAG the latest version is fetched. Of several registries, large files are
read from all at once. A pull that was interrupted goes on where it stopped.

Example: ankacluster template pull sonoma:v1 ./sonoma --url http://10.0.1.4:8089`, nil, pullTemplate),
			sub("push", "push the files of a directory as a version",
				`template push DIR NAME:TAG [--description TEXT] [--force] [--url URL]

DIR holds the VM's files, and its configuration in config.json; without that a
new VM begins. What the registry has is not sent
again. The version is listed once all of it is stored.

Example: ankacluster template push ./sonoma sonoma:v2 --url http://10.0.1.4:8089`,
				[]cli.Flag{
					&cli.StringFlag{Name: "description", Aliases: []string{"d"}, Usage: "the version's description, `TEXT`"},
					&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "replace a tag that exists", DisableDefaultText: true},
				}, pushTemplate),
			sub("tag", "give a version another tag", "template tag NAME:TAG NEWTAG [--force] [--url URL]",
				[]cli.Flag{&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "replace a tag that exists", DisableDefaultText: true}}, tagTemplate),
			sub("revert", "remove a version and all later ones",
				`template revert NAME[:TAG] --yes [--url URL]

Without TAG the latest version is removed.

Example: ankacluster template revert sonoma:v3 --yes`, yesFlag(), revertTemplate),
			sub("delete", "delete a template, or one tag of it",
				`template delete NAME[:TAG] --yes [--url URL]

Without TAG the template goes with all its versions.

Example: ankacluster template delete sonoma --yes`, yesFlag(), deleteTemplate),
		},
		Action: func(c *cli.Context) error {
			if name := c.Args().First(); name != "" {
				return unknownCommand("ankacluster template", name, c.Command.Subcommands)
			}
			return cli.ShowSubcommandHelp(c)
		},
	}
}

func sub(name, usage, text string, flags []cli.Flag, action cli.ActionFunc) *cli.Command {
	return &cli.Command{
		Name: name, Usage: usage, UsageText: "ankacluster " + text, Action: action,
		Flags: append(append(flags,
			&cli.StringFlag{Name: "url", EnvVars: []string{"ANKA_TEMPLATE_URL"}, Usage: "controller or registry `URL[,URL...]`; default: the context in use, else the controllers this node joined"},
			&cli.StringFlag{Name: "cacert", EnvVars: []string{"ANKA_CACERT"}, Usage: "trust the certificate authority in this PEM `FILE`; default: the one this node joined with"},
			&cli.BoolFlag{Name: "skip-tls-verification", Usage: "do not check the servers' certificates (tests only)", DisableDefaultText: true},
			&cli.BoolFlag{Name: "json", Aliases: []string{"j", "machine-readable"}, Usage: "print JSON", DisableDefaultText: true}),
			withoutShortForce(placeFlags())...),
	}
}

// withoutShortForce takes -f from --force-no-sudo: beside a command that deletes or
// replaces, people mean another force.
func withoutShortForce(flags []cli.Flag) []cli.Flag {
	for _, f := range flags {
		if b, ok := f.(*cli.BoolFlag); ok {
			b.Aliases = nil
		}
	}
	return flags
}

func yesFlag() []cli.Flag {
	return []cli.Flag{&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do it: there is no way back", DisableDefaultText: true}}
}

// want checks the number of arguments.
func want(c *cli.Context, names ...string) error {
	if c.NArg() < len(names) {
		return usagef("%s is missing; run '%s --help'", names[c.NArg()], c.Command.HelpName)
	}
	if c.NArg() > len(names) {
		return usagef("unexpected argument %q", c.Args().Get(len(names)))
	}
	return nil
}

// findTemplate finds what the first argument names, of those that a command has.
func findTemplate(c *cli.Context, names ...string) (p *templatePlace, t registryapi.Template, tag string, err error) {
	if err = want(c, names...); err != nil {
		return nil, t, "", err
	}
	if p, err = findPlace(c); err != nil {
		return nil, t, "", err
	}
	t, tag, err = p.find(c.Context, c.Args().First())
	return p, t, tag, err
}

func listTemplates(c *cli.Context) error {
	if err := want(c); err != nil {
		return err
	}
	p, err := findPlace(c)
	if err != nil {
		return err
	}
	if c.Bool("copies") {
		return listCopies(c, p)
	}
	list, err := p.rest.Templates(c.Context)
	if err != nil {
		return fmt.Errorf("list templates of %s: %w", p.url, err)
	}
	if c.Bool("json") {
		if list == nil {
			list = []registryapi.Template{}
		}
		return printJSON(c.App.Writer, list)
	}
	if len(list) == 0 {
		return done(c, nil, "there is no template at %s yet; ankacluster template push DIR NAME:TAG makes one", p.url)
	}
	w := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tID\tARCH\tSIZE\tPUSHED\tPULLED")
	now := time.Now()
	for _, t := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", termstyle.Printable(t.Name), termstyle.Printable(t.ID), dash(t.Arch), size(t.Size), ago(unix(t.LastPush), now), ago(unix(t.LastPull), now))
	}
	return w.Flush()
}

// listCopies lists which hosts have which tags, as the first registry says that
// answers.
func listCopies(c *cli.Context, p *templatePlace) error {
	var errs []error
	for _, u := range p.pull {
		list, cl, err := askCopies(c.Context, u)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", u, err))
			continue
		}
		if c.Bool("json") {
			return printJSON(c.App.Writer, list)
		}
		if len(cl.Hosts) == 0 {
			return done(c, nil, "the registry %s is one directory: there are no copies at other hosts", u)
		}
		return printCopies(c.App.Writer, list, cl, time.Now())
	}
	return fmt.Errorf("copies of templates: %w", errors.Join(errs...))
}

func askCopies(ctx context.Context, u string) ([]registryapi.TagCopies, registryapi.Cluster, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	rest := registryapi.NewClient(u, &http.Client{CheckRedirect: wire.NoRedirect})
	cl, err := rest.Cluster(ctx)
	if err != nil {
		return nil, cl, err
	}
	list, err := rest.Copies(ctx)
	return list, cl, err
}

func printCopies(out io.Writer, list []registryapi.TagCopies, cl registryapi.Cluster, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TEMPLATE\tTAG\tSIZE\tPUSHED\tCOPIES\tHOSTS")
	few := 0
	for _, t := range list {
		copies := strconv.Itoa(len(t.Hosts))
		if t.Few {
			few++
			copies += fmt.Sprintf(" of %d", cl.Copies)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", termstyle.Printable(t.Template), termstyle.Printable(t.Tag), size(t.Size), ago(t.Pushed, now), copies, dash(strings.Join(t.Hosts, ", ")))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, h := range cl.Hosts {
		if !h.Live {
			fmt.Fprintf(out, "host %s is down: its copies count as long as its disk is there\n", h.Name)
		}
	}
	if few > 0 {
		fmt.Fprintf(out, "%d tags are on fewer hosts than the %d asked for; they are copied as soon as can be\n", few, cl.Copies)
	}
	return nil
}

func showTemplate(c *cli.Context) error {
	_, t, _, err := findTemplate(c, "NAME")
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, t)
	}
	return printTemplate(c.App.Writer, t, time.Now())
}

func printTemplate(out io.Writer, t registryapi.Template, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "name\t%s\nid\t%s\nrepository\t%s\narch\t%s\nsize\t%s, each file counted once\n\n", termstyle.Printable(t.Name), termstyle.Printable(t.ID), dash(t.Repository), dash(t.Arch), size(t.Size))
	fmt.Fprintln(w, "NUMBER\tTAG\tSIZE\tFILES\tPUSHED\tPULLED\tDESCRIPTION")
	for _, v := range t.Versions {
		files := len(v.Images) + len(v.StateFiles)
		if v.NVRAM != "" {
			files++
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%d\t%s\t%s\t%s\n", v.Number, termstyle.Printable(v.Tag), size(v.Size), files,
			ago(unix(v.LastPush), now), ago(unix(v.LastPull), now), termstyle.Printable(v.Description))
	}
	return w.Flush()
}

func tagTemplate(c *cli.Context) error {
	p, t, tag, err := findTemplate(c, "NAME:TAG", "NEWTAG")
	if err != nil {
		return err
	}
	oci, err := p.pushClient()
	if err != nil {
		return err
	}
	m, err := oci.Manifest(c.Context, t.Repository, tag)
	if err != nil {
		return explainTransfer(t.Name, tag, err)
	}
	to := c.Args().Get(1)
	same := func() (string, error) { return m.Digest.String(), nil }
	if _, err := p.keepTag(c, oci, t.Repository, to, same); err != nil {
		return err
	}
	if err := oci.PutManifest(c.Context, t.Repository, to, m.MediaType, m.Raw); err != nil {
		return explainTransfer(t.Name, to, err)
	}
	return done(c, map[string]string{"id": t.ID, "tag": to, "digest": m.Digest.String()}, "%s:%s is now %s:%s as well", t.Name, tag, t.Name, to)
}

func revertTemplate(c *cli.Context) error {
	return destroy(c, "revert", func(p *templatePlace, t registryapi.Template, tag string) (string, error) {
		if err := p.rest.Revert(c.Context, t.ID, registryapi.RevertTarget{Tag: tag}); err != nil {
			return "", err
		}
		if tag == "" {
			return fmt.Sprintf("the latest version of %s is removed", t.Name), nil
		}
		return fmt.Sprintf("version %s of %s and all later ones are removed", tag, t.Name), nil
	})
}

func deleteTemplate(c *cli.Context) error {
	return destroy(c, "delete", func(p *templatePlace, t registryapi.Template, tag string) (string, error) {
		if tag == "" {
			return fmt.Sprintf("template %s is deleted", t.Name), p.rest.Delete(c.Context, t.ID)
		}
		oci, err := p.pushClient()
		if err != nil {
			return "", err
		}
		if err := oci.DeleteManifest(c.Context, t.Repository, tag); err != nil {
			return "", explainTransfer(t.Name, tag, err)
		}
		return fmt.Sprintf("tag %s of %s is deleted", tag, t.Name), nil
	})
}

// destroy is what revert and delete have in common: they ask for --yes.
func destroy(c *cli.Context, what string, act func(*templatePlace, registryapi.Template, string) (string, error)) error {
	p, t, _, err := findTemplate(c, "NAME")
	if err != nil {
		return err
	}
	_, tag := splitRef(c.Args().First())
	if tag != "" && !hasTag(t, tag) {
		return noTag(t, tag)
	}
	if !c.Bool("yes") {
		return usagef("%s %s removes %s: repeat it with --yes, there is no way back", what, c.Args().First(), doomed(what, t, tag))
	}
	said, err := act(p, t, tag)
	if err != nil {
		return fmt.Errorf("%s %s: %w", what, c.Args().First(), err)
	}
	return done(c, map[string]string{"id": t.ID, "tag": tag, "done": what}, "%s", said)
}

// doomed lists the tags that go: a revert takes a version, of itself the last,
// with all later ones; a delete takes one, or all of them.
func doomed(what string, t registryapi.Template, tag string) string {
	from, to := 0, len(t.Versions)
	switch {
	case tag != "":
		from = slices.IndexFunc(t.Versions, func(v registryapi.Version) bool { return v.Tag == tag })
		if what == "delete" {
			to = from + 1
		}
	case what == "revert":
		from = max(to-1, 0)
	}
	var tags []string
	for _, v := range t.Versions[from:to] {
		tags = append(tags, t.Name+":"+v.Tag)
	}
	return strings.Join(tags, ", ")
}

// done says the result to people, or to a program.
func done(c *cli.Context, body any, format string, args ...any) error {
	if c.Bool("json") {
		return printJSON(c.App.Writer, body)
	}
	fmt.Fprintf(c.App.ErrWriter, format+"\n", args...)
	return nil
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func unix(s int64) time.Time {
	if s <= 0 {
		return time.Time{}
	}
	return time.Unix(s, 0)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return termstyle.Printable(s)
}

// explainTransfer gives errors of a transfer a hint.
func explainTransfer(name, tag string, err error) error {
	switch {
	case errors.Is(err, transfer.ErrNotFound):
		return hintf(fmt.Errorf("%s:%s is not in the registry", name, tag), "ankacluster template show %s lists what is there", name)
	case errors.Is(err, transfer.ErrNoSpace):
		return hintf(err, "delete templates that nobody needs, or give the registry more space; ankacluster template list shows their sizes")
	case errors.Is(err, os.ErrPermission):
		return hintf(err, "choose a directory that you may write to")
	}
	return err
}

// explainResumable is explainTransfer for what may just be done again: kept says
// so to whoever gets no better advice.
func explainResumable(name, tag string, err error, kept string) error {
	err = explainTransfer(name, tag, err)
	var h hinted
	if err == nil || errors.As(err, &h) {
		return err
	}
	return hinted{err, kept}
}
