package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/ankacluster/ankacluster/agent"
	"github.com/ankacluster/ankacluster/agent/socket"
	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/internal/selfpath"
)

// launcher starts and stops the agent of a state directory.
type launcher interface {
	describe() string
	// start returns once the agent answers.
	start(ctx context.Context) error
	// stop returns once no agent runs. It is no error when none did.
	stop(ctx context.Context) error
	// remove undoes what start has left for the next boot.
	remove(ctx context.Context) error
}

// background runs the agent as a process of its own session. It does not come
// back after a reboot.
type background struct {
	dir    state.Dir
	noSudo bool
}

const (
	// startTimeout is for a machine that is busy: an agent that ends is seen at once.
	startTimeout = time.Minute
	// stopTimeout is more than the agent needs to end its commands.
	stopTimeout = 20 * time.Second
)

func (b background) describe() string { return "in the background" }

func (b background) start(ctx context.Context) error {
	self, err := selfpath.Program()
	if err != nil {
		return err
	}
	args := []string{"run", "--state-dir", string(b.dir)}
	if b.noSudo {
		args = append(args, "--force-no-sudo")
	}
	// What it prints before its log is open, and a panic.
	out, err := os.OpenFile(b.stderrPath(), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(self, args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the agent: %w", err)
	}
	ended := make(chan error, 1) // one result
	go func() { ended <- cmd.Wait() }()
	deadline := time.After(startTimeout)
	for {
		var s agent.Status
		if err := socket.Ask(ctx, b.dir.Socket(), "/status", &s); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-ended:
			return hintf(fmt.Errorf("the agent ended at once (%w): %s", err, b.lastWords()), "see %s", b.dir.LogFile())
		case <-deadline:
			return hintf(fmt.Errorf("the agent did not answer within %s", startTimeout), "see %s", b.dir.LogFile())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (b background) stderrPath() string { return b.dir.LogDir() + "/stderr.log" }

func (b background) lastWords() string {
	data, err := os.ReadFile(b.stderrPath())
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.TrimPrefix(lines[0], "ankacluster: error: ")
}

func (b background) stop(ctx context.Context) error {
	pid := b.dir.RunningPID()
	if pid == 0 {
		return nil
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stop the agent (process %d): %w", pid, err)
	}
	deadline := time.Now().Add(stopTimeout)
	for b.dir.RunningPID() != 0 {
		if time.Now().After(deadline) {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("end the agent (process %d): %w", pid, err)
			}
			deadline = time.Now().Add(stopTimeout)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

func (b background) remove(context.Context) error { return nil }
