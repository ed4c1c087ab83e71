package topologies

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/balancer"
	"github.com/ankacluster/ankacluster/balancer/drill/stall"
)

// flowServerVar makes this test's executable a server at the address that the variable
// holds, flowClientVar a pool's client with the flowPlan in it.
const (
	flowServerVar = "ANKA_TEST_FLOW_SERVER"
	flowClientVar = "ANKA_TEST_FLOW_CLIENT"
)

func init() {
	roles[flowServerVar] = flowServer
	roles[flowClientVar] = flowClient
}

type flowPlan struct {
	URLs  []string
	Names map[string][]string // addresses of names, in the order of a lookup's answer
}

// flowBytes is the answer of n bytes to a request, the same from every server.
func flowBytes(id string, n int) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8(sha256.Sum256([]byte(id))).Read(data) // it never fails
	return data
}

func flowServer() int {
	out := json.NewEncoder(os.Stdout)
	var mu sync.Mutex
	err := http.ListenAndServe(os.Getenv(flowServerVar), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/readyz" {
			return
		}
		_, _ = io.Copy(io.Discard, r.Body) // a cut body is the client's to notice
		id := r.Header.Get("X-Id")
		if r.Method == http.MethodPost && r.Header.Get(balancer.IdempotencyHeader) == "" {
			mu.Lock()
			_ = out.Encode(event{Kind: "ran", ID: id}) // stdout is the test's pipe
			mu.Unlock()
		}
		size, _ := strconv.Atoi(r.Header.Get("X-Size"))
		w.Header().Set("Content-Length", strconv.Itoa(size))
		_, _ = w.Write(flowBytes(id, size))
	}))
	fmt.Fprintln(os.Stderr, err)
	return 1
}

const (
	flowGap   = 5 * time.Millisecond // 200 requests a second
	flowAfter = 600                  // requests after the fault: three seconds
	flowLimit = 10 * time.Second     // of a request
)

// flowClient sends a request every 5 ms, says when a hundred have been answered, ends
// 600 requests after a SIGUSR1, and then tells of each what became of it.
func flowClient() int {
	var plan flowPlan
	if err := json.Unmarshal([]byte(os.Getenv(flowClientVar)), &plan); err != nil {
		panic(err)
	}
	cfg := balancer.DefaultConfig()
	if plan.Names != nil {
		cfg.Resolve = func(_ context.Context, host string) ([]string, error) { return plan.Names[host], nil }
	}
	b, err := balancer.New(cfg, nil)
	if err == nil {
		err = b.SetMembers(balancer.OriginJoin, plan.URLs)
	}
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running, open sync.WaitGroup
	running.Go(func() { _ = b.Run(ctx) })
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, syscall.SIGUSR1)
	out := json.NewEncoder(os.Stdout)
	watch := stall.Start()
	var all []*event
	var answered atomic.Int64
	warm, left := false, -1
	pace := time.NewTicker(flowGap)
	for i := 0; left != 0; i++ {
		select {
		case <-broken:
			left = flowAfter
		case <-pace.C:
			e := &event{Kind: []string{aRead, aKeyed, aRead, unkeyed}[i%4], ID: strconv.Itoa(i), At: time.Now()}
			all = append(all, e)
			left = max(left-1, -1)
			open.Go(func() {
				if err := e.send(b.Client()); err != nil {
					e.Err = err.Error()
				}
				e.Took = time.Since(e.At)
				answered.Add(1)
			})
			if !warm && answered.Load() > 100 {
				warm = true
				_ = out.Encode(event{Kind: "warm"})
			}
		}
	}
	open.Wait()
	stood := watch.Stop()
	for _, e := range all {
		end := e.At.Add(e.Took)
		if e.Err != "" && stood.Harm(e.At, end) {
			e.Kind = "void"
		}
		e.Took -= stood.Stood(e.At, end)
		_ = out.Encode(e)
	}
	cancel()
	running.Wait()
	return 0
}

// send sends the request and accepts nothing but its whole, right answer.
func (e *event) send(c *http.Client) error {
	ctx, cancel := context.WithTimeout(context.Background(), flowLimit)
	defer cancel()
	method := http.MethodPost
	if e.Kind == aRead {
		method = http.MethodGet
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://pool/x", nil)
	if err != nil {
		return err
	}
	size := 300
	if n, _ := strconv.Atoi(e.ID); n%20 == 2 {
		size = 50<<10 + n*7919%(350<<10)
	}
	req.Header.Set("X-Id", e.ID)
	req.Header.Set("X-Size", strconv.Itoa(size))
	if e.Kind == aKeyed {
		req.Header.Set(balancer.IdempotencyHeader, e.ID)
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	switch {
	case err != nil:
		return err
	case resp.StatusCode != http.StatusOK:
		return errors.New(resp.Status)
	case !bytes.Equal(got, flowBytes(e.ID, size)):
		return fmt.Errorf("%d bytes that are not the %d asked for", len(got), size)
	}
	return nil
}

// What a network does to packets, and what callers notice of it: 200 requests a second
// from one host to servers on others.
func TestFlowsThatDieSilently(t *testing.T) {
	long(t)
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("SKIPPED: needs the command nft (nftables)")
	}
	for _, test := range []struct {
		name    string
		servers int
		black   bool // the name's first address is black-holed
		fault   func(t *testing.T, h *host)
		lost    int // writes without a key that may fail or be slow
	}{
		{"flows forgotten, one server", 1, false, forgetFlows, 20},
		{"flows forgotten, one of three", 3, false, forgetFlows, 10},
		{"answers vanish", 3, false, func(t *testing.T, h *host) { filter(t, h, "output", "tcp sport 8090 drop") }, 10},
		{"requests vanish", 3, false, func(t *testing.T, h *host) { filter(t, h, "input", "tcp dport 8090 drop") }, 10},
		{"first address black-holed", 1, true, nil, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t)
			var plan flowPlan
			var servers []*process
			var first *host
			for i := range test.servers {
				h := n.newHost(fmt.Sprintf("10.9.0.%d", 11+i))
				if i == 0 {
					first = h
				}
				p := newProcess(t, "server "+h.addr, func() *exec.Cmd {
					cmd := h.command(os.Args[0])
					cmd.Env = append(os.Environ(), flowServerVar+"="+h.addr+":8090")
					return cmd
				})
				p.start()
				servers = append(servers, p)
				plan.URLs = append(plan.URLs, "http://"+h.addr+":8090")
			}
			if test.black {
				n.ip("-n", n.ns(first.name), "addr", "add", "10.9.0.99/24", "dev", "eth0")
				filter(t, first, "input", "ip daddr 10.9.0.99 drop")
				plan = flowPlan{URLs: []string{"http://server.test:8090"}, Names: map[string][]string{"server.test": {"10.9.0.99", first.addr}}}
			}
			caller := n.newHost("10.9.0.2")
			for _, url := range plan.URLs {
				if test.black {
					url = "http://" + first.addr + ":8090"
				}
				eventually(t, url+" answers", func() error { return caller.command("curl", "-sfm2", url+"/readyz").Run() })
			}
			text, err := json.Marshal(plan)
			if err != nil {
				t.Fatal(err)
			}
			client := newProcess(t, "client", func() *exec.Cmd {
				cmd := caller.command(os.Args[0])
				cmd.Env = append(os.Environ(), flowClientVar+"="+string(text))
				return cmd
			})
			client.start()
			eventually(t, "the client has answers", func() error {
				if len(events(t, client, "warm")) == 0 {
					return errors.New("not yet")
				}
				return nil
			})
			if test.fault != nil {
				test.fault(t, first)
			}
			_ = client.cmd.Process.Signal(syscall.SIGUSR1) // it runs
			select {
			case <-client.ended:
			case <-time.After(deadline):
				t.Fatal("the client did not end")
			}
			judgeFlows(t, client, servers, test.lost)
		})
	}
}

// filter has packets of a host dropped.
func filter(t *testing.T, h *host, hook, rule string) {
	t.Helper()
	for _, line := range []string{
		"add table inet flows",
		fmt.Sprintf("add chain inet flows %s { type filter hook %s priority 0; }", hook, hook),
		fmt.Sprintf("add rule inet flows %s %s", hook, rule),
	} {
		if out, err := h.command("nft", line).CombinedOutput(); err != nil {
			t.Fatalf("nft %s: %v: %s", line, err, out)
		}
	}
}

// forgetFlows drops every packet of the connections that a server has, as a firewall
// does that has forgotten them. New ones are well.
func forgetFlows(t *testing.T, h *host) {
	out, err := h.command("ss", "-Htn", "state", "established", "sport", "=", ":8090").Output()
	if err != nil {
		t.Fatal(err)
	}
	var ports []string
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) > 0 {
			if _, port, err := net.SplitHostPort(f[len(f)-1]); err == nil {
				ports = append(ports, port)
			}
		}
	}
	if len(ports) == 0 {
		t.Fatalf("%s has no connections: %s", h.addr, out)
	}
	set := "{ " + strings.Join(ports, ", ") + " }"
	filter(t, h, "input", "tcp sport "+set+" drop")
	filter(t, h, "output", "tcp dport "+set+" drop")
	t.Logf("%d flows are forgotten", len(ports))
}

// judgeFlows holds what callers saw to the promises of docs/balancing-comparison.md.
func judgeFlows(t *testing.T, client *process, servers []*process, lost int) {
	t.Helper()
	const slow = 500 * time.Millisecond
	for _, kind := range []string{aRead, aKeyed, unkeyed} {
		var failed, late int
		var longest time.Duration
		why := ""
		all := events(t, client, kind)
		for _, e := range all {
			longest = max(longest, e.Took)
			switch {
			case e.Err != "":
				failed++
				why = e.Err
			case e.Took > slow:
				late++
			}
		}
		t.Logf("%-20s %4d, %d failed, %d over %s, longest %s", kind, len(all), failed, late, slow, longest.Round(time.Millisecond))
		most := 0
		if kind == unkeyed {
			most = lost
		}
		if failed+late > most || len(all) == 0 {
			t.Errorf("%s: %d failed and %d took over %s; want %d at most (%s)", kind, failed, late, slow, most, why)
		}
	}
	if void := len(events(t, client, "void")); void > 0 {
		t.Logf("%d failed while the machine stood still", void)
	}
	ran := make(map[string]int)
	for _, p := range servers {
		for _, e := range events(t, p, "ran") {
			if ran[e.ID]++; ran[e.ID] > 1 {
				t.Errorf("write %s, which has no key, ran twice", e.ID)
			}
		}
	}
}
