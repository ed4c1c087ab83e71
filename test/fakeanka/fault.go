package main

import (
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

// fault is something that is to go wrong. faults.json holds a list, for example
//
//	[{"command":"start","action":"fail","code":1,"message":"no","count":1},
//	 {"command":"pull","action":"hang","match":"sonoma","probability":0.2},
//	 {"command":"start","action":"vm-crash","delay":"2s"}]
//
// The first that fits a call is used. Count is decremented in the file; a fault
// used up is taken out.
type fault struct {
	Command string `json:"command"` // "" or "*" is every command; "registry pull" also counts as pull
	Match   string `json:"match"`   // must be part of the joined arguments; "" fits all
	// Action is one of
	//	fail      the ERROR envelope with Code and Message
	//	delay     wait for Delay, then go on
	//	hang      wait for Delay (0: for ever), deaf to SIGTERM, then go on
	//	crash     die of SIGKILL without an answer
	//	garbage   print something that is no JSON and end with 0
	//	truncate  print half an envelope and end with 0
	//	exit      end with Code and print nothing
	//	flood     print 20 MB to stderr, then go on
	//	vm-crash  (start) the VM's process dies Delay after the start
	//	vm-hang   (start) the VM's process answers nothing and ignores SIGTERM
	Action      string   `json:"action"`
	After       bool     `json:"after"` // do the command's work first
	Code        int      `json:"code"`
	Message     string   `json:"message"`
	Probability float64  `json:"probability"` // 0 means 1
	Count       int      `json:"count"`       // how often; 0 means always
	Delay       duration `json:"delay"`
}

var faultActions = []string{"fail", "delay", "hang", "crash", "garbage", "truncate", "exit", "flood", "vm-crash", "vm-hang"}

type duration time.Duration

func (d duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

func (d *duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = duration(v)
	return err
}

// takeFault returns the fault for this call, or nil.
func (s *store) takeFault(name string, args []string) (*fault, error) {
	unlock, err := s.lock("faults.lock")
	if err != nil {
		return nil, err
	}
	defer unlock()
	path := filepath.Join(s.dir, "faults.json")
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) { // once a count went down the file counts
		data, err = []byte(os.Getenv("FAKEANKA_FAULTS")), nil
	}
	if err != nil || len(data) == 0 {
		return nil, err
	}
	var list []fault
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("faults: %w", err)
	}
	for i := range list {
		f := list[i]
		if !slices.Contains(faultActions, f.Action) {
			return nil, fmt.Errorf("faults: no such action %q", f.Action)
		}
		if !f.fits(name, args) || f.Probability > 0 && rand.Float64() >= f.Probability {
			continue
		}
		if f.Count > 0 {
			if list[i].Count--; list[i].Count == 0 {
				list = slices.Delete(list, i, i+1)
			}
			if err := writeJSON(path, list); err != nil {
				return nil, err
			}
		}
		return &f, nil
	}
	return nil, nil
}

func (f fault) fits(name string, args []string) bool {
	if f.Command != "" && f.Command != "*" && f.Command != name {
		sub := ""
		if name == "registry" {
			for _, a := range args[1:] {
				if a == f.Command {
					sub = a
				}
			}
		}
		if sub == "" {
			return false
		}
	}
	return strings.Contains(strings.Join(args, " "), f.Match)
}

// inject does what f says and reports whether the call ends with that.
func (e *env) inject(ctx context.Context, f *fault) (done bool, code int) {
	switch f.Action {
	case "fail":
		message := f.Message
		if message == "" {
			message = "a fault was asked for"
		}
		return true, e.fail(&ankaError{Message: message, Code: f.Code, Type: "AnkaException"})
	case "delay":
		select {
		case <-ctx.Done():
			return true, 143
		case <-time.After(time.Duration(f.Delay)):
		}
	case "hang":
		if f.Delay == 0 {
			for { // only SIGKILL ends this: SIGTERM is caught by main and ignored here
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
		fmt.Print(`{"status":"OK","body":[{"uuid":"`)
		return true, 0
	case "exit":
		return true, f.Code
	case "flood":
		line := []byte(strings.Repeat("x", 1023) + "\n")
		for range 20 << 10 {
			os.Stderr.Write(line)
		}
	case "vm-crash":
		e.vmFault = "crash:" + time.Duration(f.Delay).String()
	case "vm-hang":
		e.vmFault = "hang"
	}
	return false, 0
}
