//go:build !linux

package command

import (
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// startTime identifies a process among all that ever had its id; "" when it is
// gone. macOS has no /proc, so ps is asked.
func startTime(pid int) string {
	out, err := exec.Command("ps", "-o", "lstart=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// groupCPU sums the CPU time of the processes of a group that are alive.
func groupCPU(pgid int) time.Duration {
	out, err := exec.Command("ps", "-A", "-o", "pgid=,time=").Output()
	if err != nil {
		return 0
	}
	want := strconv.Itoa(pgid)
	var sum time.Duration
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == want {
			sum += parseCPUTime(f[1])
		}
	}
	return sum
}
