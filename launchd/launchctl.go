package launchd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// Launchd says where launchd is found. The zero value is the system's own; tests
// name a stand-in, also on systems that have no launchd.
type Launchd struct {
	// Launchctl is the path of the command; "" means /bin/launchctl.
	Launchctl string
	// Daemons is the directory of property lists; "" means /Library/LaunchDaemons.
	Daemons string
}

// standIn reports whether l is not the system's own.
func (l Launchd) standIn() bool { return l.Launchctl != "" }

func (l Launchd) withDefaults() Launchd {
	if l.Launchctl == "" {
		l.Launchctl = "/bin/launchctl"
	}
	if l.Daemons == "" {
		l.Daemons = "/Library/LaunchDaemons"
	}
	return l
}

// Exit codes of launchctl. They are numbers of errno, and above 100 launchd's own.
// Several of them mean more than one thing; what a caller makes of one stands where
// it calls.
const (
	codeNoProcess  = 3   // bootout: no such job
	codeIO         = 5   // bootstrap: loaded already, about to go, switched off, or the file is refused
	codeInProgress = 36  // bootout: begun, the process still works on its end (10.15)
	codeAlready    = 37  // bootstrap, kickstart: the job is about to go
	codeNotFound   = 113 // print, kickstart, bootout: no such job
	codeDisabled   = 119 // bootstrap: switched off
)

// reply is what one call of launchctl left.
type reply struct {
	code   int
	stdout string
	stderr string
}

// said is the first line of the complaint. The second one only advises to be root.
func (r reply) said() string {
	line, _, _ := strings.Cut(strings.TrimSpace(r.stderr), "\n")
	if line == "" {
		return fmt.Sprintf("exit code %d", r.code)
	}
	return line
}

// maxReply bounds what is read of an answer. A job's is some 3 KB.
const maxReply = 1 << 20

// launchctl returns the function that calls the command at path. A call may take as
// long as a job takes to end: bootout of some versions waits for that.
func launchctl(path string, timeout time.Duration) func(args ...string) (reply, error) {
	return func(args ...string) (reply, error) {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		stdout, stderr := &bounded{}, &bounded{}
		cmd := exec.CommandContext(ctx, path, args...)
		cmd.Env = append(os.Environ(), "LC_ALL=C")
		cmd.Stdout, cmd.Stderr, cmd.WaitDelay = stdout, stderr, time.Second
		err := cmd.Run()
		r := reply{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
		var exit *exec.ExitError
		switch {
		case ctx.Err() != nil:
			return r, fmt.Errorf("launchctl %s: no answer within %s", args[0], timeout)
		case errors.As(err, &exit) && r.code > 0:
			return r, nil
		case err != nil:
			return r, fmt.Errorf("launchctl %s: %w", args[0], err)
		}
		return r, nil
	}
}

// bounded keeps the first maxReply bytes that are written to it.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	keep := min(len(p), maxReply-b.Len())
	_, _ = b.Buffer.Write(p[:keep]) // never fails
	return len(p), nil
}
