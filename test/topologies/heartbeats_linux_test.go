package topologies

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloudstore"
)

// watcherVar makes this test's executable tell of every change of a node's life
// and of every instance in the etcd that the variable names, until SIGTERM.
const watcherVar = "ANKA_TEST_WATCH"

func init() { roles[watcherVar] = watchCloud }

// change is what the watcher saw, one JSON line each.
type change struct {
	What  string // live, instance; ready once the watch has begun
	ID    string
	Gone  bool
	Value json.RawMessage `json:",omitempty"`
}

func watchCloud() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{os.Getenv(watcherVar)}, Logger: zap.NewNop()})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer client.Close()
	out := json.NewEncoder(os.Stdout)
	for answer := range client.Watch(ctx, cloudstore.Prefix+"s/", clientv3.WithPrefix(), clientv3.WithCreatedNotify()) {
		if answer.Created {
			_ = out.Encode(change{What: "ready"}) // stdout is the test's pipe
		}
		for _, e := range answer.Events {
			what := path.Base(path.Dir(string(e.Kv.Key)))
			if what == "live" || what == "instance" {
				_ = out.Encode(change{what, path.Base(string(e.Kv.Key)), e.Type == clientv3.EventTypeDelete, e.Kv.Value})
			}
		}
	}
	if ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "the watch ended")
		return 1
	}
	return 0
}

// TestT9NodesAndVMsStayWhileEachControllerFails kills, stops and cuts off each of
// three controllers in turn, for two nodes that have VMs and are given more all
// the time. Not one heartbeat may fail, no node go offline even for a moment, and
// no VM be placed a second time. What a stopped controller was sent, it finds when
// it goes on: heartbeats and reports of before, which others have answered since.
func TestT9NodesAndVMsStayWhileEachControllerFails(t *testing.T) {
	long(t)
	t.Parallel()
	c := newThreeHosts(t)
	store, etcdDir, imageDir := c.net.newHost("10.0.1.3"), t.TempDir(), t.TempDir()
	registry := newProcess(t, "registry", func() *exec.Cmd {
		return store.command(bin("anka-registry"), "--base-path", imageDir, "--listen-addr", ":8089", "--min-free", "0")
	})
	etcd := newProcess(t, "etcd", func() *exec.Cmd {
		return store.command(bin("anka-controller"), "etcd", "run", "--data-dir", etcdDir, "--etcd-listen-client", store.addr+":2379", "--etcd-listen-peer", store.addr+":2380")
	})
	registry.start()
	etcd.start()
	for i, h := range c.hosts {
		c.controllers[i].make = func() *exec.Cmd {
			// The shortest time without a heartbeat that nodes of the usual pace allow.
			return h.command(bin("anka-controller"), "--etcd-endpoints", "http://"+store.addr+":2379", "--listen-addr", ":80",
				"--anka-registry", "http://"+store.addr+":8089", "--data-dir", c.dirs[i], "--node-active-timeout", "10s", "--instance-active-timeout", "10s")
		}
		c.controllers[i].start()
	}
	c.waitReady(0, 1, 2)
	watcher := newProcess(t, "watcher", func() *exec.Cmd {
		cmd := store.command(os.Args[0])
		cmd.Env = append(os.Environ(), watcherVar+"=http://"+store.addr+":2379")
		return cmd
	})
	watcher.start()
	eventually(t, "the watch has begun", func() error {
		if len(changes(t, watcher, "ready")) == 0 {
			return fmt.Errorf("%s", watcher.tail(3))
		}
		return nil
	})

	nodes := []*node{c.newNode("10.0.1.10"), c.newNode("10.0.1.11")}
	for _, args := range [][]string{{"create", "demo", "--size", "1M"}, {"registry", "-o2", "-r", "http://" + store.addr + ":8089", "push", "demo", "-t", "v1"}} {
		if err := nodes[0].anka(args...); err != nil {
			t.Fatal(err)
		}
	}
	template := c.template(0)
	for _, n := range nodes {
		n.join()
	}
	driver := newProcess(t, "driver", func() *exec.Cmd {
		cmd := store.command(os.Args[0])
		cmd.Env = append(os.Environ(), driverVar+"="+strings.Join(c.urls(), ","), driverTemplate+"="+template)
		return cmd
	})
	driver.start()
	waitVMs(t, driver, 4, "before any fault")
	stay := c.startToStay(template, len(nodes))

	for i, h := range c.hosts {
		p := c.controllers[i]
		signal := func(s os.Signal) {
			if err := p.cmd.Process.Signal(s); err != nil {
				t.Fatal(err)
			}
		}
		for _, harm := range []struct {
			name     string
			do, undo func()
		}{
			{"killed", p.kill, p.start},
			{"stopped", func() { signal(syscall.SIGSTOP) }, func() { signal(syscall.SIGCONT) }},
			{"cut off", h.cut, h.heal},
		} {
			harm.do()
			waitVMs(t, driver, 6, "while "+h.addr+" is "+harm.name)
			harm.undo()
			c.waitReady(i)
		}
	}
	waitVMs(t, driver, 4, "after all faults")
	if code := driver.stop(); code != 0 {
		t.Errorf("driver ended with %d: %s", code, driver.tail(3))
	}
	judge(t, driver, []vmHost{nodes[0], nodes[1]}, callPatience) // how long a start takes is another test's
	for _, n := range nodes {
		n.checkHeartbeats(3 * len(c.hosts))
	}
	checkNothingMoved(t, watcher, len(nodes), stay)
}

// startToStay starts VMs through the first host and returns when they are Started.
func (c *threeHosts) startToStay(template string, count int) map[string]bool {
	c.t.Helper()
	const api = "http://127.0.0.1/api/v1/vm"
	out, err := c.hosts[0].command("curl", "-sS", "-m", "30", "--fail-with-body", "-d", fmt.Sprintf(`{"vmid":%q,"count":%d}`, template, count), api).CombinedOutput()
	var answer struct{ Body []string }
	if err == nil {
		err = json.Unmarshal(out, &answer)
	}
	if err != nil || len(answer.Body) != count {
		c.t.Fatalf("start %d VMs: %v: %s", count, err, out)
	}
	ids := make(map[string]bool)
	for _, id := range answer.Body {
		ids[id] = true
		eventually(c.t, "VM "+id+" is Started", func() error {
			out, err := c.curl(0, api+"?id="+id)
			if err == nil && !strings.Contains(out, `"instance_state":"Started"`) {
				err = fmt.Errorf("%s", out)
			}
			return err
		})
	}
	return ids
}

var heartbeatMetric = regexp.MustCompile(`(?m)^anka_agent_heartbeats_total\{result="(\w+)"\} (\d+)$`)

// checkHeartbeats reads from the agent's metrics that each of at least so many
// heartbeats was answered.
func (n *node) checkHeartbeats(least int) {
	t := n.cloud.t
	t.Helper()
	page, err := n.host.command("curl", "-sS", "--fail", "-m", "5", "http://127.0.0.1:2113/metrics").Output()
	if err != nil {
		t.Fatalf("metrics of the agent on %s: %v", n.host.addr, err)
	}
	results := make(map[string]int)
	for _, m := range heartbeatMetric.FindAllStringSubmatch(string(page), -1) {
		results[m[1]], _ = strconv.Atoi(m[2])
	}
	if len(results) != 1 || results["ok"] < least {
		t.Errorf("heartbeats of %s: %v, want %d or more and no error", n.host.addr, results, least)
	}
	t.Logf("%s: heartbeats %v", n.host.addr, results)
}

// changes returns what the watcher told of.
func changes(t *testing.T, watcher *process, what string) []change {
	t.Helper()
	return told(t, watcher, func(c change) bool { return c.What == what })
}

// checkNothingMoved looks at every change of the cloud: each node came to life
// once, each instance was placed once, and those that were to stay are Started
// ever since they were.
func checkNothingMoved(t *testing.T, watcher *process, nodes int, stay map[string]bool) {
	t.Helper()
	if !watcher.running() {
		t.Fatalf("the watcher ended: %s", watcher.tail(3))
	}
	lives := changes(t, watcher, "live")
	if len(lives) != nodes {
		t.Errorf("%d changes of nodes' lives, want one for each of %d nodes", len(lives), nodes)
	}
	started, placed := make(map[string]bool), make(map[string]int)
	for _, c := range changes(t, watcher, "instance") {
		if c.Gone {
			continue // one that has ended is forgotten after a while
		}
		var i struct {
			Public  controllerapi.Instance
			Attempt int
		}
		if err := json.Unmarshal(c.Value, &i); err != nil {
			t.Fatal(err)
		}
		if i.Attempt > max(placed[c.ID], 1) {
			t.Errorf("instance %s is placed for the %dth time: %s", c.ID, i.Attempt, i.Public.Message)
		}
		placed[c.ID] = i.Attempt
		now := i.Public.InstanceState
		if stay[c.ID] && started[c.ID] && now != controllerapi.Started {
			t.Errorf("instance %s became %s: %s", c.ID, now, i.Public.Message)
		}
		started[c.ID] = now == controllerapi.Started
	}
	for id := range stay {
		if !started[id] {
			t.Errorf("instance %s is not Started at the end", id)
		}
	}
	t.Logf("%d instances were placed", len(placed))
}
