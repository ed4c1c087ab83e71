package state

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/ankacluster/ankacluster/internal/filelock"
)

// ErrRunning: another agent runs on this host with this state directory.
var ErrRunning = errors.New("an agent is already running on this host")

// Lock is held by the one agent that may use a state directory. The kernel
// lets go of it when the process ends, however it ends.
type Lock struct {
	dir Dir
	f   *os.File
}

// Lock takes the lock, or returns ErrRunning.
func (d Dir) Lock() (*Lock, error) {
	f, err := os.OpenFile(d.path("run", "agent.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f); err != nil {
		pid, _ := readPID(f)
		f.Close()
		if errors.Is(err, filelock.ErrLocked) {
			return nil, fmt.Errorf("%w (process %d)", ErrRunning, pid)
		}
		return nil, err
	}
	if err := f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
		if err != nil {
			f.Close()
			return nil, err
		}
	}
	return &Lock{d, f}, nil
}

// Keep takes the lock again when its file was removed: a lock without a file
// keeps no other agent out. The error is ErrRunning when another one was first.
func (l *Lock) Keep() error {
	held, err := l.f.Stat()
	if err != nil {
		return err
	}
	if there, err := os.Stat(l.f.Name()); err == nil && os.SameFile(held, there) {
		return nil
	}
	if err := l.dir.Make(); err != nil {
		return err
	}
	again, err := l.dir.Lock()
	if err != nil {
		return err
	}
	l.f.Close()
	l.f = again.f
	return nil
}

// flock takes the exclusive lock. RunningPID holds it for a moment, so one refusal is
// not the last word.
func flock(f *os.File) error {
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	return filelock.LockContext(ctx, f, 30*time.Millisecond)
}

// Unlock lets go of it.
func (l *Lock) Unlock() { l.f.Close() }

// RunningPID returns the process id of the agent that holds the lock, or 0 when
// none does.
func (d Dir) RunningPID() int {
	f, err := os.Open(d.path("run", "agent.lock"))
	if err != nil {
		return 0
	}
	defer f.Close()
	if filelock.TryRLock(f) == nil {
		return 0 // it was free; closing releases it
	}
	pid, _ := readPID(f)
	return pid
}

func readPID(f *os.File) (int, error) {
	data, err := io.ReadAll(io.NewSectionReader(f, 0, 32))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(data)))
}
