package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// Status words of the envelope. There is no third word in either API.
const (
	StatusOK   = "OK"
	StatusFail = "FAIL"
)

// Envelope is the frame of every JSON answer. Message is always present and
// empty when Status is OK. A nil Body is left out; use NullBody where the
// contract asks for `"body":null`.
type Envelope struct {
	Status  string `json:"status"`
	Message string `json:"message"`
	Body    any    `json:"body,omitempty"`
}

// NullBody encodes as `"body":null`, which the registry's documented answers
// carry where there is nothing to return.
var NullBody = json.RawMessage("null")

// Error is an answer that is not OK. Code is the HTTP status; Message reaches
// the caller; Cause, if any, reaches only the log.
type Error struct {
	Code    int
	Message string
	Cause   error
}

func (e *Error) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("%s: %v", e.Message, e.Cause)
	}
	return e.Message
}

func (e *Error) Unwrap() error { return e.Cause }

// Fail is a logical failure: HTTP 200 with status FAIL, because the Java
// clients throw on every code from 400 up and never read the message.
func Fail(message string) *Error { return &Error{Code: http.StatusOK, Message: message} }

// Failf is Fail with formatting.
func Failf(format string, args ...any) *Error { return Fail(fmt.Sprintf(format, args...)) }

// BadRequest is a request that could not be understood: HTTP 400 and FAIL.
func BadRequest(format string, args ...any) *Error {
	return &Error{Code: http.StatusBadRequest, Message: fmt.Sprintf(format, args...)}
}

// Unavailable is a passing fault on our side: HTTP 503 and FAIL. The balancer
// of a caller tries another endpoint on it.
func Unavailable(message string, cause error) *Error {
	return &Error{Code: http.StatusServiceUnavailable, Message: message, Cause: cause}
}

// AsError turns any error into an answer. An error that is no *Error becomes
// 500 "internal error", with the original as Cause for the log.
func AsError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Code: http.StatusInternalServerError, Message: "internal error", Cause: err}
}
