package topologies

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// proxyHost is one of two hosts that share the one address: HAProxy, and
// keepalived that watches it.
type proxyHost struct {
	*host
	proxy, keepalived *process
}

func (c *threeHosts) newProxyHost(addr string) *proxyHost {
	h, run := c.net.newHost(addr), c.t.TempDir()
	p := &proxyHost{host: h}
	p.proxy = newProcess(c.t, "haproxy on "+addr, func() *exec.Cmd {
		return h.command("haproxy", "-db", "-f", deployFile(c.t, "haproxy/ankacluster.cfg"))
	})
	p.keepalived = newProcess(c.t, "keepalived on "+addr, func() *exec.Cmd {
		return h.command("keepalived", "--dont-fork", "--log-console", "--log-detail", "--use-file", deployFile(c.t, "keepalived/keepalived.conf"),
			"--pid", filepath.Join(run, "pid"), "--vrrp_pid", filepath.Join(run, "vrrp.pid")) // two of them on one file system
	})
	return p
}

func (p *proxyHost) up() { p.proxy.start(); p.keepalived.start() }

// has tells whether the virtual address is on this host.
func (p *proxyHost) has() bool {
	out, err := p.command("ip", "-o", "-4", "addr", "show", "dev", "eth0").CombinedOutput()
	return err == nil && strings.Contains(string(out), " "+frontAddr+"/")
}

// TestVirtualIPMovesToTheOtherProxy gives the one address to two HAProxy hosts
// with keepalived, by the files of deploy as they are. The proxy that has it is
// killed, then its host cut off, then all of it stopped politely, while VMs start.
func TestVirtualIPMovesToTheOtherProxy(t *testing.T) {
	long(t)
	for _, program := range []string{"haproxy", "keepalived"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("SKIPPED: %s is not installed; on Debian: apt-get install %s", program, program)
		}
	}
	c := newThreeHosts(t)
	c.behindOneAddress()
	proxies := []*proxyHost{c.newProxyHost("10.0.1.20"), c.newProxyHost("10.0.1.21")}
	for _, p := range proxies {
		p.up()
		t.Cleanup(func() { p.keepalived.stop() }) // politely: its children end with it
		c.waitBehind(p.host, p.proxy)
	}
	// holder waits until one host has the address, and not the one that lost it.
	holder := func(lost *proxyHost) (it, other *proxyHost) {
		t.Helper()
		eventually(t, "one host has the address", func() error {
			switch a, b := proxies[0].has(), proxies[1].has(); {
			case a && proxies[0] != lost:
				it, other = proxies[0], proxies[1]
			case b && proxies[1] != lost:
				it, other = proxies[1], proxies[0]
			default:
				return fmt.Errorf("%s: %t, %s: %t", proxies[0].addr, a, proxies[1].addr, b)
			}
			return nil
		})
		return it, other
	}
	one := func() {
		t.Helper()
		eventually(t, "just one host has the address", func() error {
			if proxies[0].has() == proxies[1].has() {
				return fmt.Errorf("both or neither: %t", proxies[0].has())
			}
			return nil
		})
	}
	first, _ := holder(nil)
	_, mac, driver := c.startVMs()
	waitVMs(t, driver, 8, "through "+first.addr)

	t.Logf("%s: the proxy is killed", first.addr)
	first.proxy.kill()
	second, _ := holder(first)
	waitVMs(t, driver, 8, "through "+second.addr)
	first.proxy.start()
	c.waitBehind(first.host, first.proxy)
	one()

	t.Logf("%s: cut off", second.addr)
	second.cut()
	holder(second)
	waitVMs(t, driver, 8, "through "+first.addr)
	second.heal()
	one()
	third, other := holder(nil)
	waitVMs(t, driver, 8, "through "+third.addr+" after the network is whole")

	t.Logf("%s: stopped for maintenance", third.addr)
	if code := third.keepalived.stop(); code != 0 {
		t.Errorf("keepalived ended with %d", code)
	}
	holder(third)
	waitVMs(t, driver, 8, "through "+other.addr)
	if code := driver.stop(); code != 0 {
		t.Errorf("driver ended with %d: %s", code, driver.tail(3))
	}
	judge(t, driver, []vmHost{mac}, callPatience) // keepalived decides how long, not we
}
