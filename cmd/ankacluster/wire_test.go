package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ankacluster/ankacluster/controllerapi"
)

// fakeWire is a controller and registry with just enough of the agent wire for a
// node to join, be listed and leave. It writes what it was asked into a log.
type fakeWire struct {
	version string

	mu    sync.Mutex
	nodes map[controllerapi.NodeID]controllerapi.RegisterRequest // guarded by mu
	calls int                                                    // guarded by mu
	conns map[net.Conn]bool                                      // guarded by mu; open ones
	// refuse is the message with which registrations are refused, "" for none.
	refuse string
}

func (s *fakeWire) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	self := "http://" + r.Host
	s.mu.Lock()
	defer s.mu.Unlock()
	ok := func(body any) {
		_ = json.NewEncoder(w).Encode(map[string]any{"status": "OK", "message": "", "body": body})
	}
	fail := func(msg string) { _ = json.NewEncoder(w).Encode(map[string]any{"status": "FAIL", "message": msg}) }
	cluster := controllerapi.Cluster{CloudID: "cloud", Generation: 1,
		Controllers: []controllerapi.Server{{ID: "c", URL: self, State: controllerapi.ServerReady}},
		Registries:  []controllerapi.Server{{ID: "r", URL: self, State: controllerapi.ServerReady}}}
	s.calls++
	switch r.URL.Path {
	case "/readyz":
	case "/api/v1/status":
		ok(controllerapi.Status{Status: "Running", Version: s.version, RegistryAddress: self, RegistryStatus: "Running", License: "enterprise plus"})
	case "/registry/status":
		ok(map[string]string{"status": "Running", "version": s.version})
	case "/api/v1/node":
		n, known := s.nodes[controllerapi.NodeID(r.URL.Query().Get("id"))]
		if !known {
			fail(controllerapi.MsgNotFound)
			return
		}
		ok([]controllerapi.Node{{NodeID: n.NodeID, NodeName: *n.Seed.Name, State: controllerapi.NodeActive, HostArch: "arm64"}})
	case controllerapi.PathAgentRegister:
		var req controllerapi.RegisterRequest
		_ = json.NewDecoder(r.Body).Decode(&req)
		if s.refuse != "" {
			fail(s.refuse)
			return
		}
		if old, again := s.nodes[req.NodeID]; again && req.Seed.Name == nil {
			req.Seed.Name = old.Seed.Name
		}
		s.nodes[req.NodeID] = req
		ok(controllerapi.RegisterResponse{NodeID: req.NodeID, Cluster: cluster, HeartbeatIntervalMS: 1000,
			Settings: controllerapi.NodeSettings{Generation: 1, Name: *req.Seed.Name, MaxVMCount: 2, CapacityMode: "number"}})
	case controllerapi.PathAgentSync:
		ok(controllerapi.SyncResponse{HeartbeatIntervalMS: 1000, Assignments: &controllerapi.Assignments{Generation: "1"}})
	case controllerapi.PathAgentReserve:
		ok(controllerapi.ReserveResponse{})
	case controllerapi.PathAgentUnregister:
		var req controllerapi.UnregisterRequest
		_ = json.NewDecoder(r.Body).Decode(&req)
		delete(s.nodes, req.NodeID)
		ok(nil)
	default:
		http.NotFound(w, r)
	}
}

// scriptWire is `wire VAR [refuse=MESSAGE]`.
func scriptWire(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: wire VAR [refuse=MESSAGE]")
	}
	s := &fakeWire{version: "1.2.3", nodes: make(map[controllerapi.NodeID]controllerapi.RegisterRequest), conns: make(map[net.Conn]bool)}
	for _, a := range args[1:] {
		s.refuse = strings.TrimPrefix(a, "refuse=")
	}
	srv := httptest.NewServer(s)
	ts.Defer(srv.Close)
	ts.Setenv(args[0], srv.URL)
	wires.Store(srv.URL, s)
}

var wires sync.Map // URL -> *fakeWire

// scriptQuiet is `quiet URL`: no process of the state directory's agent is left,
// and nobody has a connection to the wire, so that no call can come any more (A5).
// An agent that has let go of its lock may take a moment to exit.
func scriptQuiet(ts *testscript.TestScript, neg bool, args []string) {
	v, ok := wires.Load(args[0])
	if neg || len(args) != 1 || !ok {
		ts.Fatalf("usage: quiet URL-of-a-wire")
	}
	s := v.(*fakeWire)
	if s.count() == 0 {
		ts.Fatalf("nobody ever called %s", args[0])
	}
	left := func() (process string) {
		all, err := exec.Command("ps", "-axo", "pid=,args=").Output()
		ts.Check(err)
		for line := range strings.Lines(string(all)) {
			if strings.Contains(line, ts.Getenv("ANKA_STATE_DIR")) {
				return line
			}
		}
		return ""
	}
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		s.mu.Lock()
		conns := len(s.conns)
		s.mu.Unlock()
		process := left()
		if conns == 0 && process == "" {
			break
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%d connections are open, and this process is left: %s", conns, process)
		}
	}
}

func (s *fakeWire) count() int { s.mu.Lock(); defer s.mu.Unlock(); return s.calls }

// scriptNobody is `[!] nobody COMMAND …`: exec as a user without rights.
func scriptNobody(ts *testscript.TestScript, neg bool, args []string) {
	path, err := exec.LookPath(args[0])
	if err != nil {
		path = filepath.Join(filepath.Dir(ts.Getenv("PATH")), args[0])
	}
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		if p := filepath.Join(dir, args[0]); fileExists(p) {
			path = p
			break
		}
	}
	cmd := exec.Command(path, args[1:]...)
	cmd.Dir = "/"
	home := cmp.Or(ts.Getenv("NOBODY_HOME"), "/")
	cmd.Env = []string{"PATH=" + ts.Getenv("PATH"), "ANKA_STATE_DIR=" + ts.Getenv("ANKA_STATE_DIR"), "ANKA_PATH=" + ts.Getenv("ANKA_PATH"), "HOME=" + home}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if home != "/" {
			ts.Check(os.MkdirAll(home, 0o755))
			ts.Check(os.Chown(home, 65534, 65534))
		}
		// The script's own directories may be closed to others.
		for _, dir := range []string{filepath.Dir(path), filepath.Dir(home)} {
			for ; dir != "/" && dir != "."; dir = filepath.Dir(dir) {
				if info, err := os.Stat(dir); err == nil && strings.HasPrefix(dir, os.TempDir()+"/") {
					ts.Check(os.Chmod(dir, info.Mode()|0o055))
				}
			}
		}
	}
	out, err := cmd.CombinedOutput()
	ts.Logf("%s", out)
	ts.Check(os.WriteFile(ts.MkAbs("nobody.out"), out, 0o644))
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		ts.Fatalf("%v", err)
	}
	if (err != nil) != neg {
		ts.Fatalf("got %v", err)
	}
}

func fileExists(p string) bool { _, err := os.Stat(p); return err == nil }

// scriptExit is `exits CODE COMMAND …`: the exact exit code.
func scriptExit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND …")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

// scriptGreeter is `greeter VAR`: a server that is no web server.
func scriptGreeter(ts *testscript.TestScript, _ bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { _ = l.Close() })
	ts.Setenv(args[0], "http://"+l.Addr().String())
	go func() { // ends when the listener is closed
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, "SSH-2.0-OpenSSH_9.6\r\n")
			_, _ = io.ReadAll(io.LimitReader(c, 1)) // until the other side has read that
			c.Close()
		}
	}()
}

// scriptWeb is `web VAR`: a web server that knows nothing of us.
func scriptWeb(ts *testscript.TestScript, _ bool, args []string) {
	srv := httptest.NewServer(http.NotFoundHandler())
	ts.Defer(srv.Close)
	ts.Setenv(args[0], srv.URL)
	if len(args) > 1 {
		ts.Setenv(args[1], srv.Listener.Addr().String())
	}
}

// scriptRegistry is `registry VAR`: it knows the calls of a registry only.
func scriptRegistry(ts *testscript.TestScript, _ bool, args []string) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/registry/status" {
			fmt.Fprint(w, `{"status":"OK","message":"","body":{"status":"Running","version":"1.2.3"}}`)
			return
		}
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"status":"FAIL","message":"no such call","body":null}`)
	}))
	ts.Defer(srv.Close)
	ts.Setenv(args[0], srv.URL)
}

// scriptSecure is `secure VAR`: its certificate is signed by an authority of its own.
func scriptSecure(ts *testscript.TestScript, _ bool, args []string) {
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	ts.Defer(srv.Close)
	ts.Setenv(args[0], srv.Listener.Addr().String())
}

// scriptTinyDisk is `tinydisk DIR`: a file system with no room left. The script
// is skipped where that may not be made.
func scriptTinyDisk(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o755))
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=64k", "none", dir).CombinedOutput(); err != nil {
		ts.Logf("cannot mount a small disk here: %v %s", err, out)
		ts.Setenv("NO_TINY_DISK", "1")
		return
	}
	ts.Defer(func() { _ = exec.Command("umount", "-l", dir).Run() })
	for size := 32 << 10; size > 0; size /= 2 {
		for n := range 64 {
			if os.WriteFile(fmt.Sprintf("%s/fill-%d-%d", dir, size, n), make([]byte, size), 0o600) != nil {
				break
			}
		}
	}
}
