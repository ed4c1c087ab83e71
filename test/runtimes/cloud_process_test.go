package runtimes

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/controllerapi"
)

// A node with tart in a whole cloud: a VM is started through the REST API from an
// image that tart pushed, outlives kill -9 of the agent, is adopted by the next,
// and ends. A VM that somebody made by hand is left alone all the while.
func TestCloudStartsVMsWithTart(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	addr, registry := freeAddr(t), freeAddr(t)
	controller := begin(t, nil, "anka-controller", "--standalone", "--data-dir", filepath.Join(dir, "controller"), "--listen-addr", addr,
		"--registry-listen-address", registry, "--etcd-listen-client", freeAddr(t), "--etcd-listen-peer", freeAddr(t))
	cloud := controllerapi.NewClient("http://"+addr, http.DefaultClient)
	await(t, controller, "the controller is ready", func() bool {
		s, err := cloud.Status(ctx)
		return err == nil && s.RegistryStatus == "Running"
	})

	m := newTart(t)
	m.run("create", "--from-ipsw", "latest", "by-hand")
	m.run("push", "--insecure", "by-hand", registry+"/team/sonoma:v1")
	template, arch := templateOf(t, "http://"+addr)
	if arch == "" {
		t.Error("the template of an image that tart pushed has no architecture")
	}

	env := []string{"ANKA_STATE_DIR=" + filepath.Join(dir, "node"), "ANKA_PATH=" + filepath.Join(dir, "none"),
		"TART_PATH=" + m.fake, "TART_HOME=" + m.home}
	agent := begin(t, env, "ankacluster", "join", "http://"+addr, "-f", "--foreground", "--runtime", "tart", "--name", "mac1",
		"--host", "127.0.0.1", "--ignore-arm-vm-limit", "--reserve-space", "0%")
	script := base64.StdEncoding.EncodeToString([]byte("echo from the guest; exit 0"))
	var ids []controllerapi.InstanceID
	await(t, agent, "a start is accepted", func() bool {
		var err error
		ids, err = cloud.Start(ctx, controllerapi.StartRequest{VMID: template, StartupScript: script, ScriptMonitoring: true, VCPU: 3})
		return err == nil
	})
	var started controllerapi.Instance
	await(t, agent, "the instance is Started", func() bool {
		var err error
		started, err = cloud.Instance(ctx, ids[0])
		if err == nil && started.InstanceState == controllerapi.Error {
			t.Fatalf("the start failed: %s", started.Message)
		}
		return err == nil && started.InstanceState == controllerapi.Started
	})
	vm := started.VMInfo
	if !strings.HasPrefix(vm.IP, "192.168.64.") || vm.CPUCores != 3 || vm.Status != "running" || vm.StartDate.IsZero() {
		t.Errorf("vminfo: %+v", vm)
	}
	if s := started.StartupScript; s == nil || s.ReturnCode != 0 || s.Stdout != "from the guest\n" {
		t.Errorf("script: %+v", s)
	}
	process := m.vmProcess(vm.Name)
	if process == 0 {
		t.Fatalf("no process runs %s", vm.Name)
	}

	_ = agent.cmd.Process.Kill()
	<-agent.ended
	if got := m.vmProcess(vm.Name); got != process {
		t.Fatalf("after kill -9 of the agent the VM is process %d, was %d", got, process)
	}
	agent = begin(t, env, "ankacluster", "run", "-f")
	await(t, agent, "the next agent shows the VM as the instance's", func() bool {
		out, err := output(env, "ankacluster", "status", "-f", "--json")
		var s struct {
			Runtime string
			VMs     []struct {
				Name       string                   `json:"name"`
				InstanceID controllerapi.InstanceID `json:"instance_id"`
			}
		}
		return err == nil && json.Unmarshal([]byte(out), &s) == nil && s.Runtime == "tart" && len(s.VMs) == 1 && s.VMs[0].Name == vm.Name && s.VMs[0].InstanceID == ids[0]
	})
	if got := m.vmProcess(vm.Name); got != process {
		t.Errorf("the adopted VM is process %d, was %d", got, process)
	}

	// What tart cannot do is an error of that start, and names it.
	refused, err := cloud.Start(ctx, controllerapi.StartRequest{VMID: template, VLANTag: "7"})
	check(t, "start with a VLAN", err)
	await(t, agent, "the start with a VLAN has failed", func() bool {
		i, err := cloud.Instance(ctx, refused[0])
		return err == nil && i.InstanceState == controllerapi.Error && strings.Contains(i.Message, "tart has no vlan_tag")
	})

	for _, id := range append(ids, refused...) {
		check(t, "terminate", cloud.Terminate(ctx, id))
	}
	await(t, agent, "the VM has gone", func() bool {
		i, err := cloud.Instance(ctx, ids[0])
		return m.vmProcess(vm.Name) == 0 && (err != nil || i.InstanceState == controllerapi.Terminated)
	})
	var names []string
	for _, v := range m.vms() {
		names = append(names, v.Name)
	}
	if len(names) != 1 || names[0] != "by-hand" {
		t.Errorf("VMs left: %v, want the one made by hand", names)
	}
}

// vmProcess returns the process of a VM, 0 for none: tart itself says only whether
// there is one.
func (m *mac) vmProcess(name string) int {
	m.t.Helper()
	running := false
	for _, vm := range m.vms() {
		running = running || vm.Name == name && vm.State == "running"
	}
	if !running {
		return 0
	}
	out, err := exec.Command("ps", "-axo", "pid=,args=").Output()
	check(m.t, "ps", err)
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) == 5 && f[1] == m.fake && f[2] == "run" && f[4] == name {
			pid, err := strconv.Atoi(f[0])
			check(m.t, "ps", err)
			return pid
		}
	}
	return 0
}

func templateOf(t *testing.T, controller string) (id controllerapi.TemplateID, arch string) {
	t.Helper()
	resp, err := http.Get(controller + "/api/v1/registry/vm")
	check(t, "templates", err)
	defer resp.Body.Close()
	var list struct {
		Body []struct{ ID, Name, Arch string }
	}
	check(t, "templates", json.NewDecoder(resp.Body).Decode(&list))
	if len(list.Body) != 1 || list.Body[0].Name != "sonoma" {
		t.Fatalf("templates: %+v", list)
	}
	return controllerapi.TemplateID(list.Body[0].ID), list.Body[0].Arch
}

// program is a process of the cloud.
type program struct {
	name  string
	cmd   *exec.Cmd
	log   string
	ended chan struct{}
}

func begin(t *testing.T, env []string, name string, args ...string) *program {
	t.Helper()
	log, err := os.CreateTemp(t.ArtifactDir(), name+"-*.log")
	check(t, "log", err)
	defer log.Close()
	p := &program{name: name, log: log.Name(), cmd: exec.Command(filepath.Join(binDir, name), args...), ended: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	check(t, "start "+name, p.cmd.Start())
	go func() { _ = p.cmd.Wait(); close(p.ended) }()
	t.Cleanup(func() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.ended:
		case <-time.After(2 * time.Minute):
			_ = p.cmd.Process.Kill()
			<-p.ended
		}
	})
	return p
}

func output(env []string, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(binDir, name), args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.Output()
	return string(out), err
}

// await waits for something that p brings about.
func await(t *testing.T, p *program, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); !ok(); time.Sleep(100 * time.Millisecond) {
		gone := false
		select {
		case <-p.ended:
			gone = true
		default:
		}
		if gone || time.Now().After(deadline) {
			log, _ := os.ReadFile(p.log)
			t.Fatalf("still not: %s (%s has ended: %v)\n%s", what, p.name, gone, log[max(0, len(log)-4000):])
		}
	}
}

// addresses counts those that freeAddr has given away.
var addresses atomic.Int32

// freeAddr is an address that nobody else takes before it is listened on: on
// Linux any 127.x.y.z is loopback, this process has one of its own, and who
// connects has 127.0.0.1.
func freeAddr(t *testing.T) string {
	t.Helper()
	if runtime.GOOS == "linux" {
		return fmt.Sprintf("127.%d.%d.1:%d", 1+os.Getpid()>>8%254, os.Getpid()&255, 10000+addresses.Add(1))
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, "listen", err)
	defer l.Close()
	return fmt.Sprint(l.Addr())
}
