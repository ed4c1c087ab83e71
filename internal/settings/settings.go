// Package settings reads the settings of a program, by one rule for all programs:
// a flag wins over its environment variable, the variable over a line of
// --env-file, and that over the default. An empty variable is an absent one, as
// compose files and charts pass them. A wrong value is reported by the name under
// which it was given, all of them at once.
//
//	table := []settings.Setting{
//		{Env: "ANKA_LISTEN_ADDR", Parse: settings.ListenAddr(&c.Listen), Usage: "serve at `ADDRESS`"},
//		{Env: "ANKA_DRAIN_DELAY", Default: "1s", Parse: settings.Duration(&c.Drain), Usage: "…"},
//	}
//	app.Flags = settings.Flags(table)            // --listen-addr, --drain-delay
//	given, errs := settings.Load(table, settings.OfCommand(cc), os.LookupEnv)
package settings

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/internal/spelling"
)

// Setting is one thing that can be set: by its environment variable and, unless
// it is a secret, by the flag of the same name (ANKA_DATA_DIR is --data-dir).
type Setting struct {
	Env     string
	Aliases []string // further variables with the same meaning
	Group   string   // heading of the help
	Usage   string
	Default string
	IsBool  bool
	IsPath  bool // a service gets it as an absolute path: it starts elsewhere
	Secret  bool // environment only: flags are in every process list
	Hidden  bool // left out of the help
	Parse   func(string) error
}

// NoEffect is a setting that existing configurations have and that changes nothing
// here.
type NoEffect struct {
	Env    string
	IsBool bool
	Reason string // of having none, for people
}

// Ineffective returns those of the table that were given a value, each as "NAME has no
// effect: REASON", for the log.
func Ineffective(given map[string]Source, table []NoEffect) []string {
	var out []string
	for _, n := range table {
		if s, ok := given[n.Env]; ok {
			out = append(out, s.Name+" has no effect: "+n.Reason)
		}
	}
	return out
}

// Accepted returns the settings of a table that holds those without effect. They
// take any value.
func Accepted(group string, table []NoEffect) []Setting {
	var out []Setting
	for _, n := range table {
		usage := "no effect: " + n.Reason
		if !n.IsBool {
			usage = "`VALUE` has " + usage
		}
		out = append(out, Setting{Env: n.Env, Group: group, IsBool: n.IsBool, Usage: usage, Parse: func(string) error { return nil }})
	}
	return out
}

// Flag returns the name without dashes, or "" for a secret.
func (s Setting) Flag() string {
	if s.Secret {
		return ""
	}
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(s.Env, "ANKA_")), "_", "-")
}

// Variables returns all environment variables of the setting.
func (s Setting) Variables() []string { return append([]string{s.Env}, s.Aliases...) }

// Source is where a value came from, for messages.
type Source struct {
	Name  string // --flag or variable
	Value string
}

// Lookup finds a value by the name of a flag or of a variable.
type Lookup func(name string) (string, bool)

// OfCommand looks flags of a command up, and those of the commands above it.
func OfCommand(cc *cli.Context) Lookup {
	return func(name string) (string, bool) {
		if !cc.IsSet(name) {
			return "", false
		}
		return fmt.Sprint(cc.Value(name)), true
	}
}

// Load fills the settings bound to table. It returns which settings were given a
// value, by the name of their variable, and every problem. A flag with an empty
// value means the default, whatever the variable holds.
func Load(table []Setting, flag, env Lookup) (given map[string]Source, errs []error) {
	given = make(map[string]Source)
	for _, s := range table {
		src := s.find(flag, env)
		value := s.Default
		if src.Value != "" {
			given[s.Env] = src
			value = src.Value
		}
		if value == "" {
			continue
		}
		if err := s.Parse(value); err != nil {
			if s.Secret {
				errs = append(errs, fmt.Errorf("%s: %w", src.Name, err))
			} else {
				errs = append(errs, fmt.Errorf("%s %q: %w", src.Name, value, err))
			}
		}
	}
	return given, errs
}

func (s Setting) find(flag, env Lookup) Source {
	if name := s.Flag(); name != "" {
		if v, set := flag(name); set {
			return Source{"--" + name, v}
		}
	}
	for _, name := range s.Variables() {
		if v, set := env(name); set && v != "" {
			return Source{name, v}
		}
	}
	return Source{Name: s.Env}
}

// MeantCommand is advice to who gave a program a command that it does not have.
func MeantCommand(program, written string, commands []*cli.Command) string {
	near := spelling.Nearest(written, func(yield func(string) bool) {
		for _, c := range commands {
			if !yield(c.Name) {
				return
			}
		}
	})
	if near != "" {
		return "did you mean " + program + " " + near + "?"
	}
	return "see " + program + " --help"
}

// Flags makes the flags of a command line. They read no environment: Load does, so
// that a wrong value is reported by the name under which it was given.
func Flags(table []Setting) []cli.Flag {
	var out []cli.Flag
	for _, s := range table {
		switch {
		case s.Secret:
		case s.IsBool:
			out = append(out, &cli.BoolFlag{Name: s.Flag(), Usage: s.Usage, Category: s.Group, Hidden: s.Hidden, DisableDefaultText: true})
		default:
			out = append(out, &cli.StringFlag{Name: s.Flag(), Usage: s.Usage, Category: s.Group, Hidden: s.Hidden, DefaultText: s.Default})
		}
	}
	return out
}

// PackagedFile holds the settings of the service that a Linux package installs.
func PackagedFile(program string) string { return "/etc/ankacluster/" + program + ".env" }

// WithFile returns env with the variables of a file behind it: the real
// environment wins unless it is empty. The file may hold secrets, so only its
// owner may be able to read it. Names that are not in table are refused.
func WithFile(file string, table []Setting, env Lookup) (Lookup, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("--env-file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("--env-file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("--env-file %s can be read by others (%#o): chmod 600 %s", file, info.Mode().Perm(), file)
	}
	known := Names(table)
	vars := make(map[string]string)
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if name = strings.TrimSpace(name); !ok || !strings.HasPrefix(name, "ANKA_") {
			return nil, fmt.Errorf("--env-file %s line %d: not ANKA_NAME=value", file, n) // the line itself may be a secret
		}
		if !known[name] {
			return nil, fmt.Errorf("--env-file %s line %d: there is no setting %s%s", file, n, name, meant(name, known))
		}
		vars[name] = value
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("--env-file %s: %w", file, err)
	}
	return func(name string) (string, bool) {
		if v, ok := env(name); ok && v != "" {
			return v, true
		}
		v, ok := vars[name]
		return v, ok
	}, nil
}

// Names returns the set of variables that mean something.
func Names(table []Setting) map[string]bool {
	names := make(map[string]bool)
	for _, s := range table {
		for _, n := range s.Variables() {
			names[n] = true
		}
	}
	return names
}

// UnsetEmpty takes empty ANKA_ variables out of the environment of this process:
// for a program whose flags name variables themselves (cli's EnvVars), where an
// empty one would win over the default.
func UnsetEmpty() {
	for _, kv := range os.Environ() {
		if name, value, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "ANKA_") && value == "" {
			_ = os.Unsetenv(name)
		}
	}
}

// A Misspelling is a variable of the environment that is not a setting.
type Misspelling struct {
	Name  string
	Meant string // the setting whose name is nearest, "" when none is near
}

// Misspelt returns the ANKA_ variables of environ (os.Environ) that hold a value
// and are not in known.
func Misspelt(environ []string, known map[string]bool) []Misspelling {
	var out []Misspelling
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, "ANKA_") && value != "" && !known[name] {
			out = append(out, Misspelling{name, nearest(name, known)})
		}
	}
	return out
}

func meant(name string, known map[string]bool) string {
	if n := nearest(name, known); n != "" {
		return "; is " + n + " meant?"
	}
	return ""
}

// nearest returns the known name that was probably meant.
func nearest(name string, known map[string]bool) string {
	// Every name begins alike: only the rest can be like or unlike.
	short := strings.TrimPrefix(name, "ANKA_")
	words := func(yield func(string) bool) {
		for _, k := range slices.Sorted(maps.Keys(known)) {
			if !yield(strings.TrimPrefix(k, "ANKA_")) {
				return
			}
		}
	}
	if n := spelling.Nearest(short, words); n != "" {
		return "ANKA_" + n
	}
	return ""
}

// ofOthers are variables of one program that look like misspelt ones of another:
// one file of settings may serve both.
var ofOthers = map[string]bool{"ANKA_LOG_DIR": true, "ANKA_LOGS_DIR": true}

// ofKubernetes matches what Kubernetes puts into the environment of each container
// for a service whose name begins with anka.
var ofKubernetes = regexp.MustCompile(`_SERVICE_HOST$|_SERVICE_PORT(_\w+)?$|_PORT(_\d+_(TCP|UDP)(_\w+)?)?$`)

// CheckNames looks for variables of environ (os.Environ) that are no settings of
// table. The error names those that are misspelt: a program that ran without a
// setting which somebody believes to be set could be open where it should not be.
// strange are the others, which may be meant for another program.
func CheckNames(environ []string, table []Setting) (strange []string, err error) {
	var errs []error
	for _, m := range Misspelt(environ, Names(table)) {
		switch {
		case ofOthers[m.Name] || ofKubernetes.MatchString(m.Name) && m.Meant == "":
		case m.Meant != "":
			errs = append(errs, fmt.Errorf("%s is not a setting; is %s meant?", m.Name, m.Meant))
		default:
			strange = append(strange, m.Name)
		}
	}
	return strange, errors.Join(errs...)
}
