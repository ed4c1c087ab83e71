package machine

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"strings"
)

func cpuCount() int { return runtime.NumCPU() }

// hostArch is one of the two words that clients know.
func hostArch() string {
	if runtime.GOARCH == "arm64" {
		return "arm64"
	}
	return "amd64"
}

// hardwareID returns the firmware's id of this machine, or, where that cannot be
// read, the system's. A container has the first of its host, and may have none.
func hardwareID() string {
	for _, f := range []struct{ kind, path string }{
		{"product:", "/sys/class/dmi/id/product_uuid"}, {"machine:", "/etc/machine-id"},
	} {
		data, err := os.ReadFile(f.path)
		if id := strings.ToLower(strings.TrimSpace(string(data))); err == nil && id != "" && strings.Trim(id, "0-") != "" {
			return f.kind + id
		}
	}
	return ""
}

// readCPU reads the first line of /proc/stat: user nice system idle iowait ...
func readCPU() cpuTimes {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return cpuTimes{}
	}
	line, _, _ := bytes.Cut(data, []byte("\n"))
	var t cpuTimes
	for i, f := range bytes.Fields(line) {
		n, err := strconv.ParseFloat(string(f), 64)
		if err != nil {
			continue // the word cpu
		}
		t.total += n
		if i != 4 && i != 5 { // idle, iowait
			t.busy += n
		}
	}
	return t
}

func memInfo() (total, available float64) {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, 0
	}
	for line := range bytes.Lines(data) {
		f := bytes.Fields(line)
		if len(f) < 2 {
			continue
		}
		kb, _ := strconv.ParseFloat(string(f[1]), 64)
		switch string(f[0]) {
		case "MemTotal:":
			total = kb * 1024
		case "MemAvailable:":
			available = kb * 1024
		}
	}
	return total, available
}

func totalRAM() uint64 {
	total, _ := memInfo()
	return uint64(total)
}

// usedRAM is a share from 0 to 1.
func usedRAM() float64 {
	total, available := memInfo()
	if total == 0 {
		return 0
	}
	return 1 - available/total
}
