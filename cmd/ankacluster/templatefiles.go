package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/schollz/progressbar/v3"
	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/ankacluster/ankacluster/registryapi/transfer"
)

// Beside the VM's files a pull writes, and a push reads, the VM's configuration
// byte for byte and the order of the files, so that what was pulled can be pushed
// again as the same image.
const (
	configFile   = "config.json"
	templateFile = "template.json"
)

type templateDir struct {
	// Files in order, newest layer first. Files of the directory that are not
	// named come before them.
	Files       []string `json:"files"`
	Description string   `json:"description,omitempty"`
}

func pullTemplate(c *cli.Context) error {
	if err := want(c, "NAME[:TAG]", "DIR"); err != nil {
		return err
	}
	p, err := findPlace(c)
	if err != nil {
		return err
	}
	t, tag, err := p.find(c.Context, c.Args().First())
	if err != nil {
		return err
	}
	if !hasTag(t, tag) && tag != "latest" {
		return noTag(t, tag)
	}
	clients, err := p.pullClients()
	if err != nil {
		return err
	}
	dir := c.Args().Get(1)
	show := newBar(c, "pull "+t.Name+":"+tag)
	pulled, err := clients[0].Pull(c.Context, t.Repository, tag, dir, transfer.PullOptions{Stripe: clients[1:], Report: show.report})
	show.end()
	if err != nil {
		return hintf(explainTransfer(t.Name, tag, err), "what was fetched is kept: the same command goes on from there")
	}
	about := templateDir{Description: pulled.Manifest.Annotations["org.opencontainers.image.description"]}
	for _, f := range pulled.Files {
		about.Files = append(about.Files, f.Name)
	}
	data, err := json.MarshalIndent(about, "", "  ")
	if err != nil {
		return err
	}
	err = errors.Join(os.WriteFile(filepath.Join(dir, configFile), pulled.Config, 0o644),
		os.WriteFile(filepath.Join(dir, templateFile), append(data, '\n'), 0o644))
	if err != nil {
		return err
	}
	return done(c, map[string]any{"id": t.ID, "tag": tag, "digest": pulled.Digest, "dir": dir, "fetched": pulled.Fetched},
		"%s:%s is in %s: %d files, %s fetched", t.Name, tag, dir, len(pulled.Files), size(uint64(pulled.Fetched)))
}

func pushTemplate(c *cli.Context) error {
	if err := want(c, "DIR", "NAME:TAG"); err != nil {
		return err
	}
	dir, ref := c.Args().First(), c.Args().Get(1)
	name, tag := splitRef(ref)
	if tag == "" {
		return usagef("%q has no tag: push to NAME:TAG", ref)
	}
	p, err := findPlace(c)
	if err != nil {
		return err
	}
	repo, err := p.repositoryFor(c, name)
	if err != nil {
		return err
	}
	img, err := readTemplateDir(dir, name)
	if err != nil {
		return err
	}
	if d := c.String("description"); d != "" {
		img.Description = d
	}
	oci, err := p.pushClient()
	if err != nil {
		return err
	}
	if err := p.keepTag(c, oci, repo, tag, ""); err != nil {
		return err
	}
	show := newBar(c, "push "+ref)
	pushed, err := oci.Push(c.Context, repo, tag, img, transfer.PushOptions{Report: show.report})
	show.end()
	if err != nil {
		return explainTransfer(name, tag, err)
	}
	return done(c, map[string]any{"repository": repo, "tag": tag, "digest": pushed.Digest, "size": pushed.Size, "sent": pushed.Sent},
		"%s is pushed: %s, of which %s were sent", ref, size(uint64(pushed.Size)), size(uint64(pushed.Sent)))
}

// repositoryFor returns the repository of the template called name, or the one
// that a new template of that name gets.
func (p *templatePlace) repositoryFor(c *cli.Context, name string) (string, error) {
	list, err := p.rest.Templates(c.Context)
	if err != nil {
		return "", fmt.Errorf("list templates of %s: %w", p.url, err)
	}
	for _, t := range list {
		if t.ID == name || t.Name == name || t.Repository == name {
			return t.Repository, nil
		}
	}
	repo := strings.ToLower(name)
	if err := transfer.CheckRepository(repo); err != nil {
		return "", usagef("%w", err)
	}
	return repo, nil
}

// keepTag refuses to move a tag that points elsewhere, unless --force is set.
func (p *templatePlace) keepTag(c *cli.Context, oci *transfer.Client, repo, tag, digest string) error {
	if c.Bool("force") {
		return nil
	}
	m, err := oci.Manifest(c.Context, repo, tag)
	if errors.Is(err, transfer.ErrNotFound) || err == nil && (m.Digest.String() == digest || tag == "latest") {
		return nil
	}
	if err != nil {
		return err
	}
	return hintf(fmt.Errorf("tag %s exists already, as %.19s…", tag, m.Digest), "choose another tag, or replace it with --force")
}

// readTemplateDir makes an image of the files in dir.
func readTemplateDir(dir, name string) (transfer.Image, error) {
	var about templateDir
	data, err := os.ReadFile(filepath.Join(dir, templateFile))
	if err == nil {
		err = json.Unmarshal(data, &about)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return transfer.Image{}, fmt.Errorf("%s: %w", filepath.Join(dir, templateFile), err)
	}
	config, err := os.ReadFile(filepath.Join(dir, configFile))
	if errors.Is(err, fs.ErrNotExist) {
		config, err = json.Marshal(map[string]string{"name": filepath.Base(name), "uuid": uuid.NewString()})
	}
	if err != nil {
		return transfer.Image{}, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return transfer.Image{}, err
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() && e.Name() != templateFile && e.Name() != configFile && !strings.HasPrefix(e.Name(), ".") && !slices.Contains(about.Files, e.Name()) {
			names = append(names, e.Name())
		}
	}
	img := transfer.Image{Config: config, Description: about.Description}
	for _, n := range append(names, about.Files...) {
		img.Files = append(img.Files, transfer.File{Name: n, Path: filepath.Join(dir, n)})
	}
	if len(img.Files) == 0 {
		return img, usagef("%s holds no files to push", dir)
	}
	return img, nil
}

// bar shows progress: a bar on a terminal, a line every tenth elsewhere, nothing
// where a program reads.
type bar struct {
	out   io.Writer
	what  string
	bar   *progressbar.ProgressBar
	quiet bool
	tenth int64
}

func newBar(c *cli.Context, what string) *bar {
	b := &bar{out: c.App.ErrWriter, what: what, quiet: c.Bool("json"), tenth: -1}
	if f, ok := b.out.(*os.File); ok && !b.quiet && term.IsTerminal(int(f.Fd())) {
		b.bar = progressbar.NewOptions64(-1, progressbar.OptionSetWriter(f), progressbar.OptionSetDescription(what),
			progressbar.OptionShowBytes(true), progressbar.OptionFullWidth(), progressbar.OptionClearOnFinish())
	}
	return b
}

func (b *bar) report(p transfer.Progress) {
	switch {
	case b.quiet:
	case b.bar != nil:
		b.bar.ChangeMax64(max(p.Total, 1))
		_ = b.bar.Set64(p.Done) // a bar that cannot be drawn is no reason to stop
	case p.Total > 0 && p.Done*10/p.Total > b.tenth:
		b.tenth = p.Done * 10 / p.Total
		fmt.Fprintf(b.out, "%s: %d%% of %s\n", b.what, b.tenth*10, size(uint64(p.Total)))
	}
}

func (b *bar) end() {
	if b.bar != nil {
		_ = b.bar.Finish()
	}
}
