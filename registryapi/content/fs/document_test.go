package fs

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

func TestDocuments(t *testing.T) {
	t.Parallel()
	s := openTest(t, t.TempDir())
	docs := s.Documents("replication", "sources")
	if names, err := docs.Names(); err != nil || len(names) > 0 {
		t.Errorf("%v, %v before anything is written", names, err)
	}
	if _, err := docs.Read("a.json"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want that there is none", err)
	}
	if err := docs.Remove("a.json"); err != nil {
		t.Errorf("removing none: %v", err)
	}
	for name, write := range map[string]func(string, []byte) error{"a.json": docs.Write, "b.json": docs.WriteSoon} {
		for _, text := range []string{"1", "22"} {
			if err := write(name, []byte(text)); err != nil {
				t.Fatal(err)
			}
			if got, err := docs.Read(name); err != nil || string(got) != text {
				t.Errorf("%s: %q, %v; want %q", name, got, err, text)
			}
		}
	}
	names, err := docs.Names()
	slices.Sort(names)
	if err != nil || strings.Join(names, " ") != "a.json b.json" {
		t.Errorf("%q, %v", names, err)
	}
	if err := docs.Remove("a.json"); err != nil {
		t.Error(err)
	}
	if _, err := docs.Read("a.json"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v after the removal", err)
	}
	if left, _ := os.ReadDir(filepath.Join(s.root, "tmp")); len(left) > 0 {
		t.Errorf("%d temporary files are left", len(left))
	}
}

func TestLockOfDocumentsIsHeldByOne(t *testing.T) {
	t.Parallel()
	s := openTest(t, t.TempDir())
	docs := s.Documents("replication")
	release, err := docs.Lock(t.Context(), "lock", time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := docs.Lock(ended, "lock", time.Millisecond); err == nil {
		t.Error("two have the lock")
	}
	release()
	again, err := docs.Lock(t.Context(), "lock", time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	again()
}

// An upload can be read while it grows, and by who has it open when it is a blob.
func TestGrowingUpload(t *testing.T) {
	t.Parallel()
	s := openTest(t, t.TempDir())
	u, err := s.NewUpload("team/sonoma", "")
	if err != nil {
		t.Fatal(err)
	}
	g, err := s.Growing(u.ID())
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if g.Size() != 0 || g.Ended() {
		t.Errorf("size %d, ended %v at the start", g.Size(), g.Ended())
	}
	const text = "half and half"
	for _, part := range []string{text[:4], text[4:]} {
		if _, err := u.Append(strings.NewReader(part)); err != nil {
			t.Fatal(err)
		}
	}
	if got := g.Size(); got != int64(len(text)) {
		t.Errorf("size %d, want %d", got, len(text))
	}
	if err := u.Commit(digest.FromString(text)); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(io.NewSectionReader(g, 0, g.Size()))
	if err != nil || string(got) != text || !g.Ended() {
		t.Errorf("%q, %v, ended %v; want %q, whole and ended", got, err, g.Ended(), text)
	}
	if _, err := s.Growing(u.ID()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want that it is gone", err)
	}
}
