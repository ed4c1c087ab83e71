package tart

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/ankacluster/ankacluster/agent/command"
	"github.com/ankacluster/ankacluster/agent/hypervisor"
)

// pingTimeout ends a question to a guest agent that does not answer.
const pingTimeout = 10 * time.Second

// Run runs a script as `tart exec -i VM sh` with the text on stdin. Its exit code
// is the script's own. It begins once the guest agent answers. A version that runs
// no scripts is hypervisor.ErrOutdated.
func (c *CLI) Run(ctx context.Context, id string, s hypervisor.Script) (hypervisor.ScriptResult, error) {
	name, err := c.name(ctx, id)
	if err != nil {
		return hypervisor.ScriptResult{}, err
	}
	if err := c.runsScripts(ctx); err != nil {
		return hypervisor.ScriptResult{}, err
	}
	if err := c.awaitGuest(ctx, name, s.Timeout); err != nil {
		return hypervisor.ScriptResult{}, err
	}
	text, err := c.scriptFile(s.Text)
	if err != nil {
		return hypervisor.ScriptResult{}, err
	}
	defer text.Close()
	res, err := c.exec(ctx, command.Command{Args: command.Words("exec", "-i").Values(name).Words("sh"), Stdin: text, Timeout: s.Timeout})
	out := hypervisor.ScriptResult{ExitCode: res.ExitCode, Stdout: res.Stdout, Stderr: res.Stderr}
	if errors.Is(err, command.ErrTimeout) {
		out.TimedOut, out.ExitCode = true, -1
		return out, nil
	}
	if err == nil && res.ExitCode != 0 {
		// The script's own failure, unless tart could not run it at all.
		if failed := commandError("exec", res.ExitCode, res.Stderr); errors.Is(failed, errNoGuest) {
			err = failed
		}
	}
	return out, err
}

// scriptFile returns an open file that holds a script and has no name any more. It
// is given to tart as stdin: with a pipe, versions before 2.33 keep a core busy
// until the script has ended, and as an argument it would be in the list of the
// host's processes, with its secrets.
func (c *CLI) scriptFile(text []byte) (*os.File, error) {
	if err := os.MkdirAll(c.cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(c.cfg.Dir, "script-*")
	if err != nil {
		return nil, err
	}
	_, err = f.Write(text)
	if err == nil {
		_, err = f.Seek(0, 0)
	}
	if err := errors.Join(err, os.Remove(f.Name())); err != nil {
		f.Close()
		return nil, fmt.Errorf("keep a script for tart: %w", err)
	}
	return f, nil
}

// awaitGuest waits until the guest agent runs commands: it comes up some time
// after the network. To ask twice is harmless; to run a script twice is not.
func (c *CLI) awaitGuest(ctx context.Context, name string, limit time.Duration) error {
	wait := c.cfg.GuestWait
	if limit > 0 {
		wait = min(wait, limit)
	}
	var last error
	waitCtx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	err := c.await(waitCtx, func() (bool, error) {
		_, err := c.call(waitCtx, command.Command{Args: command.Words("exec").Values(name).Words("true"), Timeout: min(pingTimeout, wait)})
		if err == nil || waitCtx.Err() != nil {
			return err == nil, nil
		}
		if last = err; errors.Is(err, hypervisor.ErrNotFound) || errors.Is(err, errNotRunning) || errors.Is(err, hypervisor.ErrMissing) {
			return false, err
		}
		return false, nil
	})
	if err != nil && ctx.Err() == nil && waitCtx.Err() != nil {
		return errors.Join(fmt.Errorf("%w (asked for %s)", errNoGuest, wait), last)
	}
	return err
}
