package machine

import (
	"os"
	"os/exec"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// cpuCount counts performance cores where there are two kinds.
func cpuCount() int {
	if n, err := unix.SysctlUint32("hw.perflevel0.physicalcpu"); err == nil && n > 0 {
		return int(n)
	}
	return runtime.NumCPU()
}

// hardwareID returns the platform UUID of this Mac, which its disk does not hold.
func hardwareID() string {
	cmd := exec.Command("/usr/sbin/ioreg", "-rd1", "-c", "IOPlatformExpertDevice")
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.Output()
	if err != nil {
		return ""
	}
	return platformUUID(out)
}

// hostArch is one of the two words that clients know, of the host and not of a
// program that it translates.
func hostArch() string {
	n, err := unix.SysctlUint32("hw.optional.arm64")
	return macArch(runtime.GOARCH, n, err)
}

// readCPU derives counters from the load average: the kernel's own counters
// need a Mach call, and so cgo.
func readCPU() cpuTimes {
	raw, err := unix.SysctlRaw("vm.loadavg")
	share, ok := loadShare(raw, runtime.NumCPU())
	if err != nil || !ok {
		return cpuTimes{}
	}
	return loadIntegral.add(share, time.Now())
}

// integral turns a share that is sampled into counters that grow.
type integral struct {
	t    cpuTimes
	last time.Time
}

var loadIntegral integral // used under Machine.mu, and once before it is shared

func (i *integral) add(share float64, now time.Time) cpuTimes {
	if !i.last.IsZero() {
		d := now.Sub(i.last).Seconds()
		i.t.total += d
		i.t.busy += d * share
	}
	i.last = now
	return i.t
}

func totalRAM() uint64 {
	n, err := unix.SysctlUint64("hw.memsize")
	if err != nil {
		return 0
	}
	return n
}

// usedRAM is a share from 0 to 1.
func usedRAM() float64 {
	cmd := exec.Command("/usr/bin/vm_stat")
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.Output()
	total := totalRAM()
	if err != nil || total == 0 {
		return 0
	}
	return usedPages(out, unix.Getpagesize()) / float64(total)
}
