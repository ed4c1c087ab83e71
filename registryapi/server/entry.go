package server

import (
	"errors"
	"fmt"
	"path"

	"github.com/opencontainers/go-digest"

	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/content"
)

// readEntry reads a repository as a template. What is damaged or unfinished is
// left out with the reason, and never keeps the rest from being shown: not even
// a bug here does.
func readEntry(store content.Store, repo string) (e *entry) {
	e = &entry{Tags: store.TagsChanged(repo)}
	defer func() {
		if p := recover(); p != nil {
			e.Shown, e.Skipped = false, []string{fmt.Sprintf("panic: %v", p)}
		}
	}()
	tags, err := store.Tags(repo)
	if err != nil {
		e.Skipped = []string{err.Error()}
		return e
	}
	meta := store.Meta(repo)
	e.Created = meta.Created
	t := registryapi.Template{ID: meta.ID, Repository: repo, Name: path.Base(repo), Arch: meta.Arch}
	files := make(map[digest.Digest]int64)
	for _, tag := range withoutAlias(tags) {
		v, name, err := readVersion(store, repo, tag, files)
		if errors.Is(err, errNoVM) {
			e.Other = true
			continue
		}
		if err != nil {
			e.Skipped = append(e.Skipped, tag.Name+": "+err.Error())
			continue
		}
		v.Number = len(t.Versions)
		t.Versions = append(t.Versions, v)
		if name != "" {
			t.Name = name
		}
		if t.Arch == "" {
			t.Arch = v.Arch
		}
		t.LastPush, t.LastPull = max(t.LastPush, v.LastPush), max(t.LastPull, v.LastPull)
	}
	for _, size := range files {
		t.Size += uint64(size)
	}
	e.Template, e.Shown = t, len(t.Versions) > 0
	return e
}

// errNoVM: the tag is known to be of something else. It is served, and no template.
var errNoVM = errors.New("not a VM")

// withoutAlias leaves out a pushed "latest" that only repeats another tag.
func withoutAlias(tags []content.Tag) []content.Tag {
	var out []content.Tag
	for _, t := range tags {
		if t.Name == content.LatestTag && repeated(tags, t) {
			continue
		}
		out = append(out, t)
	}
	return out
}

func repeated(tags []content.Tag, t content.Tag) bool {
	for _, other := range tags {
		if other.Name != t.Name && other.Digest == t.Digest {
			return true
		}
	}
	return false
}

// readVersion makes a version of a tag, adds its files to files, and returns
// the VM's name too.
func readVersion(store content.Store, repo string, tag content.Tag, files map[digest.Digest]int64) (registryapi.Version, string, error) {
	v := registryapi.Version{
		Tag: tag.Name, Digest: tag.Digest.String(), Images: []string{}, StateFiles: []string{},
		CreationDate: tag.Pushed.Unix(), LastPush: tag.Pushed.Unix(), LastPull: unix(store.LastPull(repo, tag.Name)),
	}
	m, err := store.Manifest(repo, tag.Digest)
	if err != nil {
		return v, "", err
	}
	if err := content.Complete(store, repo, m); err != nil {
		return v, "", err
	}
	c, err := content.ParseManifest(m.MediaType, m.Raw)
	if err != nil {
		return v, "", err
	}
	if content.NoVM(store, repo, c) {
		return v, "", errNoVM
	}
	own := make(map[digest.Digest]int64)
	content.Sizes(store, repo, c, own)
	for d, size := range own {
		v.Size += uint64(size)
		files[d] = size
	}
	cfg, err := content.ReadConfig(store, repo, c)
	name := content.Describe(&v, c, cfg, err == nil) // an artefact that is no VM shows less
	return v, name, nil
}
