package command

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/zap"
)

func spawn(t *testing.T, r *Runner, script string) (*Daemon, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "out")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d, err := r.Spawn(t.Context(), shell(script), f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Kill)
	return d, path
}

func TestDaemonTellsItsEnd(t *testing.T) {
	t.Parallel()
	r := newRunner(t)
	d, out := spawn(t, r, "echo said; echo meant >&2; exit 7")
	eventually(t, "it has ended", func() bool { _, ended := d.Ended(); return ended })
	if code, _ := d.Ended(); code != 7 {
		t.Errorf("exit code: got %d, want 7", code)
	}
	if data, _ := os.ReadFile(out); strings.Join(strings.Fields(string(data)), " ") != "said meant" {
		t.Errorf("output: %q", data)
	}
	d, _ = spawn(t, r, "exec sleep 1000")
	if _, ended := d.Ended(); ended {
		t.Error("it has ended at once")
	}
	if sid, err := getsid(d.pid); err != nil || sid != d.pid {
		t.Errorf("session %d of process %d, %v: want one of its own", sid, d.pid, err)
	}
	d.Kill()
	if code, ended := d.Ended(); !ended || code != -1 {
		t.Errorf("after Kill: %d, %v", code, ended)
	}
}

func getsid(pid int) (int, error) {
	sid, _, errno := syscall.Syscall(syscall.SYS_GETSID, uintptr(pid), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(sid), nil
}

// A daemon belongs to its agent until it is kept; from then on it outlives all
// of them.
func TestKeptDaemonIsNoLeftover(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := New(dir, zap.NewNop(), nil)
	lost, _ := spawn(t, first, "exec sleep 1000")
	kept, _ := spawn(t, first, "exec sleep 1000")
	kept.Keep()
	if n, err := New(dir, zap.NewNop(), nil).KillLeftovers(); n != 1 || err != nil {
		t.Errorf("killed %d, %v; want 1", n, err)
	}
	eventually(t, "the one that was not kept has ended", func() bool { _, ended := lost.Ended(); return ended })
	if _, ended := kept.Ended(); ended {
		t.Error("the kept one has ended too")
	}
}

func TestDaemonOfNoProgram(t *testing.T) {
	t.Parallel()
	if _, err := newRunner(t).Spawn(t.Context(), Command{Path: "/nowhere/tart"}, os.Stderr); !os.IsNotExist(err) {
		t.Errorf("got %v", err)
	}
}

// A program that is being replaced is tried again, as with commands.
func TestDaemonOfAProgramThatIsBeingWritten(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux refuses to run what is open for writing")
	}
	t.Parallel()
	path := filepath.Join(t.TempDir(), "tart")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("#!/bin/sh\nexit 3\n"); err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancelCause(t.Context())
	why := errors.New("it will not be waited for")
	cancel(why)
	if _, err := newRunner(t).Spawn(gone, Command{Path: path}, os.Stderr); !errors.Is(err, why) {
		t.Errorf("while it is written: %v, want to have waited", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	d, err := newRunner(t).Spawn(t.Context(), Command{Path: path}, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Kill)
	eventually(t, "it has ended", func() bool { code, ended := d.Ended(); return ended && code == 3 })
}
