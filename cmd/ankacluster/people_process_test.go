package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/test/localcloud"
)

// TestAWaitOutlivesItsController starts a VM that has to wait, kills each of three
// controllers in turn while the command waits, and then makes room: the command says
// how to reach the VM, and of the deaths nothing.
func TestAWaitOutlivesItsController(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	c, bin := peoplesCloud(ctx, t)
	must := func(args ...string) {
		t.Helper()
		if out, err := c.Ankacluster(ctx, append(args, "--controllers", strings.Join(c.ControllerURLs(), ","))...); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	must("node", "drain", "mac-7")

	var out, said bytes.Buffer
	r, w := io.Pipe()
	wait := exec.CommandContext(ctx, filepath.Join(bin, "ankacluster"), "vm", "start", "sonoma", "--name", "patient", "--wait", "--controllers", strings.Join(c.ControllerURLs(), ","))
	wait.Stdout, wait.Stderr = &out, io.MultiWriter(&said, w)
	if err := wait.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 1)); err != nil { // it follows the VM
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, r) }()
	for i := range c.Hosts { // its stream is at one of them
		if err := c.Hosts[i].Kill(); err != nil {
			t.Fatal(err)
		}
		must("vm", "show", "patient")
		if err := c.StartHost(ctx, i); err != nil {
			t.Fatal(err)
		}
	}
	must("node", "undrain", "mac-7")
	if err := wait.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, &said)
	}
	if !strings.Contains(out.String(), "has started after") || !strings.Contains(out.String(), "USER@127.0.0.1") {
		t.Errorf("it says:\n%s", &out)
	}
	if strings.Contains(said.String(), "controller") || !strings.Contains(said.String(), "Scheduling") {
		t.Errorf("meanwhile it said:\n%s", &said)
	}
}

// peoplesCloud runs three hosts, and a node with the template sonoma.
func peoplesCloud(ctx context.Context, t *testing.T) (c *localcloud.Cloud, bin string) {
	t.Helper()
	bin = filepath.Join(t.TempDir(), "bin")
	build := exec.CommandContext(ctx, "go", "build", "-o", bin+"/", ".", "../anka-controller", "../../test/fakeanka")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, text)
	}
	ports, err := localcloud.FreePorts(12)
	if err != nil {
		t.Fatal(err)
	}
	cfg := localcloud.Config{Bin: bin, Dir: filepath.Join(t.TempDir(), "cloud"), NodeName: "mac-7"}
	for ; len(ports) > 0; ports = ports[4:] {
		cfg.Hosts = append(cfg.Hosts, localcloud.Ports{Controller: ports[0], Registry: ports[1], Client: ports[2], Peer: ports[3]})
	}
	c, err = localcloud.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := c.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if out, err := c.Join(ctx, "--max-vm-count", "8", "--ignore-arm-vm-limit"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, args := range [][]string{{"create", "sonoma", "--size", "1M"}, {"registry", "-o2", "-r", c.RegistryURL(0), "push", "sonoma", "-t", "v1"}} {
		if out, err := c.Anka(ctx, args...); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	return c, bin
}
