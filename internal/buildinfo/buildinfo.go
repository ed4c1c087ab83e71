// Package buildinfo tells which build of the program is running.
package buildinfo

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// Version is the released version, set by the linker (-X) in `make build`.
// "dev" means a build that did not come from the Makefile.
var Version = "dev"

// commit is the short source revision, set by the linker (-X) in `make build`.
var commit string

// Commit returns the short source revision: the Makefile's, else the one that the
// Go toolchain recorded, else "unknown".
func Commit() string {
	if commit != "" {
		return commit
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	rev, dirty := "unknown", ""
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			rev = s.Value
			if len(rev) > 12 {
				rev = rev[:12]
			}
		case "vcs.modified":
			if s.Value == "true" {
				dirty = "-dirty"
			}
		}
	}
	return rev + dirty
}

// Line returns one line for `--version`: version, commit and Go version.
func Line(program string) string {
	return fmt.Sprintf("%s %s (commit %s, %s %s/%s)", program, Version, Commit(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
