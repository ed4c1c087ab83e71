package agent

import (
	"bytes"
	"encoding/binary"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
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
	out, err := exec.Command("/usr/sbin/ioreg", "-rd1", "-c", "IOPlatformExpertDevice").Output()
	if err != nil {
		return ""
	}
	return platformUUID(out)
}

// readCPU derives counters from the load average: the kernel's own counters
// need a Mach call, and so cgo.
func readCPU() cpuTimes {
	raw, err := unix.SysctlRaw("vm.loadavg")
	if err != nil || len(raw) < 16 {
		return cpuTimes{}
	}
	// struct loadavg { fixpt_t ldavg[3]; long fscale; }
	load, scale := float64(binary.LittleEndian.Uint32(raw)), float64(binary.LittleEndian.Uint64(raw[len(raw)-8:]))
	if scale == 0 {
		return cpuTimes{}
	}
	share := min(load/scale/float64(runtime.NumCPU()), 1)
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

// usedRAM is a share from 0 to 1, from vm_stat: wired, active and compressed
// pages. The rest can be had.
func usedRAM() float64 {
	out, err := exec.Command("vm_stat").Output()
	total := totalRAM()
	if err != nil || total == 0 {
		return 0
	}
	page := float64(unix.Getpagesize())
	var used float64
	for line := range bytes.Lines(out) {
		name, value, ok := strings.Cut(string(line), ":")
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(strings.Trim(value, " .\n"), 64)
		if err != nil {
			continue
		}
		switch name {
		case "Pages wired down", "Pages active", "Pages occupied by compressor":
			used += n * page
		}
	}
	return used / float64(total)
}
