package mixed

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/test/localcloud"
)

// before is the last commit whose domain, stores, routes and codes were in other
// packages and had no permission and no error code on the wire. What is kept in
// etcd, on disk and sent is the same on both sides of it.
const before = "1db9aaee05284df17093ef0a47f7a195ea3f83d7"

// TestServersAndAgentsOfTwoVersions upgrades a cloud of three hosts and a node one
// process at a time, kills the agent for it, and puts some of them back. After each
// step VMs start through every host, those that ran still run, and every host lists
// the same.
func TestServersAndAgentsOfTwoVersions(t *testing.T) {
	c := newCloud(t)
	c.start("old", "old", "old")
	c.agent("old")
	c.push("v1")
	c.works("all are old")

	c.host(0, "new")
	c.works("host 1 is new")
	c.agent("new")
	c.works("host 1 and the agent are new")
	c.push("v2")
	c.host(1, "new")
	c.works("host 3 is old")
	c.agent("old")
	c.host(2, "new")
	c.works("the agent is old")
	c.host(1, "old")
	c.agent("new")
	c.works("host 2 was put back")
	c.terminate(c.ids)
	c.runs("at the end", 0)
}

type cloud struct {
	*localcloud.Cloud
	t    *testing.T
	ctx  context.Context
	dir  string
	bin  map[string]string // folder of a version's executables
	node *localcloud.Process
	tag  string
	ids  []controllerapi.InstanceID
}

func newCloud(t *testing.T) *cloud {
	t.Helper()
	dir := t.TempDir()
	c := &cloud{t: t, ctx: t.Context(), dir: filepath.Join(dir, "cloud"),
		bin: map[string]string{"old": filepath.Join(dir, "old"), "new": filepath.Join(dir, "new")}}
	if out, err := exec.CommandContext(c.ctx, "git", "cat-file", "-e", before+"^{commit}").CombinedOutput(); err != nil {
		t.Skipf("this checkout lacks the history up to commit %s (git fetch --unshallow brings it): %v %s", before, err, out)
	}
	root := c.run("", "git", "rev-parse", "--show-toplevel")
	source := filepath.Join(dir, "source")
	if err := os.Mkdir(source, 0o755); err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(dir, "source.tar")
	c.run(root, "git", "archive", "-o", archive, before)
	c.run(source, "tar", "-xf", archive)
	for version, tree := range map[string]string{"old": source, "new": root} {
		c.run(tree, "go", "build", "-o", c.bin[version]+"/", "./cmd/ankacluster", "./cmd/anka-controller")
		c.run(root, "go", "build", "-o", c.bin[version]+"/", "./test/fakeanka")
	}

	ports, err := localcloud.FreePorts(12)
	if err != nil {
		t.Fatal(err)
	}
	var hosts []localcloud.Ports
	for p := range slices.Chunk(ports, 4) {
		hosts = append(hosts, localcloud.Ports{Controller: p[0], Registry: p[1], Client: p[2], Peer: p[3]})
	}
	c.Cloud, err = localcloud.New(localcloud.Config{Bin: c.bin["old"], Dir: c.dir, NodeName: "mac", Hosts: hosts})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := c.Stop(ctx); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			c.showLogs()
		}
	})
	return c
}

func (c *cloud) showLogs() {
	logs, _ := filepath.Glob(filepath.Join(c.dir, "log", "*.log"))
	for _, name := range append(logs, filepath.Join(c.dir, "node", "agent.log")) {
		text, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
		c.t.Logf("the end of %s:\n%s", filepath.Base(name), strings.Join(lines[max(0, len(lines)-20):], "\n"))
	}
}

func (c *cloud) run(dir, name string, args ...string) string {
	c.t.Helper()
	cmd := exec.CommandContext(c.ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		c.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// start starts the hosts, each of the given version.
func (c *cloud) start(versions ...string) {
	c.t.Helper()
	for i, version := range versions {
		c.Hosts[i].Path = filepath.Join(c.bin[version], "anka-controller")
	}
	if err := c.Start(c.ctx); err != nil {
		c.t.Fatal(err)
	}
}

// host ends the i-th host in good order and starts another version on its data.
func (c *cloud) host(i int, version string) {
	c.t.Helper()
	if err := c.Hosts[i].Stop(30 * time.Second); err != nil {
		c.t.Fatal(err)
	}
	c.Hosts[i].Path = filepath.Join(c.bin[version], "anka-controller")
	if err := c.StartHost(c.ctx, i); err != nil {
		c.t.Fatal(err)
	}
}

// agent kills the node's agent and starts another version on its state; the first
// one joins.
func (c *cloud) agent(version string) {
	c.t.Helper()
	if c.node == nil {
		if _, err := c.Join(c.ctx, "--max-vm-count", "8", "--ignore-arm-vm-limit"); err != nil {
			c.t.Fatal(err)
		}
		c.node = &localcloud.Process{}
		return
	}
	dir := filepath.Join(c.dir, "node")
	pid := state.Dir(dir).RunningPID()
	if pid == 0 {
		c.t.Fatal("no agent runs")
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		c.t.Fatal(err)
	}
	c.await("the agent ends", func() error {
		if state.Dir(dir).RunningPID() != 0 {
			return fmt.Errorf("process %d runs", pid)
		}
		return nil
	})
	c.node = &localcloud.Process{Name: "agent", Path: filepath.Join(c.bin[version], "ankacluster"),
		Args: []string{"run", "--state-dir", dir, "--force-no-sudo"}, Env: c.NodeEnv(), Log: filepath.Join(c.dir, "log", "agent.log")}
	if err := c.node.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.await("the new agent runs", func() error {
		if state.Dir(dir).RunningPID() != c.node.PID() {
			return fmt.Errorf("%s", c.node.Tail(5))
		}
		return nil
	})
}

func (c *cloud) client(i int) *controllerapi.Client {
	return controllerapi.NewClient(c.ControllerURL(i), &http.Client{Timeout: 30 * time.Second})
}

const template = "mixed"

// push pushes the template with a tag to the third host; each lists it.
func (c *cloud) push(tag string) {
	c.t.Helper()
	if c.tag == "" {
		if _, err := c.Anka(c.ctx, "create", template, "--size", "16M"); err != nil {
			c.t.Fatal(err)
		}
	}
	if _, err := c.Anka(c.ctx, "registry", "-r", c.RegistryURL(2), "push", template, "-t", tag); err != nil {
		c.t.Fatal(err)
	}
	// The node pulls the tag, in place of taking what it pushed.
	if _, err := c.Anka(c.ctx, "delete", "--yes", template); err != nil {
		c.t.Fatal(err)
	}
	c.tag = tag
	for i := range c.Hosts {
		registry := registryapi.NewClient(c.RegistryURL(i), &http.Client{Timeout: 30 * time.Second})
		full, err := registry.Template(c.ctx, c.templateID(i))
		if err != nil {
			c.t.Fatal(err)
		}
		if !slices.ContainsFunc(full.Versions, func(v registryapi.Version) bool { return v.Tag == tag }) {
			c.t.Fatalf("host %d does not list tag %s: %+v", i+1, tag, full.Versions)
		}
	}
}

func (c *cloud) templateID(i int) string {
	c.t.Helper()
	list, err := registryapi.NewClient(c.RegistryURL(i), &http.Client{Timeout: 30 * time.Second}).Templates(c.ctx)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, each := range list {
		if each.Name == template {
			return each.ID
		}
	}
	c.t.Fatalf("host %d lists no template %q: %+v", i+1, template, list)
	return ""
}

// works starts a VM through each host and compares what the hosts list, the VMs of
// the step before included. Then all VMs but the first and the last end.
func (c *cloud) works(when string) {
	c.t.Helper()
	for i := range c.Hosts {
		ids, err := c.client(i).Start(c.ctx, controllerapi.StartRequest{VMID: controllerapi.TemplateID(c.templateID(i)), Tag: c.tag})
		if err != nil {
			c.t.Fatalf("%s: start through host %d: %v", when, i+1, err)
		}
		c.ids = append(c.ids, ids...)
	}
	for i := range c.Hosts {
		for _, id := range c.ids {
			c.await(fmt.Sprintf("%s: host %d shows the VM as Started", when, i+1), func() error {
				instance, err := c.client(i).Instance(c.ctx, id)
				if err == nil && instance.InstanceState == controllerapi.Error {
					c.t.Fatalf("%s: host %d: instance %s failed: %+v", when, i+1, id, instance)
				}
				if err == nil && instance.InstanceState != controllerapi.Started {
					err = fmt.Errorf("it is %s", instance.InstanceState)
				}
				return err
			})
		}
	}
	c.runs(when, len(c.ids))
	last := len(c.ids) - 1
	c.terminate(c.ids[1:last])
	c.ids = []controllerapi.InstanceID{c.ids[0], c.ids[last]}
	c.runs(when, 2)
}

// terminate ends the instances, each through another host.
func (c *cloud) terminate(ids []controllerapi.InstanceID) {
	c.t.Helper()
	for i, id := range ids {
		if err := c.client(i%len(c.Hosts)).Terminate(c.ctx, id); err != nil {
			c.t.Fatal(err)
		}
	}
}

// runs waits until the node's hypervisor runs n VMs.
func (c *cloud) runs(when string, n int) {
	c.t.Helper()
	c.await(fmt.Sprintf("%s: the Mac runs %d VMs", when, n), func() error {
		vms, err := c.Anka(c.ctx, "--machine-readable", "list", "-r")
		if err == nil && strings.Count(vms, `"uuid"`) != n {
			err = fmt.Errorf("it runs %d", strings.Count(vms, `"uuid"`))
		}
		return err
	})
}

// await waits until what returns no error. The limit is for a machine that hangs.
func (c *cloud) await(title string, what func() error) {
	c.t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		err := what()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("%s: not within two minutes: %v", title, err)
		}
		select {
		case <-c.ctx.Done():
			c.t.Fatal(c.ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}
