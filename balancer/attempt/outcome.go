package attempt

import (
	"errors"
	"net/http"

	"github.com/ankacluster/ankacluster/balancer/endpoint"
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
	outcomeCut                    // this machine's own network, after it may have been sent
	outcomeLacks                  // a healthy answer that another endpoint may better
	outcomeGone                   // the caller gave up, or its body did
	outcomeDropped                // the balancer itself gave it up
	outcomeCount
)

// facts are what classify looks at.
type facts struct {
	status int   // 0 without an answer
	err    error // nil with an answer
	unsent bool  // no connection was handed to the request
	resent bool  // one was, and net/http may have connected again after it was sent
	caller error // the caller's own context error
	cause  error // why the balancer cancelled the attempt
}

func classify(f facts) outcome {
	switch {
	case f.err == nil:
		return classifyStatus(f.status)
	case errors.Is(f.cause, errOvertaken) || errors.Is(f.cause, errMovedOn):
		return outcomeDropped
	case f.caller != nil || errors.Is(f.err, ErrBody):
		return outcomeGone
	case endpoint.IsLocal(f.err) && (f.unsent || isDial(f.err) && !f.resent):
		return outcomeLocal
	case endpoint.IsLocal(f.err):
		return outcomeCut
	case f.unsent || isDial(f.err) && !f.resent:
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
	var dial *endpoint.DialError
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
	outcomeCut:     {moveBudget, stay},
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

// AgainStatus: what every endpoint answered may be different in a moment. A 500
// of all of them is the request's own.
func AgainStatus(code int) bool {
	return againOutcome(classifyStatus(code))
}

func againOutcome(o outcome) bool { return o == outcomeBusy || o == outcomeGateway }
