// Package filelock locks open files among processes and within one (flock). A lock
// belongs to the open file: closing that frees it, and so does the end of the
// process, however it ends.
//
// The callers keep what they lock open for something of their own: a process id in
// it, a log that is appended to, a file below an os.Root. So the functions take
// open files, which github.com/gofrs/flock does not.
package filelock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ErrLocked is returned where another holder keeps a lock from being taken.
var ErrLocked = errors.New("the file is locked")

// Lock takes the exclusive lock, and waits for it.
func Lock(f *os.File) error { return flock(f, unix.LOCK_EX) }

// RLock takes the shared lock, and waits for it.
func RLock(f *os.File) error { return flock(f, unix.LOCK_SH) }

// TryLock takes the exclusive lock, or returns ErrLocked.
func TryLock(f *os.File) error { return flock(f, unix.LOCK_EX|unix.LOCK_NB) }

// TryRLock takes the shared lock, or returns ErrLocked.
func TryRLock(f *os.File) error { return flock(f, unix.LOCK_SH|unix.LOCK_NB) }

// LockContext takes the exclusive lock, which it tries to once in every pause until
// ctx ends: a flock that waits in the kernel cannot be given up. The error of a ctx
// that ended is an ErrLocked, too.
func LockContext(ctx context.Context, f *os.File, pause time.Duration) error {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		if err := TryLock(f); !errors.Is(err, ErrLocked) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrLocked, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

func flock(f *os.File, how int) error {
	for {
		switch err := unix.Flock(int(f.Fd()), how); err {
		case nil:
			return nil
		case unix.EINTR:
		case unix.EWOULDBLOCK:
			return ErrLocked
		default:
			return &os.PathError{Op: "lock", Path: f.Name(), Err: err}
		}
	}
}
