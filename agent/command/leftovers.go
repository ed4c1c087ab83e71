package command

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// note writes down that a process group runs, with the start time of its
// leader, and returns the function that takes the note back. No fsync: after a
// crash of the machine there is no group to find.
func (r *Runner) note(pgid int) (done func()) {
	if r.dir == "" {
		return func() {}
	}
	path := filepath.Join(r.dir, strconv.Itoa(pgid))
	if err := os.WriteFile(path, []byte(startTime(pgid)), 0o600); err != nil {
		// A missing directory was removed under us; without the note only
		// KillLeftovers after a kill -9 has less to go by.
		_ = os.MkdirAll(r.dir, 0o700)
	}
	return func() { _ = os.Remove(path) }
}

// KillLeftovers ends the process groups that an earlier, killed agent left
// running, and returns how many there were. It is called before the first
// command. A process id that was reused since is recognised by its start time.
func (r *Runner) KillLeftovers() (int, error) {
	if r.dir == "" {
		return 0, nil
	}
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return 0, err
	}
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return 0, err
	}
	killed := 0
	for _, e := range entries {
		path := filepath.Join(r.dir, e.Name())
		if pgid, err := strconv.Atoi(e.Name()); err == nil && pgid > 1 {
			started, err := os.ReadFile(path)
			if err == nil && len(started) > 0 && startTime(pgid) == string(started) {
				if err := endGroup(pgid); err != nil {
					return killed, err
				}
				killed++
			}
		}
		_ = os.Remove(path)
	}
	return killed, nil
}

func endGroup(pgid int) error {
	if err := syscall.Kill(-pgid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
		return fmt.Errorf("end leftover process group %d: %w", pgid, err)
	}
	for range 50 {
		if startTime(pgid) == "" {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil
}

// sumCPU adds up the CPU time of a process group in what `ps -A -o pgid=,time=`
// prints.
func sumCPU(ps []byte, pgid int) time.Duration {
	want := strconv.Itoa(pgid)
	var sum time.Duration
	for line := range bytes.Lines(ps) {
		if f := strings.Fields(string(line)); len(f) == 2 && f[0] == want {
			sum += parseCPUTime(f[1])
		}
	}
	return sum
}

// parseCPUTime reads what ps prints as TIME: [[dd-]hh:]mm:ss[.cc].
func parseCPUTime(s string) time.Duration {
	var days int
	if d, rest, ok := strings.Cut(s, "-"); ok {
		days, _ = strconv.Atoi(d)
		s = rest
	}
	var seconds float64
	// ps writes the decimal sign of its locale.
	for part := range strings.SplitSeq(strings.ReplaceAll(s, ",", "."), ":") {
		f, err := strconv.ParseFloat(part, 64)
		if err != nil {
			return 0
		}
		seconds = seconds*60 + f
	}
	return time.Duration(days)*24*time.Hour + time.Duration(seconds*float64(time.Second))
}
