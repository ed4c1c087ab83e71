package attempt

import (
	"time"

	"github.com/ankacluster/ankacluster/balancer/endpoint"
)

// hedge starts another attempt beside the late ones, in the goroutine of the
// timer that found a late. Where there is no other endpoint, the same one gets the
// request again on a new connection: the old one may be dead without a sign.
// It reports whether there was anything to try, when that has ended.
func (p *pass) hedge(a *attempt, now time.Time, unsent bool) bool {
	ep := p.hedgeTo(a, now, unsent)
	if ep == nil {
		return false
	}
	p.s.hedges.Add(1)
	p.work(ep, now)
	return true
}

func (p *pass) hedgeTo(a *attempt, now time.Time, unsent bool) *endpoint.Endpoint {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.settled || p.workers == 0 || !p.body.reusable(unsent) {
		return nil
	}
	ep := p.nextLocked(now)
	if ep == nil && p.alone && p.fresh == nil && a.reused.Load() {
		ep, p.fresh = a.ep, a.ep
		ep.DropIdle(now)
	}
	if ep == nil {
		return nil
	}
	if !unsent && !p.s.budget.take(now) {
		p.untryLocked(ep)
		return nil
	}
	p.workers++
	return ep
}

// doubts reports whether an answer without a length that is late is to be asked of
// another endpoint as well, and not yet passed on: such answers are short documents.
func (p *pass) doubts() bool {
	return p.hedgeable && !p.alone && !p.open.Load() && p.route.Habit.Documents()
}
