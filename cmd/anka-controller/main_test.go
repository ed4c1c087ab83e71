package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/etcdmember"
	"github.com/ankacluster/ankacluster/internal/settings"
	"github.com/ankacluster/ankacluster/registryapi/content/memory"
	registry "github.com/ankacluster/ankacluster/registryapi/server"
)

// deadline bounds a wait on a loaded machine.
const deadline = 3 * time.Minute

func noEnv(string) (string, bool) { return "", false }

func env(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { v, ok := vars[name]; return v, ok }
}

// syncBuffer is a log that a test reads while it is written.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// TestWrongSettingIsOneLineThatNamesIt is F22.
func TestWrongSettingIsOneLineThatNamesIt(t *testing.T) { // not parallel: the command line library has global flags
	secret := "short"
	for _, tc := range []struct {
		name string
		args []string
		env  map[string]string
		want []string
	}{
		{"bad certificate path", nil, map[string]string{"ANKA_USE_ETCD_TLS": "true", "ANKA_ETCD_CA_CERT": "/nope", "ANKA_ALLOW_EMPTY_REGISTRY": "1"}, []string{"ANKA_ETCD_CA_CERT: open /nope"}},
		{"no registry", nil, nil, []string{"ANKA_ANKA_REGISTRY: is missing"}},
		{"registry without scheme", nil, map[string]string{"ANKA_ANKA_REGISTRY": "10.0.1.4:8089"}, []string{`ANKA_ANKA_REGISTRY "10.0.1.4:8089": must be a URL`}},
		{"duration without unit", []string{"--graceful-shutdown-timeout", "10"}, nil, []string{`--graceful-shutdown-timeout "10": the unit is missing`}},
		{"flag wins over variable", []string{"--metrics-port", "x"}, map[string]string{"ANKA_METRICS_PORT": "9"}, []string{`--metrics-port "x"`}},
		{"several at once", nil, map[string]string{"ANKA_V": "loud", "ANKA_USE_HTTPS": "maybe", "ANKA_BATCH_TASK_COUNT": "41"}, []string{"ANKA_V", "ANKA_USE_HTTPS", "ANKA_BATCH_TASK_COUNT"}},
		{"secret is not shown", nil, map[string]string{"ANKA_ROOT_TOKEN": secret}, []string{"ANKA_ROOT_TOKEN: must have 10 characters"}},
		{"endpoint scheme", nil, map[string]string{"ANKA_ETCD_ENDPOINTS": "https://a:2379", "ANKA_ALLOW_EMPTY_REGISTRY": "true"}, []string{"ANKA_ETCD_ENDPOINTS", "--use-etcd-tls=false"}},
		{"login without user", nil, map[string]string{"ANKA_USE_ETCD_LOGIN": "true", "ANKA_ALLOW_EMPTY_REGISTRY": "true"}, []string{"ANKA_ETCD_USERNAME: is missing", "ANKA_ETCD_PASSWORD: is missing"}},
		{"a lock that does not lock", nil, map[string]string{"ANKA_ENABLE_AUTH": "true", "ANKA_ROOT_TOKEN": "long enough a token", "ANKA_ALLOW_EMPTY_REGISTRY": "true"}, []string{"ANKA_ENABLE_AUTH: is not supported", "ANKA_ROOT_TOKEN: is not supported"}},
		{"an authority that nobody asks", []string{"--ca-cert", "main.go", "--oidc-user-info", "--api-keys-session-ttl", "1m"}, map[string]string{"ANKA_ALLOW_EMPTY_REGISTRY": "true"}, []string{"--ca-cert: is not supported", "--oidc-user-info: is not supported", "--api-keys-session-ttl: is not supported"}},
		{"cluster alone", []string{"--cluster", "a,b", "--allow-empty-registry"}, nil, []string{"--cluster: needs --standalone"}},
		{"two etcds", []string{"--standalone", "--etcd-endpoints", "a:2379"}, nil, []string{"--etcd-endpoints: contradicts --standalone"}},
		{"cluster with URLs", []string{"--standalone", "--cluster", "http://a,b"}, nil, []string{`--cluster: "http://a" is not a host`}},
		{"queue etcd apart", nil, map[string]string{"ANKA_QUEUE_ETCD_ENDPOINTS": "q:2379", "ANKA_ALLOW_EMPTY_REGISTRY": "true"}, []string{"ANKA_QUEUE_ETCD_ENDPOINTS: must be"}},
		{"unknown flag", []string{"--frobnicate"}, nil, []string{"frobnicate"}},
		{"unknown command", []string{"frobnicate"}, nil, []string{`unknown command "frobnicate"`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), append([]string{program}, tc.args...), env(tc.env), &stdout, &stderr)
			if code != exitUsage {
				t.Errorf("exit code %d, want %d", code, exitUsage)
			}
			for _, want := range tc.want {
				if !strings.Contains(stderr.String(), want) {
					t.Errorf("stderr does not hold %q:\n%s", want, stderr.String())
				}
			}
			for line := range strings.Lines(stderr.String()) {
				if !strings.HasPrefix(line, program+": error: ") {
					t.Errorf("not one line per error: %q", line)
				}
			}
			if strings.Contains(stderr.String(), secret) && tc.name == "secret is not shown" {
				t.Errorf("the secret is in the error: %s", stderr.String())
			}
		})
	}
}

func TestMisspeltVariableIsRefused(t *testing.T) {
	t.Setenv("ANKA_ENABLE_AUHT", "true")
	var stderr bytes.Buffer
	code := run(t.Context(), []string{program, "--standalone"}, noEnv, io.Discard, &stderr)
	if want := program + ": error: ANKA_ENABLE_AUHT is not a setting; is ANKA_ENABLE_AUTH meant?\n"; code != exitUsage || stderr.String() != want {
		t.Errorf("code %d, %q, want %q", code, stderr.String(), want)
	}
}

func TestVersionAndHelp(t *testing.T) { // not parallel: the command line library has global flags
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{program, "--version"}, noEnv, &out, &errs); code != 0 || !strings.HasPrefix(out.String(), program+" ") {
		t.Errorf("--version: code %d, %q", code, out.String())
	}
	out.Reset()
	if code := run(t.Context(), []string{program, "--help"}, noEnv, &out, &errs); code != 0 {
		t.Errorf("--help: code %d", code)
	}
	for _, want := range []string{"--standalone --cluster", "--etcd-endpoints", "everybody who reaches", "service", "etcd"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the help does not show %q", want)
		}
	}
}

func TestEveryFlagHasItsVariableOnce(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for _, s := range (&config{}).table() {
		for _, n := range s.Variables() {
			if seen[n] {
				t.Errorf("%s is there twice", n)
			}
			seen[n] = true
		}
		if s.Default != "" {
			if err := s.Parse(s.Default); err != nil {
				t.Errorf("%s: its own default %q is refused: %v", s.Env, s.Default, err)
			}
		}
	}
}

// mainVar makes this test's executable be anka-controller.
const mainVar = "ANKA_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(mainVar) != "" {
		main()
	}
	os.Exit(m.Run())
}

// instance is an anka-controller process of a test.
type instance struct {
	t   *testing.T
	url string
	log *syncBuffer
	// stop sends SIGTERM and returns the exit code.
	stop func() int
}

// startProcess runs anka-controller with nothing in its environment but vars.
func startProcess(t *testing.T, vars map[string]string, args ...string) *instance {
	t.Helper()
	in := &instance{t: t, log: &syncBuffer{}}
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = []string{mainVar + "=1", "HOME=" + t.TempDir()}
	for name, value := range vars {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.Stdout, cmd.Stderr = in.log, in.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // its exit code is what counts
	}()
	in.stop = sync.OnceValue(func() int {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
		select {
		case <-ended:
		case <-time.After(deadline):
			_ = cmd.Process.Kill()
			<-ended
		}
		return cmd.ProcessState.ExitCode()
	})
	t.Cleanup(func() { in.stop() })
	return in
}

// addresses counts those that freeAddr has given away.
var addresses atomic.Int32

// freeAddr is an address that nobody else takes before it is listened on: on
// Linux any 127.x.y.z is loopback, this process has one of its own, and who
// connects has 127.0.0.1.
func freeAddr(t *testing.T) string {
	t.Helper()
	if runtime.GOOS == "linux" {
		return fmt.Sprintf("127.%d.%d.1:%d", 1+os.Getpid()>>8%254, os.Getpid()&255, 10000+addresses.Add(1))
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func startController(t *testing.T, vars map[string]string, args ...string) *instance {
	t.Helper()
	addr := freeAddr(t)
	in := startProcess(t, vars, append([]string{"--listen-addr", addr, "--drain-delay", "0s"}, args...)...)
	in.url = "http://" + addr
	in.await("/readyz", http.StatusOK)
	return in
}

// await waits until path answers with code.
func (in *instance) await(path string, code int) {
	in.t.Helper()
	var last error
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		resp, err := http.Get(in.url + path)
		if err != nil {
			last = err
			continue
		}
		resp.Body.Close()
		if resp.StatusCode == code {
			return
		}
		last = fmt.Errorf("%s", resp.Status)
	}
	in.t.Fatalf("%s%s: %v, want %d\n%s", in.url, path, last, code, in.log)
}

// checkCloud asks for what every combination of components must answer.
func (in *instance) checkCloud(registryURL string) {
	in.t.Helper()
	client := controllerapi.NewClient(in.url, http.DefaultClient)
	var status controllerapi.Status
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		var err error
		if status, err = client.Status(in.t.Context()); err == nil && status.RegistryStatus == "Running" {
			break
		}
	}
	if status.Status != "Running" || status.RegistryStatus != "Running" || status.RegistryAddress != registryURL {
		in.t.Fatalf("status %+v, want everything Running and the registry %s\n%s", status, registryURL, in.log)
	}
	// While etcd or the registry stands still an answer is an error that passes.
	in.eventually("an empty list of nodes", func() error {
		nodes, err := client.Nodes(in.t.Context())
		if err == nil && len(nodes) != 0 {
			in.t.Fatalf("nodes: %v, want none", nodes)
		}
		return err
	})
	in.eventually("that a template is not in the registry", func() error {
		_, err := client.Start(in.t.Context(), controllerapi.StartRequest{VMID: "00000000-0000-0000-0000-000000000000"})
		if err == nil {
			in.t.Fatal("an unknown template was started")
		}
		if strings.Contains(err.Error(), "VM not in the registry") {
			return nil
		}
		return err
	})
}

// eventually asks until there is no error.
func (in *instance) eventually(want string, ask func() error) {
	in.t.Helper()
	var err error
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = ask(); err == nil {
			return
		}
	}
	in.t.Fatalf("%v, want %s\n%s", err, want, in.log)
}

func ownEtcd(t *testing.T) string {
	t.Helper()
	cfg := etcdmember.DefaultConfig()
	cfg.DataDir = filepath.Join(t.TempDir(), "etcd")
	cfg.ClientListen, cfg.PeerListen = "127.0.0.1:0", "127.0.0.1:0"
	m, err := etcdmember.New(cfg, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := m.Run(ctx); err != nil {
			t.Errorf("etcd: %v", err)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	select {
	case <-m.Ready():
	case <-time.After(deadline):
		t.Fatal("etcd is not ready")
	}
	return m.Endpoints()[0]
}

func ownRegistry(t *testing.T) string {
	t.Helper()
	cfg := registry.DefaultConfig()
	cfg.Root = t.TempDir()
	srv, err := registry.New(cfg, memory.New(), zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	hs := httptest.NewServer(srv.Handler())
	t.Cleanup(hs.Close)
	return hs.URL
}

func standaloneArgs(t *testing.T, dir string) []string {
	return []string{"--standalone", "--data-dir", dir, "--etcd-listen-client", freeAddr(t), "--etcd-listen-peer", freeAddr(t)}
}

func TestComponentsApart(t *testing.T) {
	t.Parallel()
	t.Run("everything in one process", func(t *testing.T) {
		t.Parallel()
		reg := freeAddr(t)
		startController(t, nil, append(standaloneArgs(t, t.TempDir()), "--registry-listen-address", reg)...).checkCloud("http://" + reg)
	})
	t.Run("own etcd and own registry", func(t *testing.T) {
		t.Parallel()
		reg := ownRegistry(t)
		startController(t, nil, "--etcd-endpoints", ownEtcd(t), "--anka-registry", reg).checkCloud(reg)
	})
	t.Run("own etcd and built-in registry", func(t *testing.T) {
		t.Parallel()
		reg := freeAddr(t)
		startController(t, map[string]string{"ANKA_RUN_REGISTRY": "true", "ANKA_REGISTRY_BASE_PATH": t.TempDir()},
			"--etcd-endpoints", ownEtcd(t), "--registry-listen-address", reg).checkCloud("http://" + reg)
	})
	t.Run("built-in etcd and own registry", func(t *testing.T) {
		t.Parallel()
		reg := ownRegistry(t)
		startController(t, nil, append(standaloneArgs(t, t.TempDir()), "--anka-registry", reg)...).checkCloud(reg)
	})
	t.Run("two controllers on one etcd", func(t *testing.T) {
		t.Parallel()
		reg, etcd := ownRegistry(t), ownEtcd(t)
		a := startController(t, nil, "--etcd-endpoints", etcd, "--anka-registry", reg)
		b := startController(t, nil, "--etcd-endpoints", strings.TrimPrefix(etcd, "http://"), "--anka-registry", reg)
		a.checkCloud(reg)
		b.checkCloud(reg)
		for _, in := range []*instance{a, b} {
			in.eventually("both controllers", func() error { // one that stood still comes back
				cluster, err := controllerapi.NewClient(in.url, http.DefaultClient).Cluster(t.Context())
				if err == nil && len(cluster.Controllers) != 2 {
					err = fmt.Errorf("cluster of %s: %+v", in.url, cluster)
				}
				return err
			})
		}
	})
	t.Run("member in a process of its own", func(t *testing.T) {
		t.Parallel()
		listen := freeAddr(t)
		member := startProcess(t, nil, "etcd", "run", "--data-dir", t.TempDir(), "--etcd-listen-client", listen, "--etcd-listen-peer", freeAddr(t))
		reg := ownRegistry(t)
		ctrl := startController(t, nil, "--etcd-endpoints", listen, "--anka-registry", reg)
		ctrl.checkCloud(reg)
		if code := ctrl.stop(); code != 0 {
			t.Errorf("the controller ended with %d\n%s", code, ctrl.log)
		}
		if code := member.stop(); code != 0 {
			t.Errorf("etcd run ended with %d\n%s", code, member.log)
		}
	})
}

// TestLostEtcdUnderAKnownCloudIsRefused is F28.
func TestLostEtcdUnderAKnownCloudIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	args := append(standaloneArgs(t, dir), "--registry-listen-address", freeAddr(t))
	in := startController(t, nil, args...)
	for end := time.Now().Add(deadline); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(dir, "cloud-id")); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the cloud's id was not written down")
		}
	}
	if code := in.stop(); code != 0 {
		t.Fatalf("exit code %d\n%s", code, in.log)
	}
	if err := os.RemoveAll(filepath.Join(dir, "etcd")); err != nil {
		t.Fatal(err)
	}
	refused := startProcess(t, nil, append([]string{"--listen-addr", freeAddr(t), "--drain-delay", "0s"}, args...)...)
	for end := time.Now().Add(deadline); !strings.Contains(refused.log.String(), program+": error: "); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it does not end by itself\n%s", refused.log)
		}
	}
	if code := refused.stop(); code != exitFailed || !strings.Contains(refused.log.String(), "etcd is empty") {
		t.Fatalf("exit code %d, want %d and an error that etcd is empty:\n%s", code, exitFailed, refused.log)
	}
	startController(t, map[string]string{"ANKA_ALLOW_EMPTY_ETCD": "true"}, args...)
}

func TestTakenPortNamesTheSetting(t *testing.T) { // not parallel: the command line library has global flags
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var stderr bytes.Buffer
	dir := t.TempDir()
	code := run(t.Context(), append([]string{program, "--listen-addr", l.Addr().String(), "--registry-listen-address", "127.0.0.1:0"}, standaloneArgs(t, dir)...), noEnv, io.Discard, &stderr)
	if code != exitFailed || !strings.Contains(stderr.String(), "--listen-addr") {
		t.Errorf("exit code %d, stderr %s", code, &stderr)
	}
	if _, err := os.Stat(filepath.Join(dir, "etcd")); err == nil {
		t.Error("etcd was begun although the controller cannot listen")
	}
}

func TestListenerThatLeavesEndsItsConnections(t *testing.T) {
	t.Parallel()
	l, err := newListener("--listen-addr", "127.0.0.1:0", nil, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- l.serve() }()
	defer func() {
		l.shutdown(t.Context())
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	for _, leaving := range []bool{false, true} {
		l.leaving.Store(leaving)
		resp, err := http.Get("http://" + l.net.Addr().String() + "/livez")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK || resp.Close != leaving {
			t.Errorf("leaving %v: %s, the connection ends: %v", leaving, resp.Status, resp.Close)
		}
	}
}

// TestStopLetsRequestsFinish: an upload that is under way when the stop is asked
// for ends well, and the exit code is 0.
func TestStopLetsRequestsFinish(t *testing.T) {
	t.Parallel()
	reg := freeAddr(t)
	in := startController(t, nil, append(standaloneArgs(t, t.TempDir()), "--registry-listen-address", reg, "--graceful-shutdown-timeout", "60s")...)
	resp, err := http.Post("http://"+reg+"/v2/team/vm/blobs/uploads/", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	where, err := resp.Location()
	if err != nil {
		t.Fatalf("%s: %v", resp.Status, err)
	}
	body, feed := io.Pipe()
	req, err := http.NewRequest(http.MethodPatch, where.String(), body)
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1) // the upload's one result
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode != http.StatusAccepted {
				err = fmt.Errorf("%s", resp.Status)
			}
		}
		answered <- err
	}()
	if _, err := feed.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan int, 1)
	go func() { stopped <- in.stop() }()
	for end := time.Now().Add(deadline); !strings.Contains(in.log.String(), `"draining"`); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the stop does not begin")
		}
	}
	if _, err := feed.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	feed.Close()
	if err := <-answered; err != nil {
		t.Errorf("the upload was cut: %v", err)
	}
	if code := <-stopped; code != 0 {
		t.Errorf("exit code %d\n%s", code, in.log)
	}
}

func TestEnvFileHoldsSecretsForItsOwnerOnly(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "secrets.env")
	write := func(text string, mode os.FileMode) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
	}
	write("# a comment\nANKA_ROOT_TOKEN=a=b %:'\"+ c\n", 0o600)
	lookup, err := settings.WithFile(file, (&config{}).table(), noEnv)
	if err != nil {
		t.Fatal(err)
	}
	if v, _ := lookup("ANKA_ROOT_TOKEN"); v != `a=b %:'"+ c` {
		t.Errorf("got %q", v)
	}
	write("ANKA_ROOT_TOKEN=0123456789\n", 0o640)
	if _, err := settings.WithFile(file, (&config{}).table(), noEnv); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("readable by others: got %v", err)
	}
	write("ANKA_ROOT_TOKN=0123456789\n", 0o600)
	if _, err := settings.WithFile(file, (&config{}).table(), noEnv); err == nil || strings.Contains(err.Error(), "0123456789") {
		t.Errorf("unknown name: got %v, want an error without the value", err)
	}
}

func TestServiceCommandLineHoldsNoSecret(t *testing.T) {
	t.Parallel()
	c := &config{DataDir: t.TempDir()}
	given, errs := settings.Load(c.table(), func(name string) (string, bool) {
		return "rel/ca.pem", name == "ca-cert"
	}, env(map[string]string{"ANKA_ROOT_TOKEN": "a secret of the cloud", "ANKA_STANDALONE": "true"}))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	c.given = given
	plan := c.servicePlan()
	args, secrets, err := plan.Arguments(c.table())
	if err != nil {
		t.Fatal(err)
	}
	line := strings.Join(args, " ")
	if strings.Contains(line, "secret of") || !strings.Contains(line, "--standalone=true") || !strings.Contains(line, "--env-file="+plan.SecretsFile()) {
		t.Errorf("command line %q", line)
	}
	if strings.Contains(line, "--ca-cert=rel/") {
		t.Errorf("a relative path would mean something else to the service: %q", line)
	}
	if err := plan.WriteSecrets(secrets); err != nil {
		t.Fatal(err)
	}
	lookup, err := settings.WithFile(plan.SecretsFile(), c.table(), noEnv)
	if err != nil {
		t.Fatal(err)
	}
	if v, _ := lookup("ANKA_ROOT_TOKEN"); v != "a secret of the cloud" {
		t.Errorf("the service would read %q", v)
	}
}
