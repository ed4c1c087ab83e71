package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/internal/atomicfile"
	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/internal/progress"
	"github.com/ankacluster/ankacluster/internal/termstyle"
	"github.com/ankacluster/ankacluster/registryapi"
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
	p, t, tag, err := findTemplate(c, "NAME[:TAG]", "DIR")
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
	var pulled transfer.Pulled
	err = shown(c, "pull "+t.Name+":"+tag, func(report func(transfer.Progress)) (err error) {
		pulled, err = clients[0].Pull(c.Context, t.Repository, tag, dir, transfer.PullOptions{Stripe: clients[1:], Report: report})
		return err
	})
	if err != nil {
		return explainResumable(t.Name, tag, err, "what was fetched is kept: the same command goes on from there")
	}
	about := templateDir{Description: pulled.Manifest.Annotations["org.opencontainers.image.description"]}
	for _, f := range pulled.Files {
		about.Files = append(about.Files, f.Name)
	}
	data, err := json.MarshalIndent(about, "", "  ")
	if err != nil {
		return err
	}
	whole := atomicfile.Options{Mode: 0o644}
	err = errors.Join(whole.Write(filepath.Join(dir, configFile), pulled.Config),
		whole.Write(filepath.Join(dir, templateFile), append(data, '\n')))
	if err != nil {
		return err
	}
	return done(c, map[string]any{"id": t.ID, "tag": tag, "digest": pulled.Digest, "dir": dir, "fetched": pulled.Fetched},
		"%s:%s is in %s: %d files, %s fetched", t.Name, tag, dir, len(pulled.Files), size(pulled.Fetched))
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
	t, err := p.templateFor(c, name)
	if err != nil {
		return err
	}
	img, err := readTemplateDir(dir, t)
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
	var pushed transfer.Pushed
	there, err := p.keepTag(c, oci, t.Repository, tag, func() (_ string, err error) {
		if !c.Bool("json") { // hashing takes minutes
			fmt.Fprintf(c.App.ErrWriter, "comparing %s with the files of %s\n", ref, dir)
		}
		pushed.Digest, err = transfer.DigestOf(c.Context, img)
		return pushed.Digest.String(), err
	})
	if err != nil {
		return err
	}
	if !there {
		err = shown(c, "push "+ref, func(report func(transfer.Progress)) (err error) {
			pushed, err = oci.Push(c.Context, t.Repository, tag, img, transfer.PushOptions{Report: report})
			return err
		})
	}
	switch {
	case err != nil:
		return explainResumable(name, tag, err, "the same command goes on: files that the registry has are not sent again")
	case there && !c.Bool("json"):
		return done(c, nil, "%s is there already, as it is in %s", ref, dir)
	}
	return done(c, map[string]any{"repository": t.Repository, "tag": tag, "digest": pushed.Digest, "sent": pushed.Sent, "unchanged": there},
		"%s is pushed: %s, of which %s were sent", ref, size(pushed.Size), size(pushed.Sent))
}

// shown does what takes a while under a bar.
func shown(c *cli.Context, what string, do func(report func(transfer.Progress)) error) error {
	bar := progress.New(termstyle.Raw(c.App.ErrWriter), termstyle.Printable(what), c.Bool("json"))
	defer bar.End()
	return do(func(p transfer.Progress) { bar.Report(p.Done, p.Total) })
}

// templateFor returns the template called name, or the one that a push begins:
// it has no id yet.
func (p *templatePlace) templateFor(c *cli.Context, name string) (registryapi.Template, error) {
	found, err := p.named(c.Context, name)
	if err != nil || found != nil {
		return *cmp.Or(found, &registryapi.Template{}), err
	}
	repo := strings.ToLower(name)
	if err := oci.CheckRepository(repo); err != nil {
		return registryapi.Template{}, usagef("%w", err)
	}
	return registryapi.Template{Name: path.Base(name), Repository: repo}, nil
}

// keepTag refuses to move a tag that names something else than what digest
// returns, unless --force is set. It reports whether the tag names that already.
func (p *templatePlace) keepTag(c *cli.Context, oci *transfer.Client, repo, tag string, digest func() (string, error)) (bool, error) {
	if c.Bool("force") || tag == "latest" {
		return false, nil
	}
	m, err := oci.Manifest(c.Context, repo, tag)
	if errors.Is(err, transfer.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	d, err := digest()
	if err != nil || d == m.Digest.String() {
		return err == nil, err
	}
	return false, hintf(fmt.Errorf("tag %s exists already, as %.19s…", tag, m.Digest), "choose another tag, or replace it with --force")
}

// readTemplateDir makes an image of the files in dir, as a version of t.
func readTemplateDir(dir string, t registryapi.Template) (transfer.Image, error) {
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
		// The versions of a template are one VM: the same files are the same
		// image however often they are pushed.
		config, err = json.Marshal(map[string]string{"name": t.Name, "uuid": cmp.Or(t.ID, uuid.NewString())})
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
