package attempt

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/ankacluster/ankacluster/balancer/clock"
	"github.com/ankacluster/ankacluster/balancer/endpoint"
	"github.com/ankacluster/ankacluster/balancer/health"
)

// An endpoint that alone answers differently is faulty, however sure of itself it is: a
// controller of a wrong build answers 404 to a route that its peers serve. An error
// answer alone says nothing, since most are the caller's fault. What tells is where
// they come from: callers spread theirs over all endpoints. After each error answer the
// next request goes to a random endpoint, so that requests in a fixed order cannot put
// all of theirs at one.

// deviations counts the answers to one kind of request by endpoint. It is not safe for
// concurrent use. The zero value is empty.
type deviations struct {
	faded time.Time // when the counts were halved last
	by    []answers
}

// answers are those of one endpoint.
type answers struct {
	ep      *endpoint.Endpoint
	stay    uint32 // of ep in the pool; a new one begins without a record
	all     int
	odd     int   // those that are errors
	run     int   // odd ones since the last good one
	refuted int   // odd ones, in a row, where a peer gave the same request a good answer
	last    error // the newest odd one
}

// Limits of deviations.
const (
	// suspectAt is how many odd answers raise a suspicion. Peers need as many good ones.
	suspectAt = 3
	// suspectBelow and deviantBelow are the chance that callers' own mistakes have come
	// to one endpoint so unevenly. With three endpoints they are 3 and 11 odd answers,
	// all at one. The second is that small because each odd answer is judged.
	suspectBelow = 0.05
	deviantBelow = 1e-5
	// An endpoint with few odd answers, none of them in a row, stays, whatever the chance.
	deviantShare = 0.05
	deviantTimes = 3 // as often as its peers
)

// verdict of deviations.
type fit uint8

const (
	fits    fit = iota
	suspect     // a second opinion on its odd answers is worth a request
	deviant     // it is to be taken out
)

// add counts an answer, odd when why is not nil.
func (d *deviations) add(ep *endpoint.Endpoint, why error, now time.Time) {
	a := d.of(ep)
	times := endpoint.Fades(d.faded, now)
	if times == 0 && a != nil && a.all >= endpoint.FadeMost {
		times = 1
	}
	for range times {
		d.fade()
	}
	if times > 0 {
		d.faded = now
		a = d.of(ep)
	}
	if a == nil {
		d.by = append(d.by, answers{ep: ep})
		a = &d.by[len(d.by)-1]
	}
	if stay := ep.Stay.Load(); a.stay != stay {
		*a = answers{ep: ep, stay: stay}
	}
	a.all++
	if why == nil {
		a.run = 0
		return
	}
	a.odd++
	a.run++
	a.last = why
}

func (d *deviations) of(ep *endpoint.Endpoint) *answers {
	for i := range d.by {
		if d.by[i].ep == ep {
			return &d.by[i]
		}
	}
	return nil
}

func (d *deviations) fade() {
	kept := d.by[:0]
	for _, a := range d.by {
		a.all, a.odd, a.run, a.refuted = a.all/2, a.odd/2, a.run/2, a.refuted/2
		if a.all > 0 {
			kept = append(kept, a)
		}
	}
	clear(d.by[len(kept):])
	d.by = kept
}

// judge compares an endpoint with its peers, of which usable holds all.
func (d *deviations) judge(ep *endpoint.Endpoint, usable []*endpoint.Endpoint) fit {
	own := d.of(ep)
	if own == nil || own.odd < suspectAt || own.run < suspectAt && few(own.odd, own.all) {
		return fits
	}
	var all, odd int
	for _, peer := range usable {
		if a := d.of(peer); a != nil && peer != ep {
			all, odd = all+a.all, odd+a.odd
		}
	}
	if all-odd < suspectAt {
		return fits
	}
	if own.refuted >= suspectAt {
		return deviant
	}
	return compare(own.odd, own.all, odd, all)
}

// few reports whether so few of all are odd that it does not matter.
func few(odd, all int) bool { return float64(odd) < deviantShare*float64(all) }

// compare judges how uneven it is that an endpoint has odd of all answers, and its peers
// peerOdd of peerAll.
func compare(odd, all, peerOdd, peerAll int) fit {
	if odd*peerAll < deviantTimes*peerOdd*all {
		return fits
	}
	share := float64(all) / float64(all+peerAll)
	switch p := atLeast(odd, odd+peerOdd, share); {
	case odd < suspectAt || p >= suspectBelow:
		return fits
	case p >= deviantBelow:
		return suspect
	}
	return deviant
}

// atLeast is the chance that k or more of n things that each come to a place with
// chance p have come there.
func atLeast(k, n int, p float64) float64 {
	if p <= 0 || p >= 1 {
		return 1
	}
	total := 0.0
	for ; k <= n; k++ {
		term := math.Exp(logChoose(n, k) + float64(k)*math.Log(p) + float64(n-k)*math.Log1p(-p))
		if total += term; term < total*1e-9 {
			break
		}
	}
	return total
}

func logChoose(n, k int) float64 {
	a, _ := math.Lgamma(float64(n + 1))
	b, _ := math.Lgamma(float64(k + 1))
	c, _ := math.Lgamma(float64(n - k + 1))
	return a - b - c
}

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
	r := a.p.route
	r.mu.Lock()
	r.answers.add(a.ep, why, now)
	if why == nil {
		r.mu.Unlock()
		return
	}
	f := r.answers.judge(a.ep, s.view.Load().Usable)
	own := *r.answers.of(a.ep)
	r.mu.Unlock()
	s.scatter()
	if f == deviant {
		s.ejectDeviant(a.ep, own.reason(a.p), now)
	}
}

// kind is an example of the requests that share the pass's route, in characters that a
// terminal can show whatever the caller sent.
func (p *pass) kind() string {
	const longest = 60
	path := p.req.URL.EscapedPath()
	if len(path) > longest {
		path = path[:longest] + "…"
	}
	return p.req.Method + " " + path
}

// suspects reports whether an answer is odd and comes from an endpoint that may be alone
// with it, so that another one's opinion is asked for before the caller gets it.
func (p *pass) suspects(a *attempt, resp *http.Response) bool {
	if oddAnswer(classifyStatus(resp.StatusCode), resp) == nil || p.accept != nil || p.preferred || !p.repeatable || !p.body.reusable(false) {
		return false
	}
	r := p.route
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.answers.judge(a.ep, p.s.view.Load().Usable) != fits
}

// reason is what people read of a deviant.
func (a answers) reason(p *pass) string {
	return fmt.Sprintf("%d of %d requests like %s went wrong, last: %s; its peers' did not", a.odd, a.all, p.kind(), endpoint.Short(a.last))
}

// secondOpinionCame notes whether a peer confirms an odd answer of ep.
func (s *Sender) secondOpinionCame(ep *endpoint.Endpoint, p *pass, peers *http.Response, now time.Time) {
	r := p.route
	r.mu.Lock()
	a := r.answers.of(ep)
	if a == nil {
		r.mu.Unlock()
		return
	}
	if a.refuted++; oddAnswer(outcomeGood, peers) != nil {
		a.refuted = 0
	}
	f, own := r.answers.judge(ep, s.view.Load().Usable), *a
	r.mu.Unlock()
	switch {
	case f != deviant:
	case p.provable():
		ep.Sample.Store(p.copied(now))
		s.eject(ep, own.reason(p), true, now)
	default:
		s.ejectDeviant(ep, own.reason(p), now)
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
	if peers.All-peers.Bad < suspectAt || few(own.Bad, own.All) || compare(own.Bad, own.All, peers.Bad, peers.All) != deviant {
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
