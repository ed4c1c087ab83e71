package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// imageUser runs the programs in containers, and owns /data and /tmp there.
const imageUser = 65532

// imageConfigs are the same as in deploy/compose/Dockerfile, which makes images
// for trying out a change.
var imageConfigs = map[string]v1.Config{
	"anka-controller": {
		Env:          []string{"PATH=/", "ANKA_DATA_DIR=/data"},
		ExposedPorts: ports("8090", "8089", "2379", "2380", "2112"),
	},
	"anka-registry": {
		Env:          []string{"PATH=/", "ANKA_BASE_PATH=/data", "ANKA_LISTEN_ADDR=:8089"},
		ExposedPorts: ports("8089", "2112"),
	},
}

func ports(list ...string) map[string]struct{} {
	set := make(map[string]struct{})
	for _, p := range list {
		set[p+"/tcp"] = struct{}{}
	}
	return set
}

// image writes the image of a program for all Linux platforms, as one OCI image
// layout in a tar file.
func (r *release) image(name string) error {
	var index v1.ImageIndex = mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, p := range r.platforms {
		if p.os != "linux" {
			continue
		}
		img, err := r.imageFor(p, name)
		if err != nil {
			return fmt.Errorf("image of %s for %s: %w", name, p, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: p.os, Architecture: p.arch}}})
	}
	index = mutate.Annotations(index, r.labels(name)).(v1.ImageIndex)
	dir := filepath.Join(r.work, "images", name)
	at, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	if err := at.AppendIndex(index, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": r.version})); err != nil {
		return err
	}
	return r.writeFile(fmt.Sprintf("%s_%s_oci.tar", name, r.version), func(w io.Writer) error { return r.writeFolder(w, dir) })
}

// labels are the annotations that are known to tools.
func (r *release) labels(name string) map[string]string {
	return map[string]string{
		"org.opencontainers.image.title":         name,
		"org.opencontainers.image.version":       r.version,
		"org.opencontainers.image.revision":      r.commit,
		"org.opencontainers.image.created":       r.date,
		"org.opencontainers.image.licenses":      "Apache-2.0",
		"org.opencontainers.image.source":        "https://github.com/ankacluster/ankacluster",
		"org.opencontainers.image.documentation": "https://github.com/ankacluster/ankacluster/blob/main/docs",
		"org.opencontainers.image.vendor":        "The ankacluster authors",
	}
}

func (r *release) imageFor(p platform, name string) (v1.Image, error) {
	config := imageConfigs[name]
	config.User = fmt.Sprintf("%d:%[1]d", imageUser)
	config.Entrypoint = []string{"/" + name}
	config.WorkingDir = "/"
	config.Labels = r.labels(name)
	file := &v1.ConfigFile{
		Architecture: p.arch, OS: p.os, Created: v1.Time{Time: r.time}, Config: config,
		RootFS: v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{}},
	}
	img, err := mutate.ConfigFile(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON), file)
	if err != nil {
		return nil, err
	}
	var base, program bytes.Buffer
	if err := r.baseLayer(&base); err != nil {
		return nil, err
	}
	list := []entry{{name, filepath.Join(r.binaries(p), name), 0o755}}
	if name == "anka-controller" {
		for agent, path := range r.agents() {
			list = append(list, entry{"share/ankacluster/agents/" + agent, path, agentMode(agent)})
		}
		slices.SortFunc(list, func(a, b entry) int { return strings.Compare(a.path, b.path) })
	}
	if err := r.writeTar(&program, "", list); err != nil {
		return nil, err
	}
	for _, l := range []struct {
		tar *bytes.Buffer
		by  string
	}{{&base, "folders and licences"}, {&program, "the programs"}} {
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(l.tar.Bytes())), nil }, tarball.WithMediaType(types.OCILayer))
		if err != nil {
			return nil, err
		}
		img, err = mutate.Append(img, mutate.Addendum{Layer: layer, History: v1.History{Created: v1.Time{Time: r.time}, CreatedBy: "make release", Comment: l.by}})
		if err != nil {
			return nil, err
		}
	}
	return mutate.Annotations(img, r.labels(name)).(v1.Image), nil
}

// baseLayer has the folders that the program writes to, and the licences.
func (r *release) baseLayer(w io.Writer) error {
	out := tar.NewWriter(w)
	for _, dir := range []string{"data/", "tmp/"} {
		if err := out.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755, Uid: imageUser, Gid: imageUser, ModTime: r.time, Format: tar.FormatPAX}); err != nil {
			return err
		}
	}
	if err := out.Flush(); err != nil { // the next writer goes on in the same file
		return err
	}
	return r.writeTar(w, "", []entry{
		{"usr/share/doc/ankacluster/LICENSE", filepath.Join(r.root, "LICENSE"), 0o644},
		{"usr/share/doc/ankacluster/" + filepath.Base(r.notices()), r.notices(), 0o644},
	})
}

// writeFolder writes a folder as a tar file, sorted by name.
func (r *release) writeFolder(w io.Writer, dir string) error {
	var list []entry
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		list = append(list, entry{filepath.ToSlash(name), path, 0o644})
		return err
	})
	return errors.Join(err, r.writeTar(w, "", list))
}
