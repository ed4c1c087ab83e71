package balancer

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/balancer/endpoint"
	"github.com/ankacluster/ankacluster/test/faultnet"
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
		{"stalled", facts{err: errStalled, cause: errStalled}, outcomeBroken, moveBudget, stay},
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

// net/http sends some writes again by itself when the connection is closed under
// them. That it could not connect for that does not mean that nothing was sent.
func TestRefusedRepeatOfTheTransportIsNoProof(t *testing.T) {
	inWorld(t, DefaultConfig(), []string{"a"}, func(w *world) {
		var ran atomic.Int64
		w.fakes["a"].set(func(_ http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				return
			}
			ran.Add(1)
			w.net.Set("a:80", faultnet.Fault{Refuse: true})
			time.AfterFunc(time.Second, func() { w.net.Heal("a:80") })
			panic(http.ErrAbortHandler)
		})
		if got := w.ask("GET", "/warm", time.Minute); !strings.HasPrefix(got, "200") {
			t.Fatal(got)
		}
		got := w.ask("DELETE", "/vm", time.Minute, "X-Idempotency-Key", "")
		if ran.Load() != 1 || !strings.HasPrefix(got, "error") {
			t.Errorf("ran %d times and got %q, want once, and an error", ran.Load(), got)
		}
	})
}

// A write that was sent when this machine lost its network may have run: it is
// not sent again.
func TestWriteCutOffByThisMachineIsNotSentAgain(t *testing.T) {
	var sent atomic.Int64
	cfg := DefaultConfig()
	inWorld(t, cfg, three, func(w *world) {
		for _, host := range three {
			w.fakes[host].set(func(rw http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				sent.Add(1)
				w.net.Break(host+":80", syscall.ENETUNREACH)
			})
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		req, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://pool/vm", strings.NewReader("start"))
		resp, err := w.b.Client().Do(req)
		if err == nil {
			resp.Body.Close()
		}
		if !errors.Is(err, syscall.ENETUNREACH) || sent.Load() != 1 {
			t.Errorf("got %v after it ran %d times, want the machine's own error after once", err, sent.Load())
		}
	})
}
