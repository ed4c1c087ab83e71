package attempt

import (
	"errors"
	"fmt"
	"strings"
)

// Errors that callers may ask for with errors.Is.
var (
	// ErrNoEndpoints: the member list is empty; give the pool addresses.
	ErrNoEndpoints = errors.New("no endpoints are configured")
	// ErrAllDown: there are endpoints, and none can be tried now.
	ErrAllDown = errors.New("no endpoint is usable")
	// ErrBudget: the repeat budget is used up, so that repeats cannot turn an
	// outage into an overload.
	ErrBudget = errors.New("retry budget is used up")
	// ErrBodyOnce: the request could have been repeated, but its body could be read
	// only once. A proxy keeps bodies of up to 1 MiB.
	ErrBodyOnce = errors.New("the request's body was too large to be kept, so it was not sent again")
	// ErrBody: the caller's request body could not be read to its end.
	ErrBody = errors.New("the request's body could not be read")
)

// Causes with which attempts are cancelled. Those of a stall speak against the
// endpoint, the others say nothing about it.
var (
	errOvertaken = errors.New("another endpoint answered first")
	errMovedOn   = errors.New("the endpoint was taken out while the request waited")
	ErrStalled   = errors.New("no byte within the stall time")
	ErrNotTaken  = errors.New("the endpoint has stopped taking the request's body")
	errSilent    = errors.New("no byte within the stall time, though such answers end")
	errEndless   = errors.New("sends on where its peers' answers have ended")
	ErrCrawling  = errors.New("several times slower than the best peer")
	errQuiet     = errors.New("the connection was quiet for too long to be trusted")
	errClosed    = errors.New("the connection was closed without an answer")
)

// PassError is the error of a request that no endpoint could answer, with what
// each one answered.
type PassError struct {
	Pool     string
	Reason   error // why it ended, such as ErrAllDown
	Attempts []AttemptError
	// Repeatable: sending the request again cannot make it run twice.
	Repeatable bool
}

// AttemptError is what one endpoint said.
type AttemptError struct {
	Endpoint string
	Err      error
}

// Error gives the pool, the reason and what each endpoint said.
func (e *PassError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %v", e.Pool, e.Reason)
	for i, a := range e.Attempts {
		sep := "; "
		if i == 0 {
			sep = ": "
		}
		fmt.Fprintf(&b, "%s%s: %v", sep, a.Endpoint, a.Err)
	}
	return b.String()
}

// Unwrap gives the reason and every attempt's error.
func (e *PassError) Unwrap() []error {
	errs := []error{e.Reason}
	for _, a := range e.Attempts {
		errs = append(errs, a.Err)
	}
	return errs
}
