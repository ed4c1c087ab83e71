package attempt

import (
	"context"
	"syscall"
	"testing"

	"github.com/ankacluster/ankacluster/balancer/endpoint"
)

// What each end of an attempt comes to, and whether the request may go on to
// another endpoint: one that may be repeated, and one that may not.
func TestWhatAnAttemptComesTo(t *testing.T) {
	reset := error(syscall.ECONNRESET)
	filled := make(map[outcome]bool)
	for _, test := range []struct {
		name           string
		facts          facts
		want           outcome
		repeatable, no move
	}{
		{"200", facts{status: 200}, outcomeGood, stay, stay},
		{"404", facts{status: 404}, outcomeGood, stay, stay},
		{"501", facts{status: 501}, outcomeGood, stay, stay},
		{"429", facts{status: 429}, outcomeBusy, moveBudget, stay},
		{"503", facts{status: 503}, outcomeBusy, moveBudget, stay},
		{"502", facts{status: 502}, outcomeGateway, moveBudget, stay},
		{"504", facts{status: 504}, outcomeGateway, moveBudget, stay},
		{"500", facts{status: 500}, outcomeDoubt, moveBudget, stay},
		{"507", facts{status: 507}, outcomeDoubt, moveBudget, stay},
		{"refused", facts{err: &endpoint.DialError{Err: syscall.ECONNREFUSED}}, outcomeUnsent, moveFree, moveFree},
		{"refused when net/http sent it again", facts{err: &endpoint.DialError{Err: syscall.ECONNREFUSED}, resent: true}, outcomeBroken, moveBudget, stay},
		{"no connection was given", facts{err: reset, unsent: true}, outcomeUnsent, moveFree, moveFree},
		{"reset", facts{err: reset}, outcomeBroken, moveBudget, stay},
		{"no file descriptor", facts{err: &endpoint.DialError{Err: syscall.EMFILE}}, outcomeLocal, moveFree, moveFree},
		{"no network, no connection", facts{err: syscall.ENETUNREACH, unsent: true}, outcomeLocal, moveFree, moveFree},

		{"no network after it was sent", facts{err: syscall.ENETUNREACH}, outcomeCut, moveBudget, stay},
		{"caller gone", facts{err: context.Canceled, caller: context.Canceled}, outcomeGone, stay, stay},
		{"another was first", facts{err: context.Canceled, cause: errOvertaken}, outcomeDropped, moveBudget, stay},
		{"taken out", facts{err: context.Canceled, cause: errMovedOn}, outcomeDropped, moveBudget, stay},
		{"stalled", facts{err: ErrStalled, cause: ErrStalled}, outcomeBroken, moveBudget, stay},
	} {
		got := classify(test.facts)
		filled[got] = true
		if got != test.want || got.move(true) != test.repeatable || got.move(false) != test.no {
			t.Errorf("%s: outcome %d, moves %d and %d; want %d, %d and %d", test.name, got, got.move(true), got.move(false), test.want, test.repeatable, test.no)
		}
	}
	filled[outcomeLacks] = true // comes of looking at a good answer
	for o := range outcomeCount {
		if !filled[o] {
			t.Errorf("no case comes to outcome %d", o)
		}
	}
	if outcomeLacks.move(true) != moveFree || outcomeLacks.move(false) != stay {
		t.Error("an answer that lacks something: want it asked elsewhere only where it may be")
	}
}
