package runtimes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/agent/anka"
	"github.com/ankacluster/ankacluster/agent/command"
	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/agent/tart"
	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/content/memory"
	"github.com/ankacluster/ankacluster/registryapi/server"
	"github.com/ankacluster/ankacluster/test/fakefault"
)

// binDir holds the fakes, built once by TestMain.
var binDir string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "anka-runtimes-")
	if err == nil {
		binDir = dir
		err = build("./test/fakeanka", "./test/faketart", "./cmd/ankacluster", "./cmd/anka-controller", "./cmd/anka-registry")
	}
	code := 1
	if err != nil {
		fmt.Fprintln(os.Stderr, "build the programs under test:", err)
	} else {
		code = m.Run()
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

func build(packages ...string) error {
	cmd := exec.Command("go", append([]string{"build", "-o", binDir + "/"}, packages...)...)
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// mac is a fake Mac with one hypervisor.
type mac struct {
	t    *testing.T
	home string // of the fake
	fake string
	env  []string
	// open makes the runtime of an agent; each call is a new agent.
	open func() hypervisor.Runtime
}

// kinds are the runtimes. create makes a template in the fake's own way and
// pushes it as team/demo:TAG.
var kinds = []struct {
	name   string
	new    func(t *testing.T) *mac
	create func(m *mac, registry, tag string)
	show   string // the command that Show runs
}{
	{"anka", func(t *testing.T) *mac { return newAnka(t) }, createWithAnka, "show"},
	// What is not known of the real command, answered the other way.
	{"anka, answering otherwise", newOtherAnka, createWithAnka, "show"},
	{"anka without ids", func(t *testing.T) *mac { return newAnka(t, "FAKEANKA_UNKNOWN=no-uuid,pull-mute") }, createWithAnka, "show"},
	{"tart", func(t *testing.T) *mac { return newTart(t) }, func(m *mac, registry, tag string) {
		m.run("create", "--from-ipsw", "latest", "demo")
		m.run("push", "--insecure", "demo", strings.TrimPrefix(registry, "http://")+"/team/demo:"+tag)
		m.run("delete", "demo")
	}, "get"},
}

func createWithAnka(m *mac, registry, tag string) {
	m.run("create", "demo", "--size", "64K", "-t", tag)
	m.run("registry", "-o2", "-p", "team", "-r", registry, "push", "demo", "-t", tag)
	m.run("delete", "--yes", "demo")
}

// otherAnka are the other answers; ids, which two registries may differ in, apart.
const otherAnka = "FAKEANKA_UNKNOWN=no-uuid,one-row,port-address,start-again,no-vnc,exit-30,list-fields,progress"

func newOtherAnka(t *testing.T) *mac {
	return newAnka(t, "FAKEANKA_VERSION=3.9.0", otherAnka, "FAKEANKA_GUEST_DISK=disk4 disk0s3")
}

func newAnka(t *testing.T, env ...string) *mac {
	m := &mac{t: t, home: t.TempDir(), fake: filepath.Join(binDir, "fakeanka")}
	m.env = append(env, "FAKEANKA_DIR="+m.home)
	for _, v := range m.env {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	t.Cleanup(func() { m.run("delete", "--yes", "--all") })
	m.open = func() hypervisor.Runtime {
		timeouts := anka.DefaultTimeouts()
		cli := anka.New(m.fake, command.New(filepath.Join(m.home, "notes"), zap.NewNop(), nil), timeouts)
		cli.RememberIn(filepath.Join(m.home, "anka-images.json"))
		return cli
	}
	return m
}

func newTart(t *testing.T, env ...string) *mac {
	m := &mac{t: t, home: t.TempDir(), fake: filepath.Join(binDir, "faketart")}
	m.env = append(env, "TART_HOME="+m.home, "FAKETART_DISK_BYTES=64K", fmt.Sprint("FAKETART_CONSOLE_UID=", os.Getuid()))
	for _, v := range m.env {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	t.Cleanup(m.endTartVMs)
	dir := t.TempDir()
	m.open = func() hypervisor.Runtime {
		return tart.New(tart.Config{Path: m.fake, Home: m.home, Dir: filepath.Join(dir, "runs"), Timeouts: tart.DefaultTimeouts()},
			command.New(filepath.Join(dir, "notes"), zap.NewNop(), nil))
	}
	return m
}

// tartVM is a local VM as tart lists it.
type tartVM struct{ Name, State string }

func (m *mac) vms() []tartVM {
	m.t.Helper()
	var vms []tartVM
	check(m.t, "list", json.Unmarshal([]byte(m.run("list", "--source", "local", "--format", "json")), &vms))
	return vms
}

// endTartVMs ends what a failed test left running.
func (m *mac) endTartVMs() {
	for _, vm := range m.vms() {
		if vm.State == "running" {
			m.run("stop", "--timeout", "1", vm.Name)
		}
	}
}

// run runs the fake as a person would.
func (m *mac) run(args ...string) string {
	m.t.Helper()
	cmd := exec.Command(m.fake, args...)
	cmd.Env = append(os.Environ(), m.env...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		m.t.Fatalf("%s %v: %v\n%s%s", filepath.Base(m.fake), args, err, out, errs.String())
	}
	return string(out)
}

// faults says what is to go wrong from now on.
func (m *mac) faults(list ...fakefault.Fault) {
	m.t.Helper()
	list = append([]fakefault.Fault{}, list...) // a JSON list, also when empty
	data, err := json.Marshal(list)
	if err == nil {
		err = os.WriteFile(filepath.Join(m.home, "faults.json"), data, 0o644)
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

func newRegistry(t *testing.T) string {
	t.Helper()
	cfg := server.DefaultConfig()
	cfg.Root = t.TempDir()
	srv, err := server.New(cfg, memory.New(), nil)
	if err != nil {
		t.Fatal(err)
	}
	ts := httptest.NewServer(srv.Handler())
	t.Cleanup(ts.Close)
	return ts.URL
}

var demo = hypervisor.Image{Name: "demo", Tag: "v1", Repository: "team/demo"}

// imageID is the id under which the registry shows the template.
func imageID(t *testing.T, registry string) string {
	t.Helper()
	list, err := registryapi.NewClient(registry, http.DefaultClient).Templates(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatalf("templates: %+v, %v", list, err)
	}
	if list[0].Repository != "team/demo" || list[0].Name != "demo" {
		t.Errorf("template: %+v", list[0])
	}
	return list[0].ID
}

// The life of a VM is the same over every hypervisor.
func TestVMLivesAsPromised(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			registry := newRegistry(t)
			kind.create(kind.new(t), registry, "v1")
			img := demo
			img.ID = imageID(t, registry)
			m := kind.new(t)
			rt, ctx := m.open(), t.Context()
			from := hypervisor.Source{URL: registry, Prefix: "team"}

			v, err := rt.Version(ctx)
			check(t, "version", err)
			if v.Version == "" || !v.LicenseValid {
				t.Errorf("version: %+v", v)
			}
			none := img
			none.Tag = "none"
			if err := rt.Pull(ctx, none, from); !errors.Is(err, hypervisor.ErrNotInRegistry) {
				t.Errorf("pull of a tag that is not there: %v", err)
			}
			if _, err := rt.Clone(ctx, img, "vm1"); !errors.Is(err, hypervisor.ErrNotFound) {
				t.Errorf("clone of an image that is not there: %v", err)
			}
			check(t, "pull", rt.Pull(ctx, img, from))
			check(t, "pull again", rt.Pull(ctx, img, from))
			if got := images(t, rt, img); len(got) != 1 || got[0].Tag != "v1" {
				t.Errorf("images: %+v", got)
			}

			id, err := rt.Clone(ctx, img, "vm1")
			check(t, "clone", err)
			if _, err := rt.Clone(ctx, img, "vm1"); !errors.Is(err, hypervisor.ErrNameTaken) {
				t.Errorf("clone to a name that is taken: %v", err)
			}
			check(t, "configure", rt.Configure(ctx, id, hypervisor.Options{CPU: 3, RAM: 6144, DiskSize: "200G"}))
			check(t, "start", rt.Start(ctx, id, hypervisor.StartOptions{Timeout: time.Minute, GrowDisk: true}))
			vm := until(t, rt, id, "it has an address", func(vm hypervisor.VM) bool { return vm.Status == hypervisor.Running && vm.IP != "" })
			if vm.UUID != id || vm.Name != "vm1" || vm.CPU != 3 || vm.RAM != 6144 || time.Since(vm.Started) > time.Hour {
				t.Errorf("running VM: %+v", vm)
			}
			if got := listed(t, rt, id); got.Status != hypervisor.Running || got.Name != "vm1" {
				t.Errorf("listed: %+v", got)
			}

			res, err := rt.Run(ctx, id, hypervisor.Script{Text: []byte("echo said; echo meant >&2; echo kept > file; exit 7")})
			if err != nil || res.ExitCode != 7 || string(res.Stdout) != "said\n" || string(res.Stderr) != "meant\n" {
				t.Errorf("script: %+v, %v", res, err)
			}
			for limit := 3 * time.Second; limit < time.Minute; limit *= 2 { // the guest's answer is a part of it
				if res, err = rt.Run(ctx, id, hypervisor.Script{Text: []byte("sleep 1000"), Timeout: limit}); err == nil {
					break
				}
			}
			if err != nil || !res.TimedOut || res.ExitCode != -1 {
				t.Errorf("script that hangs: %+v, %v", res, err)
			}

			check(t, "stop", rt.Stop(ctx, id, true))
			check(t, "stop again", rt.Stop(ctx, id, true))
			if vm := listed(t, rt, id); vm.Status != hypervisor.Stopped {
				t.Errorf("after stop: %+v", vm)
			}
			check(t, "start again", rt.Start(ctx, id, hypervisor.StartOptions{Timeout: time.Minute}))
			until(t, rt, id, "it has an address", func(vm hypervisor.VM) bool { return vm.IP != "" })
			if res, err = rt.Run(ctx, id, hypervisor.Script{Text: []byte("cat file")}); err != nil || string(res.Stdout) != "kept\n" {
				t.Errorf("script after the restart: %+v, %v", res, err)
			}

			err = rt.Suspend(ctx, id)
			if errors.Is(err, hypervisor.ErrUnsupported) {
				err = rt.Stop(ctx, id, false)
			}
			check(t, "come to rest", err)
			if vm := listed(t, rt, id); vm.Status == hypervisor.Running {
				t.Errorf("at rest: %+v", vm)
			}
			check(t, "push", rt.Push(ctx, id, from, hypervisor.PushOptions{Template: "demo", Tag: "v2", Description: "saved"}))
			template, err := registryapi.NewClient(registry, http.DefaultClient).Template(ctx, img.ID)
			check(t, "template", err)
			if len(template.Versions) != 2 || template.Versions[1].Tag != "v2" || template.Versions[1].Description != "saved" {
				t.Errorf("versions: %+v", template.Versions)
			}
			check(t, "delete", rt.Delete(ctx, id))
			check(t, "delete again", rt.Delete(ctx, id))
			if _, err := rt.Show(ctx, id); !errors.Is(err, hypervisor.ErrNotFound) {
				t.Errorf("show of a deleted VM: %v", err)
			}
			if err := rt.Stop(ctx, id, true); err != nil && !errors.Is(err, hypervisor.ErrNotFound) {
				t.Errorf("stop of a deleted VM: %v", err)
			}
			second := img
			second.Tag = "v2"
			check(t, "pull what was saved", rt.Pull(ctx, second, from))
			check(t, "remove one tag", rt.RemoveImage(ctx, second))
			if got := images(t, rt, img); len(got) != 1 || got[0].Tag != "v1" {
				t.Errorf("images after the removal of v2: %+v", got)
			}
			check(t, "remove the last tag", rt.RemoveImage(ctx, img))
			vms, err := rt.List(ctx)
			check(t, "list", err)
			if len(vms) != 0 {
				t.Errorf("left after the last tag was removed: %+v", vms)
			}
			check(t, "pull once more", rt.Pull(ctx, img, from))
			all := img
			all.Tag = ""
			check(t, "remove all tags", rt.RemoveImage(ctx, all))
			check(t, "remove all tags again", rt.RemoveImage(ctx, all))
			if got := images(t, rt, img); len(got) != 0 {
				t.Errorf("images left: %+v", got)
			}
		})
	}
}

// A VM outlives the agent that started it: the next one finds it, runs scripts in
// it, and ends it.
func TestNextAgentAdoptsTheVM(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			m, id := started(t, kind.new, kind.create)
			next, ctx := m.open(), t.Context()
			if vm := listed(t, next, id); vm.Status != hypervisor.Running {
				t.Fatalf("listed: %+v", vm)
			}
			vm := until(t, next, id, "it has an address", func(vm hypervisor.VM) bool { return vm.IP != "" })
			if vm.Started.IsZero() {
				t.Error("its start is forgotten")
			}
			if res, err := next.Run(ctx, id, hypervisor.Script{Text: []byte("exit 3")}); err != nil || res.ExitCode != 3 {
				t.Errorf("script: %+v, %v", res, err)
			}
			check(t, "start of a VM that runs", next.Start(ctx, id, hypervisor.StartOptions{Timeout: time.Minute}))
			check(t, "stop", next.Stop(ctx, id, true))
			check(t, "delete", next.Delete(ctx, id))
		})
	}
}

// A10: a command that fails, hangs, crashes or talks nonsense is an error in its
// time, and leaves the runtime usable.
func TestA10CommandsThatGoWrong(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			m, id := started(t, kind.new, kind.create)
			rt := m.open()
			listed(t, rt, id)
			for _, f := range []fakefault.Fault{
				{Action: "fail", Message: "boom", Code: 1}, {Action: "crash"}, {Action: "garbage"}, {Action: "truncate"}, {Action: "exit", Code: 5}, {Action: "exit"},
			} {
				for _, c := range []string{"list", kind.show} {
					f.Command = c
					m.faults(f)
					var err error
					if c == "list" {
						_, err = rt.List(t.Context())
					} else {
						_, err = rt.Show(t.Context(), id)
					}
					if err == nil || errors.Is(err, hypervisor.ErrNotFound) {
						t.Errorf("%s, %s %d: got %v, want an error that does not say that it is gone", c, f.Action, f.Code, err)
					}
				}
			}
			m.faults(fakefault.Fault{Command: "list", Action: "hang"})
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := rt.List(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("list that hangs: %v", err)
			}
			m.faults(fakefault.Fault{Command: "list", Action: "flood"})
			if vm := listed(t, rt, id); vm.Status != hypervisor.Running {
				t.Errorf("after all that: %+v", vm)
			}
			m.faults()
		})
	}
}

// started is a Mac with a running VM, whose agent has gone.
func started(t *testing.T, newMac func(*testing.T) *mac, create func(m *mac, registry, tag string)) (*mac, string) {
	t.Helper()
	registry := newRegistry(t)
	create(newMac(t), registry, "v1")
	img := demo
	img.ID = imageID(t, registry)
	m := newMac(t)
	rt, ctx := m.open(), t.Context()
	check(t, "pull", rt.Pull(ctx, img, hypervisor.Source{URL: registry, Prefix: "team"}))
	id, err := rt.Clone(ctx, img, "vm1")
	check(t, "clone", err)
	check(t, "start", rt.Start(ctx, id, hypervisor.StartOptions{Timeout: time.Minute}))
	return m, id
}

func check(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func listed(t *testing.T, rt hypervisor.Runtime, id string) hypervisor.VM {
	t.Helper()
	vms, err := rt.List(t.Context())
	check(t, "list", err)
	for _, vm := range vms {
		if vm.UUID == id {
			return vm
		}
	}
	t.Fatalf("VM %s is not listed: %+v", id, vms)
	return hypervisor.VM{}
}

func images(t *testing.T, rt hypervisor.Runtime, img hypervisor.Image) []hypervisor.VM {
	t.Helper()
	vms, err := rt.List(t.Context())
	check(t, "list", err)
	return slices.DeleteFunc(vms, func(vm hypervisor.VM) bool { return !img.Has(vm) || vm.Tag == "" })
}

func until(t *testing.T, rt hypervisor.Runtime, id, what string, ok func(hypervisor.VM) bool) hypervisor.VM {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		vm, err := rt.Show(t.Context(), id)
		check(t, "show", err)
		if ok(vm) {
			return vm
		}
		if time.Now().After(deadline) {
			t.Fatalf("after two minutes still not: %s: %+v", what, vm)
		}
	}
}
