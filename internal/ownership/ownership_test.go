package ownership

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tree makes bin/program below a folder of root's, and returns both.
func tree(t *testing.T) (dir, program string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to give files away")
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	program = filepath.Join(dir, "bin", "program")
	must(t, os.Mkdir(filepath.Dir(program), 0o755))
	must(t, os.WriteFile(program, nil, 0o755))
	return dir, program
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestOnlyRootMayChangeWhatRootRuns(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(t *testing.T, dir, program string) (path string)
		wrong  string // in the error; "" for none
	}{
		"as it should be": {func(*testing.T, string, string) string { return "" }, ""},
		"file of another": {func(t *testing.T, _, p string) string { must(t, os.Chown(p, 12345, 0)); return "" }, "program belongs to user 12345"},
		"folder of another": {func(t *testing.T, d, _ string) string {
			must(t, os.Chown(filepath.Join(d, "bin"), 12345, 0))
			return ""
		}, "bin belongs to user 12345"},
		"all may write": {func(t *testing.T, _, p string) string { must(t, os.Chmod(p, 0o757)); return "" }, "everybody may write"},
		"a group may write": {func(t *testing.T, d, _ string) string {
			must(t, errors.Join(os.Chown(d, 0, 80), os.Chmod(d, 0o775)))
			return ""
		}, "group 80 may write"},
		"root's group may": {func(t *testing.T, d, _ string) string { must(t, os.Chmod(d, 0o775)); return "" }, ""},
		"it is not there":  {func(t *testing.T, _, p string) string { must(t, os.Remove(p)); return "" }, "no such file"},
		"a relative path":  {func(*testing.T, string, string) string { return "bin/program" }, "absolute"},
		"link of root's":   {func(t *testing.T, d, p string) string { return link(t, p, filepath.Join(d, "link")) }, ""},
		"relative link":    {func(t *testing.T, d, _ string) string { return link(t, "bin/program", filepath.Join(d, "link")) }, ""},
		"link in a user's": {func(t *testing.T, d, p string) string { return link(t, p, filepath.Join(others(t, d), "link")) }, "others belongs to user 12345"},
		"link into a user's": {func(t *testing.T, d, p string) string {
			return link(t, filepath.Join(others(t, d), "file"), filepath.Join(d, "link"))
		}, "others belongs to user 12345"},
		"link of a folder": {func(t *testing.T, d, _ string) string {
			return filepath.Join(link(t, others(t, d), filepath.Join(d, "folder")), "file")
		}, "others belongs to user 12345"},
		"link to itself": {func(t *testing.T, d, _ string) string {
			return link(t, filepath.Join(d, "link"), filepath.Join(d, "link"))
		}, "links"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, program := tree(t)
			if path := tt.change(t, dir, program); path != "" {
				program = path
			}
			err := OnlyRoot(program)
			if tt.wrong == "" && err != nil || tt.wrong != "" && (err == nil || !strings.Contains(err.Error(), tt.wrong)) {
				t.Errorf("got %v, want %q", err, tt.wrong)
			}
		})
	}
}

func link(t *testing.T, to, at string) string {
	t.Helper()
	must(t, os.Symlink(to, at))
	return at
}

// others makes a folder of another user's with a file in it.
func others(t *testing.T, dir string) string {
	t.Helper()
	of := filepath.Join(dir, "others")
	must(t, os.Mkdir(of, 0o755))
	must(t, os.WriteFile(filepath.Join(of, "file"), nil, 0o755))
	must(t, os.Chown(of, 12345, 0))
	return of
}

func TestPrivateDirIsNobodyElses(t *testing.T) {
	dir, _ := tree(t)
	own := filepath.Join(dir, "a", "own")
	for range 2 {
		must(t, MakePrivateDir(own))
	}
	must(t, os.Chmod(own, 0o755))
	must(t, MakePrivateDir(own))
	if info, err := os.Stat(own); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	for name, wrong := range map[string]string{
		others(t, dir):                           "belongs to user 12345",
		link(t, own, filepath.Join(dir, "link")): "is no folder",
	} {
		if err := MakePrivateDir(name); !errors.Is(err, ErrShared) || !strings.Contains(err.Error(), wrong) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
