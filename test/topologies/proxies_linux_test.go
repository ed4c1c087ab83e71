package topologies

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestOneAddressInFront puts nginx and HAProxy, with the files of deploy as they
// are, in front of three real controllers and three registries on one shared
// directory. A node joins the one address, a large template is pushed and pulled
// through it while every host is killed in turn, and VMs start all the time.
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
			if only := os.Getenv("ANKA_TEST_PROXIES"); only != "" && !slices.Contains(strings.Fields(only), proxy.name) {
				t.Skip("SKIPPED: not asked for")
			}
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

// largeSize is that of the image that goes through the proxy. `make
// test-topologies` asks for 2 GiB; every run in CI would be slow with that.
func largeSize(t *testing.T) int64 {
	t.Helper()
	n, err := strconv.ParseInt(cmp.Or(os.Getenv("ANKA_TEST_LARGE_MIB"), "96"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n << 20
}

// behindOneAddress starts a controller and a registry on every host, the registries
// on one directory, and all as the files in deploy ask: told of the one address.
func (c *threeHosts) behindOneAddress() {
	shared := c.t.TempDir() // what a network file system is to real hosts
	for i := range c.controllers {
		c.controllers[i].make = func() *exec.Cmd {
			return c.hosts[i].command(bin("anka-controller"), "--standalone", "--cluster", strings.Join(hostAddrs, ","), "--data-dir", c.dirs[i],
				"--run-registry", "--registry-base-path", shared, "--listen-addr", ":8090",
				"--advertise-url", "http://"+frontAddr, "--anka-registry", "http://"+frontAddr+":8089", "--local-anka-registry", "http://127.0.0.1:8089")
		}
		c.controllers[i].start()
	}
}

// waitBehind waits until the proxy on front answers for a controller, and then until all are ready.
func (c *threeHosts) waitBehind(front *host, proxy *process) {
	c.t.Helper()
	eventually(c.t, "a controller answers through "+proxy.name, func() error {
		if !proxy.running() {
			c.t.Fatalf("%s ended:\n%s", proxy.name, proxy.tail(20))
		}
		out, err := front.command("curl", "-sS", "--fail", "-m", "5", "http://127.0.0.1/readyz").CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	for i := range c.controllers {
		eventually(c.t, "every controller is ready", func() error { _, err := c.curl(i, "http://127.0.0.1:8090/readyz"); return err })
	}
}

// startVMs pushes a template through the one address, has a node join it, and
// starts VMs there all the time.
func (c *threeHosts) startVMs() (pusher, mac *node, driver *process) {
	c.t.Helper()
	pusher, mac = c.newNode("10.0.1.11"), c.newNode("10.0.1.10")
	if err := pusher.anka("create", "demo", "--size", "8M"); err != nil {
		c.t.Fatal(err)
	}
	if err := pusher.anka("registry", "-o2", "-r", "http://"+frontAddr+":8089", "push", "demo", "-t", "v1"); err != nil {
		c.t.Fatal(err)
	}
	template := c.templateAt(0, "http://127.0.0.1:8090")
	mac.joinTo("http://" + frontAddr)
	driver = newProcess(c.t, "driver", func() *exec.Cmd {
		cmd := mac.host.command(os.Args[0])
		cmd.Env = append(os.Environ(), driverVar+"=http://"+frontAddr, driverTemplate+"="+template)
		return cmd
	})
	driver.start()
	return pusher, mac, driver
}

func inFront(t *testing.T, name string, command []string) {
	c := newThreeHosts(t)
	c.behindOneAddress()
	front := c.net.newHost(frontAddr)
	proxy := newProcess(t, name, func() *exec.Cmd { return front.command(command[0], command[1:]...) })
	proxy.start()
	t.Cleanup(func() { proxy.stop() }) // politely: a killed nginx leaves its workers
	c.waitBehind(front, proxy)
	pusher, mac, driver := c.startVMs()
	waitVMs(t, driver, 8, "through "+name)

	// A large image is pushed and pulled meanwhile; every host dies once while the
	// push goes on and once while the pull does, so that one of them is in use.
	carrier := newProcess(t, "carrier", func() *exec.Cmd {
		cmd := pusher.host.command(os.Args[0])
		cmd.Env = append(os.Environ(), carryVar+"="+strconv.FormatInt(largeSize(t), 10), carryRegistry+"=http://"+frontAddr+":8089")
		return cmd
	})
	carrier.start()
	for _, kind := range []string{"pushed", "pulled"} {
		for i, h := range c.hosts {
			eventually(t, fmt.Sprintf("the image is on its way (%s)", kind), func() error {
				if !carrier.running() {
					return nil // it was faster than the harm; what it said is looked at below
				}
				if n := len(events(t, carrier, kind)); n < 1+2*i {
					return fmt.Errorf("%d tenths %s", n, kind)
				}
				return nil
			})
			c.controllers[i].kill()
			c.controllers[i].start()
			eventually(t, h.addr+" is back", func() error { _, err := c.curl(i, "http://127.0.0.1:8090/readyz"); return err })
			c.waitWhole(i)
		}
		t.Logf("each host killed and back; %d tenths pushed, %d pulled so far", len(events(t, carrier, "pushed")), len(events(t, carrier, "pulled")))
	}
	eventually(t, "the image has come back whole", func() error {
		if carrier.running() {
			return fmt.Errorf("%d tenths pulled", len(events(t, carrier, "pulled")))
		}
		return nil
	})
	carried := events(t, carrier, "carried")
	if len(carried) != 1 {
		t.Errorf("the image did not get through %s: %s", name, carrier.tail(3))
	} else {
		t.Log(carried[0].ID)
	}
	waitVMs(t, driver, 8, "after that")

	t.Logf("%s: stopped politely", hostAddrs[2])
	if code := c.controllers[2].stop(); code != 0 {
		t.Errorf("the controller ended with %d", code)
	}
	waitVMs(t, driver, 8, "while a host is down for maintenance")
	if code := driver.stop(); code != 0 {
		t.Errorf("driver ended with %d: %s", code, driver.tail(3))
	}
	judge(t, driver, []vmHost{mac}, callPatience) // the proxy decides how long, not we
}
