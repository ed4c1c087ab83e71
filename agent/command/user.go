package command

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/ankacluster/ankacluster/internal/selfpath"
)

// User is whom a command runs as. Only root can run one as another user.
type User struct {
	Name     string
	UID, GID uint32
	Groups   []uint32
	Home     string
}

// maxGroups is how many groups a process may have on macOS.
const maxGroups = 16

// LookupUser finds a user of this host.
func LookupUser(name string) (*User, error) {
	found, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	u := &User{Name: found.Username, Home: found.HomeDir}
	groups, err := found.GroupIds()
	if err != nil {
		groups = nil // the first one is enough for a home directory
	}
	for i, id := range append([]string{found.Uid, found.Gid}, groups...) {
		n, err := strconv.ParseUint(id, 10, 32)
		switch {
		case err != nil:
			return nil, fmt.Errorf("user %s: %q is no number", name, id)
		case i == 0:
			u.UID = uint32(n)
		case i == 1:
			u.GID = uint32(n)
		case len(u.Groups) < maxGroups:
			u.Groups = append(u.Groups, uint32(n))
		}
	}
	return u, nil
}

// launch is how programs are started as another user on one system.
type launch struct {
	goos      string
	launchctl string
	self      string // this program, which is run again for Become
}

func thisSystem() launch {
	l := launch{goos: runtime.GOOS, launchctl: "/bin/launchctl"}
	if program, err := selfpath.Program(); err == nil {
		l.self = program
	}
	return l
}

// argv returns the command line that runs a program as u. On macOS the program
// also belongs to the user's login session, without which it finds no keychain.
// That is done by `launchctl asuser`, which only root may call and which keeps root's
// credentials: this program, run again, changes them and becomes the other one.
// Elsewhere the credentials are those of the new process from the beginning, which
// credential says.
func (l launch) argv(u *User, path string, args []string) (argv []string, credential bool) {
	if l.goos != "darwin" {
		return append([]string{path}, args...), true
	}
	id := func(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
	var groups []string
	for _, g := range u.Groups {
		groups = append(groups, id(g))
	}
	return append([]string{l.launchctl, "asuser", id(u.UID), l.self, BecomeUser, id(u.UID), id(u.GID), strings.Join(groups, ","), path}, args...), false
}

// Line returns the command line that root runs a program as u with on this system,
// for programs that start it themselves.
func (u *User) Line(path string, args ...string) []string {
	l := thisSystem()
	env := append([]string{"HOME=" + u.Home, "USER=" + u.Name, "LOGNAME=" + u.Name, path}, args...)
	argv, credential := l.argv(u, "/usr/bin/env", env)
	if credential {
		l.goos = "darwin"
		argv, _ = l.argv(u, "/usr/bin/env", env)
		argv = argv[3:] // without the session, which is macOS's
	}
	return argv
}

// newCommand is exec.Command for c, as the user that it names.
func (l launch) newCommand(c Command) *exec.Cmd {
	u := c.As
	if u == nil {
		cmd := exec.Command(c.Path, c.Args.list...)
		cmd.Env = append(cmd.Environ(), c.Env...)
		cmd.SysProcAttr = &syscall.SysProcAttr{}
		return cmd
	}
	path, err := exec.LookPath(c.Path) // or the error would be of what stands before it
	argv, credential := l.argv(u, path, c.Args.list)
	cmd := exec.Command(argv[0], argv[1:]...)
	if err != nil {
		cmd.Err = err
	}
	cmd.Env = append(u.environment(os.Environ()), c.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if credential {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: u.UID, Gid: u.GID, Groups: u.Groups}
	}
	return cmd
}

// environment is another one's, made u's: what names the other's home and
// directories goes.
func (u *User) environment(env []string) []string {
	env = slices.DeleteFunc(slices.Clone(env), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains([]string{"HOME", "USER", "LOGNAME", "TMPDIR", "MAIL", "SHELL"}, name) || strings.HasPrefix(name, "SUDO_") || strings.HasPrefix(name, "XDG_")
	})
	return append(env, "HOME="+u.Home, "USER="+u.Name, "LOGNAME="+u.Name)
}

// BecomeUser is the first argument that makes this program call Become with the
// others.
const BecomeUser = "__become-user"

// Become takes the user, group and groups that args begin with, and becomes the
// program that follows. It returns only when it could not, with an exit code.
func Become(args []string) int {
	err := become(args)
	fmt.Fprintln(os.Stderr, "Error: cannot run as another user:", err)
	return 126
}

func become(args []string) error {
	if len(args) < 4 {
		return fmt.Errorf("%d arguments are too few", len(args))
	}
	var ids []int
	for s := range strings.SplitSeq(args[0]+","+args[1]+","+args[2], ",") {
		if s == "" {
			continue // no groups
		}
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			return fmt.Errorf("%q is no id", s)
		}
		ids = append(ids, int(n))
	}
	if len(ids) < 2 {
		return fmt.Errorf("user %q and group %q must be numbers", args[0], args[1])
	}
	// The user last: after that the others cannot be changed.
	if err := syscall.Setgroups(ids[2:]); err != nil {
		return fmt.Errorf("groups %s: %w", args[2], err)
	}
	if err := syscall.Setgid(ids[1]); err != nil {
		return fmt.Errorf("group %s: %w", args[1], err)
	}
	if err := syscall.Setuid(ids[0]); err != nil {
		return fmt.Errorf("user %s: %w", args[0], err)
	}
	if err := syscall.Exec(args[3], args[3:], os.Environ()); err != nil {
		return fmt.Errorf("%s: %w", args[3], err)
	}
	return nil // it is never reached
}
