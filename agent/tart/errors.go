package tart

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/ankacluster/ankacluster/agent/command"
	"github.com/ankacluster/ankacluster/agent/hypervisor"
)

// Kinds of failure that only this package tells apart.
var (
	errNotRunning = errors.New("the VM does not run")
	errNoGuest    = errors.New("the guest agent does not answer: the image needs the Tart Guest Agent for scripts")
	errNoAddress  = errors.New("the VM has no address yet")
	// errInternal is what macOS says when it starts no VM and gives no reason.
	errInternal = errors.New("macOS gave no reason")
)

// CommandError is a tart command that ended with an error.
type CommandError struct {
	Verb     string // list, run, ...
	ExitCode int    // -1 after a signal
	Message  string
	kind     error // a sentinel, or nil
}

func (e *CommandError) Error() string {
	return fmt.Sprintf("tart %s: %s (exit code %d)", e.Verb, e.Message, e.ExitCode)
}

func (e *CommandError) Unwrap() error { return e.kind }

// phrases are parts of tart's messages by which failures are told apart: its
// exit codes are 1 for most, and 2 for both a VM that is not there and one that
// does not run.
var phrases = []struct {
	text string
	kind error
}{
	{"does not exist", hypervisor.ErrNotFound},
	{"is not running", errNotRunning},
	{"number of vms exceeds the system limit", hypervisor.ErrTooMany},
	{"is the tart guest agent running?", errNoGuest},
	{"no ip address found", errNoAddress},
	{"seckeycreaterandomkey_ios failed", hypervisor.ErrKeychain},
	{"failed to generate keypair", hypervisor.ErrKeychain},
	{"failed to create new hostkey", hypervisor.ErrKeychain},
	{"interaction is not allowed with the security server", hypervisor.ErrKeychain},
	{"code=-25308", hypervisor.ErrKeychain},
	{"vzerrordomain code=-9", hypervisor.ErrKeychain},
	{"vzerrordomain code=1 ", errInternal},
	{"no space left on device", hypervisor.ErrDiskFull},
	{"code: 404", hypervisor.ErrNotInRegistry},
	{"shouldbeexactlyonelayer", hypervisor.ErrForeign},
	{"shouldbeatleastonelayer", hypervisor.ErrForeign},
	{"ocimanifestvalidationerror", hypervisor.ErrForeign},
	{"legacy disk media type", hypervisor.ErrForeign},
}

func commandError(verb string, exitCode int, stderr []byte) error {
	e := &CommandError{Verb: verb, ExitCode: exitCode, Message: message(stderr)}
	lower := strings.ToLower(string(stderr))
	for _, p := range phrases {
		if strings.Contains(lower, p.text) {
			e.kind = p.kind
			break
		}
	}
	return e
}

// message is the line that begins with "Error: ", for usage may follow it, or
// else the last.
func message(stderr []byte) string {
	for line := range bytes.Lines(stderr) {
		if m, ok := bytes.CutPrefix(line, []byte("Error: ")); ok {
			return command.LastLine(m)
		}
	}
	if m := command.LastLine(stderr); m != "" {
		return m
	}
	return "it gave no reason"
}
