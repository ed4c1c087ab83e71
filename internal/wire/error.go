package wire

import (
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
)

// Code is what kind of error an answer is. It goes over the wire beside the message,
// in ErrorHeader: programs look at the code, people at the message. A Code is an
// error, so that errors.Is(err, code) holds for an answer of that code, on either
// side of the wire.
type Code string

// ErrorHeader carries the Code of an answer that is not OK. The envelope is
// documented to the letter, and has no room for it.
const ErrorHeader = "X-Anka-Error"

// The codes of all servers. Each API has more of its own.
const (
	CodeFailed          Code = "failed" // a logical failure that has no code of its own
	CodeBadRequest      Code = "bad_request"
	CodeUnauthenticated Code = "unauthenticated"
	CodeNotPermitted    Code = "not_permitted"
	CodeNoSuchCall      Code = "no_such_call"
	CodeNotFound        Code = "not_found"
	CodeTooLarge        Code = "too_large"
	CodeKeyReused       Code = "idempotency_key_reused"
	CodeUnavailable     Code = "unavailable"
	CodeInternal        Code = "internal"
	// CodeForeign is no code of an answer: what answered is no server of ours.
	CodeForeign Code = "foreign"
)

func (c Code) Error() string { return strings.ReplaceAll(string(c), "_", " ") }

// ofStatus are the codes of answers that carry none.
var ofStatus = map[int]Code{
	http.StatusOK: CodeFailed, http.StatusBadRequest: CodeBadRequest, http.StatusUnauthorized: CodeUnauthenticated, http.StatusForbidden: CodeNotPermitted,
	http.StatusNotFound: CodeNoSuchCall, http.StatusMethodNotAllowed: CodeNoSuchCall, http.StatusRequestEntityTooLarge: CodeTooLarge,
	http.StatusBadGateway: CodeUnavailable, http.StatusServiceUnavailable: CodeUnavailable, http.StatusGatewayTimeout: CodeUnavailable,
}

// Error is an answer that is not OK: one that a server of ours gives, or one that a
// Client was given. Message reaches the caller; Cause, if any, only the log.
type Error struct {
	// From is the server that answered, as a Client calls it, and "" for an answer
	// of this process.
	From    string
	Status  int  // of HTTP
	Code    Code // "" means that of Status
	Message string
	Cause   error
}

func (e *Error) Error() string {
	switch {
	case e.From != "" && e.Status == http.StatusOK:
		return e.From + ": " + e.Message
	case e.From != "":
		return fmt.Sprintf("%s answered %d: %s", e.From, e.Status, e.Message)
	case e.Cause != nil:
		return fmt.Sprintf("%s: %v", e.Message, e.Cause)
	}
	return e.Message
}

func (e *Error) Unwrap() error { return e.Cause }

// Is reports whether target is the error's code.
func (e *Error) Is(target error) bool {
	code, ok := target.(Code)
	return ok && code == e.code()
}

// Failed reports whether the call was understood and was not done: FAIL with HTTP
// 200.
func (e *Error) Failed() bool { return e.Status == http.StatusOK && e.Code != CodeForeign }

func (e *Error) code() Code {
	if e.Code != "" {
		return e.Code
	}
	if code, ok := ofStatus[e.Status]; ok {
		return code
	}
	return CodeInternal
}

// Fail is a logical failure: HTTP 200 with status FAIL, because the Java
// clients throw on every code from 400 up and never read the message.
func Fail(message string) *Error {
	return &Error{Status: http.StatusOK, Message: cut(message, maxMessage)}
}

// Failf is Fail with formatting. Of each string among args it tells the beginning.
func Failf(format string, args ...any) *Error { return Fail(echo(format, args)) }

// Fail is wire.Fail with a code.
func (c Code) Fail(message string) *Error {
	return &Error{Status: http.StatusOK, Code: c, Message: cut(message, maxMessage)}
}

// Failf is Fail with formatting.
func (c Code) Failf(format string, args ...any) *Error { return c.Fail(echo(format, args)) }

// BadRequest is a request that could not be understood: HTTP 400 and FAIL.
func BadRequest(format string, args ...any) *Error {
	return &Error{Status: http.StatusBadRequest, Message: cut(echo(format, args), maxMessage)}
}

// echo formats an error. What a caller sent is in it, and an error may be kept and
// logged: the beginning of each is enough to know it by.
func echo(format string, args []any) string {
	short := make([]any, len(args))
	for i, arg := range args {
		if v := reflect.ValueOf(arg); v.Kind() == reflect.String && v.Len() > maxEcho {
			arg = cut(v.String(), maxEcho)
		}
		short[i] = arg
	}
	return fmt.Sprintf(format, short...)
}

// cut returns the beginning of a long text, with a sign that it is one.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// Unavailable is a passing fault on our side: HTTP 503 and FAIL. The balancer
// of a caller tries another endpoint on it.
func Unavailable(message string, cause error) *Error {
	return &Error{Status: http.StatusServiceUnavailable, Message: message, Cause: cause}
}

// AsError turns any error into an answer. An error that is no answer of this process
// becomes 500 "internal error", with the original as Cause for the log: what another
// server said is no answer to our caller.
func AsError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok && e.From == "" {
		return e
	}
	return &Error{Status: http.StatusInternalServerError, Message: "internal error", Cause: err}
}

// Answered returns what a server answered, when err holds an answer.
func Answered(err error, server string) (*Error, bool) {
	for {
		e, ok := errors.AsType[*Error](err)
		if !ok || e.From == server {
			return e, ok
		}
		err = e.Cause
	}
}
