package agent

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/controllerapi"
)

const (
	// defaultScriptTimeout is the documented one, for monitored scripts.
	defaultScriptTimeout = 90 * time.Second
	// maxScriptTimeout bounds what a request may ask for (A8).
	maxScriptTimeout = 24 * time.Hour
)

// scriptFailed is a monitored script that ended badly.
type scriptFailed struct{ reason string }

func (e *scriptFailed) Error() string { return "start-up script: " + e.reason }

// runScript runs a monitored script. The result is set whenever it ran.
func (v *vms) runScript(ctx context.Context, uuid string, req controllerapi.StartRequest) (*controllerapi.ScriptResult, error) {
	timeout := defaultScriptTimeout
	if req.ScriptTimeout > 0 {
		timeout = min(time.Duration(req.ScriptTimeout)*time.Second, maxScriptTimeout)
	}
	return v.execScript(ctx, uuid, req.StartupScript, timeout)
}

// execScript runs a base64 script in a VM; timeout 0 means none.
func (v *vms) execScript(ctx context.Context, uuid, script string, timeout time.Duration) (*controllerapi.ScriptResult, error) {
	text, err := base64.StdEncoding.DecodeString(script)
	if err != nil {
		return nil, &scriptFailed{"it is not base64: " + err.Error()}
	}
	res, err := v.runtime.Run(ctx, uuid, hypervisor.Script{Text: text, Timeout: timeout})
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	out := &controllerapi.ScriptResult{
		ReturnCode: res.ExitCode, DidTimeout: res.TimedOut,
		Stdout: strings.ToValidUTF8(string(res.Stdout), "\uFFFD"), Stderr: strings.ToValidUTF8(string(res.Stderr), "\uFFFD"),
	}
	switch {
	case errors.Is(err, hypervisor.ErrOutdated):
		return nil, err // the script did not run; a node with a newer version can do it
	case err != nil:
		out.ReturnCode, out.Errors = -1, []string{err.Error()}
		return out, &scriptFailed{err.Error()}
	case res.TimedOut:
		return out, &scriptFailed{fmt.Sprintf("it did not end within %s", timeout)}
	case res.ExitCode != 0:
		return out, &scriptFailed{fmt.Sprintf("exit code %d", res.ExitCode)}
	}
	return out, nil
}
