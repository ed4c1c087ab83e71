package etcdmember

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/client/v3"
	"go.uber.org/zap/zaptest"

	"github.com/ankacluster/ankacluster/internal/backoff"
)

// testCluster is a set of hosts on loopback.
type testCluster struct {
	t       *testing.T
	configs []Config
	members []*runningMember
}

// newTestCluster gives each of n hosts an address of its own and starts none.
func newTestCluster(t *testing.T, n int) *testCluster {
	t.Helper()
	c := &testCluster{t: t, members: make([]*runningMember, n)}
	hosts, clients := testHosts(t, n)
	for i := range n {
		cfg := DefaultConfig()
		cfg.DataDir = filepath.Join(t.TempDir(), "host"+strconv.Itoa(i))
		cfg.Cluster = hosts
		cfg.Self = hosts[i].String()
		cfg.ClientListen = clients[i]
		c.configs = append(c.configs, cfg)
	}
	return c
}

// clusters counts the networks that testHosts has given away.
var clusters atomic.Int32

// testHosts returns addresses that nobody else uses: on Linux any 127.x.y.z is
// loopback, so every host keeps the default ports, in networks that only this
// process has; elsewhere ports are found.
func testHosts(t *testing.T, n int) (hosts []Host, clientListen []string) {
	t.Helper()
	base := fmt.Sprintf("127.%d.%d.", 1+os.Getpid()%254, clusters.Add(1))
	for i := range n {
		if runtime.GOOS == "linux" {
			ip := base + strconv.Itoa(i+1)
			hosts = append(hosts, Host{ip, DefaultPeerPort})
			clientListen = append(clientListen, ip+":2379")
			continue
		}
		hosts = append(hosts, Host{"127.0.0.1", freePort(t)})
		clientListen = append(clientListen, "127.0.0.1:"+strconv.Itoa(freePort(t)))
	}
	return hosts, clientListen
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func (c *testCluster) start(i int) *runningMember {
	c.t.Helper()
	c.members[i] = runMember(c.t, c.configs[i])
	return c.members[i]
}

func (c *testCluster) startAll() {
	c.t.Helper()
	for i := range c.members {
		c.start(i)
	}
	c.waitReady()
}

func (c *testCluster) waitReady() {
	c.t.Helper()
	for _, m := range c.members {
		m.waitReady(c.t)
	}
}

func (c *testCluster) wipe(i int) {
	c.t.Helper()
	if err := os.RemoveAll(c.configs[i].DataDir); err != nil {
		c.t.Fatal(err)
	}
}

// settled waits until n hosts vote, and returns the cluster's id.
func (c *testCluster) settled(n int) uint64 {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), testDeadline)
	defer cancel()
	client := connect(c.t, c.endpoints())
	for {
		resp, err := client.MemberList(ctx)
		if err == nil {
			voters := 0
			for _, m := range resp.Members {
				if !m.IsLearner && len(m.ClientURLs) > 0 {
					voters++
				}
			}
			if voters == n && len(resp.Members) == n {
				return resp.Header.ClusterId
			}
		}
		if !backoff.Sleep(ctx, 50*time.Millisecond) {
			c.t.Fatalf("not %d voting members after %s: %v, %v", n, testDeadline, resp, err)
		}
	}
}

func (c *testCluster) endpoints() []string {
	var eps []string
	for _, m := range c.members {
		if m != nil {
			eps = append(eps, "http://"+m.cfg.ClientListen)
		}
	}
	return eps
}

// put writes and returns once it is acknowledged.
func (c *testCluster) put(key, value string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), testDeadline)
	defer cancel()
	client := connect(c.t, c.endpoints())
	for {
		err := call(ctx, func(ctx context.Context) error { _, err := client.Put(ctx, key, value); return err })
		if err == nil {
			return
		}
		if !backoff.Sleep(ctx, 50*time.Millisecond) {
			c.t.Fatalf("put %s: %v", key, err)
		}
	}
}

// patientGet reads a key, also when an election comes between.
func patientGet(ctx context.Context, client *Client, key string) (resp *clientv3.GetResponse, err error) {
	for {
		err = call(ctx, func(ctx context.Context) error { resp, err = client.Get(ctx, key); return err })
		if err == nil || !backoff.Sleep(ctx, 50*time.Millisecond) {
			return resp, err
		}
	}
}

// check asks one host for a value.
func (c *testCluster) check(i int, key, want string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), testDeadline)
	defer cancel()
	resp, err := patientGet(ctx, connect(c.t, []string{"http://" + c.configs[i].ClientListen}), key)
	if err != nil || len(resp.Kvs) != 1 || string(resp.Kvs[0].Value) != want {
		c.t.Fatalf("host %d, key %s: got %v, %v, want %q", i, key, resp, err, want)
	}
}

// introduces waits until a host that has not decided answers its peers.
func (c *testCluster) introduces(i int) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), testDeadline)
	defer cancel()
	p := newProber(c.configs[i].Cluster, nil)
	for p.one(ctx, c.configs[i].Cluster[i]).State == Unreachable {
		if !backoff.Sleep(ctx, 20*time.Millisecond) {
			c.t.Fatalf("host %d does not answer", i)
		}
	}
}

func TestClusterFormsInEveryOrderAndAtOnce(t *testing.T) {
	t.Parallel()
	orders := [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}, nil}
	for _, order := range orders {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			c := newTestCluster(t, 3)
			if order == nil {
				c.startAll()
			}
			for _, i := range order {
				c.start(i)
				c.introduces(i)
			}
			c.waitReady()
			c.settled(3)
			c.put("key", "value")
			for i := range c.members {
				c.check(i, "key", "value")
			}
		})
	}
}

func TestNobodyBeginsAClusterUntilEveryHostHasAnswered(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	c.start(0)
	c.start(1)
	c.introduces(0)
	c.introduces(1)
	// Two of three hosts may be the ones that lost their disks.
	for _, i := range []int{0, 1} {
		f := c.formation(i)
		if d := Decide(Local{}, f.self, f.cfg.Cluster, f.probe.all(t.Context(), f.self), false); d.Action != Wait || !strings.Contains(d.Reason, c.configs[2].Self) {
			t.Errorf("host %d: got %s (%s), want wait for %s", i, d.Action, d.Reason, c.configs[2].Self)
		}
	}
	c.start(2)
	c.waitReady()
}

func (c *testCluster) formation(i int) *formation {
	self, err := ParseHost(c.configs[i].Self)
	if err != nil {
		c.t.Fatal(err)
	}
	cfg := c.configs[i].withAddresses(self)
	log := zaptest.NewLogger(c.t)
	return &formation{cfg: cfg, self: self, log: log, quiet: newQuiet(log), probe: newProber(cfg.Cluster, nil)}
}

func TestLostDiskIsReplacedWhicheverHostItIs(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	c.startAll()
	id := c.settled(3)
	c.put("before", "1")
	for lost := range 3 {
		old := c.memberID(lost)
		if err := c.members[lost].stop(); err != nil {
			t.Fatalf("stop host %d: %v", lost, err)
		}
		c.members[lost] = nil
		c.put("meanwhile", strconv.Itoa(lost))
		c.wipe(lost)
		c.start(lost).waitReady(t)
		if got := c.settled(3); got != id {
			t.Fatalf("host %d: cluster id is now %x, was %x: a new cluster was begun", lost, got, id)
		}
		if c.memberID(lost) == old {
			t.Errorf("host %d came back under its old identity %x without its log", lost, old)
		}
		c.check(lost, "before", "1")
		c.check(lost, "meanwhile", strconv.Itoa(lost))
	}
}

func (c *testCluster) memberID(i int) uint64 {
	return uint64(c.members[i].state.Load().etcd.Server.MemberID())
}

func TestRestartOfAllHostsKeepsTheCluster(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	c.startAll()
	id := c.settled(3)
	c.put("key", "value")
	for _, m := range c.members {
		if err := m.stop(); err != nil {
			t.Fatal(err)
		}
	}
	c.startAll()
	if got := c.settled(3); got != id {
		t.Fatalf("cluster id is now %x, was %x", got, id)
	}
	for i := range c.members {
		c.check(i, "key", "value")
	}
}

func TestLostMajorityWaitsAndInventsNothing(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	c.startAll()
	id := c.settled(3)
	for _, m := range c.members {
		if err := m.stop(); err != nil {
			t.Fatal(err)
		}
	}
	c.wipe(0)
	c.wipe(1)
	for i := range c.members {
		c.start(i)
	}
	// Host 0 is first of the list: it is the one that would begin a cluster.
	f := c.formation(0)
	f.cfg.DataDir = filepath.Join(t.TempDir(), "unused")
	ctx, cancel := context.WithTimeout(t.Context(), testDeadline)
	defer cancel()
	for {
		peers := f.probe.all(ctx, f.self)
		d := Decide(Local{}, f.self, f.cfg.Cluster, peers, false)
		if d.Action == Join {
			if d.Via[0].ID != id {
				t.Fatalf("host 0 would join %x, want %x", d.Via[0].ID, id)
			}
			if _, err := f.enlist(ctx, d.Via); err == nil || !strings.Contains(err.Error(), "restore") {
				t.Fatalf("got %v, want an error that names restore", err)
			}
			break
		}
		if d.Action != Wait {
			t.Fatalf("got %s (%s), want wait or join", d.Action, d.Reason)
		}
		backoff.Sleep(ctx, 50*time.Millisecond)
	}
	for i, m := range c.members {
		select {
		case <-m.Ready():
			t.Errorf("host %d is ready without a majority", i)
		default:
		}
	}
}

func TestDataOfAnotherClusterAreRefused(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	alone := c.configs[1]
	alone.Cluster, alone.Self, alone.PeerListen = nil, "", "127.0.0.1:0"
	m := runMember(t, alone) // host 1 has been used alone before
	m.waitReady(t)
	if err := m.stop(); err != nil {
		t.Fatal(err)
	}
	other := c.configs[0]
	other.Cluster, other.Self, other.PeerListen = nil, "", "127.0.0.1:0"
	m = runMember(t, other) // and so has host 0
	m.waitReady(t)
	if err := m.stop(); err != nil {
		t.Fatal(err)
	}
	c.start(0)
	c.introduces(0)
	c.start(1)
	select {
	case <-c.members[1].done:
	case <-c.members[0].done:
		c.members[0], c.members[1] = c.members[1], c.members[0]
	case <-time.After(testDeadline):
		t.Fatal("neither host refuses")
	}
	err := c.members[1].err
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "another cluster") || !strings.Contains(err.Error(), "move") {
		t.Fatalf("got %v, want a refusal that says what to do", err)
	}
}

func TestMemberAloneGrowsIntoACluster(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	alone := c.configs[2]
	alone.Cluster, alone.Self, alone.PeerListen = nil, "", "127.0.0.1:0"
	m := runMember(t, alone)
	m.waitReady(t)
	ctx, cancel := context.WithTimeout(t.Context(), testDeadline)
	defer cancel()
	if _, err := connect(t, m.Endpoints()).Put(ctx, "key", "value"); err != nil {
		t.Fatal(err)
	}
	if err := m.stop(); err != nil {
		t.Fatal(err)
	}
	c.startAll()
	c.settled(3)
	for i := range c.members {
		c.check(i, "key", "value")
	}
}

func TestRemovedMemberIsRefused(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	c.startAll()
	c.settled(3)
	gone := c.memberID(2)
	if err := c.members[2].stop(); err != nil {
		t.Fatal(err)
	}
	c.members[2] = nil
	ctx, cancel := context.WithTimeout(t.Context(), testDeadline)
	defer cancel()
	if err := remove(ctx, connect(t, c.endpoints()).Client, gone); err != nil {
		t.Fatalf("remove: %v", err)
	}
	m := c.start(2)
	select {
	case <-m.done:
	case <-time.After(testDeadline):
		t.Fatal("the removed member runs")
	}
	if !errors.Is(m.err, ErrRefused) || !strings.Contains(m.err.Error(), "removed") {
		t.Fatalf("got %v, want a refusal that says it was removed", m.err)
	}
	c.wipe(2)
	c.start(2).waitReady(t)
	c.settled(3)
}

func TestDifferentListsWait(t *testing.T) {
	t.Parallel()
	c := newTestCluster(t, 3)
	c.configs[1].Cluster = slices.Clone(c.configs[1].Cluster[:2])
	c.start(1)
	c.introduces(1)
	f := c.formation(0)
	d := Decide(Local{}, f.self, f.cfg.Cluster, f.probe.all(t.Context(), f.self), false)
	if d.Action != Wait || !strings.Contains(d.Reason, "--cluster") {
		t.Fatalf("got %s (%s), want wait, naming --cluster", d.Action, d.Reason)
	}
}
