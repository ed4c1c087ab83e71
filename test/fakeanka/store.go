package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/ankacluster/ankacluster/test/fakefault"
)

// store is the directory of one fake Mac. Calls run at once in any number: what
// changes or needs a consistent view holds the lock "lock", for no longer than
// file operations take; pulls and pushes move their bytes without it.
type store struct {
	dir string
}

// vm is a VM or a template; the real command does not tell them apart either.
type vm struct {
	UUID    string            `json:"uuid"`
	Name    string            `json:"name"`
	Version string            `json:"version,omitempty"` // the current tag
	Tags    map[string]*image `json:"tags,omitempty"`
	Image   image             `json:"image"` // what the VM runs on
	Created string            `json:"creation_date"`
	Stopped string            `json:"stop_date,omitempty"`
	Started string            `json:"start_date,omitempty"`
	// Suspended survives the end of the process; running is what the process says.
	Suspended bool   `json:"suspended,omitempty"`
	PID       int    `json:"pid,omitempty"`
	CPU       int    `json:"cpu"`
	RAM       string `json:"ram"`
	Disk      string `json:"disk"`
	MAC       string `json:"mac"`
	Network   string `json:"network"`
	Ports     []port `json:"ports"`
	// Custom are the variables of an Intel machine: hw.uuid and others.
	Custom map[string]string `json:"custom,omitempty"`
	Pulled bool              `json:"pulled,omitempty"` // a template from a registry
	// Failed is a VM whose start left it broken; only a forced stop helps.
	Failed bool `json:"failed,omitempty"`
}

// image is a set of layers, newest first.
type image struct {
	Digest      string  `json:"digest,omitempty"` // of the manifest, when known
	Description string  `json:"description,omitempty"`
	Layers      []layer `json:"layers"`
}

type layer struct {
	Name   string        `json:"name"`
	Digest digest.Digest `json:"digest"`
	Size   int64         `json:"size"`
}

type port struct {
	Name     string `json:"name"`
	Guest    int    `json:"guest_port"`
	Host     int    `json:"host_port,omitempty"` // 0: any
	Protocol string `json:"protocol"`
	Active   int    `json:"active,omitempty"` // the host port while the VM runs
}

func openStore() (*store, error) {
	dir := os.Getenv("FAKEANKA_DIR")
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("FAKEANKA_DIR is not set: %w", err)
		}
		dir = filepath.Join(cache, "fakeanka")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	for _, d := range []string{"vms", "layers", "pulls"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	return &store{dir: dir}, nil
}

// lock takes the named lock; the function returned gives it back. The death of
// the process does so too.
func (s *store) lock(name string) (func(), error) {
	f, err := os.OpenFile(filepath.Join(s.dir, name), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	return fakefault.Flock(f)
}

func (s *store) vmDir(uuid string) string { return filepath.Join(s.dir, "vms", uuid) }
func (s *store) rootDir(v *vm) string     { return filepath.Join(s.vmDir(v.UUID), "root") }

func (s *store) layerPath(dg digest.Digest) string {
	return filepath.Join(s.dir, "layers", dg.Encoded())
}

func (s *store) save(v *vm) error {
	if err := os.MkdirAll(s.rootDir(v), 0o755); err != nil {
		return err
	}
	return writeJSON(filepath.Join(s.vmDir(v.UUID), "vm.json"), v)
}

func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(data)
	if err := errors.Join(err, tmp.Close()); err != nil {
		os.Remove(tmp.Name())
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// all returns the VMs, oldest first. A directory without a readable vm.json is
// one that is being made or deleted.
func (s *store) all() ([]*vm, error) {
	dirs, err := os.ReadDir(filepath.Join(s.dir, "vms"))
	if err != nil {
		return nil, err
	}
	var list []*vm
	for _, d := range dirs {
		data, err := os.ReadFile(filepath.Join(s.dir, "vms", d.Name(), "vm.json"))
		if err != nil {
			continue
		}
		v := new(vm)
		if err := json.Unmarshal(data, v); err != nil {
			return nil, fmt.Errorf("vm %s: %w", d.Name(), err)
		}
		list = append(list, v)
	}
	slices.SortStableFunc(list, func(a, b *vm) int {
		return strings.Compare(a.Created+a.Name, b.Created+b.Name)
	})
	return list, nil
}

// find returns the VM with that uuid or name.
func (s *store) find(id string) (*vm, error) {
	list, err := s.all()
	if err != nil {
		return nil, err
	}
	for _, v := range list {
		if v.UUID == id || v.Name == id {
			return v, nil
		}
	}
	return nil, notFound(id)
}

// collect removes layers that no VM refers to. The lock is held.
func (s *store) collect() error {
	list, err := s.all()
	if err != nil {
		return err
	}
	used := make(map[string]bool)
	for _, v := range list {
		for _, l := range v.Image.Layers {
			used[l.Digest.Encoded()] = true
		}
		for _, im := range v.Tags {
			for _, l := range im.Layers {
				used[l.Digest.Encoded()] = true
			}
		}
	}
	files, err := os.ReadDir(filepath.Join(s.dir, "layers"))
	if err != nil {
		return err
	}
	for _, f := range files {
		if !used[f.Name()] && !strings.HasPrefix(f.Name(), ".") {
			if err := os.Remove(filepath.Join(s.dir, "layers", f.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// logCall logs a call. Credentials do not get there.
func (s *store) logCall(args []string) {
	args = slices.Clone(args)
	for i, a := range args {
		if i > 0 && slices.Contains([]string{"-u", "--user", "--api-key"}, args[i-1]) {
			args[i] = "redacted"
		}
		if strings.HasPrefix(a, "--user=") || strings.HasPrefix(a, "--api-key=") {
			args[i] = a[:strings.IndexByte(a, '=')] + "=redacted"
		}
	}
	fakefault.LogCall(s.dir, args)
}
