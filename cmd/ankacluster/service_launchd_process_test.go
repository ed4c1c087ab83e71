package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/agent"
	"github.com/ankacluster/ankacluster/agent/macreport"
	"github.com/ankacluster/ankacluster/agent/socket"
	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/test/fakelaunchctl"
)

// launchdMac is a host whose agent is a service of a stand-in of launchd.
type launchdMac struct {
	t       *testing.T
	launchd *fakelaunchctl.Launchd
	dir     string
	exe     string // the installed program
	url     string
	env     []string
}

func newLaunchdMac(t *testing.T) *launchdMac {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root's agent is a service")
	}
	m := &launchdMac{t: t, dir: t.TempDir()}
	m.exe = filepath.Join(m.dir, "ankacluster")
	l, err := fakelaunchctl.New(fakelaunchctl.Options{Dir: m.dir, Throttle: 300 * time.Millisecond})
	m.check(err)
	m.launchd = l
	stop, err := l.Serve()
	m.check(err)
	t.Cleanup(func() { stop(); l.Close() })
	m.check(os.Mkdir(m.daemons(), 0o755))
	anka := filepath.Join(m.dir, "anka")
	m.check(os.WriteFile(anka, []byte("#!/bin/sh\nprintf '{\"status\":\"OK\",\"body\":[]}'\n"), 0o755))
	srv := httptest.NewServer(http.HandlerFunc(fakeCloud))
	t.Cleanup(srv.Close)
	m.url = srv.URL
	m.env = append(os.Environ(), "FAKELAUNCHD_DIR="+m.dir, "ANKA_STATE_DIR="+m.state(), "ANKA_PATH="+anka)
	m.build("1")
	return m
}

func (m *launchdMac) daemons() string { return filepath.Join(m.dir, "LaunchDaemons") }

// state has characters that property lists treat in a way of their own.
func (m *launchdMac) state() string { return filepath.Join(m.dir, "Anka & Co's state") }

func (m *launchdMac) check(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// build puts a version of the program in place that knows the stand-in.
func (m *launchdMac) build(version string) {
	m.t.Helper()
	launchctl := filepath.Join(m.dir, "launchctl")
	flags := "-X github.com/ankacluster/ankacluster/internal/buildinfo.Version=" + version +
		" -X main.standInLaunchctl=" + launchctl + " -X main.standInDaemons=" + m.daemons()
	for _, args := range [][]string{
		{"build", "-o", launchctl, "github.com/ankacluster/ankacluster/test/fakelaunchctl/launchctl"},
		{"build", "-o", m.exe + ".new", "-ldflags", flags, "."},
	} {
		cmd := exec.Command("go", args...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			m.t.Fatalf("go %q: %v\n%s", args, err, out)
		}
	}
	m.check(os.Rename(m.exe+".new", m.exe))
}

// do calls the program as a person does.
func (m *launchdMac) do(args ...string) (string, error) {
	cmd := exec.Command(m.exe, args...)
	cmd.Env = m.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (m *launchdMac) must(args ...string) string {
	m.t.Helper()
	out, err := m.do(args...)
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(m.state(), "logs", "agent.log")) // only for the message
		m.t.Fatalf("ankacluster %q: %v\n%s\n%s", args, err, out, log)
	}
	return out
}

// job returns what launchd prints of the service, "" when it is not loaded.
func (m *launchdMac) job() string {
	return m.launchd.Command("print", "system/"+serviceName).Stdout
}

var pidLine = regexp.MustCompile(`(?m)^\tpid = (\d+)$`)

// pid returns launchd's process.
func (m *launchdMac) pid() (pid int) {
	if found := pidLine.FindStringSubmatch(m.job()); found != nil {
		_, _ = fmt.Sscan(found[1], &pid)
	}
	return pid
}

func (m *launchdMac) wait(what string, ok func() bool) {
	m.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); <-time.After(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			m.t.Fatalf("after two minutes still not: %s\n%s", what, m.job())
		}
	}
}

// runs waits for a registered agent of that version, which launchd runs, and returns
// its process.
func (m *launchdMac) runs(version string) int {
	m.t.Helper()
	var s agent.Status
	m.wait("an agent of version "+version, func() bool {
		err := socket.Ask(m.t.Context(), state.Dir(m.state()).Socket(), "/status", &s)
		return err == nil && s.Config.Version == version && s.Registered && s.PID == m.pid()
	})
	return s.PID
}

// wantService checks doctor's finding on the service.
func (m *launchdMac) wantService(level, summary string) {
	m.t.Helper()
	out, _ := m.do("doctor", "--json") // fails where anka is a script
	var d struct {
		Findings []struct{ Check, Level, Summary string }
	}
	if i := strings.Index(out, "{"); i < 0 || json.NewDecoder(strings.NewReader(out[i:])).Decode(&d) != nil {
		m.t.Fatalf("doctor: %s", out)
	}
	for _, f := range d.Findings {
		if f.Check == "service" && f.Level == level && strings.Contains(f.Summary, summary) {
			return
		}
	}
	m.t.Errorf("doctor says of the service not %s, %q, but %+v", level, summary, d.Findings)
}

// TestJoinUnderLaunchd joins, kills, lets crash, switches off, upgrades and disjoins
// the real program under a stand-in of launchd.
func TestJoinUnderLaunchd(t *testing.T) {
	t.Parallel()
	m := newLaunchdMac(t)
	if out := m.must("join", m.url); !strings.Contains(out, "starting the agent (as the service ankacluster)") {
		t.Fatalf("join printed\n%s", out)
	}
	first := m.runs("1")
	m.wantService("ok", "running")

	// Ended by hand it stays down, and launchd has it loaded all the same.
	m.check(syscall.Kill(first, syscall.SIGTERM))
	m.wait("ended with 0", func() bool { return strings.Contains(m.job(), "last exit code = 0") })
	m.wantService("warn", "stopped")
	m.must("join", m.url)
	m.runs("1")

	for range 5 {
		var pid int
		m.wait("a process", func() bool { pid = m.pid(); return pid != 0 })
		m.check(syscall.Kill(pid, syscall.SIGKILL))
		m.wait("its end", func() bool { return m.pid() != pid })
	}
	m.must("join", m.url)
	m.upgradeAndCrash(m.runs("1"))
	m.switchOff()

	m.must("disjoin")
	if m.job() != "" {
		t.Errorf("after disjoin launchd has\n%s", m.job())
	}
	if left, err := filepath.Glob(filepath.Join(m.daemons(), "*.plist")); err != nil || len(left) > 0 {
		t.Errorf("after disjoin %q are left, %v", left, err)
	}
	m.must("disjoin") // a repeat is no error
}

// upgradeAndCrash joins with another version, and with settings that no agent can
// start with.
func (m *launchdMac) upgradeAndCrash(old int) {
	m.t.Helper()
	m.build("2")
	m.must("join", m.url)
	if m.runs("2") == old {
		m.t.Errorf("process %d has become another version", old)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	m.check(err)
	out, err := m.do("join", "--metrics-addr", taken.Addr().String(), m.url)
	if err == nil || !strings.Contains(out, "the agent ends each time that it is started") || !strings.Contains(out, "it ended with 1") {
		m.t.Errorf("join of an agent that cannot start: %v\n%s", err, out)
	}
	m.wait("the pause after a failure", func() bool { return m.pid() == 0 })
	m.check(taken.Close())
	m.must("join", "--metrics-addr", "127.0.0.1:0", m.url)
	m.runs("2")
}

// switchOff joins a service that an administrator has switched off, and one that a
// profile keeps so.
func (m *launchdMac) switchOff() {
	m.t.Helper()
	m.launchd.Command("disable", "system/"+serviceName)
	m.wantService("warn", "not started at boot")
	m.must("join", m.url)
	m.launchd.Set(func(o *fakelaunchctl.Options) { o.EnableIgnored = true })
	m.launchd.Command("disable", "system/"+serviceName)
	m.launchd.Command("bootout", "system/"+serviceName)
	m.wait("its end", func() bool { return m.job() == "" })
	out, err := m.do("join", m.url)
	if err == nil || !strings.Contains(out, "switched off on this Mac") || !strings.Contains(out, "sudo launchctl enable system/ankacluster") {
		m.t.Errorf("join of a service that is switched off: %v\n%s", err, out)
	}
	m.launchd.Set(func(o *fakelaunchctl.Options) { o.EnableIgnored = false })
	m.must("join", m.url)
	m.runs("2")
}

// The report on a real launchd runs against the stand-in: every answer is recorded,
// and every start works.
func TestMacReportOfTheService(t *testing.T) {
	t.Parallel()
	m := newLaunchdMac(t)
	out := filepath.Join(m.dir, "report")
	m.must("mac-report", "--service", "--out", out)
	steps, err := macreport.Read(out)
	m.check(err)
	codes := make(map[string]int)
	for _, s := range steps {
		_, name, _ := strings.Cut(s.Name, "-")
		codes[name] = s.ExitCode
	}
	for name, want := range map[string]int{
		"service-running": 0, "service-load-again": 5, "service-ended": 0, "service-load-ended": 5, "service-after-term": 0, "service-killed-5": 0,
		"service-load-disabled": 119, "service-bootout": 0, "service-bootout-gone": 3, "service-uninstalled": 113,
	} {
		if got, ok := codes[name]; !ok || got != want {
			t.Errorf("%s: ended with %d (%t), want %d", name, got, ok, want)
		}
	}
	// Whether the process still works on its end when it is looked at is a matter of
	// the machine's speed: that it was looked at is what is promised.
	for _, name := range []string{"service-leaving", "service-load-leaving", "service-kick-leaving"} {
		if _, ok := codes[name]; !ok {
			t.Errorf("%s was not recorded", name)
		}
	}
	notes, err := os.ReadFile(filepath.Join(out, "service-steps.txt"))
	m.check(err)
	for line := range strings.Lines(string(notes)) {
		if !strings.Contains(line, ": <nil>; then ") {
			t.Errorf("a step failed: %s", line)
		}
	}
	if n := strings.Count(string(notes), "\nstart after"); n != 4 {
		t.Errorf("%d starts, want 4:\n%s", n, notes)
	}
	if j := m.launchd.Command("print", "system/"+reportService); j.Code != 113 {
		t.Errorf("left behind:\n%s", j.Stdout)
	}
}
