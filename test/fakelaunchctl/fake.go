package fakelaunchctl

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Options are what is played. The zero value, but for Dir, is macOS 26.
type Options struct {
	// Dir holds disabled.json, which outlives this Launchd, and launchd.sock.
	Dir string
	// Throttle and ExitTimeOut take the place of what the property lists say, so that
	// tests need not wait for seconds; 0 leaves it.
	Throttle, ExitTimeOut time.Duration
	// Linger is how long a job stays after its process has ended by a bootout.
	Linger time.Duration
	// Form of what print says: "10.10", "10.15", "13", or "" for macOS 26.
	Form string

	// BootoutCode is what bootout answers for a process that works on its end: 0 or 36.
	BootoutCode int
	// GoneCode is what bootout answers for a job that there is not: 3 or 113; 0 is 3.
	GoneCode int
	// LeavingCode is what bootstrap answers for a job that is about to go: 5 or 37;
	// 0 is 5.
	LeavingCode int
	// DisabledCode is what bootstrap answers for a job that is switched off: 119 or 5;
	// 0 is 119.
	DisabledCode int
	// EnableIgnored: enable succeeds and changes nothing, as where a profile of the
	// Mac's management has switched the job off.
	EnableIgnored bool
	// RunNever: a job that was loaded is not started until kickstart.
	RunNever bool
	// KickThrottled: kickstart waits until the pause after a failure is over.
	KickThrottled bool
	// RefuseLoads and RefuseKicks are how many bootstraps and kickstarts are refused
	// with 5 for no reason.
	RefuseLoads, RefuseKicks int
	// Forgetful: a job that is booted out is gone before its process is.
	Forgetful bool
}

// Reply is the answer to one command.
type Reply struct {
	Code           int
	Stdout, Stderr string
}

// Launchd is one machine's launchd. It is safe for concurrent use.
type Launchd struct {
	opts Options

	mu       sync.Mutex
	jobs     map[string]*job // guarded by mu; by label
	left     []*job          // guarded by mu; out of jobs before their processes ended
	disabled map[string]bool // guarded by mu
	closed   bool            // guarded by mu
	calls    []string        // guarded by mu
	running  sync.WaitGroup  // processes and timers
}

// New starts a launchd that has loaded nothing.
func New(opts Options) (*Launchd, error) {
	l := &Launchd{opts: opts, jobs: make(map[string]*job), disabled: make(map[string]bool)}
	data, err := os.ReadFile(l.overrides())
	if err == nil {
		err = json.Unmarshal(data, &l.disabled)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return l, nil
}

func (l *Launchd) overrides() string { return filepath.Join(l.opts.Dir, "disabled.json") }

// Boot loads every property list of daemons that is not switched off, as the system
// does when it starts. What is played of launchctl does not happen then.
func (l *Launchd) Boot(daemons string) error {
	lists, err := filepath.Glob(filepath.Join(daemons, "*.plist"))
	l.mu.Lock()
	defer l.mu.Unlock()
	played := l.opts
	defer func() { l.opts = played }()
	l.opts.RefuseLoads, l.opts.RunNever = 0, false
	for _, path := range lists {
		l.bootstrap(path)
	}
	return err
}

// Close ends every process, as a Mac that is switched off does.
func (l *Launchd) Close() {
	l.mu.Lock()
	l.closed = true
	for _, j := range slices.AppendSeq(l.left, maps.Values(l.jobs)) {
		j.kill()
	}
	l.mu.Unlock()
	l.running.Wait()
}

// Calls returns the commands that were asked, but for print.
func (l *Launchd) Calls() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.calls)
}

// Command answers one call of launchctl.
func (l *Launchd) Command(args ...string) Reply {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return failed(125, "Domain does not support specified action")
	}
	if len(args) == 0 {
		return Reply{Code: 64, Stderr: "Usage: launchctl <subcommand> ... | help [subcommand]\n"}
	}
	if args[0] != "print" && args[0] != "print-disabled" {
		l.calls = append(l.calls, strings.Join(args, " "))
	}
	switch verb, rest := args[0], args[1:]; {
	case verb == "print" && len(rest) == 1:
		return l.print(rest[0])
	case verb == "print-disabled" && len(rest) == 1 && rest[0] == "system":
		return Reply{Stdout: l.printDisabled()}
	case verb == "list" && len(rest) == 0:
		return Reply{Stdout: l.list()}
	case verb == "bootstrap" && len(rest) == 2 && rest[0] == "system":
		return l.bootstrap(rest[1])
	case verb == "bootout" && len(rest) == 1:
		return l.bootout(rest[0])
	case verb == "kickstart" && len(rest) == 1:
		return l.kickstart(rest[0], false)
	case verb == "kickstart" && len(rest) == 2 && rest[0] == "-k":
		return l.kickstart(rest[1], true)
	case (verb == "enable" || verb == "disable") && len(rest) == 1:
		return l.override(rest[0], verb == "disable")
	}
	return Reply{Code: 64, Stderr: "Unrecognized target specifier.\n"}
}

func failed(code int, format string, args ...any) Reply {
	return Reply{Code: code, Stderr: fmt.Sprintf(format, args...) + "\n"}
}

// find returns the job of a target such as system/LABEL.
func (l *Launchd) find(target string) (label string, j *job) {
	label, _ = strings.CutPrefix(target, "system/")
	return label, l.jobs[label]
}

func (l *Launchd) bootstrap(path string) Reply {
	refused := func(code int, why string) Reply {
		return failed(code, "Bootstrap failed: %d: %s\nTry re-running the command as root for richer errors.", code, why)
	}
	const io = "Input/output error"
	p, err := readPlist(path)
	if err != nil || !trusted(path) {
		return refused(5, io)
	}
	if l.opts.RefuseLoads > 0 {
		l.opts.RefuseLoads--
		return refused(5, io)
	}
	switch old := l.jobs[p.label]; {
	case old != nil && old.leaving && l.opts.LeavingCode == 37:
		return refused(37, "Operation already in progress")
	case old != nil:
		return refused(5, io)
	case l.disabled[p.label] && l.opts.DisabledCode == 5:
		return refused(5, io)
	case l.disabled[p.label]:
		return failed(119, "%s: Service is disabled\nBootstrap failed: 119: Service is disabled", path)
	}
	j := &job{l: l, plist: p}
	l.jobs[p.label] = j
	if p.runAtLoad && !l.opts.RunNever {
		j.spawn()
	}
	return Reply{}
}

func (l *Launchd) bootout(target string) Reply {
	label, j := l.find(target)
	if j == nil {
		if l.opts.GoneCode == 113 {
			return failed(113, "Could not find service %q in domain for system", label)
		}
		return failed(3, "Boot-out failed: 3: No such process")
	}
	if j.leaving {
		return failed(37, "Boot-out failed: 37: Operation already in progress")
	}
	j.leaving = true
	j.cancelPause()
	if j.cmd == nil {
		j.forget()
		return Reply{}
	}
	j.terminate()
	if l.opts.Forgetful {
		delete(l.jobs, label)
		l.left = append(l.left, j)
	}
	if l.opts.BootoutCode == 36 {
		return failed(36, "Boot-out failed: 36: Operation now in progress")
	}
	return Reply{}
}

func (l *Launchd) kickstart(target string, kill bool) Reply {
	label, j := l.find(target)
	switch {
	case j == nil:
		return failed(113, "Could not find service %q in domain for system", label)
	case j.leaving:
		return failed(37, "Could not kickstart service %q: 37: Operation already in progress", label)
	case l.opts.RefuseKicks > 0:
		l.opts.RefuseKicks--
		return failed(5, "Could not kickstart service %q: 5: Input/output error", label)
	case j.cmd != nil && kill:
		j.again = true
		j.terminate()
	case j.cmd != nil:
		return failed(37, "Could not kickstart service %q: 37: Operation already in progress", label)
	case j.pause != nil && l.opts.KickThrottled: // comes when the pause is over
	default:
		j.cancelPause()
		j.spawn()
	}
	return Reply{}
}

func (l *Launchd) override(target string, disabled bool) Reply {
	label, _ := l.find(target)
	if !disabled && l.opts.EnableIgnored {
		return Reply{}
	}
	l.disabled[label] = disabled
	data, err := json.Marshal(l.disabled)
	if err == nil {
		err = os.WriteFile(l.overrides(), data, 0o644)
	}
	if err != nil {
		return failed(5, "%v", err)
	}
	return Reply{}
}

// Set changes the options of a launchd that runs; jobs stay.
func (l *Launchd) Set(change func(*Options)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change(&l.opts)
}
