package launchd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/test/fakelaunchctl"
)

// job programs. Each writes a line to the diary that is its second argument: its
// first argument and its process.
const (
	polite   = `trap 'kill $!; exit 0' TERM; echo "$1 $$" >> "$2"; while :; do sleep 5 & wait; done`
	slow     = `trap 'kill $!; sleep 0.2; exit 0' TERM; echo "$1 $$" >> "$2"; while :; do sleep 5 & wait; done`
	stubborn = `trap '' TERM; echo "$1 $$" >> "$2"; while :; do sleep 0.5 & wait; done`
	crashing = `echo "$1 $$" >> "$2"; exit 3`
)

// mac is a machine under a stand-in of launchd, with one service.
type mac struct {
	t       *testing.T
	dir     string
	launchd *fakelaunchctl.Launchd
	opts    fakelaunchctl.Options
	version int
}

// newMac returns a machine that plays opts, where all that takes seconds is short.
func newMac(t *testing.T, opts fakelaunchctl.Options) *mac {
	t.Helper()
	m := &mac{t: t, dir: t.TempDir()}
	opts.Dir, opts.Throttle, opts.ExitTimeOut = m.dir, 100*time.Millisecond, 300*time.Millisecond
	m.opts = opts
	must(t, os.Mkdir(m.daemons(), 0o755))
	m.boot()
	t.Cleanup(func() { m.launchd.Close() })
	return m
}

func (m *mac) daemons() string { return filepath.Join(m.dir, "LaunchDaemons") }
func (m *mac) diary() string   { return filepath.Join(m.dir, "diary") }

func (m *mac) boot() {
	l, err := fakelaunchctl.New(m.opts)
	must(m.t, err)
	m.launchd = l
	must(m.t, l.Boot(m.daemons()))
}

// reboot ends everything and starts what starts at boot.
func (m *mac) reboot() {
	m.launchd.Close()
	m.boot()
}

func (m *mac) program() string { return filepath.Join(m.dir, "program") }

// service returns the service as a new process of ankacluster would see it.
func (m *mac) service() *Service {
	m.t.Helper()
	s, err := New(Config{
		Name: "ankacluster", Executable: m.program(), Arguments: []string{m.label(), m.diary()}, LogDir: m.dir,
		// Time for a machine that stands still; the stand-in's own times are short.
		StopTimeout: time.Minute, RestartDelay: time.Second,
		Launchd: Launchd{Launchctl: "the stand-in", Daemons: m.daemons()},
	})
	must(m.t, err)
	s.manager.(*daemon).run = func(args ...string) (reply, error) {
		r := m.launchd.Command(args...)
		return reply{r.Code, r.Stdout, r.Stderr}, nil
	}
	return s
}

func (m *mac) label() string { return fmt.Sprintf("v%d", m.version) }

// put puts a program of that text in place, as an upgrade does.
func (m *mac) put(program string) {
	m.t.Helper()
	must(m.t, os.WriteFile(m.program()+".new", []byte("#!/bin/sh\n"+program+"\n"), 0o755))
	must(m.t, os.Rename(m.program()+".new", m.program()))
}

// join is what ankacluster join does.
func (m *mac) join(program string) error {
	m.put(program)
	s := m.service()
	return errors.Join(s.Install(), s.Restart())
}

// job returns what launchd has loaded.
func (m *mac) job() (job, bool) {
	j, loaded, err := m.service().manager.(*daemon).print()
	must(m.t, err)
	return j, loaded
}

// begun waits until a process of the job has begun, and returns it. One that was
// just ended by an accident may still be there a moment before.
func (m *mac) begun() (pid int) {
	m.t.Helper()
	m.wait("a process that has begun", func(j job) bool {
		pid = j.pid
		data, err := os.ReadFile(m.diary())
		return pid != 0 && err == nil && strings.Contains(string(data), fmt.Sprintf("%s %d\n", m.label(), pid))
	})
	return pid
}

// wantRunning checks that one process runs, of the version that was joined last.
func (m *mac) wantRunning() {
	m.t.Helper()
	if j, loaded := m.job(); !loaded || j.leaving() || !slices.Contains(j.arguments, m.label()) {
		m.t.Fatalf("job %+v, loaded %t, want it to run %s", j, loaded, m.label())
	}
	pid := m.begun()
	if st, err := m.service().Status(); err != nil || st.State != Running || st.PID != pid {
		m.t.Fatalf("Status() = %+v, %v, want process %d", st, err, pid)
	}
	m.wantAlone(pid)
}

// wantAlone checks that no process of the service is alive but pid.
func (m *mac) wantAlone(pid int) {
	m.t.Helper()
	data, err := os.ReadFile(m.diary())
	if err != nil {
		return // nothing was ever started
	}
	for line := range strings.Lines(string(data)) {
		var version string
		var other int
		if _, err := fmt.Sscan(line, &version, &other); err == nil && other != pid && alive(other) {
			m.t.Fatalf("process %d of %s is alive beside %d", other, version, pid)
		}
	}
}

func (m *mac) wantGone(plist bool) {
	m.t.Helper()
	if j, loaded := m.job(); loaded {
		m.t.Fatalf("job %+v is loaded, want none", j)
	}
	if _, err := os.Stat(filepath.Join(m.daemons(), "ankacluster.plist")); (err == nil) != plist {
		m.t.Fatalf("the property list: %v, want it there: %t", err, plist)
	}
	m.wantAlone(0)
}

// forms of launchd: each answer to what is not known, and each release.
var forms = map[string]fakelaunchctl.Options{
	"26":                {},
	"13":                {Form: "13", Linger: 200 * time.Millisecond},
	"10.15":             {Form: "10.15", BootoutCode: 36, LeavingCode: 37, GoneCode: 113},
	"10.10":             {Form: "10.10", BootoutCode: 36, Forgetful: true},
	"disabled is 5":     {DisabledCode: 5},
	"not run at load":   {RunNever: true},
	"throttled kick":    {KickThrottled: true},
	"refused at random": {RefuseLoads: 2, RefuseKicks: 1},
}

func everyForm(t *testing.T, test func(t *testing.T, m *mac)) {
	t.Parallel()
	for name, opts := range forms {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newMac(t, opts))
		})
	}
}

func TestServiceUnderLaunchd(t *testing.T) {
	everyForm(t, func(t *testing.T, m *mac) {
		m.put(polite)
		s := m.service()
		if err := s.Start(); !errors.Is(err, ErrNotInstalled) {
			t.Errorf("Start() before Install = %v, want ErrNotInstalled", err)
		}
		must(t, s.Uninstall())
		must(t, s.Install())
		must(t, s.Install()) // a repeat is no error
		wantState(t, s, Stopped)
		must(t, s.Start())
		m.wantRunning()
		first := m.begun()
		must(t, s.Start())
		if m.begun() != first {
			t.Error("Start() of a service that runs has started another process")
		}
		must(t, s.Restart())
		m.wantRunning()
		if second := m.begun(); second == first {
			t.Error("Restart() has not started another process")
		}
		if st, err := s.Status(); err != nil || st.Restarts != 0 {
			t.Errorf("Status() = %+v, %v, want no restart after a start that was asked for", st, err)
		}
		m.reboot()
		m.wait("it runs after the boot", func(j job) bool { return j.pid != 0 })
		must(t, s.Stop())
		m.wantGone(true)
		must(t, s.Stop())
		must(t, s.Start())
		must(t, s.Uninstall())
		must(t, s.Uninstall())
		m.wantGone(false)
		wantState(t, s, NotInstalled)
	})
}

// wait waits until the job is as wanted.
func (m *mac) wait(what string, ok func(job) bool) job {
	m.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; <-time.After(10 * time.Millisecond) {
		j, _ := m.job()
		if ok(j) {
			return j
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("%s: not so, but %+v", what, j)
		}
	}
}

// What the first version could not do: a job that is loaded and does not run was
// never unloaded, so that it could not be loaded again.
func TestJoinAgainAfterAnEnd(t *testing.T) {
	everyForm(t, func(t *testing.T, m *mac) {
		must(t, m.join(polite))
		m.wantRunning()
		must(t, syscall.Kill(m.begun(), syscall.SIGTERM))
		m.wait("ended with 0", func(j job) bool { return j.pid == 0 && j.lastExit == "0" })
		wantStopped := Status{State: Stopped, LastExit: "0", Enabled: true}
		if st, err := m.service().Status(); err != nil || st.State != wantStopped.State || st.LastExit != "0" {
			t.Errorf("Status() = %+v, %v, want %+v", st, err, wantStopped)
		}
		must(t, m.join(polite))
		m.wantRunning()

		for range 5 {
			pid := m.wait("runs", func(j job) bool { return j.pid != 0 }).pid
			must(t, syscall.Kill(pid, syscall.SIGKILL))
			m.wait("killed", func(j job) bool { return j.pid != pid })
		}
		must(t, m.join(polite))
		m.wantRunning()
	})
}

func TestCrashLoopIsToldAndLeft(t *testing.T) {
	everyForm(t, func(t *testing.T, m *mac) {
		m.version++
		must(t, m.join(crashing)) // launchd has started it
		m.wait("crashes", func(j job) bool { return j.runs >= 3 && j.pid == 0 })
		if st, err := m.service().Status(); err != nil || st.LastExit != "3" || st.Restarts < 2 {
			t.Errorf("Status() = %+v, %v, want exit code 3 and restarts", st, err)
		}
		m.version++
		must(t, m.join(polite))
		m.wantRunning()
		m.version++
		must(t, m.join(crashing))
		m.wait("crashes", func(j job) bool { return j.runs >= 2 })
		must(t, m.service().Uninstall())
		m.wantGone(false)
	})
}

func TestUpgradeChangesProgramAndPropertyList(t *testing.T) {
	everyForm(t, func(t *testing.T, m *mac) {
		must(t, m.join(slow))
		m.wantRunning()
		m.version++
		must(t, m.join(polite))
		m.wantRunning()
		// The list was replaced behind launchd's back, which runs the old one.
		m.version++
		m.put(polite)
		s := m.service()
		must(t, writePlist(s.DefinitionPath(), s.manager.(*daemon).text))
		must(t, s.Restart())
		m.wantRunning()
	})
}

func TestStubbornServiceIsKilled(t *testing.T) {
	everyForm(t, func(t *testing.T, m *mac) {
		must(t, m.join(stubborn))
		m.wantRunning()
		pid := m.begun()
		must(t, m.service().Stop())
		if alive(pid) {
			t.Errorf("process %d is alive after Stop", pid)
		}
		m.wantGone(true)
	})
}

func TestServiceThatIsSwitchedOff(t *testing.T) {
	everyForm(t, func(t *testing.T, m *mac) {
		must(t, m.join(polite))
		m.launchd.Command("disable", "system/ankacluster")
		if st, err := m.service().Status(); err != nil || st.Enabled || st.State != Running {
			t.Errorf("Status() = %+v, %v, want it running and not enabled", st, err)
		}
		must(t, m.service().Stop())
		must(t, m.join(polite)) // who joins wants it on
		m.wantRunning()
		if st, err := m.service().Status(); err != nil || !st.Enabled {
			t.Errorf("Status() = %+v, %v, want it enabled", st, err)
		}
		m.launchd.Command("disable", "system/ankacluster")
		m.launchd.Set(func(o *fakelaunchctl.Options) { o.EnableIgnored = true })
		must(t, m.service().Stop())
		began := time.Now()
		if err := m.join(polite); !errors.Is(err, ErrDisabled) {
			t.Errorf("join = %v, want ErrDisabled", err)
		}
		if took := time.Since(began); m.opts.RefuseLoads == 0 && took >= loadPatience {
			t.Errorf("it took %s to tell", took)
		}
		m.wantGone(true)
	})
}

// Each of these makes launchd refuse the file with a code that says nothing.
func TestPropertyListIsRootsAndNotForOthers(t *testing.T) {
	m := newMac(t, fakelaunchctl.Options{})
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	must(t, m.join(polite))
	path := m.service().DefinitionPath()
	must(t, os.Chmod(path, 0o666))
	if os.Geteuid() == 0 {
		must(t, os.Chown(path, 1, 1))
	}
	must(t, m.service().Stop())
	must(t, m.join(polite))
	m.wantRunning()
	info, err := os.Stat(path)
	must(t, err)
	if st := info.Sys().(*syscall.Stat_t); info.Mode() != 0o644 || os.Geteuid() == 0 && (st.Uid != 0 || st.Gid != 0) {
		t.Errorf("mode %v, owner %d:%d, want 0644 and root:wheel", info.Mode(), st.Uid, st.Gid)
	}
	files, err := os.ReadDir(m.daemons())
	must(t, err)
	if len(files) != 1 {
		t.Errorf("the directory holds %v, want the property list alone", files)
	}
}

// A job whose property list somebody has removed is found and ended.
func TestJobWithoutPropertyList(t *testing.T) {
	everyForm(t, func(t *testing.T, m *mac) {
		must(t, m.join(polite))
		m.wantRunning()
		s := m.service()
		must(t, os.Remove(s.DefinitionPath()))
		if installed, uses := s.Uses(m.diary()); !installed || !uses {
			t.Errorf("Uses() = %t, %t, want both: it runs", installed, uses)
		}
		must(t, s.Uninstall())
		m.wantGone(false)
	})
}

func wantState(t *testing.T, s *Service, want State) Status {
	t.Helper()
	st, err := s.Status()
	if err != nil || st.State != want {
		t.Fatalf("Status() = %+v, %v, want %s", st, err, want)
	}
	if st.Enabled != (want != NotInstalled) || (st.PID != 0) != (want == Running) {
		t.Fatalf("Status() = %+v: enabled and pid do not fit", st)
	}
	return st
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
