package fakelaunchctl

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// job is a loaded property list. Its fields are guarded by Launchd.mu.
type job struct {
	l     *Launchd
	plist plist

	cmd     *exec.Cmd // the process, nil for none
	runs    int       // started since the load
	spawned time.Time // the last start
	last    string    // how the last process ended: "last exit code = 0", ...
	pause   *timer    // until the next start after a failure, nil for none
	force   *timer    // until SIGKILL
	leaving bool      // booted out
	again   bool      // to be started as soon as its process has ended
}

func (j *job) throttle() time.Duration { return cmp.Or(j.l.opts.Throttle, j.plist.throttle) }

func (j *job) exitTimeOut() time.Duration { return cmp.Or(j.l.opts.ExitTimeOut, j.plist.exitTimeOut) }

// spawn starts the process. One that cannot be started ends with 78 as a real one
// does, where launchd's helper becomes the program.
func (j *job) spawn() {
	p := j.plist
	j.runs++
	j.spawned, j.again = time.Now(), false
	cmd, err := p.start()
	for tries := 0; errors.Is(err, syscall.ETXTBSY) && tries < 200; tries++ {
		// Another process of the test, between its fork and exec, has the program
		// open that was just written.
		time.Sleep(5 * time.Millisecond)
		cmd, err = p.start()
	}
	if err != nil {
		j.ended("last exit code = 78: EX_CONFIG", true)
		return
	}
	j.cmd = cmd
	j.l.running.Go(func() {
		_ = cmd.Wait() // how it ended is in its state
		j.l.mu.Lock()
		defer j.l.mu.Unlock()
		j.cmd = nil
		j.force.cancel()
		j.force = nil
		ws := cmd.ProcessState.Sys().(syscall.WaitStatus)
		switch {
		case ws.Signaled():
			j.ended(fmt.Sprintf("last terminating signal = %s: %d", signalName(ws.Signal()), int(ws.Signal())), true)
		default:
			j.ended(fmt.Sprintf("last exit code = %d", ws.ExitStatus()), ws.ExitStatus() != 0)
		}
	})
}

// ended decides what becomes of a job whose process has ended.
func (j *job) ended(how string, unsuccessful bool) {
	j.last = how
	switch {
	case j.l.closed:
	case j.leaving:
		j.forget()
	case j.again:
		j.spawn()
	case j.plist.keepAlive || j.plist.restartFailed && unsuccessful:
		wait := max(0, j.throttle()-time.Since(j.spawned))
		j.pause = j.after(wait, func() {
			j.pause = nil
			j.spawn()
		})
	}
}

// timer is something to come, that can be called off under Launchd.mu until then.
type timer struct {
	*time.Timer
	off bool
}

// after calls f under the lock, unless it is called off or launchd is closed before.
func (j *job) after(d time.Duration, f func()) *timer {
	t := &timer{}
	t.Timer = time.AfterFunc(d, func() {
		j.l.mu.Lock()
		defer j.l.mu.Unlock()
		if !j.l.closed && !t.off {
			f()
		}
	})
	return t
}

func (t *timer) cancel() {
	if t != nil {
		t.off = true
		t.Stop()
	}
}

func (j *job) cancelPause() {
	j.pause.cancel()
	j.pause = nil
}

// terminate asks the process to end, and ends it when its time is over.
func (j *job) terminate() {
	_ = j.cmd.Process.Signal(syscall.SIGTERM) // it may end at this moment
	cmd := j.cmd
	j.force.cancel()
	j.force = j.after(j.exitTimeOut(), func() {
		if j.cmd == cmd {
			_ = cmd.Process.Kill()
		}
	})
}

// kill ends the process and whatever was to come, when launchd is closed.
func (j *job) kill() {
	j.cancelPause()
	if j.cmd != nil {
		_ = j.cmd.Process.Kill()
	}
}

// forget takes the job out, after it has lingered.
func (j *job) forget() {
	remove := func() {
		if j.l.jobs[j.plist.label] == j {
			delete(j.l.jobs, j.plist.label)
		}
	}
	if j.l.opts.Linger == 0 {
		remove()
		return
	}
	j.after(j.l.opts.Linger, remove)
}

func (p plist) start() (*exec.Cmd, error) {
	cmd := exec.Command(p.arguments[0], p.arguments[1:]...)
	cmd.Dir = p.workingDirectory
	for k, v := range p.environment {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	cmd.Env = append(cmd.Env, "XPC_SERVICE_NAME="+p.label)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err := redirect(cmd, p)
	if err == nil {
		err = cmd.Start()
	}
	closeOutput(cmd)
	return cmd, err
}

func redirect(cmd *exec.Cmd, p plist) error {
	open := func(path string) (*os.File, error) {
		return os.OpenFile(cmp.Or(path, os.DevNull), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	}
	out, err := open(p.stdout)
	if err != nil {
		return err
	}
	cmd.Stdout = out
	errs, err := open(p.stderr)
	if err != nil {
		return err
	}
	cmd.Stderr = errs
	return nil
}

func closeOutput(cmd *exec.Cmd) {
	for _, w := range []any{cmd.Stdout, cmd.Stderr} {
		if f, ok := w.(*os.File); ok {
			_ = f.Close() // the process has its own
		}
	}
}

func signalName(s syscall.Signal) string {
	switch s {
	case syscall.SIGTERM:
		return "Terminated"
	case syscall.SIGKILL:
		return "Killed"
	}
	return "Signal"
}
