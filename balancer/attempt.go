package balancer

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// outcome is what one attempt came to.
type outcome uint8

const (
	outcomeGood    outcome = iota // an answer for the caller
	outcomeBusy                   // 429 or 503: the endpoint does not take it now
	outcomeGateway                // 502 or 504: something behind the endpoint
	outcomeDoubt                  // another 5xx: the endpoint's fault or the request's
	outcomeUnsent                 // it surely did not reach a server
	outcomeBroken                 // it may have reached a server; no whole answer came
	outcomeLocal                  // this machine's own network; surely not sent
	outcomeLacks                  // a healthy answer that another endpoint may better
	outcomeGone                   // the caller gave up
	outcomeDropped                // the balancer itself gave it up
	outcomeCount
)

// facts are what classify looks at.
type facts struct {
	status int   // 0 without an answer
	err    error // nil with an answer
	unsent bool  // no connection was handed to the request
	caller error // the caller's own context error
	cause  error // why the balancer cancelled the attempt
}

func classify(f facts) outcome {
	switch {
	case f.err == nil:
		return classifyStatus(f.status)
	case errors.Is(f.cause, errOvertaken) || errors.Is(f.cause, errMovedOn):
		return outcomeDropped
	case f.caller != nil:
		return outcomeGone
	case isLocal(f.err):
		return outcomeLocal
	case f.unsent || isDial(f.err):
		return outcomeUnsent
	}
	return outcomeBroken
}

func classifyStatus(code int) outcome {
	switch {
	case code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable:
		return outcomeBusy
	case code == http.StatusBadGateway || code == http.StatusGatewayTimeout:
		return outcomeGateway
	case code >= 500 && code != http.StatusNotImplemented && code != http.StatusHTTPVersionNotSupported:
		return outcomeDoubt
	}
	return outcomeGood
}

func isDial(err error) bool {
	var dial *dialError
	return errors.As(err, &dial)
}

// move says whether a request may go to the next endpoint after an outcome.
type move uint8

const (
	stay       move = iota // the outcome is the answer
	moveFree               // go on; it cost no server anything
	moveBudget             // go on if the retry budget has room
)

// moves is the whole rule of repeating: the first column for requests that may
// be repeated after they reached a server, the second for those that may not.
var moves = [outcomeCount][2]move{
	outcomeGood:    {stay, stay},
	outcomeBusy:    {moveBudget, stay},
	outcomeGateway: {moveBudget, stay},
	outcomeDoubt:   {moveBudget, stay},
	outcomeUnsent:  {moveFree, moveFree},
	outcomeBroken:  {moveBudget, stay},
	outcomeLocal:   {moveFree, moveFree},
	outcomeLacks:   {moveFree, stay},
	outcomeGone:    {stay, stay},
	outcomeDropped: {moveBudget, stay},
}

func (o outcome) move(repeatable bool) move {
	if repeatable {
		return moves[o][0]
	}
	return moves[o][1]
}

// IdempotencyHeader marks a write that the server runs once however often it
// arrives.
const IdempotencyHeader = "Idempotency-Key"

// repeatable says that a server may receive the request twice without harm:
// reading methods, and writes with a key. PUT is treated as a write: what it
// overwrites may have changed in between.
func repeatable(req *http.Request) bool {
	if len(req.Header["Upgrade"]) > 0 {
		return false // it becomes a conversation with one server
	}
	switch req.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	key := req.Header[IdempotencyHeader]
	return len(key) > 0 && key[0] != ""
}

type preferKey struct{}

// WithPrefer asks that a request's first attempt go to the endpoint with this
// URL as long as it is usable, as the steps of one upload must.
func WithPrefer(ctx context.Context, endpoint string) context.Context {
	return context.WithValue(ctx, preferKey{}, endpoint)
}

// ServedBy returns the URL of the endpoint that gave resp, or "" if no
// balancer did.
func ServedBy(resp *http.Response) string {
	if resp == nil || resp.Request == nil {
		return ""
	}
	name, _ := resp.Request.Context().Value(servedKey{}).(string)
	return name
}

type servedKey struct{}

type patienceKey struct{}

// WithPatience bounds how long Client waits for an endpoint that can answer, in
// place of Retry.MaxElapsed. Unlike a deadline it does not end the reading of
// an answer.
func WithPatience(ctx context.Context, d time.Duration) context.Context {
	return context.WithValue(ctx, patienceKey{}, d)
}

// Repeatable says that a server may receive req twice without harm: reading
// methods, and writes with an Idempotency-Key.
func Repeatable(req *http.Request) bool { return repeatable(req) }

type waitKey struct{}

// WithWait declares that the server may hold the request for up to d before it
// answers (a long poll). It is then neither hedged nor called late before d has
// passed. A "Prefer: wait=SECONDS" header (RFC 7240) does the same.
func WithWait(ctx context.Context, d time.Duration) context.Context {
	return context.WithValue(ctx, waitKey{}, d)
}

// declaredWait is how long the server may hold req, 0 if nothing was said.
func declaredWait(req *http.Request) time.Duration {
	if d, ok := req.Context().Value(waitKey{}).(time.Duration); ok {
		return max(d, 0)
	}
	if prefer := req.Header["Prefer"]; len(prefer) > 0 {
		return preferWait(prefer)
	}
	return 0
}
