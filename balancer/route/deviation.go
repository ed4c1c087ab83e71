package route

import (
	"fmt"
	"math"
	"net/http"
	"time"

	"github.com/ankacluster/ankacluster/balancer/endpoint"
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

// reason is what people read of a deviant.
func (a answers) reason(req *http.Request) string {
	return fmt.Sprintf("%d of %d requests like %s went wrong, last: %s; its peers' did not", a.odd, a.all, kind(req), endpoint.Short(a.last))
}

// kind is req as an example of the requests that share its route, in characters that a
// terminal can show whatever the caller sent.
func kind(req *http.Request) string {
	const longest = 60
	path := req.URL.EscapedPath()
	if len(path) > longest {
		path = path[:longest] + "…"
	}
	return req.Method + " " + path
}

// Answered counts an answer to req, odd when why is not nil. It reports whether the endpoint is
// to be taken out for its odd answers, and what people read of that.
func (r *Route) Answered(ep *endpoint.Endpoint, why error, usable []*endpoint.Endpoint, req *http.Request, now time.Time) (is bool, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answers.add(ep, why, now)
	if why == nil || r.answers.judge(ep, usable) != deviant {
		return false, ""
	}
	return true, r.answers.of(ep).reason(req)
}

// SecondOpinion counts an odd answer of ep that a peer was asked about. What it returns
// is as of answered.
func (r *Route) SecondOpinion(ep *endpoint.Endpoint, refuted bool, usable []*endpoint.Endpoint, req *http.Request) (is bool, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.answers.of(ep)
	if a == nil {
		return false, ""
	}
	if a.refuted++; !refuted {
		a.refuted = 0
	}
	if r.answers.judge(ep, usable) != deviant {
		return false, ""
	}
	return true, a.reason(req)
}

// Suspects reports whether ep may be alone with its odd answers.
func (r *Route) Suspects(ep *endpoint.Endpoint, usable []*endpoint.Endpoint) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.answers.judge(ep, usable) != fits
}

// Deviates reports whether an endpoint's requests of all kinds fail much more often than
// those of its peers.
func Deviates(own, peers endpoint.Tally) bool {
	return peers.All-peers.Bad >= suspectAt && !few(own.Bad, own.All) && compare(own.Bad, own.All, peers.Bad, peers.All) == deviant
}
