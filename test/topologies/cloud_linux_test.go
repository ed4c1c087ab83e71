package topologies

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The addresses of the guide.
var hostAddrs = []string{"10.0.1.4", "10.0.1.5", "10.0.1.6"}

// threeHosts is the guide's picture of node-side load balancing: everything on
// each of three hosts, and no balancer in front.
type threeHosts struct {
	t           *testing.T
	net         *network
	hosts       []*host
	controllers []*process
	dirs        []string
}

// newThreeHosts makes the hosts and starts nothing. Every host gets the very
// same command line.
func newThreeHosts(t *testing.T) *threeHosts {
	t.Helper()
	c := &threeHosts{t: t, net: newNetwork(t)}
	for i, addr := range hostAddrs {
		h, dir := c.net.newHost(addr), t.TempDir()
		c.hosts, c.dirs = append(c.hosts, h), append(c.dirs, dir)
		c.controllers = append(c.controllers, newProcess(t, "controller on "+addr, func() *exec.Cmd {
			return h.command(bin("anka-controller"), "--standalone", "--cluster", strings.Join(hostAddrs, ","),
				"--data-dir", c.dirs[i], "--listen-addr", ":80", "--enable-metrics")
		}))
	}
	return c
}

// curl asks a host's own loopback, so that it works while the host is cut off.
func (c *threeHosts) curl(i int, url string) (string, error) {
	out, err := c.hosts[i].command("curl", "-sS", "-m", "5", "--fail-with-body", url).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s on %s: %w: %s", url, c.hosts[i].addr, err, out)
	}
	return string(out), nil
}

func (c *threeHosts) waitReady(which ...int) {
	c.t.Helper()
	for _, i := range which {
		eventually(c.t, "controller on "+hostAddrs[i]+" ready", func() error {
			if !c.controllers[i].running() {
				c.t.Fatalf("controller on %s ended:\n%s", hostAddrs[i], c.controllers[i].tail(20))
			}
			_, err := c.curl(i, "http://127.0.0.1/readyz")
			return err
		})
	}
}

// memberStatus is a row of `anka-controller etcd status --json`.
type memberStatus struct {
	Endpoint string   `json:"endpoint"`
	ID       string   `json:"id"`
	Leader   bool     `json:"leader"`
	Learner  bool     `json:"learner"`
	Errors   []string `json:"errors"`
}

// etcdStatus asks as a person on host i would.
func (c *threeHosts) etcdStatus(i int) ([]memberStatus, error) {
	out, err := c.hosts[i].command(bin("anka-controller"), "etcd", "status", "--json").Output()
	var members []memberStatus
	if jsonErr := json.Unmarshal(out, &members); jsonErr != nil {
		return nil, errors.Join(err, jsonErr)
	}
	return members, err
}

// waitWhole waits until three members vote and are well, as host i sees it.
func (c *threeHosts) waitWhole(i int) {
	c.t.Helper()
	eventually(c.t, "three etcd members that vote", func() error {
		members, err := c.etcdStatus(i)
		if err != nil {
			return err
		}
		leaders := 0
		for _, m := range members {
			if m.Learner || len(m.Errors) > 0 {
				return fmt.Errorf("%+v", m)
			}
			if m.Leader {
				leaders++
			}
		}
		if len(members) != 3 || leaders != 1 {
			return fmt.Errorf("%+v", members)
		}
		return nil
	})
}

// template returns the id of the only template, once host i lists it.
func (c *threeHosts) template(i int) string { return c.templateAt(i, "http://127.0.0.1") }

func (c *threeHosts) templateAt(i int, url string) string {
	c.t.Helper()
	var list struct {
		Body []struct{ ID string }
	}
	eventually(c.t, "the template is listed", func() error {
		out, err := c.curl(i, url+"/api/v1/registry/vm")
		if err == nil {
			err = json.Unmarshal([]byte(out), &list)
		}
		if err == nil && len(list.Body) != 1 {
			err = fmt.Errorf("%s", out)
		}
		return err
	})
	return list.Body[0].ID
}

func (c *threeHosts) urls() []string {
	var urls []string
	for _, a := range hostAddrs {
		urls = append(urls, "http://"+a)
	}
	return urls
}

// node is a Mac on the network: the agent, and a hypervisor that starts nothing.
type node struct {
	cloud *threeHosts
	host  *host
	dir   string
	agent *process
}

func (c *threeHosts) newNode(addr string) *node {
	c.t.Helper()
	n := &node{cloud: c, host: c.net.newHost(addr), dir: c.t.TempDir()}
	c.t.Cleanup(func() { _ = n.anka("delete", "-a", "--yes") })
	return n
}

func (n *node) env() []string {
	// A command of its own: all nodes are of one machine and one user, where two
	// agents of one hypervisor are refused.
	own := filepath.Join(n.dir, "fakeanka")
	if err := os.Symlink(bin("fakeanka"), own); err != nil && !errors.Is(err, os.ErrExist) {
		n.cloud.t.Fatal(err)
	}
	return append(os.Environ(), "ANKA_STATE_DIR="+filepath.Join(n.dir, "state"), "ANKA_PATH="+own,
		"FAKEANKA_DIR="+filepath.Join(n.dir, "anka"), "FAKEANKA_MAX_RUNNING=8")
}

func (n *node) anka(args ...string) error {
	cmd := n.host.command(bin("fakeanka"), args...)
	cmd.Env = n.env()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("anka %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// join joins in the foreground: the agent is a process of the test.
func (n *node) join() { n.joinTo(strings.Join(n.cloud.urls(), ",")) }

func (n *node) joinTo(urls string) {
	n.agent = newProcess(n.cloud.t, "agent on "+n.host.addr, func() *exec.Cmd {
		cmd := n.host.command(bin("ankacluster"), "join", urls, "--foreground", "--force-no-sudo",
			"--name", "mac-"+n.host.name, "--max-vm-count", "6", "--ignore-arm-vm-limit", "--reserve-space", "0%",
			"--metrics-addr", "127.0.0.1:2113")
		cmd.Env = n.env()
		return cmd
	})
	n.agent.start()
}

func (n *node) label() string { return n.host.addr }

func (n *node) vmStarts() map[string]int { return vmStarts(n.dir) }

// vmStarts counts the VMs that the hypervisor below dir started, by instance.
func vmStarts(dir string) map[string]int {
	counts := make(map[string]int)
	data, _ := os.ReadFile(filepath.Join(dir, "anka", "calls.log")) // none: nothing was started
	for line := range strings.Lines(string(data)) {
		var call struct{ Args []string }
		if json.Unmarshal([]byte(line), &call) == nil && len(call.Args) > 0 && call.Args[0] == "start" {
			counts[call.Args[len(call.Args)-1]]++
		}
	}
	return counts
}
