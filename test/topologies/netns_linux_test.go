package topologies

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
)

// network is a switch with hosts on it, each in a network namespace of its own.
// The machine's own network is not touched: the switch is in a namespace, too.
type network struct {
	t    *testing.T
	name string
}

var networks atomic.Int64

// newNetwork makes a switch, and removes everything when the test ends.
func newNetwork(t *testing.T) *network {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: needs root to make network namespaces")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("SKIPPED: needs the command ip (iproute2)")
	}
	n := &network{t: t, name: fmt.Sprintf("anka%d-%d", os.Getpid(), networks.Add(1))}
	if out, err := exec.Command("ip", "netns", "add", n.ns("switch")).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: network namespaces cannot be made here: %v: %s", err, out)
	}
	t.Cleanup(func() { n.ip("netns", "del", n.ns("switch")) })
	n.ip("-n", n.ns("switch"), "link", "add", "br0", "type", "bridge")
	n.ip("-n", n.ns("switch"), "link", "set", "br0", "up")
	return n
}

func (n *network) ns(host string) string { return n.name + "-" + host }

func (n *network) ip(args ...string) {
	n.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		n.t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// host is a machine on the network.
type host struct {
	net  *network
	name string
	addr string
}

// newHost makes a host with an address such as 10.0.1.4.
func (n *network) newHost(addr string) *host {
	n.t.Helper()
	h := &host{net: n, name: addr[strings.LastIndex(addr, ".")+1:], addr: addr}
	ns, sw := n.ns(h.name), n.ns("switch")
	n.ip("netns", "add", ns)
	n.t.Cleanup(func() { n.ip("netns", "del", ns) })
	n.ip("-n", sw, "link", "add", "port"+h.name, "type", "veth", "peer", "name", "eth0", "netns", ns)
	n.ip("-n", sw, "link", "set", "port"+h.name, "master", "br0", "up")
	n.ip("-n", ns, "addr", "add", addr+"/24", "dev", "eth0")
	n.ip("-n", ns, "link", "set", "eth0", "up")
	n.ip("-n", ns, "link", "set", "lo", "up")
	return h
}

// cut takes the host off the network as a pulled cable at the switch does: its
// packets, and those to it, vanish.
func (h *host) cut() {
	h.net.t.Helper()
	h.net.ip("-n", h.net.ns("switch"), "link", "set", "port"+h.name, "nomaster")
}

func (h *host) heal() {
	h.net.t.Helper()
	h.net.ip("-n", h.net.ns("switch"), "link", "set", "port"+h.name, "master", "br0")
}

// command returns a command that runs on the host.
func (h *host) command(name string, args ...string) *exec.Cmd {
	return exec.Command("ip", append([]string{"netns", "exec", h.net.ns(h.name), name}, args...)...)
}
