package localcloud

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// Process is one real process of the cloud. It runs in its own session, so that
// an interrupt at the terminal reaches only the program that owns the cloud.
// Its output goes to Log. A Process is not safe for concurrent use.
type Process struct {
	Name string
	Path string   // executable
	Args []string // without the executable
	Env  []string // added to the parent's environment
	Log  string   // file, appended to
	// PIDFile remembers the process for a later program; "" for none. Beside it
	// stands a shell script, NAME.sh, that starts the process again.
	PIDFile string

	cmd    *exec.Cmd
	exited chan struct{}
}

// Start starts the process. It returns at once; use Ready to wait.
func (p *Process) Start() error {
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close() // the child has its own copy
	cmd := exec.Command(p.Path, p.Args...)
	cmd.Env = append(os.Environ(), p.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	exited := make(chan struct{})
	p.cmd, p.exited = cmd, exited
	go func() { // ends with the process, which Stop and Kill wait for
		_ = cmd.Wait()
		close(exited)
	}()
	if p.PIDFile == "" {
		return nil
	}
	script := strings.TrimSuffix(p.PIDFile, ".pid") + ".sh"
	return errors.Join(
		os.WriteFile(p.PIDFile, []byte(strconv.Itoa(cmd.Process.Pid)+"\n"), 0o644),
		os.WriteFile(script, []byte(p.startScript()), 0o755))
}

// startScript is a shell script that starts the process again in the background
// and records its new pid.
func (p *Process) startScript() string {
	var b strings.Builder
	b.WriteString("#!/bin/sh\n# Starts " + p.Name + " again.\nnohup env")
	for _, word := range slices.Concat(p.Env, []string{p.Path}, p.Args) {
		b.WriteString(" \\\n  '" + strings.ReplaceAll(word, "'", `'\''`) + "'")
	}
	fmt.Fprintf(&b, " \\\n  >>'%s' 2>&1 </dev/null &\necho $! >'%s'\n", p.Log, p.PIDFile)
	return b.String()
}

// PID returns the process id, or 0 before Start.
func (p *Process) PID() int {
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Running reports whether the process was started and has not ended.
func (p *Process) Running() bool {
	if p.exited == nil {
		return false
	}
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// Signal sends sig, for example SIGSTOP to hang the process and SIGCONT to let
// it go on. A process that has ended is an error.
func (p *Process) Signal(sig syscall.Signal) error {
	if !p.Running() {
		return fmt.Errorf("signal %s: %s is not running", sig, p.Name)
	}
	return p.cmd.Process.Signal(sig)
}

// Kill ends the process with SIGKILL and waits until it is gone. A process that
// is not running is no error.
func (p *Process) Kill() error {
	if !p.Running() {
		return nil
	}
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-p.exited
	return nil
}

// Stop asks the process to end with SIGTERM, waits for at most grace, then
// kills it. A stopped (SIGSTOP) process is continued first.
func (p *Process) Stop(grace time.Duration) error {
	if !p.Running() {
		return nil
	}
	_ = p.cmd.Process.Signal(syscall.SIGCONT)
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
		return nil
	case <-time.After(grace):
		return p.Kill()
	}
}

// Tail returns the last lines of the process's log.
func (p *Process) Tail(lines int) string {
	data, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	if len(all) > lines {
		all = all[len(all)-lines:]
	}
	return strings.Join(all, "\n")
}

// StopRecorded ends the processes whose pid files are in dir, if they run one of
// the executables still (a pid may have been given to a stranger since): all at once, but etcd after those that need it. It returns the
// names of those that it ended. said is given each as it has ended.
func StopRecorded(ctx context.Context, dir string, executables []string, said func(name string)) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.pid"))
	if err != nil {
		return nil, err
	}
	var ended []string
	for _, etcd := range []bool{false, true} {
		var mu sync.Mutex
		var g errgroup.Group
		for _, file := range files {
			name := strings.TrimSuffix(filepath.Base(file), ".pid")
			if strings.HasPrefix(name, "etcd") != etcd {
				continue
			}
			g.Go(func() error {
				was, err := stopRecorded(ctx, file, executables)
				if err != nil {
					return fmt.Errorf("end %s: %w", name, err)
				}
				if was {
					mu.Lock()
					defer mu.Unlock()
					ended = append(ended, name)
					said(name)
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			return ended, err
		}
	}
	return ended, nil
}

// stopRecorded ends the process of a pid file, and reports whether there was one.
func stopRecorded(ctx context.Context, file string, executables []string) (was bool, err error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return false, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err == nil && ours(ctx, pid, executables) {
		if err := endPID(ctx, pid); err != nil {
			return false, fmt.Errorf("process %d: %w", pid, err)
		}
		was = true
	}
	return was, os.Remove(file)
}

// ours reports whether pid runs one of the executables. ps is asked because it
// is the same on macOS and Linux.
func ours(ctx context.Context, pid int, executables []string) bool {
	out, err := exec.CommandContext(ctx, "ps", "-o", "args=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return false
	}
	args := strings.TrimSpace(string(out))
	for _, e := range executables {
		if args == e || strings.HasPrefix(args, e+" ") {
			return true
		}
	}
	return false
}

func endPID(ctx context.Context, pid int) error {
	_ = syscall.Kill(pid, syscall.SIGCONT)
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		if errors.Is(err, syscall.ESRCH) {
			return nil
		}
		return err
	}
	gone := func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }
	if poll(ctx, 10*time.Second, gone) == nil {
		return nil
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	return poll(ctx, 10*time.Second, gone)
}

// poll asks done every 50 ms until it is true, limit has passed or ctx ends.
func poll(ctx context.Context, limit time.Duration, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}
