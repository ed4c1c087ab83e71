package socket

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/internal/access"
	"github.com/ankacluster/ankacluster/internal/ownership"
	"github.com/ankacluster/ankacluster/internal/wire"
)

// An agent whose directory of sockets and locks was removed is found again, by
// those that ask it, those that stop it, and a second agent.
func TestA20RemovedSocketAndLockAreMadeAgain(t *testing.T) {
	base, err := os.MkdirTemp("", "a20") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	dir := state.Dir(filepath.Join(base, "state"))
	if err := dir.Make(); err != nil {
		t.Fatal(err)
	}
	lock, err := dir.Lock()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { lock.Unlock() }()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	look, ended := make(chan time.Time), make(chan error, 1)
	go func() {
		ended <- serve(ctx, dir.Socket(), lock, []wire.Route{{Pattern: "GET /status", Permission: access.Owner, Handler: Answer(func() any { return "well" })}}, look)
	}()
	ask := func() (answer string, err error) {
		err = Ask(ctx, dir.Socket(), "/status", &answer)
		return answer, err
	}
	answers := func(when string) {
		t.Helper()
		again, never := time.NewTicker(10*time.Millisecond), time.After(time.Minute)
		defer again.Stop()
		for {
			if answer, err := ask(); err == nil && answer == "well" {
				return
			}
			select {
			case <-again.C:
			case <-never:
				t.Fatal("no answer", when)
			}
		}
	}
	answers("at first")
	if err := os.RemoveAll(base); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(); !errors.Is(err, ErrNotRunning) {
		t.Fatalf("without a socket: %v", err)
	}
	look <- time.Now()
	answers("after the directory was removed")
	if pid := dir.RunningPID(); pid != os.Getpid() {
		t.Errorf("the lock is process %d's, want %d", pid, os.Getpid())
	}
	if _, err := dir.Lock(); !errors.Is(err, state.ErrRunning) {
		t.Errorf("a second agent: %v, want %v", err, state.ErrRunning)
	}

	// A second agent that was first to see that nobody held the lock.
	if err := os.RemoveAll(base); err != nil {
		t.Fatal(err)
	}
	if err := dir.Make(); err != nil {
		t.Fatal(err)
	}
	second, err := dir.Lock()
	if err != nil {
		t.Fatal(err)
	}
	defer second.Unlock()
	look <- time.Now()
	if err := <-ended; !errors.Is(err, state.ErrRunning) {
		t.Errorf("the first agent ended with %v, want %v", err, state.ErrRunning)
	}
}

// From when it is bound a socket is its owner's alone, and it is bound in no folder
// where somebody else may put another in its place.
func TestSocketIsItsOwnersAlone(t *testing.T) {
	base, err := os.MkdirTemp("", "own")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	path := filepath.Join(base, "run", "s.sock")
	l, err := listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, p := range []string{path, filepath.Dir(path)} {
		if info, err := os.Stat(p); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: mode %v, %v", p, info.Mode(), err)
		}
	}
	open := filepath.Join(base, "open")
	if err := errors.Join(os.Mkdir(open, 0o700), os.Chmod(open, 0o777)); err != nil {
		t.Fatal(err)
	}
	if l, err := listen(filepath.Join(open, "s.sock")); !errors.Is(err, ownership.ErrShared) {
		t.Errorf("in a folder that all may write: %v, %v", l, err)
	}
}
