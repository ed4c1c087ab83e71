package launchd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/test/systemd"
)

// insideVar holds the phase of a test that runs on the machine which
// TestServiceUnderSystemd boots, dirVar the directory they share.
const (
	insideVar = "ANKA_TEST_INSIDE"
	dirVar    = "ANKA_TEST_DIR"
)

// TestServiceUnderSystemd installs, starts, kills, restarts, stops, reboots and
// removes a service of ours under a real systemd.
func TestServiceUnderSystemd(t *testing.T) {
	t.Parallel()
	m := systemd.Boot(t)
	dir := t.TempDir()
	inside := func(phase string) {
		t.Helper()
		out, err := m.Run([]string{insideVar + "=" + phase, dirVar + "=" + dir}, os.Args[0], "-test.run=^TestInside$", "-test.v", "-test.timeout=6m")
		if err != nil || !strings.Contains(out, "--- PASS: TestInside") {
			t.Fatalf("phase %s: %v\n%s", phase, err, out)
		}
	}
	inside("lifecycle")
	inside("stubborn")
	inside("awkward")
	inside("install")
	m.Reboot()
	inside("rebooted")
}

func TestInside(t *testing.T) {
	phases := map[string]func(*testing.T, string){
		"lifecycle": insideLifecycle, "stubborn": insideStubborn, "awkward": insideAwkward, "install": insideInstall, "rebooted": insideRebooted,
	}
	phase := os.Getenv(insideVar)
	if phase == "" {
		t.Skip("runs inside the machine of TestServiceUnderSystemd")
	}
	phases[phase](t, os.Getenv(dirVar))
}

// testService is a service that plays role and keeps a diary in dir.
func testService(t *testing.T, dir, role string) (*Service, string) {
	t.Helper()
	diary := filepath.Join(dir, role)
	// Only who does not end by itself is to be killed: a program with the race
	// detector takes a second to exit. And the stubborn must have heard that it is
	// to stop, on a machine that may stand still for seconds.
	stopTimeout := time.Minute
	if role == "stubborn" {
		stopTimeout = 10 * time.Second
	}
	s, err := New(Config{
		Name:         "anka-test-" + role,
		Executable:   os.Args[0],
		Arguments:    []string{diary, filepath.Join(dir, "vm pid of "+role)},
		Environment:  map[string]string{roleVar: role},
		RestartDelay: time.Second,
		StopTimeout:  stopTimeout,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, diary
}

func insideLifecycle(t *testing.T, dir string) {
	s, diary := testService(t, dir, "agent")
	if err := s.Start(); !errors.Is(err, ErrNotInstalled) {
		t.Errorf("Start() before Install = %v, want ErrNotInstalled", err)
	}
	if err := s.Uninstall(); err != nil {
		t.Errorf("Uninstall() of nothing = %v", err)
	}
	must(t, s.Install())
	must(t, s.Install()) // a repeat is no error
	wantState(t, s, Stopped)
	must(t, s.Start())
	must(t, s.Start())
	first := wantState(t, s, Running)
	waitLine(t, diary, "started", 1)

	// Killed: back by itself.
	must(t, syscall.Kill(first.PID, syscall.SIGKILL))
	lines := waitLine(t, diary, "started", 2)
	second := wantState(t, s, Running)
	if second.PID == first.PID || lines[1] != "started "+strconv.Itoa(second.PID) || second.Restarts != 1 {
		t.Errorf("after kill -9: status %+v, diary %q; want a new process and one restart", second, lines)
	}

	// A changed definition takes effect with the restart.
	s.cfg.Environment["EXTRA"] = "1"
	changed, err := New(s.cfg)
	must(t, err)
	must(t, changed.Install())
	must(t, changed.Restart())
	waitLine(t, diary, "started", 3)
	third := wantState(t, s, Running)
	if env, err := os.ReadFile("/proc/" + strconv.Itoa(third.PID) + "/environ"); err != nil || !strings.Contains(string(env), "EXTRA=1") {
		t.Errorf("environment of the restarted service: %q, %v; want EXTRA=1", env, err)
	}

	must(t, changed.Stop())
	waitLine(t, diary, "told to stop", 2)
	wantState(t, changed, Stopped)
	must(t, changed.Stop())

	// What it had started outlived all of that.
	data, err := os.ReadFile(filepath.Join(dir, "vm pid of agent"))
	must(t, err)
	vm, err := strconv.Atoi(string(data))
	must(t, err)
	if err := syscall.Kill(vm, 0); err != nil {
		t.Errorf("the virtual machine's process: %v; want it alive after kill, restart and stop", err)
	}
	must(t, syscall.Kill(vm, syscall.SIGKILL))

	must(t, changed.Start())
	must(t, changed.Uninstall())
	must(t, changed.Uninstall())
	wantState(t, changed, NotInstalled)
	if _, err := os.Stat(changed.DefinitionPath()); err == nil {
		t.Error("the unit is still there after Uninstall")
	}
}

func insideStubborn(t *testing.T, dir string) {
	s, diary := testService(t, dir, "stubborn")
	must(t, s.Install())
	must(t, s.Start())
	waitLine(t, diary, "started", 1)
	must(t, s.Stop())
	waitLine(t, diary, "told to stop", 1)
	// Killed for its stubbornness, and by our own will: it stays down.
	if st, err := s.Status(); err != nil || st.State == Running {
		t.Errorf("status %+v, %v; want it ended", st, err)
	}
	must(t, s.Uninstall())
	wantState(t, s, NotInstalled)

	broken, diary := testService(t, dir, "broken")
	must(t, broken.Install())
	if err := broken.Start(); err != nil {
		t.Log(err) // systemd may see the program's end before it sees that it began
	}
	waitLine(t, diary, "started", 3) // tried again and again
	must(t, broken.Uninstall())
	wantState(t, broken, NotInstalled)

	missing, err := New(Config{Name: "anka-test-missing", Executable: filepath.Join(dir, "missing")})
	must(t, err)
	if err := missing.Install(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Install() of a missing program = %v, want ErrNotExist", err)
	}
	wantState(t, missing, NotInstalled)
}

// insideAwkward is the test of the unit's quoting that a golden file cannot be:
// what systemd makes of it.
func insideAwkward(t *testing.T, dir string) {
	program, err := filepath.Abs(os.Args[0])
	must(t, err)
	cfg := renderCases["awkward"]
	odd := filepath.Join(dir, `odd $HOME 50% place`)
	must(t, os.Mkdir(odd, 0o755))
	cfg.Executable, cfg.WorkingDirectory = filepath.Join(odd, "run"), odd
	must(t, os.Symlink(program, cfg.Executable))
	diary := filepath.Join(dir, "awkward")
	want := cfg.Arguments
	cfg.Arguments = append([]string{diary}, want...)
	cfg.Environment[roleVar] = "agent without a machine"
	s, err := New(cfg)
	must(t, err)
	must(t, s.Install())
	must(t, s.Start())
	st := wantState(t, s, Running)
	if got, want := waitLine(t, diary, "arguments", 1)[0], fmt.Sprintf("arguments %q", want); got != want {
		t.Errorf("systemd passed %s, want %s", got, want)
	}
	env, err := os.ReadFile("/proc/" + strconv.Itoa(st.PID) + "/environ")
	if want := "MESSAGE=" + cfg.Environment["MESSAGE"] + "\x00"; err != nil || !strings.Contains(string(env), want) {
		t.Errorf("environment %q, %v; want %q", env, err, want)
	}
	must(t, s.Uninstall())

	// A unit that someone has damaged is not one that is not installed.
	damage := func() {
		must(t, os.WriteFile(s.DefinitionPath(), []byte("[Service]\nType=exec\n"), 0o644))
		if st, err := s.Status(); !errors.Is(err, errDamaged) {
			t.Errorf("Status() of a damaged unit = %+v, %v, want an error that says so", st, err)
		}
	}
	damage()
	must(t, s.Install())
	wantState(t, s, Stopped)
	must(t, s.Uninstall())
	damage()
	must(t, s.Uninstall())
	wantState(t, s, NotInstalled)
}

func insideInstall(t *testing.T, dir string) {
	s, diary := testService(t, dir, "agent")
	must(t, os.Remove(diary))
	must(t, s.Install())
	must(t, s.Start())
	waitLine(t, diary, "started", 1)
}

func insideRebooted(t *testing.T, dir string) {
	s, diary := testService(t, dir, "agent")
	waitLine(t, diary, "started", 2)
	wantState(t, s, Running)
	must(t, s.Uninstall())
}
