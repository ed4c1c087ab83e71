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
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v2"
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
	Hidden  bool // accepted, without effect; left out of the short help
	Parse   func(string) error
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

// nearest returns the known name that is at most two letters away, or a swap of
// neighbours, which counts as two.
func nearest(name string, known map[string]bool) string {
	best, at := "", 3
	for k := range known {
		if d := distance(name, k); d < at || d == at && k < best {
			best, at = k, d
		}
	}
	if at > 2 {
		return ""
	}
	return best
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
