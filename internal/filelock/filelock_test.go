package filelock

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestLocksOfTwoOpenFiles(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name          string
		first, second func(*os.File) error
		refused       bool
	}{
		{"exclusive and exclusive", Lock, TryLock, true},
		{"exclusive and shared", Lock, TryRLock, true},
		{"shared and exclusive", RLock, TryLock, true},
		{"shared and shared", TryRLock, TryRLock, false},
	} {
		path := filepath.Join(t.TempDir(), "lock")
		a, b := open(t, path), open(t, path)
		if err := tc.first(a); err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		if err := tc.second(b); errors.Is(err, ErrLocked) != tc.refused {
			t.Errorf("%s: %v", tc.name, err)
		}
		a.Close()
		if err := TryLock(b); err != nil {
			t.Errorf("%s: after the first is closed: %v", tc.name, err)
		}
	}
}

func TestLockContext(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	a, b := open(t, path), open(t, path)
	if err := Lock(a); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	time.AfterFunc(20*time.Millisecond, func() { cancel(gone) })
	if err := LockContext(ctx, b, time.Millisecond); !errors.Is(err, gone) || !errors.Is(err, ErrLocked) {
		t.Errorf("while it is held: %v", err)
	}
	time.AfterFunc(20*time.Millisecond, func() { a.Close() })
	if err := LockContext(t.Context(), b, time.Millisecond); err != nil {
		t.Errorf("after it was freed: %v", err)
	}
}

func TestWhatCannotBeLocked(t *testing.T) {
	t.Parallel()
	f := open(t, filepath.Join(t.TempDir(), "lock"))
	f.Close()
	if err := TryLock(f); err == nil || errors.Is(err, ErrLocked) {
		t.Errorf("a closed file: %v", err)
	}
}
