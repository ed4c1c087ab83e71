package command

import (
	"bytes"
	"os"
	"strconv"
	"time"
)

// Positions in /proc/PID/stat, counted from the field after the name.
const (
	statState = 0
	statPgrp  = 2
	statUtime = 11
	statStime = 12
	statStart = 19
	// clockTick is USER_HZ, which is 100 on every architecture Go runs on.
	clockTick = 10 * time.Millisecond
)

// stat returns the fields of a process after its name, or nil.
func stat(pid string) [][]byte {
	data, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return nil
	}
	// The name is in brackets and may hold anything, brackets too.
	i := bytes.LastIndexByte(data, ')')
	fields := bytes.Fields(data[i+1:])
	if len(fields) <= statStart {
		return nil
	}
	return fields
}

// startTime identifies a process among all that ever had its id since boot; ""
// when it is gone.
func startTime(pid int) string {
	f := stat(strconv.Itoa(pid))
	if f == nil || f[statState][0] == 'Z' {
		return ""
	}
	return string(f[statStart])
}

// groupCPU sums the CPU time of the processes of a group that are alive.
func groupCPU(pgid int) time.Duration {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	want := []byte(strconv.Itoa(pgid))
	var ticks int64
	for _, e := range entries {
		if c := e.Name()[0]; c < '0' || c > '9' {
			continue
		}
		f := stat(e.Name())
		if f == nil || !bytes.Equal(f[statPgrp], want) {
			continue
		}
		u, _ := strconv.ParseInt(string(f[statUtime]), 10, 64)
		s, _ := strconv.ParseInt(string(f[statStime]), 10, 64)
		ticks += u + s
	}
	return time.Duration(ticks) * clockTick
}
