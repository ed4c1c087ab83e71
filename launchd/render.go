package launchd

import (
	_ "embed"
	"encoding/xml"
	"strconv"
	"strings"
	"text/template"
	"time"
)

// plistTemplate is the LaunchDaemon. Why its values are what they are:
//   - KeepAlive on an unsuccessful exit only, so that a stop is a stop.
//   - AbandonProcessGroup, or launchd would kill running virtual machines with
//     the agent that started them.
//   - Umask 63, which is 077: what root keeps is nobody else's to read.
//   - ProcessType Interactive: Background and Standard jobs are throttled in CPU
//     and I/O, and the virtual machines inherit that from the agent.
//
//go:embed plist.tmpl
var plistTemplate string

// unitTemplate is the systemd unit. Why its values are what they are:
//   - Type=exec, so that a start fails when the program cannot be executed.
//   - StartLimitIntervalSec=0: never give up; a network that is away for a night
//     must not need a person in the morning.
//   - KillMode=process, so that virtual machines survive the agent.
//   - A server is shut off from the machine as in our packages. It keeps the right to
//     read and write what another user owns: certificates, and stores on shared disks.
//     An agent is not: it runs a hypervisor, and replaces its own program.
//
//go:embed unit.tmpl
var unitTemplate string

var (
	plist = template.Must(template.New("plist").Funcs(renderFuncs).Parse(plistTemplate))
	unit  = template.Must(template.New("unit").Funcs(renderFuncs).Parse(unitTemplate))
)

var renderFuncs = template.FuncMap{
	"seconds":   func(d time.Duration) string { return strconv.FormatInt(int64(d/time.Second), 10) },
	"xml":       escapeXML,
	"specifier": escapeSpecifiers,
	"program":   func(path string) string { return quote(escapeSpecifiers(path)) },
	"argument":  quoteArgument,
	// A directory that is missing does not keep the commands from running that make it:
	// systemd looks for it before each of them.
	"writable": func(path string) string { return quote("-" + escapeSpecifiers(path)) },
	"assign":   func(k, v string) string { return quote(escapeSpecifiers(k + "=" + v)) },
}

// renderPlist returns the property list of a LaunchDaemon.
func renderPlist(c Config) (string, error) { return render(plist, c) }

// renderUnit returns a systemd unit.
func renderUnit(c Config) (string, error) { return render(unit, c) }

func render(t *template.Template, c Config) (string, error) {
	var b strings.Builder
	err := t.Execute(&b, struct {
		Config
		OpenFiles      int
		OwnTmp, NoHome bool
	}{c.withDefaults(), openFiles, !c.below("/tmp", "/var/tmp"), !c.below("/home", "/root", "/run/user")})
	return b.String(), err
}

func escapeXML(s string) (string, error) {
	var b strings.Builder
	err := xml.EscapeText(&b, []byte(s))
	return b.String(), err
}

// escapeSpecifiers protects percent signs, which systemd expands everywhere.
func escapeSpecifiers(s string) string { return strings.ReplaceAll(s, "%", "%%") }

// quoteArgument protects one argument of a command line, where systemd also
// expands variables, as it does not in the program's path.
func quoteArgument(s string) string {
	return quote(strings.ReplaceAll(escapeSpecifiers(s), "$", "$$"))
}

// quote wraps s for systemd where it is not a plain word.
func quote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_./:=,@+%$", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
