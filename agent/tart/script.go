package tart

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ankacluster/ankacluster/agent/command"
	"github.com/ankacluster/ankacluster/agent/hypervisor"
)

// pingTimeout ends a question to a guest agent that does not answer.
const pingTimeout = 10 * time.Second

// Run runs a script as `tart exec -i VM sh` with the text on stdin. Its exit code
// is the script's own. It begins once the guest agent answers.
func (c *CLI) Run(ctx context.Context, id string, s hypervisor.Script) (hypervisor.ScriptResult, error) {
	name, err := c.name(ctx, id)
	if err != nil {
		return hypervisor.ScriptResult{}, err
	}
	if err := c.awaitGuest(ctx, name, s.Timeout); err != nil {
		return hypervisor.ScriptResult{}, err
	}
	res, err := c.exec(ctx, command.Command{Args: []string{"exec", "-i", name, "sh"}, Stdin: bytes.NewReader(s.Text), Timeout: s.Timeout})
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
		_, err := c.call(waitCtx, command.Command{Args: []string{"exec", name, "true"}, Timeout: min(pingTimeout, wait)})
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
