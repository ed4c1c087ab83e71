package cloud

import (
	"unicode/utf8"

	api "github.com/ankacluster/ankacluster/controllerapi"
)

// shownOutput is how much of that is in the instance's record, which every
// controller has in memory and every change of state writes.
const shownOutput = 16 << 10

// Tail returns the end of s, at most n bytes, beginning with a whole character.
func Tail(s string, n int) string {
	if len(s) <= n {
		return s
	}
	s = s[len(s)-n:]
	for len(s) > 0 && !utf8.RuneStart(s[0]) {
		s = s[1:]
	}
	return s
}

// Shorten returns a script's result as records hold it, and whether there is more.
func Shorten(r *api.ScriptResult) (short *api.ScriptResult, long bool) {
	out := *r
	out.Stdout, out.Stderr = Tail(r.Stdout, shownOutput), Tail(r.Stderr, shownOutput)
	return &out, len(out.Stdout) < len(r.Stdout) || len(out.Stderr) < len(r.Stderr)
}
