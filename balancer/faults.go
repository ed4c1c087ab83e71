package balancer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
)

// dialError marks an error of connecting: the request was surely not sent.
type dialError struct{ err error }

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

// statusError is an answer that counts as a failure.
type statusError int

func (e statusError) Error() string { return fmt.Sprintf("answered %d", int(e)) }

// localErrnos are errors of this machine: no file descriptors, no buffers, no
// network interface, no free port, no route.
var localErrnos = []syscall.Errno{
	syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ENETDOWN,
	syscall.EADDRNOTAVAIL, syscall.ENETUNREACH, syscall.ENOTDIR, syscall.EACCES, syscall.EPERM,
}

// isLocal says that err is this machine's own fault, whatever the others say.
func isLocal(err error) bool {
	for _, errno := range localErrnos {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// isUnreachable says that err is either this machine's fault or the endpoint's:
// which one, only the other endpoints can tell. macOS answers EHOSTUNREACH when
// the Local Network permission is missing.
func isUnreachable(err error) bool {
	return errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.EHOSTDOWN)
}

// short is err as a person wants to read it in one line.
func short(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET):
		return "connection reset"
	case isTimeout(err):
		return "timeout"
	}
	return err.Error()
}

func isTimeout(err error) bool {
	var netErr net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &netErr) && netErr.Timeout()
}
