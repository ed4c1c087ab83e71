package command

import (
	"fmt"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

// startTime identifies a process among all that ever had its id; "" when it is
// gone. The kernel is asked: what ps prints depends on time zone and language.
func startTime(pid int) string {
	p, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil || int(p.Proc.P_pid) != pid {
		return ""
	}
	return fmt.Sprintf("%d.%06d", p.Proc.P_starttime.Sec, p.Proc.P_starttime.Usec)
}

// groupCPU sums the CPU time of the processes of a group that are alive.
func groupCPU(pgid int) time.Duration {
	cmd := exec.Command("/bin/ps", "-A", "-o", "pgid=,time=")
	cmd.Env = append(os.Environ(), "LC_ALL=C") // a decimal point
	out, err := cmd.Output()
	if err != nil {
		return 0
	}
	return sumCPU(out, pgid)
}
