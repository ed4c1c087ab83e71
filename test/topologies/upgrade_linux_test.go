package topologies

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestRollingUpgradeLosesNoRequest replaces every controller, with the etcd
// member inside it, and every registry by a newer build, one after another, each
// with SIGTERM and a start, while a crowd of clients goes on: reads, writes with
// and without an idempotency key, pulls, pushes, VM starts. Nobody notices.
func TestRollingUpgradeLosesNoRequest(t *testing.T) {
	long(t)
	newer := filepath.Join(binDir, "newer")
	if err := buildServers(newer, "9.9.9-newer"); err != nil {
		t.Fatal(err)
	}
	c := newThreeHosts(t)
	const drain = "5s"    // a busy machine's probes may be late
	shared := t.TempDir() // what a network file system is to real hosts
	from := []string{binDir, binDir, binDir}
	fromRegistry := []string{binDir, binDir, binDir}
	var registries []*process
	var registryURLs []string
	for i, h := range c.hosts {
		registryURLs = append(registryURLs, "http://"+h.addr+":8089")
		c.controllers[i].make = func() *exec.Cmd {
			return h.command(filepath.Join(from[i], "anka-controller"), "--standalone", "--cluster", strings.Join(hostAddrs, ","), "--data-dir", c.dirs[i],
				"--listen-addr", ":80", "--anka-registry", registryURLs[i], "--graceful-shutdown-timeout", "1m", "--drain-delay", drain)
		}
		registries = append(registries, newProcess(t, "registry on "+h.addr, func() *exec.Cmd {
			return h.command(filepath.Join(fromRegistry[i], "anka-registry"), "--base-path", shared, "--listen-addr", ":8089", "--min-free", "0", "--graceful-shutdown-timeout", "1m", "--drain-delay", drain)
		}))
		registries[i].start()
		c.controllers[i].start()
	}
	registryReady := func(i int) {
		t.Helper()
		eventually(t, "the registry is ready", func() error { _, err := c.curl(i, "http://127.0.0.1:8089/readyz"); return err })
	}
	for i := range c.hosts {
		registryReady(i)
	}
	c.waitReady(0, 1, 2)
	c.waitWhole(0)

	mac := c.newNode("10.0.1.10")
	for _, args := range [][]string{{"create", "demo", "--size", "4M"}, {"registry", "-o2", "-r", registryURLs[0], "push", "demo", "-t", "v1"}} {
		if err := mac.anka(args...); err != nil {
			t.Fatal(err)
		}
	}
	template := c.template(0)
	for _, args := range [][]string{{"create", "first", "--size", "32M"}, {"registry", "-o2", "-p", "load", "-r", registryURLs[0], "push", "first", "-t", "v1"}} {
		if err := mac.anka(args...); err != nil {
			t.Fatal(err)
		}
	}
	mac.join()
	driver := newProcess(t, "driver", func() *exec.Cmd {
		cmd := mac.host.command(os.Args[0])
		cmd.Env = append(os.Environ(), driverVar+"="+strings.Join(c.urls(), ","), driverTemplate+"="+template)
		return cmd
	})
	driver.start()
	clients := c.net.newHost("10.0.1.30")
	crowd := newProcess(t, "crowd", func() *exec.Cmd {
		cmd := clients.command(os.Args[0])
		cmd.Env = append(os.Environ(), loadVar+"="+strings.Join(c.urls(), ","), loadRegistries+"="+strings.Join(registryURLs, ","))
		return cmd
	})
	crowd.start()
	going := func(what string) {
		t.Helper()
		before := make(map[string]int)
		kinds := []string{aRead, aKeyed, unkeyed, aPush, aPull}
		for _, k := range kinds {
			before[k] = len(events(t, crowd, k))
		}
		eventually(t, "the crowd goes on "+what, func() error {
			for _, k := range kinds {
				if n := len(events(t, crowd, k)) - before[k]; n < 3 {
					return fmt.Errorf("%d of 3: %s", n, k)
				}
			}
			return nil
		})
		waitVMs(t, driver, 4, what)
	}
	going("before the upgrade")
	for i, h := range c.hosts {
		if code := registries[i].stop(); code != 0 {
			t.Errorf("the registry on %s ended with %d", h.addr, code)
		}
		fromRegistry[i] = newer
		registries[i].start()
		registryReady(i)
		if code := c.controllers[i].stop(); code != 0 {
			t.Errorf("the controller on %s ended with %d", h.addr, code)
		}
		from[i] = newer
		c.controllers[i].start()
		c.waitReady(i)
		c.waitWhole(i) // as the operators' page says: before the next
		going("after the upgrade of " + h.addr)
	}
	for _, p := range []*process{crowd, driver} {
		if code := p.stop(); code != 0 {
			t.Errorf("%s ended with %d: %s", p.name, code, p.tail(3))
		}
	}
	judgeLoad(t, crowd)
	judge(t, driver, []vmHost{mac}, longestStall)
	for i, h := range c.hosts {
		for _, url := range []string{"http://127.0.0.1/api/v1/status", "http://127.0.0.1:8089/registry/status"} {
			if out, err := c.curl(i, url); err != nil || !strings.Contains(out, "9.9.9-newer") {
				t.Errorf("%s on %s: %v %s, want the newer version", url, h.addr, err, out)
			}
		}
	}
}

// buildServers builds both servers as a release of another version.
func buildServers(dir, version string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-X github.com/ankacluster/ankacluster/internal/buildinfo.Version="+version,
		"-o", dir+"/", "./cmd/anka-controller", "./cmd/anka-registry")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}
