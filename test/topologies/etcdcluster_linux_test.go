package topologies

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// writerVar makes this test's executable a client of etcd, on a host of the
// test's network: it writes one key after another to the members that the
// variable names and prints each key that was acknowledged, until SIGTERM.
const writerVar = "ANKA_TEST_WRITE"

func init() { roles[writerVar], roles[readerVar] = writeKeys, readKeys }

func writeKeys() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	client, err := clientv3.New(clientv3.Config{Endpoints: strings.Split(os.Getenv(writerVar), ","), DialTimeout: time.Second,
		DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: time.Second, Logger: zap.NewNop()})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer client.Close()
	for i := 0; ctx.Err() == nil; i++ {
		key := fmt.Sprintf("proof/%d", i)
		call, cancel := context.WithTimeout(context.Background(), time.Second)
		_, err := client.Put(call, key, "x")
		cancel()
		if err == nil {
			fmt.Println(key) // acknowledged: it must never be gone
		}
	}
	return 0
}

// TestEtcdClusterKeepsEveryAcknowledgedWrite runs three hosts with the same
// command line through what happens to disks and networks, with a writer going
// all the time, and then looks for every write that was acknowledged.
func TestEtcdClusterKeepsEveryAcknowledgedWrite(t *testing.T) {
	long(t)
	c := newThreeHosts(t)
	for i, p := range c.controllers {
		p.make = func() *exec.Cmd {
			return c.hosts[i].command(bin("anka-controller"), "etcd", "run", "--cluster", strings.Join(hostAddrs, ","), "--data-dir", c.dirs[i])
		}
	}
	order := []int{2, 0, 1} // not the order of the list
	for _, i := range order {
		c.controllers[i].start()
	}
	c.waitWhole(0)

	client := c.net.newHost("10.0.1.20")
	var endpoints []string
	for _, a := range hostAddrs {
		endpoints = append(endpoints, "http://"+a+":2379")
	}
	writer := newProcess(t, "writer", func() *exec.Cmd {
		cmd := client.command(os.Args[0])
		cmd.Env = append(os.Environ(), writerVar+"="+strings.Join(endpoints, ","))
		return cmd
	})
	writer.start()
	acknowledged := func() []string { return strings.Fields(writer.text()) }
	progress := func(what string) {
		t.Helper()
		before := len(acknowledged())
		eventually(t, "writes "+what, func() error {
			if n := len(acknowledged()) - before; n < 20 {
				return fmt.Errorf("%d of 20", n)
			}
			return nil
		})
	}
	progress("at first")
	ids := make(map[string]bool)
	for i, h := range c.hosts {
		t.Logf("%s: kill -9, disk kept", h.addr)
		c.controllers[i].kill()
		progress("while " + h.addr + " is dead")
		c.controllers[i].start()
		c.waitWhole(i)

		t.Logf("%s: cut off from the two others", h.addr)
		h.cut()
		progress("while " + h.addr + " is cut off")
		h.heal()
		c.waitWhole(i)

		t.Logf("%s: kill -9, disk lost", h.addr)
		c.controllers[i].kill()
		if err := os.RemoveAll(c.dirs[i]); err != nil {
			t.Fatal(err)
		}
		progress("while the disk of " + h.addr + " is lost")
		c.controllers[i].start()
		c.waitWhole((i + 1) % 3)
	}
	members, err := c.etcdStatus(0)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range members {
		ids[m.ID] = true
	}
	if len(ids) != 3 {
		t.Errorf("members %v, want three", ids)
	}

	t.Logf("%s: removed while it is dead, and back on an empty disk", hostAddrs[2])
	c.controllers[2].kill()
	c.admin(t, 0, "etcd", "remove", hostAddrs[2])
	progress("after a member was removed")
	c.controllers[2].start()
	c.refused(t, 2, "was removed from its cluster")
	if err := os.RemoveAll(c.dirs[2]); err != nil {
		t.Fatal(err)
	}
	c.controllers[2].start()
	c.waitWhole(2)

	t.Logf("%s: comes with the data of another cluster", hostAddrs[1])
	c.controllers[1].kill()
	own := c.dirs[1]
	c.dirs[1] = t.TempDir()
	foreign := newProcess(t, "another cluster", func() *exec.Cmd {
		return c.hosts[1].command(bin("anka-controller"), "etcd", "run", "--data-dir", c.dirs[1],
			"--etcd-listen-client", "127.0.0.1:23790", "--etcd-listen-peer", "127.0.0.1:23800")
	})
	foreign.start()
	eventually(t, "the other cluster is there", func() error { _, err := c.curl(1, "http://127.0.0.1:23790/readyz"); return err })
	foreign.stop()
	c.controllers[1].start()
	c.refused(t, 1, "belong to another cluster")
	c.dirs[1] = own
	c.controllers[1].start()
	c.waitWhole(1)

	t.Log("defragmented while it is written to")
	if out := c.admin(t, 1, "etcd", "members"); strings.Count(out, "10.0.1.") < 3 {
		t.Errorf("etcd members does not name three hosts:\n%s", out)
	}
	c.admin(t, 0, "etcd", "defrag")
	progress("after defrag")

	t.Log("power cut for all three at once")
	for _, p := range c.controllers {
		p.kill()
	}
	for _, p := range c.controllers {
		p.start()
	}
	progress("after a power cut for all")
	c.waitWhole(0)
	if code := writer.stop(); code != 0 {
		t.Errorf("writer ended with %d", code)
	}
	kept := acknowledged()
	c.checkKeys(t, 0, kept)

	t.Log("restore from a snapshot, on the second host")
	file := filepath.Join(t.TempDir(), "cloud.db")
	c.admin(t, 2, "etcd", "snapshot", file)
	for _, p := range c.controllers {
		p.stop()
	}
	c.admin(t, 1, "etcd", "restore", "--cluster", strings.Join(hostAddrs, ","), "--data-dir", c.dirs[1], file)
	c.controllers[1].start()
	for _, i := range []int{0, 2} {
		if err := os.RemoveAll(filepath.Join(c.dirs[i], "etcd")); err != nil {
			t.Fatal(err)
		}
		c.controllers[i].start()
	}
	c.waitWhole(0)
	c.checkKeys(t, 2, kept)
	t.Logf("%d acknowledged writes, none lost", len(kept))
}

// admin runs anka-controller on a host.
func (c *threeHosts) admin(t *testing.T, i int, args ...string) string {
	t.Helper()
	out, err := c.hosts[i].command(bin("anka-controller"), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("anka-controller %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// refused waits until the program on host i has ended with an error that says why
// and what to do.
func (c *threeHosts) refused(t *testing.T, i int, why string) {
	t.Helper()
	p := c.controllers[i]
	eventually(t, hostAddrs[i]+" refuses to start", func() error {
		if p.running() {
			return fmt.Errorf("it runs:\n%s", p.tail(3))
		}
		return nil
	})
	if code, said := p.cmd.ProcessState.ExitCode(), p.tail(3); code == 0 || !strings.Contains(said, why) || !strings.Contains(said, "away and start it again") {
		t.Errorf("ended with %d, want an error that says %q and what to do:\n%s", code, why, said)
	}
}

// checkKeys asks host i for every key, by a process that runs there.
func (c *threeHosts) checkKeys(t *testing.T, i int, keys []string) {
	t.Helper()
	cmd := c.hosts[i].command(os.Args[0])
	cmd.Env = append(os.Environ(), readerVar+"=http://127.0.0.1:2379")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("read all keys on %s: %v", hostAddrs[i], err)
	}
	there := make(map[string]bool)
	for _, k := range strings.Fields(string(out)) {
		there[k] = true
	}
	lost := 0
	for _, k := range keys {
		if !there[k] {
			lost++
			t.Errorf("%s was acknowledged and is lost", k)
		}
		if lost > 5 {
			t.Fatal("and more")
		}
	}
	if len(keys) == 0 {
		t.Fatal("nothing was written: this proves nothing")
	}
}

// readerVar makes this test's executable print every key of the writer.
const readerVar = "ANKA_TEST_READ"

func readKeys() int {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{os.Getenv(readerVar)}, Logger: zap.NewNop()})
	if err != nil {
		return 1
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	resp, err := client.Get(ctx, "proof/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for _, kv := range resp.Kvs {
		fmt.Println(string(kv.Key))
	}
	return 0
}
