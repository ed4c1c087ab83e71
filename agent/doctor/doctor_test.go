package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeHypervisor answers one call.
type fakeHypervisor struct {
	hypervisor.Runtime
	version hypervisor.Version
	err     error
	hang    bool
}

func (f fakeHypervisor) Version(ctx context.Context) (hypervisor.Version, error) {
	if f.hang {
		<-ctx.Done()
		return f.version, ctx.Err()
	}
	return f.version, f.err
}

// cloud is a controller and a registry that answer as the real ones do, with a
// clock that may be wrong.
func cloud(t *testing.T, clock time.Duration, registryStatus string) (controller, registry string) {
	t.Helper()
	answer := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", time.Now().Add(clock).UTC().Format(http.TimeFormat))
			fmt.Fprintf(w, `{"status":"OK","message":"","body":%s}`, body)
		}
	}
	mux := http.NewServeMux()
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	reg := httptest.NewServer(answer(`{"status":"Running","version":"1.2.3"}`))
	t.Cleanup(reg.Close)
	mux.Handle("GET /api/v1/status", answer(fmt.Sprintf(
		`{"status":"Running","version":"1.2.3","registry_address":%q,"registry_status":%q,"license":"enterprise plus"}`, reg.URL, registryStatus)))
	mux.Handle("GET /api/v1/cluster", answer(fmt.Sprintf(`{"cloud_id":"c","generation":1,"controllers":[],"registries":[{"id":"r","url":%q,"state":"ready"}]}`, reg.URL)))
	return srv.URL, reg.URL
}

func plainClient(t *testing.T) *http.Client {
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func healthy(t *testing.T) Config {
	controller, _ := cloud(t, 0, "Running")
	return Config{
		Controllers: []string{controller}, StateDir: t.TempDir(), EUID: 0, GOOS: "darwin",
		HypervisorName: "anka",
		Hypervisor:     fakeHypervisor{version: hypervisor.Version{Product: "Anka Build", Version: "3.9.1", License: "enterprise", LicenseValid: true}},
		AgentPID:       7, Service: &Service{State: "running", PID: 7, Enabled: true},
		Agents:  func(context.Context) ([]Process, error) { return []Process{{PID: 7}}, nil },
		Client:  plainClient(t),
		Timeout: time.Minute, // a loaded machine may need more than DefaultTimeout for a handshake
	}
}

func TestHealthyNodeHasNothingToDo(t *testing.T) {
	t.Parallel()
	findings := Run(t.Context(), healthy(t))
	var checks []string
	for _, f := range findings {
		checks = append(checks, f.Check)
		if f.Level != OK || f.Advice != "" || f.Summary == "" {
			t.Errorf("%+v, want it ok, with a summary and no advice", f)
		}
	}
	want := []string{"root", "state directory", "disk", "hypervisor", "licence", "service", "agent", "controller", "clock", "registry"}
	if diff := cmp.Diff(want, checks); diff != "" {
		t.Errorf("checks (-want +got):\n%s", diff)
	}
	if got := Worst(findings); got != OK {
		t.Errorf("Worst() = %s, want ok", got)
	}
}

// TestEachTroubleIsNamed breaks one thing at a time.
func TestEachTroubleIsNamed(t *testing.T) {
	t.Parallel()
	closed := closedPort(t)
	stranger := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(stranger.Close)
	wants401 := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"status":"FAIL","message":"Authentication Required"}`)
	}))
	t.Cleanup(wants401.Close)
	silent := silentPort(t)
	secret := httptest.NewUnstartedServer(http.NotFoundHandler())
	secret.Config.ErrorLog = nil
	secret.TLS = &tls.Config{}
	secret.StartTLS()
	t.Cleanup(secret.Close)

	for name, tc := range map[string]struct {
		change func(*Config)
		check  string
		level  Level
		says   string // in the summary
		advice string
	}{
		"not root": {func(c *Config) { c.EUID = 501 }, "root", Warn, "runs as user 501", "sudo"},
		"never joined": {func(c *Config) { c.Controllers, c.StateDir = nil, filepath.Join(c.StateDir, "none") },
			"controller", Fail, "no controller is known", "ankacluster join"},
		"no state": {func(c *Config) { c.StateDir = filepath.Join(c.StateDir, "none") }, "state directory", Warn, "has not joined", "join"},
		"state is a file": {func(c *Config) {
			c.StateDir = filepath.Join(c.StateDir, "file")
			_ = os.WriteFile(c.StateDir, nil, 0o644)
		}, "state directory", Fail, "not a directory", "move"},
		"settings damaged":       {func(c *Config) { c.SettingsErr = errors.New("join.json: unexpected end") }, "settings", Fail, "join.json", "join again"},
		"settings of root":       {func(c *Config) { c.SettingsErr = fs.ErrPermission }, "settings", Warn, "cannot be read by this user", "sudo"},
		"disk under the reserve": {func(c *Config) { c.Reserve = func(size uint64) uint64 { return size } }, "disk", Warn, "under the reserve", "--reserve-space"},
		"no anka":                {func(c *Config) { c.Hypervisor = fakeHypervisor{err: hypervisor.ErrMissing} }, "hypervisor", Fail, "not installed", "ANKA_PATH"},
		"anka crashes":           {func(c *Config) { c.Hypervisor = fakeHypervisor{err: errors.New("exit code 139")} }, "hypervisor", Fail, "exit code 139", "by hand"},
		"anka hangs":             {func(c *Config) { c.Hypervisor = fakeHypervisor{hang: true}; c.Timeout = 50 * time.Millisecond }, "hypervisor", Fail, "no answer", "restart the Mac"},
		"anka too old": {func(c *Config) {
			c.Hypervisor = fakeHypervisor{version: hypervisor.Version{Version: "3.8.4", LicenseValid: true}}
		}, "hypervisor", Fail, "needs 3.9", "newer"},
		"no licence": {func(c *Config) {
			c.Hypervisor = fakeHypervisor{version: hypervisor.Version{Version: "3.9"}}
		}, "licence", Fail, "Inactive", "license activate"},
		"second agent": {func(c *Config) {
			c.Agents = func(context.Context) ([]Process, error) { return []Process{{PID: 7}, {PID: 8}}, nil }
		}, "agent", Fail, "process 8 is another", "kill 8"},
		"agent down":            {func(c *Config) { c.AgentPID, c.Agents = 0, nil }, "agent", Warn, "does not run", "join"},
		"service not installed": {func(c *Config) { c.Service = &Service{State: "not installed"} }, "service", Warn, "reboot", "join"},
		"service failed":        {func(c *Config) { c.Service = &Service{State: "failed", Enabled: true} }, "service", Fail, "error", "logs"},
		"service is another":    {func(c *Config) { c.Service.PID = 9 }, "service", Fail, "process 7 holds the agent's lock", "kill 7"},
		"service not at boot":   {func(c *Config) { c.Service.Enabled = false }, "service", Warn, "not started at boot", "join"},
		"nothing listens":       {func(c *Config) { c.Controllers = []string{closed} }, "controller", Fail, "nothing listens on port", "start the controller"},
		"another web server":    {func(c *Config) { c.Controllers = []string{stranger.URL} }, "controller", Fail, "another program answers there (404 Not Found)", "port"},
		"never answers":         {func(c *Config) { c.Controllers, c.Timeout = []string{silent}, 50*time.Millisecond }, "controller", Fail, "no answer within 50ms", "firewall"},
		"wants a key":           {func(c *Config) { c.Controllers = []string{wants401.URL} }, "controller", Fail, "Authentication Required", "--api-key-id"},
		"unknown certificate":   {func(c *Config) { c.Controllers = []string{secret.URL} }, "controller", Fail, "signed by someone unknown", "--cacert"},
		"TLS towards plain HTTP": {func(c *Config) {
			c.Controllers = []string{"https://" + strings.TrimPrefix(c.Controllers[0], "http://")}
		}, "controller", Fail, "plain HTTP", "http://"},
		"no URL":          {func(c *Config) { c.Controllers = []string{"10.0.1.4"} }, "controller", Fail, "is no URL", "http://10.0.1.4:8090"},
		"registry down":   {func(c *Config) { c.Controllers = nil; c.Registries = []string{closed} }, "registry", Fail, "nothing listens", "start the registry"},
		"one of two down": {func(c *Config) { c.Controllers = append([]string{closed}, c.Controllers...) }, "controller", Warn, "works through the others", "start"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := healthy(t)
			tc.change(&cfg)
			findings := Run(t.Context(), cfg)
			for _, f := range findings {
				if f.Check == tc.check && f.Level != OK {
					if f.Level != tc.level || !strings.Contains(f.Summary, tc.says) || !strings.Contains(f.Advice, tc.advice) {
						t.Errorf("%+v, want level %s, a summary with %q, an advice with %q", f, tc.level, tc.says, tc.advice)
					}
					if got := Worst(findings); got == OK || tc.level == Fail && got != Fail {
						t.Errorf("Worst() = %s with %+v", got, f)
					}
					return
				}
			}
			t.Errorf("no finding for %s: %+v", tc.check, findings)
		})
	}
}

func TestControllerWithoutItsRegistryIsAWarning(t *testing.T) {
	t.Parallel()
	cfg := healthy(t)
	cfg.Controllers[0], _ = cloud(t, 0, "FAIL")
	for _, f := range Run(t.Context(), cfg) {
		if f.Check == "controller" && (f.Level != Warn || !strings.Contains(f.Summary, "cannot reach its registry")) {
			t.Errorf("%+v, want a warning about the registry", f)
		}
	}
}

func TestClockIsJudgedByMostControllers(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		skews []time.Duration
		level Level
		says  string
	}{
		{[]time.Duration{0}, OK, "agrees"},
		{[]time.Duration{4900 * time.Millisecond}, OK, "agrees"},
		{[]time.Duration{6 * time.Second}, Warn, "6s ahead of"},
		{[]time.Duration{-6 * time.Second}, Warn, "6s behind"},
		{[]time.Duration{-2 * time.Minute}, Fail, "refused"},
		{[]time.Duration{time.Hour, 0, 0}, OK, "agrees"},
		{[]time.Duration{time.Hour, time.Hour, 0}, Fail, "1h0m0s ahead of"},
	} {
		if f := clockFinding(tc.skews); f.Level != tc.level || !strings.Contains(f.Summary, tc.says) {
			t.Errorf("clockFinding(%v) = %+v, want %s and %q", tc.skews, f, tc.level, tc.says)
		}
	}
	cfg := healthy(t)
	cfg.Controllers[0], _ = cloud(t, -time.Hour, "Running")
	for _, f := range Run(t.Context(), cfg) {
		if f.Check == "clock" && (f.Level != Fail || !strings.Contains(f.Summary, "ahead of")) {
			t.Errorf("controller an hour behind: %+v, want a failure that says ahead", f)
		}
	}
}

func TestDiskLimits(t *testing.T) {
	t.Parallel()
	fifth := func(size uint64) uint64 { return size / 5 }
	for _, tc := range []struct {
		free, size uint64
		want       Level
	}{
		{20 << 30, 100 << 30, OK}, {20<<30 - 1, 100 << 30, Warn}, {1<<30 - 1, 100 << 30, Fail}, {1 << 30, 4 << 30, OK},
	} {
		if f := diskFinding("/", "anka", tc.free, tc.size, fifth); f.Level != tc.want {
			t.Errorf("%d of %d free: %+v, want %s", tc.free, tc.size, f, tc.want)
		}
	}
}

func TestNetworkErrorsAreExplained(t *testing.T) {
	t.Parallel()
	dial := func(errno syscall.Errno) error {
		return &url.Error{Op: "Get", Err: &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", errno)}}
	}
	for _, tc := range []struct {
		base, goos string
		err        error
		says       string
	}{
		{"http://ctrl", "linux", &net.DNSError{IsNotFound: true, Name: "ctrl"}, "the name ctrl is not known"},
		{"http://ctrl", "linux", &net.DNSError{IsTimeout: true, Name: "ctrl"}, "name server does not answer"},
		{"http://10.0.0.1", "linux", dial(syscall.EHOSTUNREACH), "no route to 10.0.0.1"},
		{"http://10.0.0.1", "darwin", dial(syscall.EHOSTUNREACH), "macOS may be hiding the local network"},
		{"http://mac-1.local", "darwin", dial(syscall.EHOSTUNREACH), "macOS may be hiding the local network"},
		{"http://8.8.8.8", "darwin", dial(syscall.EHOSTUNREACH), "no route to 8.8.8.8"},
		{"http://10.0.0.1", "darwin", dial(syscall.ENETUNREACH), "no route to 10.0.0.1"},
		{"https://10.0.0.1", "linux", dial(syscall.ECONNREFUSED), "port 443"},
		{"http://10.0.0.1", "linux", dial(syscall.ECONNREFUSED), "port 80"},
		{"http://10.0.0.1", "linux", dial(syscall.ECONNRESET), "hangs up"},
	} {
		if f := explain("controller", tc.base, tc.err, Config{GOOS: tc.goos}); !strings.Contains(f.Summary, tc.says) || f.Advice == "" {
			t.Errorf("%s on %s, %v: %+v, want it to say %q and give advice", tc.base, tc.goos, tc.err, f, tc.says)
		}
	}
}

func TestVersionsAreCompared(t *testing.T) {
	t.Parallel()
	for v, want := range map[string]bool{"3.9": true, "3.9.0": true, "3.10.1": true, "4.0": true, "3.8.9": false, "2.12": false, "": false, "next": false} {
		if got := hypervisor.AtLeast(v, 3, 9); got != want {
			t.Errorf("atLeast(%q, 3, 9) = %t", v, got)
		}
	}
}

func TestProcessesAreToldFromOthers(t *testing.T) {
	t.Parallel()
	ps := `    1 /sbin/launchd
   10 /usr/local/bin/ankacluster agent --config /x
   11 ankacluster agent
   12 /usr/local/bin/ankacluster doctor
   13 vi ankacluster agent
   14 ankacluster agent -f
`
	got := parseProcesses([]byte(ps), "ankacluster", "agent", 14)
	want := []Process{{10, "/usr/local/bin/ankacluster agent --config /x"}, {11, "ankacluster agent"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("processes (-want +got):\n%s", diff)
	}
	if _, err := Processes(t.Context(), "ankacluster", "agent"); err != nil {
		t.Errorf("Processes() = %v", err)
	}
}

func TestWriteErrorsReachTheFinding(t *testing.T) {
	t.Parallel()
	if err := tryWrite(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("tryWrite of a missing directory = %v", err)
	}
	dir := t.TempDir()
	if err := tryWrite(dir); err != nil {
		t.Errorf("tryWrite = %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("tryWrite left %v", left)
	}
}

// closedPort is a URL where nothing listens: the port belongs to a connection for
// the length of the test, so that nobody else can begin to.
func closedPort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return "http://" + conn.LocalAddr().String()
}

// silentPort is a URL that takes connections and never answers.
func silentPort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // the kernel accepts for us
	return "http://" + l.Addr().String()
}

// TestProblemsOfTheCloudAreTold: what several controllers know to be wrong with the
// cloud stands in the report once.
func TestProblemsOfTheCloudAreTold(t *testing.T) {
	t.Parallel()
	probes := []controllerProbe{
		{url: "http://a", answered: true, finding: Finding{Check: "controller"}, problems: []string{"registries are apart"}},
		{url: "http://b", answered: true, finding: Finding{Check: "controller"}, problems: []string{"registries are apart"}},
	}
	var told []Finding
	for _, f := range controllerFindings(probes) {
		if f.Check == "cloud" {
			told = append(told, f)
		}
	}
	if len(told) != 1 || told[0].Level != Warn || told[0].Summary != "registries are apart" || !strings.Contains(told[0].Advice, "http://a/readyz?verbose") {
		t.Errorf("findings %+v, want one warning that says where to look", told)
	}
}
