package transfer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/internal/wire"
)

// Errors to be asked for with errors.Is.
var (
	// ErrNotFound: the registry has no such repository, tag or blob.
	ErrNotFound = errors.New("not found")
	// ErrDenied: the credentials are missing or do not suffice.
	ErrDenied = errors.New("access denied")
	// ErrDigest: the bytes received are not those that the digest names.
	ErrDigest = errors.New("content does not match its digest")
	// ErrNoSpace: the registry refuses a push because it is full.
	ErrNoSpace = errors.New("the registry is full")
)

// ResponseError is an answer of a registry that is not the one hoped for.
type ResponseError struct {
	Method, Path string
	Status       int
	Code         string // the specification's code, for example BLOB_UNKNOWN; may be empty
	Message      string
	retryAfter   time.Duration
}

func (e *ResponseError) Error() string {
	text := e.Message
	if text == "" {
		text = http.StatusText(e.Status)
	}
	if e.Code != "" {
		text = e.Code + ": " + text
	}
	return fmt.Sprintf("registry answered %d to %s %s: %s", e.Status, e.Method, e.Path, text)
}

// Is maps the answer to the sentinels above.
func (e *ResponseError) Is(target error) bool {
	switch target {
	case ErrNotFound:
		return e.Status == http.StatusNotFound
	case ErrDenied:
		return e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden
	case ErrDigest:
		return e.Code == string(oci.CodeDigestInvalid)
	case ErrNoSpace:
		return e.Status == http.StatusInsufficientStorage
	}
	return false
}

func newResponseError(req *http.Request, resp *http.Response) *ResponseError {
	e := &ResponseError{Method: req.Method, Path: req.URL.Path, Status: resp.StatusCode}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s >= 0 {
		e.retryAfter = time.Duration(s) * time.Second
	}
	data, _ := wire.ReadAnswer(resp, 64<<10) // a longer page says nothing of ours
	said := oci.ReadError(resp.StatusCode, data)
	e.Code, e.Message = string(said.Code), said.Message
	return e
}

// finalError marks an error that another attempt cannot mend, such as a full
// disk on this side.
type finalError struct{ err error }

func (e finalError) Error() string { return e.err.Error() }
func (e finalError) Unwrap() error { return e.err }

func final(err error) error {
	if err == nil {
		return nil
	}
	return finalError{err}
}

// mendable reports whether another attempt, perhaps at another server, may
// succeed.
func mendable(err error) bool {
	var f finalError
	var r *ResponseError
	switch {
	case errors.As(err, &f), errors.Is(err, context.Canceled) && !errors.Is(err, errIdle):
		return false
	case errors.As(err, &r):
		switch r.Status {
		case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusTooEarly,
			http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return true
		}
		return false
	}
	return true
}
