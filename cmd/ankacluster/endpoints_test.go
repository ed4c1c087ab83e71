package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/ankacluster/ankacluster/agent/node"
	"github.com/ankacluster/ankacluster/balancer"
	"github.com/ankacluster/ankacluster/internal/termstyle"
)

// The proxy runs in front of a server that works, one without readiness and an
// address where nothing listens. What `endpoints` prints in each of its forms, the
// metrics and the lines of `status` tell the same of them.
func TestEveryViewOfTheEndpointsTellsTheSame(t *testing.T) {
	t.Parallel()
	works := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer works.Close()
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/readyz" {
			http.NotFound(w, r)
		}
	}))
	defer plain.Close()
	held, err := net.Dial("tcp", strings.TrimPrefix(works.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	dead := "http://" + held.LocalAddr().String() // taken, and nothing listens

	pr := &proxyProcess{log: zaptest.NewLogger(t), pools: make(map[string]*balancer.Balancer)}
	for _, err := range []error{
		pr.controllers([]string{works.URL, plain.URL, dead}, "127.0.0.1:0"),
		pr.registries([]string{works.URL}, "127.0.0.1:0"),
		pr.metrics("127.0.0.1:0"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	address := func(i int) string { return "http://" + pr.servers[i].Listener.Addr().String() }
	socket := filepath.Join(t.TempDir(), "s")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- pr.run(ctx, socket) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()

	endpoints := func(args ...string) string {
		t.Helper()
		var out, errOut bytes.Buffer
		if code := run(t.Context(), append([]string{"ankacluster", "endpoints", "--socket", socket}, args...), &out, &errOut); code != 0 {
			t.Fatalf("endpoints %q ended with %d: %s", args, code, errOut.String())
		}
		return out.String()
	}
	status := func() (pools map[string]balancer.Status) {
		if err := json.Unmarshal([]byte(endpoints("--json")), &pools); err != nil {
			t.Fatal(err)
		}
		return pools
	}
	within := time.Now().Add(55 * time.Second) // from a minute on, times are shown otherwise
	await := func(what string, ok func() bool) {
		for !ok() {
			if time.Now().After(within) {
				t.Fatal("never: " + what)
			}
		}
	}
	await("the socket answers", func() bool {
		return run(t.Context(), []string{"ankacluster", "endpoints", "--socket", socket}, io.Discard, io.Discard) == 0
	})
	await("the pool knows its endpoints", func() bool {
		e := status()["controllers"].Endpoints
		return e[0].State == balancer.Healthy && e[1].Reason != "new" && e[2].State == balancer.Down
	})
	for range 10 {
		resp, err := http.Get(address(0) + "/x")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}

	var pools map[string]balancer.Status
	await("all requests have ended", func() bool { // a slow machine may have had one hedged
		pools = status()
		e := pools["controllers"].Endpoints
		return e[0].InFlight+e[1].InFlight == 0 && e[0].Requests+e[1].Requests >= 10
	})
	for _, name := range []string{"controllers", "registries", "blobs"} {
		if pools[name].Name != name {
			t.Errorf("the pool %s is called %q", name, pools[name].Name)
		}
	}
	controllers := pools["controllers"]
	text, why, metrics := endpoints(), endpoints("--why"), fetch(t, address(len(pr.servers)-1)+"/metrics")
	var row bytes.Buffer
	printPool(&row, termstyle.Look{}, "controllers", controllers, time.Now())
	first := controllers.Endpoints[0]
	share, requests := fmt.Sprintf("%.0f%%", first.Share*100), fmt.Sprint(first.Requests)
	for _, want := range []struct {
		in, url, line string // a pattern, after the URL
	}{
		{text, works.URL, `  healthy for \d+s\n +` + share + ` of the last minute's requests, 100\.0% ok, 0 in flight`},
		{text, plain.URL, `  unknown for \d+s\n +\d+% of the last minute's requests, 100\.0% ok, 0 in flight`},
		{text, dead, `  down for \d+s, next probe in \d\.\ds\n +first probe failed: connection refused\n +no requests yet, 0 in flight`},
		{why, works.URL, `.*\n( {6}.*\n)* +given\n.*first probe passed\n.*choose it: yes; breaker closed; .*\n +requests ` + requests + `, failed 0,`},
		{why, plain.URL, `.*\n( {6}.*\n)* +given\n.*new; newest probe: answered 404, which says\n +nothing\n.*choose it: yes; breaker closed; `},
		{why, dead, `.*\n( {6}.*\n)* +given\n.*first probe failed: connection refused\n.*choose it: no; breaker closed; next probe in .*\n +requests 0, failed 0, late 0, ejected 1 times`},
		{row.String(), works.URL, `  healthy for \d+s\n`},
		{row.String(), dead, `  down for \d+s, next probe in .*\n +first probe failed: connection refused\n`},
		{metrics, works.URL, `",pool="controllers",state="healthy"} 1\n`},
		{metrics, plain.URL, `",pool="controllers",state="unknown"} 1\n`},
		{metrics, dead, `",pool="controllers",state="down"} 1\n`},
		{metrics, works.URL, `",pool="controllers"} ` + requests + `\n`},
		{metrics, dead, `",pool="controllers"} 0\n`},
	} {
		if !regexp.MustCompile(regexp.QuoteMeta(want.url) + want.line).MatchString(want.in) {
			t.Errorf("no %s%s in\n%s", want.url, want.line, want.in)
		}
	}
	if !strings.HasPrefix(text, "controllers: 2 of 3 usable\n") || !strings.Contains(metrics, `anka_balancer_failed_open{pool="controllers"} 0`) {
		t.Errorf("the pool as a whole is not told of:\n%s%s", text, metrics)
	}
}

func fetch(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// A pool in which none is well says so at its head, and why at each, wherever it
// is looked at.
func TestFailedOpenPoolTellsWhy(t *testing.T) {
	now := time.Now()
	s := balancer.Status{FailedOpen: true, Endpoints: []balancer.EndpointStatus{
		{URL: "http://a", State: balancer.Down, Since: now, Reason: "first probe failed: refused", Eligible: true, NextProbe: now},
	}}
	var row, text bytes.Buffer
	printPool(&row, termstyle.Look{}, "controllers", s, now)
	if err := printEndpoints(&text, poolMap{"controllers": s}, false, now); err != nil {
		t.Fatal(err)
	}
	for _, got := range []string{row.String(), text.String()} {
		for _, want := range []string{"FAILED OPEN: none is well", "first probe failed: refused"} {
			if !strings.Contains(got, want) {
				t.Errorf("no %q in\n%s", want, got)
			}
		}
	}
}

// A person drains a server of a proxy, which forgets that when it ends. Not parallel:
// cli keeps its help flag in a global.
func TestServerOfAProxyIsDrained(t *testing.T) {
	var servers []string
	for range 2 {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {}))
		defer s.Close()
		servers = append(servers, s.URL)
	}
	pr := &proxyProcess{log: zaptest.NewLogger(t), pools: make(map[string]*balancer.Balancer)}
	if err := pr.controllers(servers, "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(t.TempDir(), "s")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- pr.run(ctx, socket) }()
	defer func() { cancel(); <-done }()
	endpoints := func(args ...string) (string, int) {
		var out bytes.Buffer
		code := run(t.Context(), append(append([]string{"ankacluster", "endpoints"}, args...), "--socket", socket), &out, &out)
		return out.String(), code
	}
	for code := 1; code != 0; {
		_, code = endpoints()
	}
	for _, step := range []struct {
		args string
		code int
		want string
	}{
		{"drain " + servers[1], 0, servers[1] + " is drained: no new request goes there; none is under way\ncontrollers: 1 of 2 usable\n" +
			"it stays so until the process ends, or you type:\n  ankacluster endpoints undrain --socket " + socket + " " + servers[1] + "\n"},
		{"drain " + servers[0], 1, "no other endpoint of the pool is usable"},
		{"drain http://127.0.0.1:9", 1, "is none of the servers here: http"},
		{"drain --json " + servers[1], 0, `"outlasts_restart": false`},
		{"", 0, "drained by hand since "},
		{"undrain " + servers[1], 0, servers[1] + " is used again, with a share that grows\ncontrollers: 2 of 2 usable\n"},
	} {
		if got, code := endpoints(strings.Fields(step.args)...); code != step.code || !strings.Contains(got, step.want) {
			t.Errorf("%s: exit %d, want %d and\n%s\ngot\n%s", step.args, code, step.code, step.want, got)
		}
	}
}

func TestWhatADrainCameToIsTold(t *testing.T) {
	now := time.Now()
	one := balancer.EndpointStatus{URL: "http://a:1", Server: "one", State: balancer.Draining, Since: now, InFlight: 1, LongPolls: 1}
	other := balancer.EndpointStatus{URL: "http://a.example:1", Server: "one", State: balancer.Healthy, Weight: 1, Eligible: true}
	down := one
	down.State, down.Reason = balancer.Down, "drain ended, and its probes fail"
	pool := func(usable int, es ...balancer.EndpointStatus) map[string]balancer.Status {
		return map[string]balancer.Status{"controllers": {Usable: usable, Endpoints: es}}
	}
	for _, tt := range []struct {
		a    node.DrainAnswer
		want string
	}{
		{node.DrainAnswer{Drained: true, OutlastsRestart: true, Pools: pool(1, one, other)}, "http://a:1 is drained: no new request goes there; 2 requests under way may end\n" +
			"the same server is still used at its other address: drain http://a.example:1 as\nwell\ncontrollers: 1 of 1 usable, at 2 addresses\n" +
			"it stays so, also when the agent restarts, until you type:\n  undrain it\n"},
		{node.DrainAnswer{Drained: true, Pools: pool(0, one)}, "controllers: 0 of 1 usable; ALL ARE DRAINED: requests fail\n"},
		{node.DrainAnswer{Pools: pool(1, other, down)}, "http://a:1 is not drained any more, and is used once its checks pass: drain\nended, and its probes fail\n"},
		{node.DrainAnswer{}, "http://a:1 is not drained any more; it is no server of this node now\n"},
	} {
		tt.a.URL = "http://a:1"
		var out bytes.Buffer
		if err := printDrain(&out, tt.a, "undrain it"); err != nil || !strings.Contains(out.String(), tt.want) {
			t.Errorf("no\n%s\nin\n%s", tt.want, out.String())
		}
	}
	if got := moment(now.Add(-25*time.Hour), now); len(got) != len("2006-01-02 15:04") {
		t.Errorf("yesterday is %q", got)
	}
}

// Two addresses of one server are one server, in each view.
func TestServerWithTwoAddressesIsCountedOnce(t *testing.T) {
	now := time.Now()
	s := balancer.Status{Usable: 3, Endpoints: []balancer.EndpointStatus{
		{URL: "http://localhost:8090", Server: "one", State: balancer.Healthy, Weight: 1, Since: now},
		{URL: "http://127.0.0.1:8090", Server: "one", State: balancer.Healthy, Weight: 1, Since: now},
		{URL: "http://b:8090", Server: "two", State: balancer.Healthy, Weight: 1, Since: now},
		{URL: "http://c:8090", State: balancer.Down, Since: now, Reason: "refused", NextProbe: now},
	}}
	var row, text bytes.Buffer
	printPool(&row, termstyle.Look{}, "controllers", s, now)
	if err := printEndpoints(&text, poolMap{"controllers": s}, false, now); err != nil {
		t.Fatal(err)
	}
	for _, got := range []string{row.String(), text.String()} {
		for _, want := range []string{"2 of 3 usable, at 4 addresses\n", "      the same server as http://localhost:8090\n"} {
			if strings.Count(got, want) != 1 {
				t.Errorf("want %q once in\n%s", want, got)
			}
		}
	}
}
