package main

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestMain lets the scripts call the command under its own name.
func TestMain(m *testing.M) {
	testscript.Main(cleaning{m}, map[string]func(){"ankacluster": func() {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		code := run(ctx, os.Args, os.Stdout, os.Stderr)
		stop()
		os.Exit(code)
	}})
}

// cleaning removes the compiled programs after the last test.
type cleaning struct{ m *testing.M }

func (c cleaning) Run() int {
	code := c.m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir) // in the system's folder for such files
	}
	return code
}

// TestScripts runs testdata/script/*.txtar. Besides testscript's own, a script
// has these commands:
//
//	cloud VAR [clock=DURATION] [registry=FAIL] [code=NNN] [announces=URL]   serve a controller and registry that answer what doctor and join ask, and set VAR to the URL
//	closed VAR    set VAR to a URL where nothing listens
//	silent VAR    set VAR to a URL that takes connections and never answers
//	web VAR [HOST]  set VAR to a URL of a web server that is no controller, and HOST to its host and port
//	registry VAR  set VAR to a URL of a registry
//	secure VAR    set VAR to host and port of a web server that speaks TLS only
//	greeter VAR   set VAR to a URL of a server that is no web server
//	wire VAR [refuse=MESSAGE]   serve a cloud that a node can join, and set VAR to its URL
//	controllers VAR  run a real controller with its etcd, a registry with the template sonoma, and two simulated nodes; set VAR to its URL and that of a controller that is dead
//	quiet URL     nobody calls that cloud
//	nobody CMD …  exec as a user without rights; what it prints is in nobody.out
//	exits N CMD … exec and compare the exit code
//	tinydisk DIR  mount a full file system, or set NO_TINY_DISK
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(env *testscript.Env) error {
			env.Setenv("ANKA_STATE_DIR", env.WorkDir+"/state")
			env.Setenv("ANKA_PATH", env.WorkDir+"/bin/anka")
			env.Setenv("TART_PATH", env.WorkDir+"/bin/tart")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"cloud": scriptCloud, "closed": scriptClosed, "silent": scriptSilent, "greeter": scriptGreeter, "web": scriptWeb, "wire": scriptWire, "registry": scriptRegistry, "secure": scriptSecure, "controllers": scriptControllers,
			"quiet": scriptQuiet, "nobody": scriptNobody, "exits": scriptExit, "tinydisk": scriptTinyDisk,
		},
	})
}

func scriptCloud(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: cloud VAR [clock=DURATION] [registry=FAIL] [code=NNN]")
	}
	clock, registryStatus, code, announced := time.Duration(0), "Running", http.StatusOK, ""
	for _, a := range args[1:] {
		k, v, _ := strings.Cut(a, "=")
		var err error
		switch k {
		case "clock":
			clock, err = time.ParseDuration(v)
		case "announces":
			announced = v
		case "registry":
			registryStatus = v
		case "code":
			_, err = fmt.Sscan(v, &code)
		default:
			err = fmt.Errorf("unknown argument %s", a)
		}
		ts.Check(err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", time.Now().Add(clock).UTC().Format(http.TimeFormat))
		self := cmp.Or(announced, "http://"+r.Host)
		switch {
		case code != http.StatusOK:
			w.WriteHeader(code)
			fmt.Fprint(w, `{"status":"FAIL","message":"Authentication Required"}`)
		case r.URL.Path == "/api/v1/status":
			fmt.Fprintf(w, `{"status":"OK","message":"","body":{"status":"Running","version":"1.2.3","registry_address":%q,"registry_status":%q,"license":"enterprise plus"}}`, self, registryStatus)
		case r.URL.Path == "/api/v1/cluster":
			fmt.Fprintf(w, `{"status":"OK","message":"","body":{"cloud_id":"c","generation":1,"controllers":[],"registries":[{"id":"r","url":%q,"state":"ready"}]}}`, self)
		case r.URL.Path == "/registry/status":
			fmt.Fprint(w, `{"status":"OK","message":"","body":{"status":"Running","version":"1.2.3"}}`)
		default:
			http.NotFound(w, r)
		}
	}))
	ts.Defer(srv.Close)
	ts.Setenv(args[0], srv.URL)
}

func scriptClosed(ts *testscript.TestScript, _ bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { _ = l.Close() })
	// The port of a connection is nobody else's to listen on.
	conn, err := net.Dial("tcp", l.Addr().String())
	ts.Check(err)
	ts.Defer(func() { _ = conn.Close() })
	ts.Setenv(args[0], "http://"+conn.LocalAddr().String())
}

func scriptSilent(ts *testscript.TestScript, _ bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts for us
	ts.Check(err)
	ts.Defer(func() { _ = l.Close() })
	ts.Setenv(args[0], "http://"+l.Addr().String())
}
