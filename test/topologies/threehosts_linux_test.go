package topologies

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// longestStall is what the guide's reader is promised.
const longestStall = 5 * time.Second

// withPushRegistry makes the first host's registry the one that is pushed to, and
// those of the others its replicas, each a process beside its controller.
func (c *threeHosts) withPushRegistry() (registries []*process) {
	push := "http://" + hostAddrs[0] + ":8089"
	for i, h := range c.hosts {
		dir := c.t.TempDir()
		registries = append(registries, newProcess(c.t, "registry on "+h.addr, func() *exec.Cmd {
			args := []string{"--base-path", dir, "--listen-addr", ":8089", "--min-free", "0", "--enable-metrics", "--metrics-port", "2114"}
			if i > 0 {
				args = append(args, "--replica-of", push)
			}
			return h.command(bin("anka-registry"), args...)
		}))
		c.controllers[i].make = func() *exec.Cmd {
			return h.command(bin("anka-controller"), "--standalone", "--cluster", strings.Join(hostAddrs, ","), "--data-dir", c.dirs[i],
				"--listen-addr", ":80", "--enable-metrics", "--anka-registry", "http://"+h.addr+":8089", "--push-registry", push)
		}
	}
	return registries
}

// TestThreeHostsLoseOneWhileVMsStart is the guide's "node-side load balancing":
// every host is killed and then cut off, one after another, while VMs are started
// all the time. No start may fail, none may run twice, nobody may wait long.
func TestThreeHostsLoseOneWhileVMsStart(t *testing.T) {
	long(t)
	c := newThreeHosts(t)
	registries := c.withPushRegistry()
	for i := range c.hosts {
		registries[i].start()
		c.controllers[i].start()
	}
	c.waitReady(0, 1, 2)
	c.waitWhole(0)

	nodes := []*node{c.newNode("10.0.1.10"), c.newNode("10.0.1.11")}
	if err := nodes[0].anka("create", "demo", "--size", "1M"); err != nil {
		t.Fatal(err)
	}
	if err := nodes[0].anka("registry", "-o2", "-r", "http://"+hostAddrs[0]+":8089", "push", "demo", "-t", "v1"); err != nil {
		t.Fatal(err)
	}
	template := ""
	for i := range c.hosts {
		template = c.template(i)
	}
	for _, n := range nodes {
		n.join()
	}
	eventually(t, "both nodes are active", func() error {
		out, err := c.curl(0, "http://127.0.0.1/api/v1/node")
		if err == nil && strings.Count(out, `"state":"Active"`) != len(nodes) {
			err = fmt.Errorf("%s", out)
		}
		return err
	})

	driver := newProcess(t, "driver", func() *exec.Cmd {
		cmd := nodes[0].host.command(os.Args[0])
		cmd.Env = append(os.Environ(), driverVar+"="+strings.Join(c.urls(), ","), driverTemplate+"="+template)
		return cmd
	})
	driver.start()
	waitVMs(t, driver, 8, "before any fault")
	for i, h := range c.hosts {
		t.Logf("%s: kill -9 of all that runs there", h.addr)
		c.controllers[i].kill()
		registries[i].kill()
		waitVMs(t, driver, 8, "while "+h.addr+" is dead")
		registries[i].start()
		c.controllers[i].start()
		c.waitReady(i)
		c.waitWhole(i)

		t.Logf("%s: cut off", h.addr)
		h.cut()
		waitVMs(t, driver, 8, "while "+h.addr+" is cut off")
		h.heal()
		c.waitReady(i)
		c.waitWhole(i)
	}
	waitVMs(t, driver, 8, "after all faults")
	if code := driver.stop(); code != 0 {
		t.Errorf("driver ended with %d: %s", code, driver.tail(3))
	}
	judge(t, driver, []vmHost{nodes[0], nodes[1]}, longestStall)
	checkMetrics(t, c, nodes[0])
}

var metricName = regexp.MustCompile(`\b(anka|etcd)_[a-z_]+\b`)

// notHere are metrics that this cloud has no reason to serve.
var notHere = map[string]string{
	"anka_controller_group_vm_slots":             "there is no group",
	"anka_controller_start_failures_total":       "no start failed",
	"anka_registry_cluster_tags_with_few_copies": "these registries are no cluster",
	"anka_registry_cluster_hosts":                "these registries are no cluster",
	"anka_registry_cluster_hosts_live":           "these registries are no cluster",
}

// checkMetrics looks up every metric that deploy/monitoring names in the running
// cloud: an alert on a metric that does not exist never fires.
func checkMetrics(t *testing.T, c *threeHosts, n *node) {
	t.Helper()
	page, err := c.curl(1, "http://127.0.0.1:2112/metrics")
	if err != nil {
		t.Fatal(err)
	}
	replica, err := c.curl(1, "http://127.0.0.1:2114/metrics")
	if err != nil {
		t.Fatal(err)
	}
	agent, err := n.host.command("curl", "-sS", "--fail", "-m", "5", "http://127.0.0.1:2113/metrics").Output()
	if err != nil {
		t.Fatalf("metrics of the agent: %v", err)
	}
	there := make(map[string]bool)
	for _, name := range metricName.FindAllString(page+replica+string(agent), -1) {
		there[name] = true
	}
	for _, file := range []string{"alerts.yml", "grafana-dashboard.json"} {
		text, err := os.ReadFile(deployFile(t, "monitoring/"+file))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range metricName.FindAllString(string(text), -1) {
			if _, none := notHere[name]; !there[name] && !none {
				t.Errorf("%s names %s, which nobody serves", file, name)
			}
		}
	}
}

func events(t *testing.T, driver *process, kind string) []event {
	t.Helper()
	return told(t, driver, func(e event) bool { return e.Kind == kind })
}

// told returns those of the JSON lines that p has written so far which are wanted.
func told[T any](t *testing.T, p *process, wanted func(T) bool) []T {
	t.Helper()
	var out []T
	for line := range strings.Lines(p.text()) {
		var v T
		if !strings.HasSuffix(line, "\n") {
			continue // half a line: the rest is on its way
		}
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("%s said %q", p.name, line)
		}
		if wanted(v) {
			out = append(out, v)
		}
	}
	return out
}

// vmHost is a Mac of the cloud, in whatever way it is played.
type vmHost interface {
	label() string
	vmStarts() map[string]int
}

// judge says whether anybody could have noticed; stall is how long a request may
// take at most.
func judge(t *testing.T, driver *process, nodes []vmHost, stall time.Duration) {
	t.Helper()
	starts, started, ended := events(t, driver, "start"), events(t, driver, "started"), events(t, driver, "ended")
	var longest, gap time.Duration
	for i, e := range starts {
		if e.Err != "" {
			t.Errorf("a start failed after %s: %s", e.Took, e.Err)
		}
		longest = max(longest, e.Took)
		if i > 0 {
			gap = max(gap, e.At.Sub(starts[i-1].At))
		}
	}
	if len(started) != len(starts) || len(ended) != len(starts) {
		t.Errorf("%d starts were acknowledged, %d were followed to Started and %d to their end", len(starts), len(started), len(ended))
	}
	var slowest time.Duration
	for _, e := range append(started, ended...) {
		if e.Err != "" {
			t.Errorf("instance %s, %s: %s", e.ID, e.Kind, e.Err)
		}
		if e.Kind == "started" {
			slowest = max(slowest, e.Took)
		}
	}
	where := make(map[string]string)
	for _, n := range nodes {
		for vm := range n.vmStarts() {
			if other, ok := where[vm]; ok {
				t.Errorf("VM %s was started on %s and on %s", vm, other, n.label())
			}
			where[vm] = n.label()
		}
	}
	if longest > stall {
		t.Errorf("the longest start request took %s, want under %s", longest, stall)
	}
	t.Logf("%d starts, none failed: %d VMs on %d nodes; longest start request %s, longest pause between two acknowledged starts %s, slowest VM %s",
		len(starts), len(where), len(nodes), longest.Round(time.Millisecond), gap.Round(time.Millisecond), slowest.Round(time.Millisecond))
	if len(starts) == 0 {
		t.Error("nothing was started: this proves nothing")
	}
}
