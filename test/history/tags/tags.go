// Package tags is the small machine that the tags of a template are held to: what
// docs/replication.md promises of pushes, deletes and reverts at several hosts is
// that all of them, and all look-ups, have one order that this machine allows.
package tags

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// Kinds of operations.
const (
	Put    = "put"
	Delete = "delete"
	Revert = "revert" // removes the tag and every tag pushed after it
	Read   = "read"
)

// Op is an operation on a tag of a repository with what it was answered. Times are
// of one clock, in nanoseconds.
type Op struct {
	Kind string `json:"kind"`
	Repo string `json:"repo"`
	Tag  string `json:"tag"`
	// Digest is what was pushed or read; "" was read when there was no such tag.
	Digest string `json:"digest"`
	Call   int64  `json:"call"`
	Ret    int64  `json:"ret"`
	// OK means that it was answered. Without it a change may have happened, or may
	// yet.
	OK bool `json:"ok"`
	// Absent is the answer of a delete or a revert that there is no such tag. A
	// success is no proof that there was one: a repeat gets the first one's answer.
	Absent bool   `json:"absent,omitempty"`
	Err    string `json:"err,omitempty"`
}

func (o Op) String() string {
	out := fmt.Sprintf("%s %s %.19s", o.Kind, o.Tag, o.Digest)
	if o.Absent {
		out += " (no such tag)"
	}
	if !o.OK {
		out += " (unknown)"
	}
	return out
}

// Model is one repository. Its state is the tags in the order of their pushes,
// each as "TAG=DIGEST ".
var Model = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, _ any) (bool, any) {
		s, o := state.(string), input.(Op)
		list := strings.Fields(s)
		at := slices.IndexFunc(list, func(e string) bool { return strings.HasPrefix(e, o.Tag+"=") })
		switch o.Kind {
		case Read:
			if at < 0 {
				return o.Digest == "", s
			}
			return list[at] == o.Tag+"="+o.Digest, s
		case Put:
			if at >= 0 {
				list = slices.Delete(list, at, at+1)
			}
			return true, join(append(list, o.Tag+"="+o.Digest))
		}
		switch {
		case at < 0:
			return true, s
		case o.Absent:
			return false, s
		case o.Kind == Revert:
			return true, join(list[:at])
		}
		return true, join(slices.Delete(list, at, at+1))
	},
	DescribeOperation: func(input, _ any) string { return input.(Op).String() },
}

func join(list []string) string { return strings.Join(list, " ") }

// Counts says how much a history proves: answered operations by kind, and changes
// of unknown outcome.
type Counts struct {
	ByKind  map[string]int
	Unknown int
}

// Check asks porcupine for an order of each repository's operations, and returns
// an error for each that has none, or was not checked in time. Pages with the
// operations over time go into dir.
func Check(ops []Op, dir string, patience time.Duration) (Counts, []error) {
	n := Counts{ByKind: make(map[string]int)}
	byRepo := make(map[string][]porcupine.Operation)
	var repos []string
	for i, o := range ops {
		switch {
		case o.OK:
			n.ByKind[o.Kind]++
		case o.Kind == Read:
			continue // it saw nothing
		default:
			n.Unknown++
			o.Ret = 1 << 62
		}
		if byRepo[o.Repo] == nil {
			repos = append(repos, o.Repo)
		}
		byRepo[o.Repo] = append(byRepo[o.Repo], porcupine.Operation{ClientId: i % 64, Input: o, Call: o.Call, Return: o.Ret})
	}
	slices.Sort(repos)
	var errs []error
	for _, repo := range repos {
		result, info := porcupine.CheckOperationsVerbose(Model, byRepo[repo], patience)
		if result == porcupine.Ok {
			continue
		}
		path := dir + "/" + strings.ReplaceAll(repo, "/", "-") + ".html"
		_ = porcupine.VisualizePath(Model, info, path) // the verdict is what counts
		errs = append(errs, fmt.Errorf("%s: %s, %d operations; see %s", repo, result, len(byRepo[repo]), path))
	}
	return n, errs
}
