// Package fakefault makes fake commands go wrong as a test wants it. What is to go
// wrong stands in the file faults.json of the fake's directory, for example
//
//	[{"command":"start","action":"fail","code":1,"message":"no","count":1},
//	 {"command":"pull","action":"hang","match":"sonoma","probability":0.2},
//	 {"command":"start","action":"vm-crash","delay":"2s"}]
//
// The first that fits a call is used. Count is decremented in the file; a fault
// used up is taken out.
//
// What else fake commands share is here too: how they lock, and the log of their
// calls.
package fakefault

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Fault is something that is to go wrong.
type Fault struct {
	Command string `json:"command"` // "" or "*" is every command
	Match   string `json:"match"`   // must be part of the joined arguments; "" fits all
	// Action is one of
	//	fail      the command's own way to fail, with Code and Message
	//	delay     wait for Delay, then go on
	//	hang      wait for Delay (0: for ever), deaf to SIGTERM, then go on
	//	crash     die of SIGKILL without an answer
	//	garbage   print something that is no JSON and end with 0
	//	truncate  print half an answer and end with 0
	//	exit      end with Code and print nothing
	//	flood     print 20 MB to stderr, then go on
	//	kill-caller  the caller dies of SIGKILL where FAKEFAULT_CALLER is its program; go on
	//	vm-crash  (start) the VM's process dies Delay after the start
	//	vm-hang   (start) the VM's process answers nothing and ignores signals
	Action      string   `json:"action"`
	After       bool     `json:"after"` // do the command's work first
	Code        int      `json:"code"`
	Message     string   `json:"message"`
	Probability float64  `json:"probability"` // 0 means 1
	Count       int      `json:"count"`       // how often; 0 means always
	Delay       Duration `json:"delay"`
}

var actions = []string{"fail", "delay", "hang", "crash", "garbage", "truncate", "exit", "flood", "kill-caller", "vm-crash", "vm-hang"}

// Duration is one in text, such as "2s".
type Duration time.Duration

// MarshalText writes it as time.Duration does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads it as time.ParseDuration does.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

// Take returns the fault for a call, or nil. names are all names that the command
// goes by. Until dir has a faults.json, fallback stands for it.
func Take(dir, fallback string, names, args []string) (*Fault, error) {
	if os.Getenv("FAKEFAULT_NONE") != "" {
		return nil, nil // a test that looks, beside what it tests
	}
	unlock, err := lock(filepath.Join(dir, "faults.lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()
	path := filepath.Join(dir, "faults.json")
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) { // once a count went down the file counts
		data, err = []byte(fallback), nil
	}
	if err != nil || len(data) == 0 {
		return nil, err
	}
	var list []Fault
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("faults: %w", err)
	}
	for i := range list {
		f := list[i]
		if !slices.Contains(actions, f.Action) {
			return nil, fmt.Errorf("faults: no such action %q", f.Action)
		}
		if !f.fits(names, args) || f.Probability > 0 && rand.Float64() >= f.Probability {
			continue
		}
		if f.Count > 0 {
			if list[i].Count--; list[i].Count == 0 {
				list = slices.Delete(list, i, i+1)
			}
			if err := write(path, list); err != nil {
				return nil, err
			}
		}
		return &f, nil
	}
	return nil, nil
}

func (f Fault) fits(names, args []string) bool {
	if f.Command != "" && f.Command != "*" && !slices.Contains(names, f.Command) {
		return false
	}
	return strings.Contains(strings.Join(args, " "), f.Match)
}

// Inject does what f says, but for fail and what befalls VMs, and reports whether
// the call ends with that. half is what truncate prints.
func (f *Fault) Inject(ctx context.Context, half string) (done bool, code int) {
	switch f.Action {
	case "delay":
		select {
		case <-ctx.Done():
			return true, 143
		case <-time.After(time.Duration(f.Delay)):
		}
	case "hang":
		if f.Delay == 0 {
			for { // only SIGKILL ends this: main catches SIGTERM, and nobody listens here
				time.Sleep(time.Hour) // an empty select would be called a deadlock
			}
		}
		time.Sleep(time.Duration(f.Delay))
	case "crash":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		time.Sleep(time.Hour)
	case "garbage":
		fmt.Print("Traceback (most recent call last):\n  \x00\xff{\"status\":")
		return true, 0
	case "truncate":
		fmt.Print(half)
		return true, 0
	case "exit":
		return true, f.Code
	case "kill-caller":
		killCaller(os.Getenv("FAKEFAULT_CALLER"))
	case "flood":
		line := []byte(strings.Repeat("x", 1023) + "\n")
		for range 20 << 10 {
			os.Stderr.Write(line)
		}
	}
	return false, 0
}

// killCaller kills the parent process if that runs program. When the caller has gone
// already, the parent is another one.
func killCaller(program string) {
	parent := os.Getppid()
	if program == "" || parent <= 1 {
		return
	}
	// Of a program that was replaced Linux tells that it was deleted.
	if runs, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", parent)); err == nil && strings.TrimSuffix(runs, " (deleted)") != program {
		return
	}
	_ = syscall.Kill(parent, syscall.SIGKILL)
}

// Reason is what a command that fails says.
func (f *Fault) Reason() string { return cmp.Or(f.Message, "a fault was asked for") }

// VM is what is to befall the VM that a start starts: "crash:DELAY", "hang", or ""
// for nothing.
func (f *Fault) VM() string {
	switch f.Action {
	case "vm-crash":
		return "crash:" + time.Duration(f.Delay).String()
	case "vm-hang":
		return "hang"
	}
	return ""
}

func lock(path string) (func(), error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	return Flock(f)
}

// Flock waits for the exclusive lock of an open file or directory. The function
// returned gives it back and closes f, as the death of the process does.
func Flock(f *os.File) (func(), error) {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		switch err {
		case nil:
			return func() { f.Close() }, nil
		case syscall.EINTR:
			continue
		}
		f.Close()
		return nil, err
	}
}

// LogCall appends a call to calls.log in the fake's directory, as one line of JSON.
func LogCall(dir string, args []string) {
	data, _ := json.Marshal(map[string]any{"time": time.Now().UTC().Format(time.RFC3339Nano), "pid": os.Getpid(), "args": args})
	f, err := os.OpenFile(filepath.Join(dir, "calls.log"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return // a log that cannot be written must not change what is tested
	}
	defer f.Close()
	_, _ = f.Write(append(data, '\n'))
}

func write(path string, list []Fault) error {
	data, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return err
	}
	tmp := path + ".new" // the lock is held
	if err := os.WriteFile(tmp, data, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
