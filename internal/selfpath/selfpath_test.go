package selfpath

import (
	"os"
	"path/filepath"
	"testing"
)

func TestThePathOfTheCallIsKeptWithItsLinks(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	write := func(elem ...string) string {
		p := filepath.Join(append([]string{dir}, elem...)...)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return p
	}
	link := func(to string, elem ...string) string {
		p := filepath.Join(append([]string{dir}, elem...)...)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	self := write("Cellar", "1.0.0", "bin", "prog")
	other := write("Cellar", "0.9.0", "bin", "prog")
	opt := link(self, "opt", "prog")
	bin := link("../opt/prog", "bin", "prog")
	current := link("1.0.0", "Cellar", "current")
	open := link(self, "open", "prog")
	if err := os.Chmod(filepath.Dir(open), 0o777); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", filepath.Dir(bin))
	t.Chdir(filepath.Join(dir, "opt"))
	for called, want := range map[string]string{
		self: self, opt: opt, bin: bin, "prog": bin, "./prog": opt,
		current + "/bin/prog": current + "/bin/prog",
		other:                 "", "/nowhere": "",
		open: "", // anybody could put another program there
	} {
		if got := stable(called, self); got != want {
			t.Errorf("called as %s: got %q, want %q", called, got, want)
		}
	}
}
