package command

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"
)

// TestMain is also the program that becomes another user.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == BecomeUser {
		os.Exit(Become(os.Args[2:]))
	}
	os.Exit(m.Run())
}

var someone = &User{Name: "ci", UID: 501, GID: 20, Groups: []uint32{20, 80}, Home: "/Users/ci"}

// On macOS a command of another user's belongs to that user's session as well.
func TestCommandLineOfAnotherUser(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		goos       string
		user       User
		want       string
		credential bool
	}{
		{"darwin", *someone, "/bin/launchctl asuser 501 /opt/ankacluster __become-user 501 20 20,80 /opt/tart list --format json", false},
		{"darwin", User{UID: 502, GID: 20}, "/bin/launchctl asuser 502 /opt/ankacluster __become-user 502 20  /opt/tart list --format json", false},
		{"linux", *someone, "/opt/tart list --format json", true},
	} {
		l := launch{goos: c.goos, launchctl: "/bin/launchctl", self: "/opt/ankacluster"}
		argv, credential := l.argv(&c.user, "/opt/tart", []string{"list", "--format", "json"})
		if got := strings.Join(argv, " "); got != c.want || credential != c.credential {
			t.Errorf("%s: got %q, %v; want %q, %v", c.goos, got, credential, c.want, c.credential)
		}
	}
}

func TestEnvironmentOfAnotherUser(t *testing.T) {
	t.Parallel()
	got := someone.environment([]string{"HOME=/var/root", "PATH=/bin", "TMPDIR=/var/folders/zz", "SUDO_USER=me", "USER=root", "LOGNAME=root", "LANG=C"})
	want := []string{"PATH=/bin", "LANG=C", "HOME=/Users/ci", "USER=ci", "LOGNAME=ci"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// nobody returns the user named nobody, which has no rights.
func nobody(t *testing.T) *User {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root runs commands as another user")
	}
	u, err := LookupUser("nobody")
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// A command runs as another user with what is that user's, whichever way the system
// has for it, and with the exit code and input of its own.
func TestCommandRunsAsAnotherUser(t *testing.T) {
	t.Parallel()
	u := nobody(t)
	dir := t.TempDir()
	// As launchctl does: it runs what follows the user's number, still as root.
	launchctl := filepath.Join(dir, "launchctl")
	if err := os.WriteFile(launchctl, []byte("#!/bin/sh\n[ \"$1 $(id -u)\" = \"asuser 0\" ] || exit 99\nshift 2\nexec \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	readable(t, dir)
	want, err := exec.Command("id", "-G", u.Name).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, goos := range []string{"darwin", "linux"} {
		r := New("", zap.NewNop(), nil)
		r.launch = launch{goos: goos, launchctl: launchctl, self: self}
		c := Command{Path: "sh", Args: Words("-c", `echo "$(id -u) $(id -G) $HOME $USER $LOGNAME $MORE"; cat; exit 7`), Env: []string{"MORE=more"},
			Stdin: strings.NewReader("said"), As: u}
		res, err := r.Run(t.Context(), c)
		line := strings.Join([]string{"65534", strings.TrimSpace(string(want)), u.Home, "nobody nobody more\nsaid"}, " ")
		if err != nil || res.ExitCode != 7 || string(res.Stdout) != line {
			t.Errorf("%s: %d, %q, %s, %v; want 7 and %q", goos, res.ExitCode, res.Stdout, res.Stderr, err, line)
		}
		if _, err := r.Run(t.Context(), Command{Path: "/nowhere/tart", As: u}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: a program that is not there: %v", goos, err)
		}
		out, err := os.Create(filepath.Join(dir, goos))
		if err != nil {
			t.Fatal(err)
		}
		d, err := r.Spawn(t.Context(), Command{Path: "id", Args: Words("-u"), As: u}, out)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "the daemon has ended", func() bool { _, ended := d.Ended(); return ended })
		if data, _ := os.ReadFile(out.Name()); string(data) != "65534\n" {
			t.Errorf("%s: the daemon said %q", goos, data)
		}
		out.Close()
	}
}

// readable opens the folders above a test's directory to other users.
func readable(t *testing.T, dir string) {
	t.Helper()
	for ; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBecomeTellsWhatIsWrong(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"1", "2", "3"}, {"root", "0", "0", "/bin/true"}, {"", "", "", "/bin/true"}, {"-1", "0", "", "/bin/true"}} {
		if err := become(args); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}
