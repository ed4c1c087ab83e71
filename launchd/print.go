package launchd

import (
	"slices"
	"strconv"
	"strings"
)

// job is what `launchctl print system/LABEL` says of a loaded job. The manual says
// that its form may change with each release, so every field may be missing.
type job struct {
	state string // running, not running, spawn scheduled, SIGTERMed, ...
	pid   int    // 0 for none
	runs  int    // how often it was started since it was loaded
	// lastExit is how the last process ended, in launchd's words: "0", "78:
	// EX_CONFIG", "Killed: 9", "OS_REASON_CODESIGNING"; "" when none has.
	lastExit string
	failed   bool // the last process did not end with 0

	path      string // of the property list that it was loaded from
	program   string
	arguments []string // with the program first
}

// neverExited stands where a job that has not ended yet has no exit code.
const neverExited = "(never exited)"

// parsePrint reads the answer. Only the keys of the job itself count: blocks below
// it, such as coalitions, have a state of their own.
func parsePrint(out string) job {
	keys := make(map[string]string)
	var arguments []string
	indent, block := "", ""
	for line := range strings.Lines(out) {
		line = strings.TrimRight(line, "\r\n")
		body := strings.TrimLeft(line, " \t")
		lead := line[:len(line)-len(body)]
		switch {
		case lead == "": // the job's name, the last bracket, an empty line
		case indent == "" || lead == indent:
			indent = lead
			key, value, ok := strings.Cut(body, " = ")
			if block = ""; ok && value == "{" {
				block = key
			} else if _, seen := keys[key]; ok && !seen {
				keys[key] = value
			}
		case block == "arguments":
			arguments = append(arguments, body)
		}
	}
	j := job{state: keys["state"], path: keys["path"], program: keys["program"], arguments: arguments}
	j.pid, j.runs = number(keys["pid"]), number(keys["runs"])
	// A signal and a reason stand in place of the code, which may be of an earlier
	// process.
	for _, key := range []string{"last terminating signal", "last exit reason", "last exit code"} {
		if v := keys[key]; v != "" && v != neverExited {
			j.lastExit, j.failed = v, !(key == "last exit code" && v == "0")
			break
		}
	}
	return j
}

// number reads the digits that s begins with, as in "78: EX_CONFIG"; 0 if there are
// none.
func number(s string) int {
	end := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(s)
	}
	n, err := strconv.Atoi(s[:end])
	if err != nil {
		return 0
	}
	return n
}

// leaving reports whether launchd has begun to end the process for good: the job is
// there until the process is gone, and can be neither loaded nor started till then.
func (j job) leaving() bool {
	return strings.HasPrefix(j.state, "SIGTERM") || strings.HasPrefix(j.state, "SIGKILL")
}

// scheduled reports whether launchd is about to start a process by itself, at once or
// when the pause after a failure is over.
func (j job) scheduled() bool {
	return slices.Contains([]string{"spawn scheduled", "spawning", "xpcproxy", "throttled"}, j.state) ||
		j.state == "waiting" && j.failed
}

// status is the job in the words of this package.
func (j job) status() Status {
	st := Status{PID: j.pid, Restarts: max(0, j.runs-1), LastExit: j.lastExit}
	switch {
	case j.pid != 0:
		st.State = Running
	case j.failed:
		st.State = Failed
	case j.scheduled():
		st.State = Running
	default:
		st.State = Stopped
	}
	return st
}

// runsWith reports whether the job was loaded with program and arguments. What
// cannot be read counts as the same.
func (j job) runsWith(path, program string, arguments []string) bool {
	if j.path != "" && j.path != path || j.program != "" && j.program != program {
		return false
	}
	want := slices.DeleteFunc(append([]string{program}, arguments...), func(a string) bool { return strings.TrimLeft(a, " \t") == "" })
	for i, a := range want {
		want[i] = strings.TrimLeft(a, " \t")
	}
	return len(j.arguments) == 0 || slices.Equal(j.arguments, want)
}

// parseDisabled reports whether `launchctl print-disabled system` has label among
// what is switched off. Versions before macOS 14 say true, later ones disabled.
func parseDisabled(out, label string) bool {
	for line := range strings.Lines(out) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " => ")
		if ok && name == strconv.Quote(label) {
			return value == "true" || value == "disabled"
		}
	}
	return false
}
