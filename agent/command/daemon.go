package command

import (
	"context"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
)

// Daemon is a program that outlives the agent, a VM for one. It is safe for
// concurrent use. No goroutine waits for it: who holds it asks now and then,
// and so gives its process id back.
type Daemon struct {
	pid       int
	clearNote func()

	mu    sync.Mutex
	ended bool // guarded by mu
	code  int  // guarded by mu; valid once ended
}

// Spawn starts c as a daemon: in a session of its own, with both streams in
// output, which must be a file, and with no input. Of c only Path, Args, Env
// and As count. Until Keep the daemon counts as a leftover, which a later agent ends.
// ctx is for the start only.
func (r *Runner) Spawn(ctx context.Context, c Command, output *os.File) (*Daemon, error) {
	if c.Args.err != nil {
		return nil, c.Args.err
	}
	began := time.Now()
	cmd, err := start(ctx, func() *exec.Cmd {
		cmd := r.launch.newCommand(c)
		cmd.Stdout, cmd.Stderr = output, output
		cmd.SysProcAttr.Setsid = true
		return cmd
	})
	r.obs(c.Args.Verb(), time.Since(began), err)
	line := zap.String("command", c.Path+" "+c.Args.String())
	if err != nil {
		r.log.Info("daemon did not start", line, zap.Error(err))
		return nil, err
	}
	d := &Daemon{pid: cmd.Process.Pid, clearNote: r.note(cmd.Process.Pid)}
	r.log.Info("daemon started", line, zap.Int("pid", d.pid))
	return d, cmd.Process.Release() // waited for by pid
}

// Keep takes the daemon out of what a later agent ends.
func (d *Daemon) Keep() { d.clearNote() }

// Ended reports whether the daemon has ended, and its exit code then: -1 after a
// signal. It does not wait.
func (d *Daemon) Ended() (code int, ended bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for !d.ended {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(d.pid, &status, syscall.WNOHANG, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			// Somebody else waited for it: nothing is known of its end.
			d.ended, d.code = true, -1
		case pid == d.pid:
			d.ended, d.code = true, status.ExitStatus()
		default:
			return 0, false
		}
	}
	return d.code, true
}

// Kill ends the daemon with whatever is in its group. It waits a moment for the
// end, but not for a process that the system cannot let go.
func (d *Daemon) Kill() {
	for range 50 {
		if _, ended := d.Ended(); ended {
			break
		}
		_ = syscall.Kill(-d.pid, syscall.SIGKILL) // not reaped yet, so the id is still its own
		time.Sleep(20 * time.Millisecond)
	}
	d.clearNote()
}
