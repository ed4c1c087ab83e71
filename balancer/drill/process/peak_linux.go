package process

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// endWithParent has the kernel kill the child when the drill is killed: a child
// that is suspended would not see its standard input end.
func endWithParent(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGKILL }

// notePeak reads the peak of resident memory. The figure that wait4 returns is
// no use: it begins with what the parent had when it forked.
func (p *Process) notePeak() {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return
	}
	for line := range strings.Lines(string(status)) {
		var kB int64
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kB); n == 1 {
			p.resident = kB << 10
		}
	}
}
