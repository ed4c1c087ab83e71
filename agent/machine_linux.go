package agent

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
)

func cpuCount() int { return runtime.NumCPU() }

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
