package attempt

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/ankacluster/ankacluster/balancer/clock"
	"github.com/ankacluster/ankacluster/balancer/endpoint"
	"github.com/ankacluster/ankacluster/balancer/health"
	"github.com/ankacluster/ankacluster/balancer/route"
)

// oddAnswer is the error of an answer that the caller may or may not be to blame for,
// nil for all others. 429, 502, 503 and 504 are not among them: they have a rule of their
// own (trouble).
func oddAnswer(o outcome, resp *http.Response) error {
	if resp != nil && resp.StatusCode >= http.StatusBadRequest && (o == outcomeGood || o == outcomeDoubt) {
		return endpoint.StatusError(resp.StatusCode)
	}
	return nil
}

// compareAnswer counts an answer, odd when why is not nil, and takes out an endpoint
// whose answers to one kind of request are not like those of its peers.
func (s *Sender) compareAnswer(a *attempt, why error, now time.Time) {
	if a.p.accept != nil || a.p.preferred || a.oversize {
		return // where it went was not for the balancer to say
	}
	is, reason := a.p.route.Answered(a.ep, why, s.view.Load().Usable, a.p.req, now)
	if why == nil {
		return
	}
	s.scatter()
	if is {
		s.ejectDeviant(a.ep, reason, now)
	}
}

// suspects reports whether an answer is odd and comes from an endpoint that may be alone
// with it, so that another one's opinion is asked for before the caller gets it.
func (p *pass) suspects(a *attempt, resp *http.Response) bool {
	if oddAnswer(classifyStatus(resp.StatusCode), resp) == nil || p.accept != nil || p.preferred || !p.repeatable || !p.body.reusable(false) {
		return false
	}
	return p.route.Suspects(a.ep, p.s.view.Load().Usable)
}

// secondOpinionCame notes whether a peer confirms an odd answer of ep.
func (s *Sender) secondOpinionCame(ep *endpoint.Endpoint, p *pass, peers *http.Response, now time.Time) {
	is, reason := p.route.SecondOpinion(ep, oddAnswer(outcomeGood, peers) == nil, s.view.Load().Usable, p.req)
	switch {
	case !is:
	case p.provable():
		ep.Sample.Store(p.copied(now))
		s.eject(ep, reason, true, now)
	default:
		s.ejectDeviant(ep, reason, now)
	}
}

// scatter sends the next request to a random endpoint.
func (s *Sender) scatter() {
	if n := len(s.view.Load().Usable); n > 1 {
		s.turn.Add(rand.Uint64N(uint64(n)))
	}
}

// compareFailure takes out an endpoint whose connections break, or whose answers stay
// out, much more often than those of its peers, though good answers come between: of one
// kind of request, or of all. What fails in a row is left to the breaker, which knows
// sooner that it is over.
func (s *Sender) compareFailure(a *attempt, err error, now time.Time) {
	ep := a.ep
	if before := ep.LastBad.Swap(clock.Nano(now)); ep.LastGood.Load() <= before || endpoint.IsUnreachable(err) {
		return
	}
	s.compareAnswer(a, err, now)
	own := ep.Tallied()
	var peers endpoint.Tally
	for _, peer := range s.view.Load().Usable {
		if peer != ep {
			t := peer.Tallied()
			peers.All, peers.Bad = peers.All+t.All, peers.Bad+t.Bad
		}
	}
	if !route.Deviates(own, peers) {
		return
	}
	s.ejectDeviant(ep, fmt.Sprintf("%d of %d requests failed, of its peers' %d of %d, last: %s", own.Bad, own.All, peers.Bad, peers.All, endpoint.Short(err)), now)
}

// errUnanswered: the endpoint had not answered when another one had, or the caller had
// waited for long enough.
var errUnanswered = errors.New("no answer when it was due")

// ejectDeviant takes out an endpoint whose probes pass, and will: it comes back when
// the breaker's open time is over, which doubles.
func (s *Sender) ejectDeviant(ep *endpoint.Endpoint, reason string, now time.Time) {
	s.pool.Transition(ep, now, func(h health.Record) (health.Record, bool) {
		if usable := s.view.Load().Usable; len(usable) == 1 && usable[0] == ep {
			return h, false
		}
		next, changed := h.Eject(reason, now)
		next.Deviant = next.Deviant || changed
		return next, changed
	})
}
