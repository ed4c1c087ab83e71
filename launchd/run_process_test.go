package launchd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// roleVar makes the test binary a program under test: one that Run runs.
const roleVar = "ANKA_TEST_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVar); role != "" {
		os.Exit(play(role, os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}

// play is the program that the tests run as a service. It appends a line to the
// file args[0] for everything that happens to it.
func play(role string, args []string) int {
	tell := func(format string, a ...any) {
		f, err := os.OpenFile(args[0], os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err == nil {
			fmt.Fprintf(f, format+"\n", a...)
			_ = f.Close()
		}
	}
	err := Run(context.Background(), "anka-test", func(ctx context.Context) error {
		if role == "agent" && len(args) > 1 {
			// What the agent does for a virtual machine: a process that must
			// survive it.
			if _, err := os.Stat(args[1]); err != nil {
				vm := exec.Command("sleep", "600")
				if err := vm.Start(); err != nil {
					return err
				}
				if err := os.WriteFile(args[1], fmt.Append(nil, vm.Process.Pid), 0o644); err != nil {
					return err
				}
			}
		}
		tell("started %d", os.Getpid())
		tell("arguments %q", args[1:])
		switch role {
		case "broken":
			return errors.New("as asked")
		case "panics":
			panic("as asked")
		case "done":
			return nil
		}
		<-ctx.Done()
		tell("told to stop")
		if role == "stubborn" {
			select {}
		}
		return ctx.Err()
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func startRole(t *testing.T, role string) (*exec.Cmd, string) {
	t.Helper()
	diary := filepath.Join(t.TempDir(), "diary")
	cmd := exec.Command(os.Args[0], diary)
	cmd.Env = append(os.Environ(), roleVar+"="+role)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd, diary
}

func TestRunExitStatusTellsTheServiceManager(t *testing.T) {
	t.Parallel()
	// Only a failure may be restarted: an end that was asked for, and one that
	// needs nothing more, must exit with 0.
	for role, want := range map[string]int{"agent": 0, "done": 0, "broken": 1, "panics": 2} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			cmd, diary := startRole(t, role)
			if role == "agent" {
				waitLine(t, diary, "started", 1)
				if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
			}
			_ = cmd.Wait() // the status is what is looked at
			if got := cmd.ProcessState.ExitCode(); got != want {
				t.Errorf("exit status %d, want %d", got, want)
			}
		})
	}
}

// interruptIgnored is so in what a shell runs in its background, and in its
// children. Once Run has listened, signal.Ignored does not know it any more.
var interruptIgnored = signal.Ignored(syscall.SIGINT)

func TestSecondSignalEndsAStubbornProgram(t *testing.T) {
	t.Parallel()
	cmd, diary := startRole(t, "stubborn")
	waitLine(t, diary, "started", 1)
	sent := syscall.SIGINT
	if interruptIgnored {
		sent = syscall.SIGTERM
	}
	if err := cmd.Process.Signal(sent); err != nil {
		t.Fatal(err)
	}
	waitLine(t, diary, "told to stop", 1)
	// The handler goes away a moment after the context ends: keep asking.
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_ = cmd.Wait()
	}()
	for {
		_ = cmd.Process.Signal(sent)
		select {
		case <-exited:
			if got := cmd.ProcessState.Sys().(syscall.WaitStatus).Signal(); got != sent {
				t.Errorf("ended by %v, want %v", got, sent)
			}
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func TestRunReturnsTheFunctionsError(t *testing.T) {
	want := errors.New("broken")
	if err := Run(t.Context(), "anka-test", func(context.Context) error { return want }); !errors.Is(err, want) {
		t.Errorf("Run() = %v, want %v", err, want)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Run(ctx, "anka-test", func(ctx context.Context) error { return ctx.Err() }); err != nil {
		t.Errorf("Run() of a cancelled context = %v, want nil", err)
	}
	// A cancelled call that nobody asked for is a failure.
	if err := Run(t.Context(), "anka-test", func(context.Context) error { return context.Canceled }); !errors.Is(err, context.Canceled) {
		t.Errorf("Run() = %v, want context.Canceled", err)
	}
}

// waitLine waits until the diary has n lines that begin so, and returns them.
func waitLine(t *testing.T, diary, prefix string, n int) []string {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		var lines []string
		data, _ := os.ReadFile(diary) // not there yet: no lines
		for line := range strings.Lines(string(data)) {
			if strings.HasPrefix(line, prefix) && strings.HasSuffix(line, "\n") {
				lines = append(lines, strings.TrimSpace(line))
			}
		}
		if len(lines) >= n {
			return lines
		}
		if time.Now().After(deadline) {
			t.Fatalf("the diary has no %d lines %q:\n%s", n, prefix, data)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
