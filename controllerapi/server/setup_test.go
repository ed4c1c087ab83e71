package server

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/wire"
	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/google/uuid"
	"go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
)

// startEtcd runs a member in this process, on a free port.
func startEtcd(t testing.TB, change func(*embed.Config)) *embed.Etcd {
	t.Helper()
	return startMember(t, change).Etcd
}

// member is an etcd member of a test; end may be called twice.
type member struct {
	*embed.Etcd
	end func()
}

func startMember(t testing.TB, change func(*embed.Config)) member {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Dir = t.TempDir()
	cfg.LogLevel = "fatal"
	cfg.LogOutputs = []string{os.DevNull}
	cfg.UnsafeNoFsync = true // the machine does not crash in these tests
	free := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	cfg.ListenClientUrls, cfg.ListenPeerUrls = free, free
	if change != nil {
		change(cfg)
	}
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatalf("start etcd: %v", err)
	}
	m := member{e, sync.OnceFunc(e.Close)}
	t.Cleanup(m.end)
	select {
	case <-e.Server.ReadyNotify():
	case <-time.After(patience):
		t.Fatalf("etcd is not ready after %s", patience)
	}
	return m
}

func dialEtcd(t testing.TB, e *embed.Etcd) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{e.Clients[0].Addr().String()}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatalf("dial etcd: %v", err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// fakeRegistry answers as the registry's REST API does.
type fakeRegistry struct {
	*httptest.Server
	mu        sync.Mutex
	templates []registryapi.Template // guarded by mu
	down      bool                   // guarded by mu; answers 503
	store     string                 // guarded by mu; "": as an old version, which does not tell
	source    string                 // guarded by mu; what it is a replica of
	calls     []string               // guarded by mu
}

func startRegistry(t testing.TB) *fakeRegistry {
	f := &fakeRegistry{templates: []registryapi.Template{{
		ID: "tpl-1", Name: "macos", Size: 20 << 30, Arch: "arm64", LastPush: 1700000000, Repository: "anka/macos",
		Versions: []registryapi.Version{
			{Tag: "v1", Number: 0, Images: []string{"a.ank"}, StateFiles: []string{}, Size: 10 << 30, Arch: "arm64", Digest: "sha256:1"},
			{Tag: "v2", Number: 1, Images: []string{"b.ank"}, StateFiles: []string{}, Size: 20 << 30, Arch: "arm64", Digest: "sha256:2"},
		},
	}}}
	f.Server = httptest.NewServer(http.HandlerFunc(f.serve))
	t.Cleanup(f.Close)
	return f
}

func (f *fakeRegistry) serve(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	f.calls = append(f.calls, strings.TrimSpace(r.Method+" "+r.URL.RequestURI()+" "+string(body)))
	answer := func(body any) {
		_ = json.NewEncoder(w).Encode(map[string]any{"status": "OK", "message": "", "body": body})
	}
	fail := func(msg string) { _ = json.NewEncoder(w).Encode(map[string]any{"status": "FAIL", "message": msg}) }
	if f.down {
		w.WriteHeader(http.StatusServiceUnavailable)
		fail("down")
		return
	}
	id := r.URL.Query().Get("id")
	switch r.Method + " " + r.URL.Path {
	case "GET /registry/status":
		status := registryapi.Status{Status: "Running", Version: "test", Store: f.store}
		if f.source != "" {
			status.Replication = &registryapi.Replication{Sources: []registryapi.ReplicationSource{{URL: f.source}}}
		}
		answer(status)
	case "GET /registry/disk":
		answer(registryapi.Disk{Free: 5, Total: 10})
	case "GET /registry/v2/vm":
		if id == "" {
			list := []registryapi.Template{}
			for _, tpl := range f.templates {
				tpl.Versions = nil
				list = append(list, tpl)
			}
			answer(list)
			return
		}
		for _, tpl := range f.templates {
			if tpl.ID == id {
				answer(tpl)
				return
			}
		}
		fail("Not found")
	default:
		answer(nil)
	}
}

func (f *fakeRegistry) set(change func(f *fakeRegistry)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

// controller is a Server with its listener.
type controller struct {
	*Server
	URL  string
	stop func() // ends it as SIGTERM would
}

// startController runs a controller on etcd until the test ends.
func startController(t testing.TB, etcd *clientv3.Client, registry string, change func(*Config)) *controller {
	t.Helper()
	log := zap.NewNop()
	if os.Getenv("TEST_LOG") != "" {
		log = zaptest.NewLogger(t)
	}
	return startLogged(t, etcd, registry, log, change)
}

func startLogged(t testing.TB, etcd *clientv3.Client, registry string, log *zap.Logger, change func(*Config)) *controller {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	cfg.ID = uuid.NewString()[:8]
	cfg.URL = "http://" + ln.Addr().String()
	cfg.RegistryURL = registry
	cfg.AllowEmptyRegistry = registry == ""
	cfg.EtcdTimeout, cfg.QueryTaskTimeout = patience, patience // this machine may stand still
	if change != nil {
		change(&cfg)
	}
	srv, err := New(cfg, etcd, log)
	if err != nil {
		t.Fatalf("new server: %v", err)
	}
	c := &controller{Server: srv, URL: cfg.URL}
	lot := wire.NewLot(ln.Addr(), time.Minute, func() bool { return false })
	hs := &http.Server{Handler: srv.Handler(), ConnContext: lot.ConnContext}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = hs.Serve(ln) })
	wg.Go(func() { _ = hs.Serve(lot) })
	wg.Go(func() {
		if err := srv.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	c.stop = sync.OnceFunc(func() {
		_ = hs.Close()
		cut, now := context.WithCancel(context.Background())
		now()
		lot.Drain(cut)
		cancel()
		wg.Wait()
		http.DefaultClient.CloseIdleConnections()
	})
	t.Cleanup(c.stop)
	eventually(t, "controller ready", func() bool { return srv.notReady() == "" })
	return c
}

func (c *controller) client() *api.Client { return api.NewClient(c.URL, http.DefaultClient) }

// testCloud is etcd, a registry and n controllers.
type testCloud struct {
	etcd        *clientv3.Client
	registry    *fakeRegistry
	controllers []*controller
}

func startCloud(t testing.TB, n int, change func(*Config)) *testCloud {
	t.Helper()
	c := &testCloud{etcd: dialEtcd(t, startEtcd(t, nil)), registry: startRegistry(t)}
	for range n {
		c.controllers = append(c.controllers, startController(t, c.etcd, c.registry.URL, change))
	}
	return c
}

// pass lets time pass for all controllers, after they have seen what was done before:
// ages count from when a controller sees a change.
func (c *testCloud) pass(d time.Duration) {
	for _, ctl := range c.controllers {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		_ = ctl.store.Fresh(ctx) // fails where etcd is down, and there is nothing to see
		cancel()
		ctl.store.Advance(d)
	}
}

// patience is as long as a loaded machine may take; nothing waits that long when
// all is well.
const patience = 3 * time.Minute

// eventually waits for a condition.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// do calls the API as curl would, and returns the code and the body.
func do(t testing.TB, method, url, body string, header ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k := 0; k+1 < len(header); k += 2 {
		req.Header.Set(header[k], header[k+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}
