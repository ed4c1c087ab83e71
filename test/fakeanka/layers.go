package main

import (
	"archive/tar"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/opencontainers/go-digest"
)

// createVM makes a template whose layers are random bytes: nothing about them
// compresses or is shared by chance.
func createVM(_ context.Context, e *env, o options) (any, error) {
	if len(o.args) != 1 {
		return nil, &ankaError{Message: "create NAME [--size 64M] [--layers 2] [-t TAG] [--uuid UUID]", Type: "UsageError", exit: 2}
	}
	size, layers := int64(1<<20), 1
	if s := o.value("size"); s != "" {
		var err error
		if size, err = parseSize(s); err != nil {
			return nil, err
		}
	}
	if s := o.value("layers"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > 100 {
			return nil, failf("--layers %q: must be a number from 1 to 100", s)
		}
		layers = n
	}
	id := o.value("uuid")
	if id == "" {
		id = uuid.NewString()
	}
	var im image
	for range layers {
		l, err := e.store.newLayer(func(w io.Writer) error {
			_, err := io.CopyN(w, rand.Reader, size/int64(layers))
			return err
		})
		if err != nil {
			return nil, err
		}
		im.Layers = append(im.Layers, l)
	}
	unlock, err := e.store.lock("lock")
	if err != nil {
		return nil, err
	}
	defer unlock()
	if _, err := e.store.find(o.args[0]); err == nil {
		return nil, &ankaError{Message: "VM name " + o.args[0] + " is taken", Code: 18, Type: "VMNameTakenException"}
	}
	v := &vm{UUID: id, Name: o.args[0], Image: im, Created: now(), CPU: 4, RAM: "4G", Disk: "128G", MAC: newMAC(), Network: "shared",
		Ports: []port{{Name: "ssh", Guest: 22, Protocol: "tcp"}}}
	if tag := o.value("tag"); tag != "" {
		v.Version, v.Tags = tag, map[string]*image{tag: &im}
	}
	if err := e.store.save(v); err != nil {
		return nil, err
	}
	return map[string]any{"uuid": v.UUID, "name": v.Name}, nil
}

func parseSize(s string) (int64, error) {
	shift := 0
	switch {
	case strings.HasSuffix(s, "G"):
		shift = 30
	case strings.HasSuffix(s, "M"):
		shift = 20
	case strings.HasSuffix(s, "K"):
		shift = 10
	}
	n, err := strconv.ParseInt(strings.TrimRight(s, "GMK"), 10, 64)
	if err != nil || n < 1 {
		return 0, failf("size %q: must be like 64M", s)
	}
	return n << shift, nil
}

// newLayer stores what write writes as a layer with a new name.
func (s *store) newLayer(write func(io.Writer) error) (layer, error) {
	tmp, err := os.CreateTemp(filepath.Join(s.dir, "layers"), ".new-*")
	if err != nil {
		return layer{}, err
	}
	defer os.Remove(tmp.Name())
	d := digest.Canonical.Digester()
	if err := errors.Join(write(io.MultiWriter(tmp, d.Hash())), tmp.Close()); err != nil {
		return layer{}, err
	}
	info, err := os.Stat(tmp.Name())
	if err != nil {
		return layer{}, err
	}
	name := make([]byte, 16)
	_, _ = rand.Read(name) // never fails
	l := layer{Name: hex.EncodeToString(name) + ".ank", Digest: d.Digest(), Size: info.Size()}
	return l, os.Rename(tmp.Name(), s.layerPath(l.Digest))
}

// complete returns an error unless every layer is there with its size: a half
// template does not start.
func (s *store) complete(im *image) error {
	for _, l := range im.Layers {
		info, err := os.Stat(s.layerPath(l.Digest))
		if err != nil || info.Size() != l.Size {
			return failf("layer %s is missing or damaged", l.Name)
		}
	}
	return nil
}

// pack stores the VM's directory as a layer.
func (s *store) pack(v *vm) (layer, error) {
	return s.newLayer(func(w io.Writer) error {
		t := tar.NewWriter(w)
		if err := t.AddFS(os.DirFS(s.rootDir(v))); err != nil {
			return err
		}
		return t.Close()
	})
}

// unpack fills the VM's directory from those of the layers that are archives,
// the oldest first.
func (s *store) unpack(v *vm, im *image) error {
	for i := len(im.Layers) - 1; i >= 0; i-- {
		if err := s.unpackLayer(v, im.Layers[i]); err != nil {
			return fmt.Errorf("layer %s: %w", im.Layers[i].Name, err)
		}
	}
	return nil
}

func (s *store) unpackLayer(v *vm, l layer) error {
	f, err := os.Open(s.layerPath(l.Digest))
	if err != nil {
		return err
	}
	defer f.Close()
	magic := make([]byte, 5)
	if _, err := f.ReadAt(magic, 257); err != nil || string(magic) != "ustar" {
		return nil
	}
	root, err := os.OpenRoot(s.rootDir(v)) // names come from a registry
	if err != nil {
		return err
	}
	defer root.Close()
	for t := tar.NewReader(f); ; {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := unpackEntry(root, h, t); err != nil {
			return err
		}
	}
}

func unpackEntry(root *os.Root, h *tar.Header, body io.Reader) error {
	switch h.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(filepath.Clean(h.Name), 0o755)
	case tar.TypeReg:
		if err := root.MkdirAll(filepath.Dir(filepath.Clean(h.Name)), 0o755); err != nil {
			return err
		}
		out, err := root.OpenFile(filepath.Clean(h.Name), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, os.FileMode(h.Mode)&0o777)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, body)
		return errors.Join(err, out.Close())
	}
	return nil // links and devices are of no use here
}
