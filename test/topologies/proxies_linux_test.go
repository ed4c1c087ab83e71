package topologies

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestOneAddressInFront puts nginx and HAProxy, with the files of deploy as they
// are, in front of three real controllers and three registries on one shared
// directory. A node joins the one address, a large template is pushed and pulled
// through it, and a host dies while VMs start.
func TestOneAddressInFront(t *testing.T) {
	long(t)
	for _, proxy := range []struct {
		name    string
		command []string
	}{
		{"nginx", []string{"nginx", "-g", "daemon off;", "-c", deployFile(t, "nginx/ankacluster.conf")}},
		{"haproxy", []string{"haproxy", "-db", "-f", deployFile(t, "haproxy/ankacluster.cfg")}},
	} {
		t.Run(proxy.name, func(t *testing.T) {
			if _, err := exec.LookPath(proxy.name); err != nil {
				t.Skipf("SKIPPED: %s is not installed; on Debian: apt-get install %s", proxy.name, proxy.name)
			}
			inFront(t, proxy.name, proxy.command)
		})
	}
}

func deployFile(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "..", "deploy", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// frontAddr is the one address that nodes and people are given.
const frontAddr = "10.0.1.2"

// templateSize is that of the template which goes through the proxy. `make
// test-topologies` asks for 2G; every test run would be slow with that.
var templateSize = cmp.Or(os.Getenv("ANKA_TEST_TEMPLATE_SIZE"), "64M")

func inFront(t *testing.T, name string, command []string) {
	c := newThreeHosts(t)
	shared := t.TempDir() // what a network file system is to real hosts
	for i := range c.controllers {
		c.controllers[i].make = func() *exec.Cmd {
			return c.hosts[i].command(bin("anka-controller"), "--standalone", "--cluster", strings.Join(hostAddrs, ","), "--data-dir", c.dirs[i],
				"--run-registry", "--registry-base-path", shared, "--listen-addr", ":8090",
				"--advertise-url", "http://"+frontAddr, "--anka-registry", "http://"+frontAddr+":8089", "--local-anka-registry", "http://127.0.0.1:8089")
		}
		c.controllers[i].start()
	}
	front := c.net.newHost(frontAddr)
	proxy := newProcess(t, name, func() *exec.Cmd { return front.command(command[0], command[1:]...) })
	proxy.start()
	t.Cleanup(func() { proxy.stop() }) // politely: a killed nginx leaves its workers
	eventually(t, "a controller answers through "+name, func() error {
		if !proxy.running() {
			t.Fatalf("%s ended:\n%s", name, proxy.tail(20))
		}
		out, err := front.command("curl", "-sS", "--fail", "-m", "5", "http://127.0.0.1/readyz").CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	for i := range c.controllers {
		eventually(t, "every controller is ready", func() error { _, err := c.curl(i, "http://127.0.0.1:8090/readyz"); return err })
	}

	pusher, mac := c.newNode("10.0.1.11"), c.newNode("10.0.1.10")
	if err := pusher.anka("create", "demo", "--size", templateSize); err != nil {
		t.Fatal(err)
	}
	if err := pusher.anka("registry", "-o2", "-r", "http://"+frontAddr+":8089", "push", "demo", "-t", "v1"); err != nil {
		t.Fatal(err)
	}
	template := c.templateAt(0, "http://127.0.0.1:8090")
	mac.joinTo("http://" + frontAddr)

	driver := newProcess(t, "driver", func() *exec.Cmd {
		cmd := mac.host.command(os.Args[0])
		cmd.Env = append(os.Environ(), driverVar+"=http://"+frontAddr, driverTemplate+"="+template)
		return cmd
	})
	driver.start()
	progress := func(what string) {
		t.Helper()
		before := len(events(t, driver, "started"))
		eventually(t, "VMs start "+what, func() error {
			if n := len(events(t, driver, "started")) - before; n < 8 {
				return fmt.Errorf("%d of 8", n)
			}
			return nil
		})
	}
	progress("from a template of " + templateSize + " that was pulled through " + name)
	t.Logf("%s: kill -9 of all that runs there", hostAddrs[1])
	c.controllers[1].kill()
	progress("while a host is dead")
	c.controllers[1].start()
	eventually(t, "the host is back", func() error { _, err := c.curl(1, "http://127.0.0.1:8090/readyz"); return err })
	t.Logf("%s: stopped politely", hostAddrs[2])
	if code := c.controllers[2].stop(); code != 0 {
		t.Errorf("the controller ended with %d", code)
	}
	progress("while a host is down for maintenance")
	if code := driver.stop(); code != 0 {
		t.Errorf("driver ended with %d: %s", code, driver.tail(3))
	}
	// The first VMs wait for the pull of the whole template, their starts do not.
	judge(t, driver, []vmHost{mac})
}
