package endpoint

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
)

// DialError marks an error of connecting: the request was surely not sent.
type DialError struct{ Err error }

// Error is the text of what went wrong.
func (e *DialError) Error() string { return e.Err.Error() }

// Unwrap is what went wrong.
func (e *DialError) Unwrap() error { return e.Err }

// StatusError is an answer that counts as a failure.
type StatusError int

// Error names the status.
func (e StatusError) Error() string { return fmt.Sprintf("answered %d", int(e)) }

// localErrnos are errors of this machine: no file descriptors, no buffers, no
// network interface, no free port, no route.
var localErrnos = []syscall.Errno{
	syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ENETDOWN,
	syscall.EADDRNOTAVAIL, syscall.ENETUNREACH, syscall.ENOTDIR, syscall.EACCES, syscall.EPERM,
}

// IsLocal reports whether err is this machine's own fault, whatever the others say.
func IsLocal(err error) bool {
	for _, errno := range localErrnos {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// IsUnreachable reports whether err is either this machine's fault or the endpoint's:
// which one, only the other endpoints can tell. macOS answers EHOSTUNREACH when
// the Local Network permission is missing.
func IsUnreachable(err error) bool {
	return errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.EHOSTDOWN)
}

// Short is err as a person wants to read it in one line.
func Short(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET):
		return "connection reset"
	case IsTimeout(err):
		return "timeout"
	}
	return err.Error()
}

// IsTimeout reports whether err is that something took too long.
func IsTimeout(err error) bool {
	var netErr net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &netErr) && netErr.Timeout()
}
