package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
)

func shell(script string) Command { return Command{Path: "/bin/sh", Args: Words("-c", word(script))} }

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
	var data []byte
	for c.Timeout = time.Second; len(data) == 0; c.Timeout *= 2 { // a slow machine needs more to begin
		if _, err := newRunner(t).Run(t.Context(), c); !errors.Is(err, ErrTimeout) || c.Timeout > time.Minute {
			t.Fatalf("after %s: got %v, want ErrTimeout and a child", c.Timeout, err)
		}
		data, _ = os.ReadFile(pidFile) // missing reads as empty
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
	const nobody = 1 << 30 // no process group has that number
	const signs = 20
	for _, prints := range []bool{true, false} {
		t.Run(fmt.Sprintf("prints %v", prints), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out tail
				var moved atomic.Int64
				c := Command{Stall: 10 * time.Second, Progress: moved.Load}
				ended, began := make(chan error, 1), time.Now()
				go func() {
					for range signs {
						if time.Sleep(c.Stall - stallCheck); prints {
							_, _ = out.Write([]byte("."))
						} else {
							moved.Add(1)
						}
					}
					time.Sleep(time.Hour)
					ended <- nil
				}()
				_, cut := newRunner(t).watch(t.Context(), c, nobody, &out, &out, ended)
				if at := time.Since(began); !errors.Is(cut, ErrStalled) || at < signs*(c.Stall-stallCheck)+c.Stall {
					t.Errorf("after %s: %v, want %v, and %s after the last of %d signs", at, cut, ErrStalled, c.Stall, signs)
				}
			})
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

// D20: a proxy that the agent's environment names is not for this host.

// ps of macOS, in the words of a shell that sets no language and of one that has a
// decimal comma.
func TestCPUTimeOfAGroup(t *testing.T) {
	for name, ps := range map[string]string{
		"C":     "    1   2:14.53\n  501   0:01.50\n  501   1:00.25\n 5010  59:59.99\n",
		"de_DE": "    1   2:14,53\n  501   0:01,50\n  501   1:00,25\n 5010  59:59,99\n",
	} {
		if got, want := sumCPU([]byte(ps), 501), 61750*time.Millisecond; got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if got := sumCPU([]byte("501 ganz viel\n501\n"), 501); got != 0 {
		t.Errorf("what cannot be read: %s, want 0", got)
	}
}

func TestCommandsReachThisHostWithoutAProxy(t *testing.T) {
	t.Setenv("NO_PROXY", "example.com")
	t.Setenv("no_proxy", "")
	t.Setenv("http_proxy", "http://proxy:3128")
	res, err := New("", zap.NewNop(), nil).Run(t.Context(), Command{Path: "/bin/sh", Args: Words("-c", `echo "$NO_PROXY $no_proxy $http_proxy"`)})
	if want := "example.com,127.0.0.1,localhost 127.0.0.1,localhost http://proxy:3128\n"; err != nil || string(res.Stdout) != want {
		t.Errorf("got %q, %v, want %q", res.Stdout, err, want)
	}
}
