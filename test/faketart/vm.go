package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// create makes a VM whose disk is random bytes: nothing about it compresses or is
// shared by chance.
func create(_ context.Context, s *store, o options) error {
	name := o.args[0]
	if strings.Contains(name, "/") {
		return &validationError{"<name> should be a local name", "create <name>"}
	}
	if !o.has("linux") && !o.has("from-ipsw") {
		return &validationError{"Please specify either a --from-ipsw or --linux option!", "create <name>"}
	}
	size, err := parseSize(cmp.Or(os.Getenv("FAKETART_DISK_BYTES"), "1M"))
	if err != nil {
		return err
	}
	v, release, err := s.temporary()
	if err != nil {
		return err
	}
	defer release()
	for file, n := range map[string]int64{"disk.img": size, "nvram.bin": 4096} {
		f, err := os.Create(v.path(file))
		if err != nil {
			return err
		}
		_, err = io.CopyN(f, rand.Reader, n)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	c := config{Version: 1, OS: "darwin", Arch: runtime.GOARCH, CPUCountMin: 2, CPUCount: 4, MemorySizeMin: 2 << 30, MemorySize: 4 << 30,
		MACAddress: newMAC(), Display: display{1024, 768}, DiskFormat: "raw", ECID: "ZWNpZA==", HardwareModel: "bW9kZWw="}
	if o.has("linux") {
		c.OS, c.ECID, c.HardwareModel, c.MemorySizeMin = "linux", "", "", 512<<20
	}
	gb := []byte(cmp.Or(o.value("disk-size"), "50"))
	if err := errors.Join(v.save(c), os.WriteFile(v.path(sizeFile), gb, 0o644), os.WriteFile(v.path(usedFile), gb, 0o644)); err != nil {
		return err
	}
	return v.move(s.local(name))
}

func parseSize(s string) (int64, error) {
	shift := strings.Index("  K M G", strings.TrimLeft(s, "0123456789")) / 2 * 10
	n, err := strconv.ParseInt(strings.TrimRight(s, "GMK"), 10, 64)
	if err != nil || n < 1 || shift < 0 {
		return 0, failf("size %q: must be like 64M", s)
	}
	return n << shift, nil
}

// clone makes a local VM. As with the real command, one of that name is replaced.
func clone(ctx context.Context, s *store, o options) error {
	source, name := o.args[0], o.args[1]
	if strings.Contains(name, "/") {
		return &validationError{"<new-name> should be a local name", "clone <source-name> <new-name>"}
	}
	if r, ok := parseRemote(source); ok && !s.image(r).whole() {
		if err := s.pull(ctx, r, o.has("insecure")); err != nil {
			return err
		}
	}
	from, err := s.open(source)
	if err != nil {
		return err
	}
	to, release, err := s.temporary()
	if err != nil {
		return err
	}
	defer release()
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	for _, file := range append([]string{stateFile, sizeFile, usedFile}, vmFiles...) {
		if err := copyFile(from.path(file), to.path(file)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	c, err := to.config()
	if err != nil {
		return err
	}
	taken, err := s.anyHasMAC(c.MACAddress, false, "")
	if err != nil {
		return err
	}
	if taken && from.state() != "suspended" {
		c.MACAddress = newMAC()
		_ = os.Remove(to.path(stateFile))
		if err := to.save(c); err != nil {
			return err
		}
	}
	return to.move(s.local(name))
}

func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}

// anyHasMAC reports whether a local VM but the one named has the address.
func (s *store) anyHasMAC(mac string, running bool, but string) (bool, error) {
	vms, err := s.localVMs()
	if err != nil {
		return false, err
	}
	for _, v := range vms {
		if c, err := v.config(); err == nil && c.MACAddress == mac && v.name() != but && (!running || v.pid() != 0) {
			return true, nil
		}
	}
	return false, nil
}

// info is an entry of list, in the order of the real command.
type info struct {
	Source   string
	Name     string
	Disk     int
	Size     int
	Accessed string
	Running  bool
	State    string
}

func list(_ context.Context, s *store, o options) error {
	source := o.value("source")
	if source != "" && source != "local" && source != "oci" {
		return &validationError{fmt.Sprintf("'%s' is not a valid <source>", source), "list"}
	}
	infos := []info{}
	add := func(source, name string, v vm) {
		accessed := time.Now()
		if st, err := os.Stat(v.dir); err == nil {
			accessed = st.ModTime()
		}
		state := v.state()
		infos = append(infos, info{source, name, v.diskGB(), int(v.bytes() / 1e9), accessed.UTC().Format("2006-01-02T15:04:05Z"), state == "running", state})
	}
	if source != "oci" {
		vms, err := s.localVMs()
		if err != nil {
			return err
		}
		for _, v := range vms {
			add("local", v.name(), v)
		}
	}
	if source != "local" {
		images, err := s.listImages()
		if err != nil {
			return err
		}
		for _, l := range images {
			add("OCI", l.name, l.vm)
		}
	}
	switch {
	case o.has("quiet"):
		for _, i := range infos {
			fmt.Println(i.Name)
		}
		return nil
	case o.value("format") == "json":
		return printJSON(infos)
	}
	if len(infos) > 0 {
		fmt.Println("Source Name Disk Size Accessed State")
	}
	for _, i := range infos {
		fmt.Println(i.Source, i.Name, i.Disk, i.Size, i.Accessed, i.State)
	}
	return nil
}

func get(_ context.Context, s *store, o options) error {
	v, c, err := s.load(o.args[0])
	if err != nil {
		return err
	}
	state := v.state()
	out := struct {
		OS         string
		CPU        int
		Memory     uint64
		Disk       int
		DiskFormat string
		Size       string
		Display    string
		Running    bool
		State      string
	}{c.OS, c.CPUCount, c.MemorySize >> 20, v.diskGB(), c.DiskFormat, fmt.Sprintf("%.3f", float64(v.bytes())/1e9),
		fmt.Sprintf("%dx%d", c.Display.Width, c.Display.Height), state == "running", state}
	if o.value("format") == "json" {
		return printJSON(out)
	}
	_, err = fmt.Printf("OS CPU Memory Disk Size Display State\n%s %d %d %d %s %s %s\n", out.OS, out.CPU, out.Memory, out.Disk, out.Size, out.Display, out.State)
	return err
}

func set(_ context.Context, s *store, o options) error {
	v, c, err := s.load(o.args[0])
	if err != nil {
		return err
	}
	number := func(flag string, bits int) (int, error) {
		n, err := strconv.ParseUint(o.value(flag), 10, bits)
		if err != nil {
			return 0, &validationError{fmt.Sprintf("The value '%s' is invalid for '--%s <%s>'", o.value(flag), flag, flag), "set <name>"}
		}
		return int(n), nil
	}
	if o.has("cpu") {
		if c.CPUCount, err = number("cpu", 16); err != nil {
			return err
		}
		if c.OS == "darwin" && c.CPUCount < c.CPUCountMin {
			return fmt.Errorf("LessThanMinimalResourcesError: VM should have %d CPU cores at minimum (requested %d)", c.CPUCountMin, c.CPUCount)
		}
	}
	if o.has("memory") {
		mb, err := number("memory", 32)
		if err != nil {
			return err
		}
		if c.MemorySize = uint64(mb) << 20; c.OS == "darwin" && c.MemorySize < c.MemorySizeMin {
			return fmt.Errorf("LessThanMinimalResourcesError: VM should have %d bytes of memory at minimum (requested %d)", c.MemorySizeMin, c.MemorySize)
		}
	}
	if o.has("random-mac") {
		c.MACAddress = newMAC()
	}
	if err := v.save(c); err != nil || !o.has("disk-size") {
		return err
	}
	gb, err := number("disk-size", 16)
	if err != nil {
		return err
	}
	if have := v.diskGB(); gb < have {
		return failf("new disk size of %d GB should be larger than the current disk size of %d GB", gb, have)
	}
	return os.WriteFile(v.path(sizeFile), []byte(strconv.Itoa(gb)), 0o644)
}

// ip answers from the host's leases, whether the guest has booted or not. The agent
// in the guest is not asked.
func ip(ctx context.Context, s *store, o options) error {
	v, c, err := s.load(o.args[0])
	if err != nil {
		return err
	}
	wait, _ := strconv.Atoi(o.value("wait"))
	for deadline := time.Now().Add(time.Duration(wait) * time.Second); ; {
		address, err := s.address(c.MACAddress)
		if err != nil {
			return err
		}
		if address != "" {
			_, err := fmt.Println(address)
			return err
		}
		if !time.Now().Before(deadline) {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	message := "no IP address found"
	if v.pid() == 0 {
		message += ", is your VM running?"
	}
	return failf("%s", message)
}

func stop(ctx context.Context, s *store, o options) error {
	name := o.args[0]
	v, err := s.openLocal(name)
	if err != nil {
		return err
	}
	seconds := 30
	if t := o.value("timeout"); t != "" {
		if seconds, err = strconv.Atoi(t); err != nil {
			return &validationError{fmt.Sprintf("The value '%s' is invalid for '--timeout <timeout>'", t), "stop <name>"}
		}
	}
	pid := v.pid()
	if pid == 0 {
		if v.state() == "suspended" {
			return os.Remove(v.path(stateFile))
		}
		return notRunning(name)
	}
	_ = syscall.Kill(pid, syscall.SIGINT) // it may have ended by itself
	for range seconds * 10 {
		if pid = v.pid(); pid == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return failf("failed to forcefully terminate the VM %q: %v", name, err)
	}
	return nil // without waiting for its end
}

func suspend(_ context.Context, s *store, o options) error {
	v, err := s.openLocal(o.args[0])
	if err != nil {
		return err
	}
	pid := v.pid()
	if pid == 0 {
		return notRunning(o.args[0])
	}
	return syscall.Kill(pid, syscall.SIGUSR1)
}

func remove(_ context.Context, s *store, o options) error {
	for _, name := range o.args {
		if r, ok := parseRemote(name); ok {
			if err := os.Remove(s.image(r).dir); err != nil {
				if errors.Is(err, os.ErrNotExist) {
					return missing(name)
				}
				if err := os.RemoveAll(s.image(r).dir); err != nil { // by digest: a directory
					return err
				}
			}
			if err := s.collect(); err != nil {
				return err
			}
			continue
		}
		v := s.local(name)
		f, free, err := v.take()
		if errors.Is(err, os.ErrNotExist) {
			return missing(name)
		}
		if err != nil {
			return err
		}
		if !free {
			return failf("VM %q is running", name)
		}
		err = os.RemoveAll(v.dir)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

func rename(_ context.Context, s *store, o options) error {
	from, to := s.local(o.args[0]), s.local(o.args[1])
	if strings.Contains(o.args[1], "/") {
		return &validationError{"<new-name> should be a local name", "rename <name> <new-name>"}
	}
	if !from.whole() {
		return &validationError{"failed to rename a non-existent local VM: " + o.args[0], "rename <name> <new-name>"}
	}
	if to.whole() {
		return &validationError{fmt.Sprintf("failed to rename VM %s, target VM %s already exists, delete it first!", o.args[0], o.args[1]), "rename <name> <new-name>"}
	}
	return from.move(to)
}

// login checks the credentials that it is given. It keeps none: pulls and pushes
// take theirs from TART_REGISTRY_USERNAME and TART_REGISTRY_PASSWORD.
func login(ctx context.Context, _ *store, o options) error {
	if o.has("username") != o.has("password-stdin") {
		return &validationError{"both --username and --password-stdin are required", "login <host>"}
	}
	password, err := io.ReadAll(os.Stdin)
	if err != nil || o.has("no-validate") {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme(o.has("insecure"))+o.args[0]+"/v2/", nil)
	if err != nil {
		return err
	}
	req.SetBasicAuth(o.value("username"), strings.TrimRight(string(password), "\n"))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return failf("invalid credentials: %v", err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return failf("invalid credentials: %v", statusError("doing ping", resp.StatusCode))
	}
	return nil
}
