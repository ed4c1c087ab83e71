package cloud

import (
	"strings"

	"github.com/ankacluster/ankacluster/controllerapi"
)

// Task ids carry what they are about, so that a report finds its record without
// an index: kind letter, record, and what tells repeats apart. Node ids come
// last, because they may hold dots.
const (
	StartLetter     = "s" // s.<instance>.<attempt>
	TerminateLetter = "t" // t.<instance>
	RestartLetter   = "r" // r.<instance>.<restart>
	SaveLetter      = "i" // i.<image request>
	RolloutLetter   = "j" // j.<job>.<node>
)

// SplitTask returns the kind letter and the rest's first part and remainder.
func SplitTask(id controllerapi.TaskID) (kind, ref, rest string) {
	kind, tail, _ := strings.Cut(string(id), ".")
	ref, rest, _ = strings.Cut(tail, ".")
	return kind, ref, rest
}
