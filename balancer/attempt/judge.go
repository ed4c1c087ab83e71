package attempt

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/ankacluster/ankacluster/balancer/endpoint"
	"github.com/ankacluster/ankacluster/balancer/health"
	"github.com/ankacluster/ankacluster/balancer/route"
)

// record tells the endpoint, and the route, what an attempt came to.
func (s *Sender) record(a *attempt, o outcome, resp *http.Response, err error, now time.Time) {
	ep, longPoll := a.ep, a.p.wait > 0
	if a.late.Load() || longPoll {
		s.noLongerPending(a)
	}
	switch o {
	case outcomeGood, outcomeLacks:
		s.compareAnswer(a, oddAnswer(o, resp), now)
		if a.provisional(resp) {
			resp.Body.(*Body).provisional = true // it counts when the body ends
			return
		}
		a.endedAhead(resp, now)
		s.good(a, now)
		if !longPoll {
			a.p.route.Observe(s.cfg.Hedge, now.Sub(a.sent))
		}
		s.succeeded(a, resp, now)
	case outcomeBusy, outcomeGateway:
		s.refused(a, endpoint.StatusError(resp.StatusCode), now)
	case outcomeUnsent, outcomeBroken:
		s.transportFailed(ep, &a.admission, err, now)
		s.compareFailure(a, err, now)
	case outcomeLocal, outcomeCut:
		s.localFault(ep, &a.admission, err, now)
	case outcomeDoubt:
		ep.Uncounted(&a.admission, now)
		s.compareAnswer(a, oddAnswer(o, resp), now)
	case outcomeGone, outcomeDropped:
		ep.Uncounted(&a.admission, now)
		if a.late.Load() && !longPoll {
			ep.Unanswered(now)
			s.compareFailure(a, errUnanswered, now)
		}
	}
}

// good counts a good answer.
func (s *Sender) good(a *attempt, now time.Time) {
	if a.ep.Succeeded(&a.admission, a.sent, now, a.late.Load(), a.p.wait > 0) {
		s.pool.Republish(now) // wakes the requests that wait for it
	}
	s.charge(a.p.route.Refusals.Well(a.ep, now, s.cfg.Breaker.Window), now)
}

// succeeded notes what a good answer proves beside the endpoint's own record.
func (s *Sender) succeeded(a *attempt, resp *http.Response, now time.Time) {
	snap := s.view.Load()
	if len(snap.Usable) < len(snap.All) {
		s.keepSample(a, resp, now)
	}
	if s.local.raised.Load() {
		s.clearLocal()
	}
	if resp.Close && resp.ProtoMajor == 1 {
		s.pool.LookAgain(a.ep) // a server that stops keeping connections may be leaving
	}
}

// refused counts an answer of 429, 502, 503 or 504. A peer's good answer to the same
// kind of request makes it a failure of the endpoint.
func (s *Sender) refused(a *attempt, err error, now time.Time) {
	ep, r := a.ep, a.p.route
	r.Refusals.Add(ep, err, s.view.Load().Usable, now)
	if s.blameless(ep, r) {
		ep.Uncounted(&a.admission, now)
		return
	}
	ep.Refused(&a.admission, now, err)
	s.pool.LookAgain(ep)
}

// failed counts a failure of real traffic and ejects on the breaker's word.
func (s *Sender) failed(ep *endpoint.Endpoint, by *endpoint.Admission, err error, now time.Time) {
	if !ep.Failed(by, now, err) {
		s.pool.LookAgain(ep)
		return
	}
	s.tripped(ep, err, now)
}

// tripped ejects an endpoint whose breaker has opened.
func (s *Sender) tripped(ep *endpoint.Endpoint, err error, now time.Time) {
	run := ep.FailRun.Load()
	reason := fmt.Sprintf("%d consecutive failures, last: %s", run, endpoint.Short(err))
	if run < int32(s.cfg.Breaker.Consecutive) {
		reason = fmt.Sprintf("success rate below %g%%, last: %s", s.cfg.Breaker.SuccessRate*100, endpoint.Short(err))
	}
	var status endpoint.StatusError
	s.eject(ep, reason, errors.As(err, &status), now)
}

// transportFailed is failed for errors of the connection, which may be this
// machine's fault.
func (s *Sender) transportFailed(ep *endpoint.Endpoint, by *endpoint.Admission, err error, now time.Time) {
	if endpoint.IsUnreachable(err) && !s.AnyAnswerSince(ep, ep.UnreachableSince(now)) {
		s.localFault(ep, by, err, now)
		return
	}
	s.failed(ep, by, err, now)
}

// transferFailed is a failure in the middle of an answer. It is reported when
// it happens: wrapping a whole transfer in the breaker would let its result
// fall out of the breaker's window.
func (s *Sender) transferFailed(ep *endpoint.Endpoint, by *endpoint.Admission, err error, now time.Time) {
	ep.Transferred(err)
	s.transportFailed(ep, by, err, now)
}

// late judges an endpoint whose answer is missing.
func (s *Sender) late(a *attempt, now time.Time) {
	ep := a.ep
	timing := ep.MarkLate(a, &a.over, a.sent)
	snap := s.view.Load()
	var peers []health.Punctuality
	for _, peer := range snap.Usable {
		if peer != ep {
			peers = append(peers, peer.Punctuality())
		}
	}
	if health.TooLate(s.cfg.Slow, timing, peers) {
		s.eject(ep, fmt.Sprintf("%d late answers in a row while its peers are on time", timing.LateRun), true, now)
		return
	}
	s.pool.LookAgain(ep)
}

func (s *Sender) noLongerPending(a *attempt) {
	a.ep.Release(a)
}

// eject takes an endpoint out for what real traffic met. The last usable one
// stays as long as it gives answers, even bad or late ones: there is nothing
// better.
func (s *Sender) eject(ep *endpoint.Endpoint, reason string, answers bool, now time.Time) {
	s.pool.Transition(ep, now, func(h health.Record) (health.Record, bool) {
		if usable := s.view.Load().Usable; answers && len(usable) == 1 && usable[0] == ep {
			return h, false
		}
		return h.Eject(reason, now)
	})
}

// MustWait reports whether a request that was refused everywhere has nowhere to go.
func (s *Sender) MustWait() bool { return s.view.Load().AllRefuse(s.cfg.Breaker.Consecutive) }

// isRoutesOwn reports whether every usable endpoint refuses this kind of request, and the
// pool is otherwise well: what is behind it is down, and another try gives the same
// answer. Where nothing else is asked, refusals are waited out, as those of servers
// that have too much to do.
func (s *Sender) isRoutesOwn(r *route.Route) bool {
	usable := s.view.Load().Usable
	since := r.Refusals.OfAll(usable)
	if since == 0 {
		return false
	}
	for _, ep := range usable {
		if ep.LastGood.Load() > since {
			return true
		}
	}
	return false
}

// RefusedByAll is isRoutesOwn for requests like req.
func (s *Sender) RefusedByAll(req *http.Request) bool { return s.isRoutesOwn(s.routes.Of(req)) }

// blameless reports whether an endpoint's refusal of this kind of request tells nothing of
// the endpoint: all refuse it, and this one has answered others well since.
func (s *Sender) blameless(ep *endpoint.Endpoint, r *route.Route) bool {
	since := r.Refusals.OfAll(s.view.Load().Usable)
	return since != 0 && ep.LastGood.Load() > since
}

// charge counts what peers have proven to be an endpoint's own failures.
func (s *Sender) charge(due []route.Charge, now time.Time) {
	for _, c := range due {
		if c.Ep.Charged(c.N, c.Err) {
			s.tripped(c.Ep, c.Err, now)
		}
	}
}
