package launchd

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// Config describes a service.
type Config struct {
	// Name is the unit's name and the label in launchd: letters, digits, dots,
	// dashes and underscores.
	Name string
	// Description is one line for people.
	Description string
	// Executable is the absolute path of the program, Arguments what follows.
	Executable string
	Arguments  []string
	// Environment is added to the service's environment. PATH is set to
	// DefaultPath unless it is given here.
	Environment map[string]string
	// WorkingDirectory is where the program starts; "" means "/".
	WorkingDirectory string
	// User is who runs the program; "" means root.
	User string
	// LogDir is where launchd puts what the program writes to stdout and
	// stderr; "" means /var/log, which exists on every Mac. Unused on Linux.
	LogDir string
	// Writable are the absolute directories of a server, made if missing. Where there
	// are some, systemd shuts the program off from the rest of the machine: it writes
	// nowhere else. A program that starts others for people, as the agent does, has none.
	Writable []string
	// RestartDelay is the least time between a failure and the next start; 0
	// means DefaultRestartDelay. Whole seconds.
	RestartDelay time.Duration
	// StopTimeout is how long the program may take to end after SIGTERM; 0
	// means DefaultStopTimeout. Whole seconds.
	StopTimeout time.Duration
	// Launchd is where launchd is found; the zero value is the system's own.
	Launchd Launchd
}

const (
	// DefaultRestartDelay keeps a program that fails at once from taking the
	// machine with it, and is short enough that a node is back before the cloud
	// counts it as Offline (2m).
	DefaultRestartDelay = 5 * time.Second
	// DefaultStopTimeout is more than the 10 s that our servers give to
	// requests in flight, and less than the patience of a person.
	DefaultStopTimeout = 30 * time.Second
	// DefaultPath adds to the bare path that service managers set the places
	// where anka, tart and their like are installed. They come last: on many Macs they
	// belong to a user, whose ps or vm_stat root must not run.
	DefaultPath = "/usr/bin:/bin:/usr/sbin:/sbin:/usr/local/bin:/opt/homebrew/bin"
)

// openFiles is a server's limit of open files. launchd starts with 256, fewer
// than the connections of a middling fleet.
const openFiles = 65536

var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)

// Validate reports everything that is wrong with c.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("service "+format, args...)) }

	if !validName.MatchString(c.Name) {
		bad("name %q must be letters, digits, '.', '-' and '_'", c.Name)
	}
	if !filepath.IsAbs(c.Executable) {
		bad("executable %q must be an absolute path", c.Executable)
	}
	if strings.ContainsAny(c.Executable, "\"'\\") {
		bad("executable %q must not contain quotes and backslashes, which systemd refuses", c.Executable)
	}
	if c.WorkingDirectory != "" && !filepath.IsAbs(c.WorkingDirectory) {
		bad("working directory %q must be an absolute path", c.WorkingDirectory)
	}
	if c.LogDir != "" && !filepath.IsAbs(c.LogDir) {
		bad("log directory %q must be an absolute path", c.LogDir)
	}
	for _, dir := range c.Writable {
		if !filepath.IsAbs(dir) {
			bad("writable directory %q must be an absolute path", dir)
		}
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"restart delay", c.RestartDelay}, {"stop timeout", c.StopTimeout}} {
		if d.value < 0 || d.value%time.Second != 0 {
			bad("%s %s must be whole seconds", d.name, d.value)
		}
	}
	for _, t := range c.texts() {
		switch {
		case strings.ContainsFunc(t.value, func(r rune) bool { return r < ' ' || r == 0x7f }):
			bad("%s %q must not contain control characters", t.name, t.value)
		case strings.Contains(t.value, "{{"):
			// The definition passes through kardianos/service's template
			// engine, which knows no escape for its own opening mark.
			bad("%s %q must not contain {{", t.name, t.value)
		case strings.HasSuffix(t.value, `\`) && t.bare:
			bad("%s %q must not end in a backslash, which would join the next line of a unit to it", t.name, t.value)
		}
	}
	for k := range c.Environment {
		if k == "" || strings.ContainsAny(k, "= ") {
			bad("environment variable %q must be a name without '=' and spaces", k)
		}
	}
	return errors.Join(errs...)
}

// namedText is bare if it stands in a unit without quotes.
type namedText struct {
	name, value string
	bare        bool
}

// texts returns every free text that ends up in the definition.
func (c Config) texts() []namedText {
	all := []namedText{
		{"description", c.Description, true}, {"executable", c.Executable, false},
		{"working directory", c.WorkingDirectory, true}, {"user", c.User, true}, {"log directory", c.LogDir, false},
	}
	for _, a := range c.Arguments {
		all = append(all, namedText{"argument", a, false})
	}
	for _, dir := range c.Writable {
		all = append(all, namedText{"writable directory", dir, false})
	}
	for k, v := range c.Environment {
		all = append(all, namedText{"environment variable", k, false}, namedText{"environment variable " + k, v, false})
	}
	return all
}

// withDefaults returns c with nothing left to be filled in.
func (c Config) withDefaults() Config {
	if c.Description == "" {
		c.Description = c.Name
	}
	if c.WorkingDirectory == "" {
		c.WorkingDirectory = "/"
	}
	if c.LogDir == "" {
		c.LogDir = "/var/log"
	}
	if c.RestartDelay == 0 {
		c.RestartDelay = DefaultRestartDelay
	}
	if c.StopTimeout == 0 {
		c.StopTimeout = DefaultStopTimeout
	}
	env := map[string]string{"PATH": DefaultPath}
	for k, v := range c.Environment {
		env[k] = v
	}
	c.Environment = env
	return c
}

// below reports whether the program or anything that it is told of lies below one of
// these directories, /home for one.
func (c Config) below(dirs ...string) bool {
	for _, text := range append(append([]string{c.Executable, c.WorkingDirectory + "/"}, c.Arguments...), c.Writable...) {
		for _, dir := range dirs {
			dir += "/"
			if strings.HasPrefix(text+"/", dir) || strings.Contains(text+"/", "="+dir) || strings.Contains(text+"/", ":"+dir) {
				return true
			}
		}
	}
	return false
}

// underLaunchd reports whether launchd runs the service.
func (c Config) underLaunchd() bool { return c.Launchd.standIn() || runtime.GOOS == "darwin" }

// DefinitionPath returns where the definition of the service is kept.
func (c Config) DefinitionPath() string {
	if c.underLaunchd() {
		return filepath.Join(c.Launchd.withDefaults().Daemons, c.Name+".plist")
	}
	return "/etc/systemd/system/" + c.Name + ".service"
}
