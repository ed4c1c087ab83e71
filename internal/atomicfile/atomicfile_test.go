package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func namesIn(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func content(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestWriteReplacesAndLeavesNothingElse(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]Options{
		"zero":     {},
		"mode":     {Mode: 0o640},
		"fixed":    {Temp: ".f"},
		"pattern":  {Temp: "f.*.tmp"},
		"unsynced": {Unsynced: true},
		"make dir": {MakeDir: true},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "f")
		for _, text := range []string{"a longer text", "short", ""} {
			if err := o.Write(path, []byte(text)); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if got := content(t, path); got != text {
				t.Errorf("%s: got %q, want %q", name, got, text)
			}
		}
		if got := namesIn(t, dir); !slices.Equal(got, []string{"f"}) {
			t.Errorf("%s: the directory holds %q", name, got)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if want := max(o.Mode, 0o600); info.Mode().Perm()&0o700 != want&0o700 || info.Mode().Perm()&^want != 0 {
			t.Errorf("%s: mode %v", name, info.Mode())
		}
	}
}

// The name has its old content until Commit, whatever was written.
func TestTheOldFileStaysUntilCommit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := (Options{}).Write(path, []byte("old")); err != nil {
		t.Fatal(err)
	}
	f, err := Options{}.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("half of the n"); err != nil {
		t.Fatal(err)
	}
	if got := content(t, path); got != "old" {
		t.Errorf("before the commit: %q", got)
	}
	names := namesIn(t, dir)
	if len(names) != 2 || !strings.HasPrefix(names[0], ".new-") {
		t.Errorf("the directory holds %q", names)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if got := namesIn(t, dir); !slices.Equal(got, []string{"f"}) || content(t, path) != "old" {
		t.Errorf("after Close the directory holds %q, and f %q", got, content(t, path))
	}
	if err := f.Commit(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Commit after Close: %v", err)
	}
}

func TestAFixedNameIsTakenOverFromAnInterruptedWrite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, ".f"), []byte("left by a crash, and long"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (Options{Temp: ".f"}).Write(filepath.Join(dir, "f"), []byte("x")); err != nil {
		t.Fatal(err)
	}
	if got := namesIn(t, dir); !slices.Equal(got, []string{"f"}) || content(t, filepath.Join(dir, "f")) != "x" {
		t.Errorf("the directory holds %q", got)
	}
}

func TestWhatFailsLeavesNoTemporaryFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "full", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, o := range []Options{{}, {Temp: ".f"}, {MakeDir: true}} { // a directory that is not empty has the name
		if err := o.Write(filepath.Join(dir, "full"), []byte("x")); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
	if got := namesIn(t, dir); !slices.Equal(got, []string{"full"}) {
		t.Errorf("the directory holds %q", got)
	}
}

func TestMissingDirectories(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "a", "b", "c", "f")
	if err := (Options{}).Write(path, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without MakeDir: %v", err)
	}
	if err := (Options{Temp: filepath.Join(dir, "tmp-*"), MakeDir: true}).Write(path, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if content(t, path) != "x" {
		t.Error("content")
	}
	if got := namesIn(t, dir); !slices.Equal(got, []string{"a"}) {
		t.Errorf("the directory holds %q", got)
	}
	if err := Move(filepath.Join(dir, "none"), filepath.Join(dir, "x", "y")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a move of nothing: %v", err)
	}
}

func TestBelowARoot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := root.Mkdir("sub", 0o700); err != nil {
		t.Fatal(err)
	}
	o := Options{Root: root, Mode: 0o644}
	if err := o.Write("sub/f", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if content(t, filepath.Join(dir, "sub", "f")) != "x" {
		t.Error("content")
	}
	if err := o.Write("../f", nil); err == nil {
		t.Error("a file outside of the root was written")
	}
}
