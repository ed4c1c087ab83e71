package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/transfer"
)

// remote is where a pull or push goes.
type remote struct {
	url    string
	prefix string
	user   string
	oci    bool
}

// registryCommand is `anka registry [options] SUBCOMMAND`.
func registryCommand(ctx context.Context, e *env, o options) (any, error) {
	if len(o.args) == 0 {
		if o.has("list") {
			return e.store.remotes()
		}
		return nil, &ankaError{Message: "registry add|set|remove|list|show|push|pull|revert", Type: "UsageError", exit: 2}
	}
	sub, rest := o.args[0], o.args[1:]
	if _, known := e.facts["registry "+sub]; !known {
		return nil, usageError("no such command: registry " + sub)
	}
	switch sub {
	case "add", "set":
		if len(rest) != 2 {
			return nil, &ankaError{Message: "registry add NAME URL", Type: "UsageError", exit: 2}
		}
		return nil, e.store.setRemote(rest[0], rest[1], o.has("default"))
	case "remove":
		if len(rest) != 1 {
			return nil, &ankaError{Message: "registry remove NAME", Type: "UsageError", exit: 2}
		}
		return nil, e.store.setRemote(rest[0], "", false)
	}
	r, err := e.remote(o)
	if err != nil {
		return nil, err
	}
	switch sub {
	case "list":
		return listRemote(ctx, r)
	case "show":
		return showRemote(ctx, r, rest)
	case "revert":
		return revertRemote(ctx, e, r, rest)
	case "push":
		po, err := e.parse("registry push", rest, false)
		if err != nil {
			return nil, err
		}
		return e.push(ctx, r, po)
	case "pull":
		po, err := e.parse("registry pull", rest, false)
		if err != nil {
			return nil, err
		}
		return e.pull(ctx, r, po)
	}
	return nil, &ankaError{Message: "no such command: registry " + sub, Type: "UsageError", exit: 2}
}

// pullVM is `anka pull ID [remote]`; with -o2 the ID is prefix/name.
func pullVM(ctx context.Context, e *env, o options) (any, error) {
	r, o, err := e.remoteOfArgs(o)
	if err != nil {
		return nil, err
	}
	return e.pull(ctx, r, o)
}

func pushVM(ctx context.Context, e *env, o options) (any, error) {
	if o.has("local") {
		return e.commitLocally(o)
	}
	r, o, err := e.remoteOfArgs(o)
	if err != nil {
		return nil, err
	}
	return e.push(ctx, r, o)
}

func (e *env) remoteOfArgs(o options) (remote, options, error) {
	ro := options{flags: map[string][]string{"oci-version": o.flags["oci-version"]}}
	if len(o.args) > 1 {
		ro.flags["remote"] = o.args[1:2]
	}
	r, err := e.remote(ro)
	if r.oci && len(o.args) > 0 {
		if i := strings.LastIndexByte(o.args[0], '/'); i >= 0 {
			r.prefix, o.args = o.args[0][:i], append([]string{o.args[0][i+1:]}, o.args[1:]...)
		}
	}
	return r, o, err
}

// remote finds the registry that is asked for by name or URL, or the default.
func (e *env) remote(o options) (remote, error) {
	r := remote{url: o.value("remote"), prefix: strings.Trim(o.value("prefix"), "/"), user: o.value("user"), oci: o.value("oci-version") == "2"}
	if r.user == "" {
		r.user = os.Getenv("ANKA_REGISTRY_USER")
	}
	if strings.Contains(r.url, "://") {
		return r, nil
	}
	known, err := e.store.remotes()
	if err != nil {
		return r, err
	}
	for _, k := range known {
		if k["name"] == r.url || r.url == "" && (k["default"] == "true" || len(known) == 1) {
			r.url = k["url"]
			return r, nil
		}
	}
	if r.url == "" {
		return r, failf("no registry: add one with `registry add NAME URL`, or pass -r URL")
	}
	return r, failf("no registry is called %q", r.url)
}

func (s *store) remotes() ([]map[string]string, error) {
	list := []map[string]string{}
	data, err := os.ReadFile(filepath.Join(s.dir, "registries.json"))
	if errors.Is(err, os.ErrNotExist) {
		return list, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &list)
	}
	return list, err
}

func (s *store) setRemote(name, url string, isDefault bool) error {
	unlock, err := s.lock("lock")
	if err != nil {
		return err
	}
	defer unlock()
	list, err := s.remotes()
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(k map[string]string) bool { return k["name"] == name })
	if isDefault {
		for _, k := range list {
			delete(k, "default")
		}
	}
	if url != "" {
		k := map[string]string{"name": name, "url": url}
		if isDefault || len(list) == 0 {
			k["default"] = "true"
		}
		list = append(list, k)
	}
	return writeJSON(filepath.Join(s.dir, "registries.json"), list)
}

func (r remote) client() (*transfer.Client, error) {
	c, err := transfer.New(transfer.Config{Base: r.url, Authorize: func(req *http.Request) {
		if user, password, ok := strings.Cut(r.user, ":"); ok {
			req.SetBasicAuth(user, password)
		} else if token := os.Getenv("ANKA_REGISTRY_AUTH_TOKEN"); token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
	}})
	if err != nil {
		return nil, &ankaError{Message: err.Error(), Code: 1, Type: "UsageError", exit: 2}
	}
	return c, nil
}

// repository returns where the template is. Over the REST API a template may be
// asked for by its id as well.
func (r remote) repository(ctx context.Context, id string) (string, error) {
	name := strings.Trim(r.prefix+"/"+strings.ToLower(id), "/")
	if r.oci {
		return name, nil
	}
	list, err := registryapi.NewClient(r.url, http.DefaultClient).Templates(ctx)
	if err != nil {
		return "", failf("registry %s: %v", r.url, err)
	}
	for _, t := range list {
		if t.ID == id || t.Name == id {
			return t.Repository, nil
		}
	}
	return name, nil
}

// vmConfig is what is pushed as the configuration of a VM.
type vmConfig struct {
	Name    string `json:"name"`
	UUID    string `json:"uuid"`
	RAM     string `json:"ram"`
	CPU     cores  `json:"cpu"`
	Disk    string `json:"disk"`
	Network string `json:"network"`
	Ports   []port `json:"ports"`
	Drives  []any  `json:"hard_drives"`
}

type cores struct {
	Cores int `json:"cores"`
}

func (e *env) pull(ctx context.Context, r remote, o options) (any, error) {
	if len(o.args) == 0 {
		return nil, &ankaError{Message: "pull NAME", Type: "UsageError", exit: 2}
	}
	tag := o.value("tag")
	if tag == "" {
		tag = "latest"
	}
	c, err := r.client()
	if err != nil {
		return nil, err
	}
	repo, err := r.repository(ctx, o.args[0])
	if err != nil {
		return nil, err
	}
	if o.has("check-download-size") {
		return e.downloadSize(ctx, c, repo, tag)
	}
	// One pull of a repository at a time; another waits and then finds all there.
	staging := filepath.Join("pulls", digest.FromString(repo).Encoded()[:16])
	unlock, err := e.store.lock(staging + ".lock")
	if err != nil {
		return nil, err
	}
	defer unlock()
	dir := filepath.Join(e.store.dir, staging)
	for {
		pulled, err := c.Pull(ctx, repo, tag, dir, transfer.PullOptions{Have: e.store.have, Report: e.reporter(o)})
		if err != nil {
			return nil, pullError(repo, tag, err)
		}
		v, err := e.adopt(o, tag, pulled)
		if errors.Is(err, errLayerGone) {
			continue // a delete took a layer that we had counted on
		}
		if err != nil {
			return nil, err
		}
		if err := os.RemoveAll(dir); err != nil {
			return nil, err
		}
		if unknown("pull-mute") {
			return nil, nil
		}
		return map[string]any{"uuid": v.UUID, "name": v.Name}, nil
	}
}

func pullError(repo, tag string, err error) error {
	if errors.Is(err, transfer.ErrNotFound) {
		return notFound(repo + ":" + tag)
	}
	return failf("pull %s:%s: %v", repo, tag, err)
}

// have returns the path of a layer that is here already.
func (s *store) have(d ocispec.Descriptor) string {
	path := s.layerPath(d.Digest)
	if info, err := os.Stat(path); err == nil && info.Size() == d.Size {
		return path
	}
	return ""
}

func (e *env) downloadSize(ctx context.Context, c *transfer.Client, repo, tag string) (any, error) {
	m, err := c.Manifest(ctx, repo, tag)
	if err != nil {
		return nil, pullError(repo, tag, err)
	}
	var im ocispec.Manifest
	if err := json.Unmarshal(m.Raw, &im); err != nil {
		return nil, err
	}
	var size, cached int64
	for _, l := range im.Layers {
		size += l.Size
		if e.store.have(l) != "" {
			cached += l.Size
		}
	}
	if cached == size {
		return map[string]any{}, nil // it is here
	}
	return map[string]any{"size": size, "cached": cached, "available": int64(1) << 40}, nil
}

var errLayerGone = errors.New("layer is gone")

// adopt makes the pulled image a tag of a local template. Until the record is
// written nothing of the pull counts.
func (e *env) adopt(o options, tag string, p transfer.Pulled) (*vm, error) {
	var cfg vmConfig
	if err := json.Unmarshal(p.Config, &cfg); err != nil {
		return nil, failf("the image is not that of a VM: %v", err)
	}
	if cfg.UUID == "" || unknown("no-uuid") {
		// Of the same name there may be an earlier tag; it keeps its id.
		cfg.Name, cfg.UUID = o.args[0], uuid.NewString()
	}
	unlock, err := e.store.lock("lock")
	if err != nil {
		return nil, err
	}
	defer unlock()
	im := &image{Digest: p.Digest.String(), Description: p.Manifest.Annotations[ocispec.AnnotationDescription]}
	for _, f := range p.Files {
		to := e.store.layerPath(f.Descriptor.Digest)
		if f.Path != to {
			if err := os.Rename(f.Path, to); err != nil && e.store.have(f.Descriptor) == "" {
				return nil, err
			}
		}
		if e.store.have(f.Descriptor) == "" {
			return nil, errLayerGone
		}
		im.Layers = append(im.Layers, layer{Name: f.Name, Digest: f.Descriptor.Digest, Size: f.Descriptor.Size})
	}
	v, err := e.store.find(cfg.UUID)
	if err != nil { // tags of one template may have been pushed from several VMs
		v, err = e.store.find(cfg.Name)
	}
	switch {
	case err != nil:
		v = &vm{UUID: cfg.UUID, Name: cfg.Name, Created: now(), MAC: newMAC()}
	case len(v.Tags) == 0 && !v.Pulled && v.UUID != cfg.UUID:
		return nil, &ankaError{Message: "VM name " + cfg.Name + " is taken", Code: 18, Type: "VMNameTakenException"}
	}
	v.CPU, v.RAM, v.Disk, v.Network, v.Ports = max(cfg.CPU.Cores, 1), cfg.RAM, cfg.Disk, cfg.Network, cfg.Ports
	if v.Tags == nil || o.has("shrink") {
		v.Tags = make(map[string]*image)
	}
	v.Tags[tag], v.Pulled = im, true
	if !o.has("fetch-only") || v.Version == "" {
		v.Version, v.Image = tag, *im
	}
	return v, e.store.save(v)
}

// push stores the VM, with a new layer for what changed in it, under a tag.
func (e *env) push(ctx context.Context, r remote, o options) (any, error) {
	tag := o.value("tag")
	if tag == "" {
		return nil, &ankaError{Message: "push needs a tag: -t TAG", Type: "UsageError", exit: 2}
	}
	v, im, err := e.commit(o, tag)
	if err != nil {
		return nil, err
	}
	name, id := v.Name, v.UUID
	if n := o.value("remote-vm"); n != "" {
		name = n
		// A template of its own, with an id that does not change from push to push.
		id = stableUUID(r.prefix + "/" + n)
		if t, err := e.store.find(n); err == nil {
			id = t.UUID
		}
	}
	c, err := r.client()
	if err != nil {
		return nil, err
	}
	repo := strings.Trim(r.prefix+"/"+strings.ToLower(name), "/")
	if !o.has("force") {
		if m, err := c.Manifest(ctx, repo, tag); err == nil && m.Digest.String() != im.Digest {
			return nil, failf("tag %s of %s exists in the registry: use --force to replace it", tag, name)
		} else if err != nil && !errors.Is(err, transfer.ErrNotFound) {
			return nil, failf("push %s:%s: %v", repo, tag, err)
		}
	}
	if unknown("no-uuid") {
		id = ""
	}
	config, err := json.Marshal(vmConfig{Name: name, UUID: id, RAM: v.RAM, CPU: cores{v.CPU}, Disk: v.Disk, Network: v.Network, Ports: v.Ports,
		Drives: []any{map[string]any{"pci_slot": 4, "controller": "virtio-blk", "file": im.Layers[0].Name}}})
	if err != nil {
		return nil, err
	}
	img := transfer.Image{Config: config, Description: im.Description}
	for _, l := range im.Layers {
		img.Files = append(img.Files, transfer.File{Name: l.Name, Path: e.store.layerPath(l.Digest), Digest: l.Digest})
	}
	opts := transfer.PushOptions{Report: e.reporter(o)}
	if tag != "latest" {
		opts.Aliases = []string{"latest"}
	}
	pushed, err := c.Push(ctx, repo, tag, img, opts)
	if err != nil {
		return nil, failf("push %s:%s: %v", repo, tag, err)
	}
	err = e.store.update(v, func(v *vm) {
		if t := v.Tags[tag]; t != nil {
			t.Digest = pushed.Digest.String()
		}
	})
	return map[string]any{"uuid": id, "name": name, "version": tag}, err
}

func (e *env) commitLocally(o options) (any, error) {
	tag := o.value("tag")
	if tag == "" {
		return nil, &ankaError{Message: "push needs a tag: -t TAG", Type: "UsageError", exit: 2}
	}
	v, _, err := e.commit(o, tag)
	if err != nil {
		return nil, err
	}
	return map[string]any{"uuid": v.UUID, "name": v.Name, "version": tag}, nil
}

// commit gives the VM's present state the tag. An unchanged one keeps its
// layers, so that pushing a tag twice is the same push.
func (e *env) commit(o options, tag string) (*vm, *image, error) {
	unlock, err := e.store.lock("lock")
	if err != nil {
		return nil, nil, err
	}
	defer unlock()
	v, err := e.one(o)
	if err != nil {
		return nil, nil, err
	}
	if e.store.running(v) {
		return nil, nil, failf("VM %s is running: suspend or stop it before a push", v.Name)
	}
	if im := v.Tags[tag]; im != nil && v.Version == tag {
		return v, im, nil
	}
	im := v.Image
	if d := o.value("description"); d != "" {
		im.Description = d
	}
	im.Digest = ""
	files, err := os.ReadDir(e.store.rootDir(v))
	if err != nil {
		return nil, nil, err
	}
	if len(files) > 0 || len(im.Layers) == 0 {
		l, err := e.store.pack(v)
		if err != nil {
			return nil, nil, err
		}
		im.Layers = append([]layer{l}, im.Layers...)
	}
	if v.Tags == nil {
		v.Tags = make(map[string]*image)
	}
	v.Tags[tag], v.Version, v.Image = &im, tag, im
	return v, &im, e.store.save(v)
}

// reporter prints progress for people.
func (e *env) reporter(o options) func(transfer.Progress) {
	if o.has("quiet") {
		return nil
	}
	if e.machine && unknown("progress") {
		return func(p transfer.Progress) {
			if p.Total > 0 {
				fmt.Printf("{\"p\":%.2f}\n", float64(p.Done)/float64(p.Total))
			}
		}
	}
	last := int64(-1)
	return func(p transfer.Progress) {
		percent := int64(100)
		if p.Total > 0 {
			percent = p.Done * 100 / p.Total
		}
		if percent != last {
			last = percent
			fmt.Fprintf(os.Stderr, "%3d%% of %d bytes\n", percent, p.Total)
		}
	}
}
