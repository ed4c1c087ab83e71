package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ankacluster/ankacluster/test/fakefault"
)

// store is the directory of one fake Mac.
type store struct {
	home    string
	vmFault string // what the VM to be started is to suffer
}

func openStore() (*store, error) {
	home := os.Getenv("TART_HOME")
	if home == "" {
		user, err := os.UserHomeDir()
		if err != nil {
			return nil, err
		}
		home = filepath.Join(user, ".tart")
	}
	home, err := filepath.Abs(home)
	if err != nil {
		return nil, err
	}
	for _, d := range []string{"vms", "cache/OCIs", "tmp"} {
		if err := os.MkdirAll(filepath.Join(home, d), 0o755); err != nil {
			return nil, failf("TART_HOME is invalid: %v", err)
		}
	}
	return &store{home: home}, nil
}

// lock takes the lock on the whole directory, as the real command does where it
// looks at several VMs.
func (s *store) lock() (func(), error) { return flock(s.home) }

func flock(dir string) (func(), error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	return fakefault.Flock(f)
}

// vm is the directory of a VM or an image.
type vm struct{ dir string }

func (s *store) local(name string) vm { return vm{filepath.Join(s.home, "vms", name)} }

func (v vm) path(name string) string { return filepath.Join(v.dir, name) }
func (v vm) name() string            { return filepath.Base(v.dir) }

// The files that make a VM.
var vmFiles = []string{"config.json", "disk.img", "nvram.bin"}

const (
	stateFile  = "state.vzvmsave" // the memory of a suspended VM
	sizeFile   = "disk.size"      // ours: the disk's nominal size in GB
	usedFile   = "disk.used"      // ours: how much of that the guest's file system has
	bootedFile = "booted"         // ours: the guest has booted
)

func (v vm) whole() bool {
	return !slices.ContainsFunc(vmFiles, func(n string) bool {
		_, err := os.Stat(v.path(n))
		return err != nil
	})
}

// open returns a VM or image that must be there.
func (s *store) open(name string) (vm, error) {
	v := s.local(name)
	if r, ok := parseRemote(name); ok {
		v = s.image(r)
	}
	return v, s.check(v, name)
}

// openLocal is open for commands that know local VMs only.
func (s *store) openLocal(name string) (vm, error) {
	v := s.local(name)
	return v, s.check(v, name)
}

// load is openLocal with the VM's configuration.
func (s *store) load(name string) (vm, config, error) {
	v, err := s.openLocal(name)
	if err != nil {
		return v, config{}, err
	}
	c, err := v.config()
	return v, c, err
}

func (s *store) check(v vm, name string) error {
	if _, err := os.Stat(v.dir); err != nil {
		return missing(name)
	}
	if !v.whole() {
		return failf("VM is missing some of its files (config.json, disk.img or nvram.bin)")
	}
	now := time.Now()
	return os.Chtimes(v.dir, now, time.Time{})
}

// config is a VM's config.json, which is also pushed.
type config struct {
	Version       int     `json:"version"`
	OS            string  `json:"os"`
	Arch          string  `json:"arch"`
	CPUCountMin   int     `json:"cpuCountMin"`
	CPUCount      int     `json:"cpuCount"`
	MemorySizeMin uint64  `json:"memorySizeMin"`
	MemorySize    uint64  `json:"memorySize"`
	MACAddress    string  `json:"macAddress"`
	Display       display `json:"display"`
	DiskFormat    string  `json:"diskFormat"`
	ECID          string  `json:"ecid,omitempty"`
	HardwareModel string  `json:"hardwareModel,omitempty"`
}

type display struct {
	Width  int `json:"width"`
	Height int `json:"height"`
}

func (v vm) config() (config, error) {
	var c config
	data, err := os.ReadFile(v.path("config.json"))
	if err == nil {
		err = json.Unmarshal(data, &c)
	}
	return c, err
}

// save writes config.json in place: its inode is what a running VM has locked.
func (v vm) save(c config) error {
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(v.path("config.json"), data, 0o644)
}

// pid returns the process that runs the VM, 0 for none.
func (v vm) pid() int {
	f, err := os.OpenFile(v.path("config.json"), os.O_RDWR, 0)
	if err != nil {
		return 0
	}
	defer f.Close()
	lk := syscall.Flock_t{Type: syscall.F_RDLCK, Whence: io.SeekStart}
	if err := syscall.FcntlFlock(f.Fd(), syscall.F_GETLK, &lk); err != nil || lk.Type == syscall.F_UNLCK {
		return 0
	}
	return int(lk.Pid)
}

// take locks the VM for this process, for as long as it lives or the file is
// open; it reports false when the VM is another's. Until then this process must
// not close another descriptor of the file: that would end the lock.
func (v vm) take() (*os.File, bool, error) {
	f, err := os.OpenFile(v.path("config.json"), os.O_RDWR, 0)
	if err != nil {
		return nil, false, err
	}
	lk := syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart}
	err = syscall.FcntlFlock(f.Fd(), syscall.F_SETLK, &lk)
	if err == nil {
		return f, true, nil
	}
	f.Close()
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) {
		return nil, false, nil
	}
	return nil, false, err
}

func (v vm) state() string {
	if v.pid() != 0 {
		return "running"
	}
	if _, err := os.Stat(v.path(stateFile)); err == nil {
		return "suspended"
	}
	return "stopped"
}

// diskGB is the nominal size of the disk.
func (v vm) diskGB() int { return v.gigabytes(sizeFile) }

func (v vm) gigabytes(file string) int {
	if data, err := os.ReadFile(v.path(file)); err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(data))); err == nil {
			return n
		}
	}
	return int(v.bytes() / 1e9)
}

func (v vm) bytes() int64 {
	var n int64
	for _, name := range vmFiles {
		if info, err := os.Stat(v.path(name)); err == nil {
			n += info.Size()
		}
	}
	return n
}

// localVMs returns the local VMs by name.
func (s *store) localVMs() ([]vm, error) {
	dirs, err := os.ReadDir(filepath.Join(s.home, "vms"))
	if err != nil {
		return nil, err
	}
	var vms []vm
	for _, d := range dirs {
		if v := s.local(d.Name()); v.whole() {
			vms = append(vms, v)
		}
	}
	return vms, nil
}

// temporary makes an empty directory that no command knows, and locks it: what
// nobody holds the next command removes. release removes it where it was not moved.
func (s *store) temporary() (v vm, release func(), err error) {
	for {
		dir, err := os.MkdirTemp(filepath.Join(s.home, "tmp"), "vm-")
		if err != nil {
			return vm{}, nil, err
		}
		f, err := os.Open(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue // another command took it for what was left
		}
		if err != nil {
			return vm{}, nil, err
		}
		unlock, err := fakefault.Flock(f)
		if err != nil {
			return vm{}, nil, err
		}
		if _, err := os.Stat(dir); err == nil {
			return vm{dir}, func() { _ = os.RemoveAll(dir); unlock() }, nil
		}
		unlock()
	}
}

// discardPulls removes what killed pulls and clones left: those at work hold a lock.
func (s *store) discardPulls() {
	entries, err := os.ReadDir(filepath.Join(s.home, "tmp"))
	if err != nil {
		return
	}
	for _, e := range entries {
		path := filepath.Join(s.home, "tmp", e.Name())
		f, err := os.Open(path)
		if err != nil {
			continue // gone meanwhile
		}
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			_ = os.RemoveAll(path) // or the next command does
		}
		f.Close()
	}
}

// move gives a directory its place, whatever was there before.
func (v vm) move(to vm) error {
	if err := os.MkdirAll(filepath.Dir(to.dir), 0o755); err != nil {
		return err
	}
	if err := os.RemoveAll(to.dir); err != nil {
		return err
	}
	return os.Rename(v.dir, to.dir)
}

// remoteName is host/namespace:tag or host/namespace@sha256:...
type remoteName struct{ host, namespace, reference string }

var remotePattern = regexp.MustCompile(`^([A-Za-z0-9]+(?:[.-][A-Za-z0-9]+)*(?::[0-9]+)?)/((?:(?:[A-Za-z0-9]+[._-]?)+/)*(?:[A-Za-z0-9]+[._-]?)+)(?::([A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*)|@(sha256:[0-9a-f]{64}))?$`)

func parseRemote(name string) (remoteName, bool) {
	m := remotePattern.FindStringSubmatch(name)
	if m == nil {
		return remoteName{}, false
	}
	r := remoteName{m[1], m[2], m[3] + m[4]}
	if r.reference == "" {
		r.reference = "latest"
	}
	return r, true
}

func (r remoteName) String() string {
	if strings.HasPrefix(r.reference, "sha256:") {
		return r.host + "/" + r.namespace + "@" + r.reference
	}
	return r.host + "/" + r.namespace + ":" + r.reference
}

func (s *store) images() string { return filepath.Join(s.home, "cache", "OCIs") }

func (s *store) hostDir(host string) string {
	return filepath.Join(s.images(), strings.ReplaceAll(host, ":", "%3A"))
}

func (s *store) image(r remoteName) vm {
	return vm{filepath.Join(s.hostDir(r.host), r.namespace, r.reference)}
}

// listed is an image with its name.
type listed struct {
	name string
	vm   vm
	link bool
}

func (s *store) listImages() ([]listed, error) {
	var found []listed
	err := filepath.WalkDir(s.images(), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // gone meanwhile
		}
		v := vm{path}
		if !v.whole() {
			return nil
		}
		rel, err := filepath.Rel(s.images(), path)
		if err != nil {
			return err
		}
		link := d.Type()&fs.ModeSymlink != 0
		join := "@"
		if link {
			join = ":"
		}
		name, err := url.PathUnescape(filepath.Dir(rel) + join + filepath.Base(rel))
		if err != nil {
			return err
		}
		found = append(found, listed{name, v, link})
		return nil
	})
	return found, err
}

// link makes a tag of an image, and collects what no tag shows any more.
func (s *store) link(from, to remoteName) error {
	path := s.image(from).dir
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Symlink(s.image(to).dir, path); err != nil {
		return err
	}
	return s.collect()
}

func (s *store) collect() error {
	list, err := s.listImages()
	if err != nil {
		return err
	}
	used := make(map[string]bool)
	for _, l := range list {
		if target, err := os.Readlink(l.vm.dir); l.link && err == nil {
			used[target] = true
		}
	}
	for _, l := range list {
		if !l.link && !used[l.vm.dir] {
			if err := os.RemoveAll(l.vm.dir); err != nil {
				return err
			}
		}
	}
	return nil
}

func newMAC() string {
	b := make([]byte, 6)
	_, _ = rand.Read(b) // never fails
	b[0] = b[0]&0xfc | 2
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3], b[4], b[5])
}
