package anka

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/ankacluster/ankacluster/agent/command"
	"github.com/ankacluster/ankacluster/agent/hypervisor"
)

// guestLost is how `anka run` ends when it lost the guest.
const guestLost = 125

// Run runs a script as `anka run VM sh` with the text on stdin. Its exit code
// is the script's own; there is no JSON answer.
func (c *CLI) Run(ctx context.Context, id string, s hypervisor.Script) (hypervisor.ScriptResult, error) {
	res, err := c.run.Run(ctx, command.Command{
		Path: c.path, Args: command.Words("run").Values(id).Words("sh"),
		Stdin: bytes.NewReader(s.Text), Timeout: s.Timeout,
	})
	out := hypervisor.ScriptResult{ExitCode: res.ExitCode, Stdout: res.Stdout, Stderr: res.Stderr}
	if errors.Is(err, command.ErrTimeout) {
		out.TimedOut, out.ExitCode = true, -1
		return out, nil
	}
	if err == nil && res.ExitCode == guestLost {
		err = fmt.Errorf("the connection to the guest was lost: %s", cmp.Or(command.LastLine(res.Stderr), "anka run gave no reason"))
	}
	return out, err
}
