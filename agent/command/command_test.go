package command

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
)

func shell(script string) Command { return Command{Path: "/bin/sh", Args: []string{"-c", script}} }

func newRunner(t *testing.T) *Runner { return New(t.TempDir(), zap.NewNop(), nil) }

func TestRunKeepsOutputAndExitCode(t *testing.T) {
	t.Parallel()
	res, err := newRunner(t).Run(t.Context(), shell("cat; echo oops >&2; exit 7"))
	if err != nil || res.ExitCode != 7 || string(res.Stderr) != "oops\n" {
		t.Errorf("got %+v, %v", res, err)
	}
}

// F26, A10: a command that hangs is ended with all its children, though it is
// deaf to SIGTERM.
func TestF26TimeoutEndsTheWholeGroup(t *testing.T) {
	t.Parallel()
	pidFile := filepath.Join(t.TempDir(), "child")
	c := shell(`trap "" TERM; sleep 1000 & echo $! > ` + pidFile + `; while :; do sleep 1000; done`)
	c.Timeout = time.Second
	_, err := newRunner(t).Run(t.Context(), c)
	if !errors.Is(err, ErrTimeout) {
		t.Fatalf("got %v, want ErrTimeout", err)
	}
	data, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the child is gone", func() bool { return startTime(child) == "" })
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after a minute still not: %s", what)
		}
	}
}

func TestCancelTellsItsCause(t *testing.T) {
	t.Parallel()
	why := errors.New("terminated")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(200*time.Millisecond, func() { cancel(why) })
	if _, err := newRunner(t).Run(ctx, shell("sleep 1000")); !errors.Is(err, why) {
		t.Errorf("got %v, want the cause", err)
	}
}

// A9: what ends a pull is a standstill, not its length.
func TestA9StalledCommandEnds(t *testing.T) {
	t.Parallel()
	c := shell("sleep 1000")
	c.Stall = time.Second
	if _, err := newRunner(t).Run(t.Context(), c); !errors.Is(err, ErrStalled) {
		t.Errorf("got %v, want ErrStalled", err)
	}
}

func TestA9CommandThatGetsOnMayTakeLong(t *testing.T) {
	t.Parallel()
	moved := int64(0)
	for name, c := range map[string]Command{
		"prints":     shell("for i in 1 2 3 4 5 6 7 8 9 10; do echo $i; sleep 0.5; done"),
		"moves data": {Path: "/bin/sh", Args: []string{"-c", "sleep 5"}, Progress: func() int64 { moved++; return moved }},
	} {
		t.Run(name, func(t *testing.T) {
			c.Stall = 4 * time.Second // far more than its steps, less than all of it
			if res, err := newRunner(t).Run(t.Context(), c); err != nil || res.ExitCode != 0 {
				t.Errorf("got %+v, %v", res, err)
			}
		})
	}
}

// What `anka start` leaves running is the VM: it keeps stdout open and lives on.
func TestDaemonThatKeepsTheOutputIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	begin := time.Now()
	res, err := newRunner(t).Run(t.Context(), shell("sleep 300 & echo $!"))
	if err != nil || res.ExitCode != 0 {
		t.Fatalf("got %+v, %v", res, err)
	}
	if took := time.Since(begin); took > 100*time.Second {
		t.Errorf("Run took %s", took)
	}
	daemon, err := strconv.Atoi(strings.TrimSpace(string(res.Stdout)))
	if err != nil {
		t.Fatal(err)
	}
	if startTime(daemon) == "" {
		t.Error("the daemon was ended")
	}
	_ = syscall.Kill(daemon, syscall.SIGKILL)
}

func TestFloodIsBounded(t *testing.T) {
	t.Parallel()
	c := shell("i=0; while [ $i -lt 2000 ]; do printf '%01000d\\n' $i; i=$((i+1)); done; echo end")
	c.MaxOutput = 10 << 10
	res, err := newRunner(t).Run(t.Context(), c)
	if err != nil || len(res.Stdout) != 10<<10 || !bytes.HasSuffix(res.Stdout, []byte("\nend\n")) {
		t.Errorf("got %d bytes ending with %q, %v", len(res.Stdout), LastLine(res.Stdout), err)
	}
}

// A killed agent's commands are found by its successor, and nobody else's.
func TestLeftoversAreEnded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := New(dir, zap.NewNop(), nil)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = first.Run(context.Background(), shell("sleep 1000"))
	}()
	var notes []os.DirEntry
	eventually(t, "the command is noted", func() bool {
		notes, _ = os.ReadDir(dir)
		if len(notes) != 1 {
			return false
		}
		info, err := notes[0].Info()
		return err == nil && info.Size() > 0
	})
	// A note of a process that has another start time is somebody else's by now.
	if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(os.Getpid())), []byte("another time"), 0o600); err != nil {
		t.Fatal(err)
	}
	killed, err := New(dir, zap.NewNop(), nil).KillLeftovers()
	if err != nil || killed != 1 {
		t.Errorf("killed %d, %v; want 1", killed, err)
	}
	<-done
	if rest, _ := os.ReadDir(dir); len(rest) != 0 {
		t.Errorf("notes left: %v", rest)
	}
}

// A program that is being written cannot be run; once it is written it is.
func TestProgramThatIsBeingReplacedIsTriedAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "program")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("#!/bin/sh\necho done\n"); err != nil {
		t.Fatal(err)
	}
	tries := 0
	cmd, err := start(t.Context(), func() *exec.Cmd {
		if tries++; tries == 2 {
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		}
		return exec.Command(path)
	})
	if err != nil || tries < 2 {
		t.Fatalf("after %d tries: %v", tries, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestMissingProgram(t *testing.T) {
	t.Parallel()
	_, err := newRunner(t).Run(t.Context(), Command{Path: "/nowhere/anka"})
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestParseCPUTime(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"0:01.50": 1500 * time.Millisecond, "01:02:03": time.Hour + 2*time.Minute + 3*time.Second,
		"2-00:00:00": 48 * time.Hour, "x": 0, "": 0,
	} {
		if got := parseCPUTime(in); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}
