package tart

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
)

// Fitness says what a version of tart can be used for.
type Fitness int

const (
	Fit       Fitness = iota
	Aged              // it works; Advised is better
	NoScripts         // it runs VMs, and no commands in them
	Unusable
)

// Versions of tart. Nothing older than Oldest runs a script as it should; Advised is
// the first in which a script that waits costs the host nothing.
const (
	Oldest  = "2.28.2"
	Advised = "2.33.1"
)

// faults are versions, from the one up to but without the other, and what is wrong
// with them. The first that fits counts.
var faults = []struct {
	from, before string
	fitness      Fitness
	reason       string
}{
	{"0", "2.27", NoScripts, "it runs no commands in a guest"},
	{"2.27.1", "2.27.3", NoScripts, "it ends each command in a guest after a second"},
	{"2.27", Oldest, NoScripts, "its exec hangs when the script comes as a file"},
	{"2.33.0", "2.33.1", Unusable, "macOS kills it at its start"},
	{Oldest, Advised, Aged, "its exec keeps a core busy when something is piped to it"},
}

// Judge tells what a version can be used for, and unless it is fit why. A version
// that is none, such as that of somebody's own build, is fit.
func Judge(version string) (Fitness, string) {
	v, ok := numbers(version)
	if !ok {
		return Fit, ""
	}
	for _, f := range faults {
		from, _ := numbers(f.from)
		before, _ := numbers(f.before)
		if !less(v, from) && less(v, before) {
			return f.fitness, f.reason
		}
	}
	return Fit, ""
}

func numbers(version string) (n [3]int, ok bool) {
	parts := strings.Split(version, ".")
	if len(parts) > len(n) {
		return n, false
	}
	for i, p := range parts {
		var err error
		if n[i], err = strconv.Atoi(p); err != nil || n[i] < 0 {
			return n, false
		}
	}
	return n, true
}

func less(a, b [3]int) bool {
	for i := range a {
		if a[i] != b[i] {
			return a[i] < b[i]
		}
	}
	return false
}

// license names the terms of a version.
func license(version string) string {
	if v, ok := numbers(version); ok && less(v, [3]int{2, 33, 0}) {
		return "Fair Source"
	}
	return "FSL-1.1-ALv2"
}

// runsScripts returns an error for a version that does not. The version is the one
// that was asked for last, if any: the agent asks now and then.
func (c *CLI) runsScripts(ctx context.Context) error {
	c.mu.Lock()
	version := c.version
	c.mu.Unlock()
	if version == "" {
		v, err := c.Version(ctx)
		if err != nil {
			return err
		}
		version = v.Version
	}
	if fitness, why := Judge(version); fitness >= NoScripts {
		return fmt.Errorf("%w: scripts need tart %s or newer, and this is %s: %s", hypervisor.ErrOutdated, Oldest, version, why)
	}
	return nil
}
