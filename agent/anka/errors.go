package anka

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ankacluster/ankacluster/agent/command"
	"github.com/ankacluster/ankacluster/agent/hypervisor"
)

// Exit and error codes of the anka command that mean something to us.
const (
	codeNotFound  = 3
	codeNameTaken = 18
)

// CommandError is a command that anka answered with an error, or did not answer
// in its own words.
type CommandError struct {
	Verb     string // list, start, ...
	Code     int
	ExitCode int
	Message  string
	Answered bool  // in anka's own words
	kind     error // a sentinel of package hypervisor, or nil
}

func (e *CommandError) Error() string {
	return fmt.Sprintf("anka %s: %s (code %d, exit code %d)", e.Verb, e.Message, e.Code, e.ExitCode)
}

func (e *CommandError) Unwrap() error { return e.kind }

// phrases are parts of anka's messages that tell what it has no code for.
var phrases = []struct {
	text string
	kind error
}{
	{"maximum number of running instances", hypervisor.ErrTooMany},
	{"maximum supported number of active virtual machines", hypervisor.ErrTooMany},
	{"license", hypervisor.ErrLicense},
	{"manifest unknown", hypervisor.ErrNotInRegistry},
	{"name unknown", hypervisor.ErrNotInRegistry},
	{"already exists", hypervisor.ErrNameTaken},
	{"no space left", hypervisor.ErrDiskFull},
	{"not enough disk space", hypervisor.ErrDiskFull},
	{"not enough free space", hypervisor.ErrDiskFull},
	{"disk is full", hypervisor.ErrDiskFull},
}

// registryError is the error of a pull: what the command did not find there is
// not in the registry, whatever may be on the node.
func registryError(err error) error {
	var e *CommandError
	if errors.As(err, &e) && errors.Is(e.kind, hypervisor.ErrNotFound) {
		e.kind = hypervisor.ErrNotInRegistry
	}
	return err
}

func commandError(verb string, a answer, answered bool, res command.Result) error {
	e := &CommandError{Verb: verb, ExitCode: res.ExitCode, Code: a.Code, Message: a.Message, Answered: answered}
	if e.Message == "" {
		e.Message = command.LastLine(res.Stderr)
	}
	switch {
	case e.Message == "" && !answered:
		e.Message = "it printed no answer"
	case e.Message == "":
		e.Message = "it gave no reason"
	}
	if !answered && e.Code == 0 {
		e.Code = res.ExitCode
	}
	switch e.Code {
	case codeNotFound:
		e.kind = hypervisor.ErrNotFound
		return e
	case codeNameTaken:
		e.kind = hypervisor.ErrNameTaken
		return e
	}
	lower := strings.ToLower(e.Message)
	for _, p := range phrases {
		if strings.Contains(lower, p.text) {
			e.kind = p.kind
			break
		}
	}
	return e
}
