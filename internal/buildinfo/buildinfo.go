// Package buildinfo tells which build of the program is running.
package buildinfo

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
)

// Version is the released version, set by the linker (-X) in `make build`.
// "dev" means a build that did not come from the Makefile.
var Version = "dev"

// commit is the short source revision and date its time, in RFC 3339, both set
// by the linker (-X) in `make build`. The time is the commit's and not the
// build's, so that two builds of one commit are equal.
var commit, date string

// Commit returns the short source revision: the Makefile's, else the one that the
// Go toolchain recorded, else "unknown".
func Commit() string {
	if commit != "" {
		return commit
	}
	rev := setting("vcs.revision")
	if rev == "" {
		return "unknown"
	}
	if len(rev) > 12 {
		rev = rev[:12]
	}
	if setting("vcs.modified") == "true" {
		rev += "-dirty"
	}
	return rev
}

// Date returns when the commit was made, in RFC 3339: the Makefile's word, else
// the one that the Go toolchain recorded, else "unknown".
func Date() string {
	if date != "" {
		return date
	}
	if t := setting("vcs.time"); t != "" {
		return t
	}
	return "unknown"
}

// Info returns a metric that is 1, with the build as its labels.
func Info(program string) prometheus.Collector {
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "anka_build_info", Help: "1, with the program's build as labels.",
		ConstLabels: prometheus.Labels{"program": program, "version": Version, "commit": Commit(), "goversion": runtime.Version()},
	})
	g.Set(1)
	return g
}

// setting returns what the Go toolchain recorded under that name, or "".
func setting(name string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == name {
			return s.Value
		}
	}
	return ""
}

// Line returns one line for `--version`: version, commit, date and Go version.
func Line(program string) string {
	return fmt.Sprintf("%s %s (commit %s, %s, %s %s/%s)", program, Version, Commit(), Date(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
