package endpoint

import (
	"time"

	"github.com/ankacluster/ankacluster/balancer/clock"
	"github.com/ankacluster/ankacluster/balancer/health"
)

// DueProbe returns when the endpoint is to be probed next, and the number of the round
// that begins now; 0 when none does.
func (ep *Endpoint) DueProbe(cfg health.ProbeConfig, rhythm *health.Rhythm, now time.Time) (due time.Time, round uint64) {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	s := &ep.probe
	if now.Before(s.Due) {
		return s.Due, 0
	}
	interval := health.Interval(cfg, ep.health, s.Stretch, now)
	switch {
	case ep.health.Usable() && !ep.health.InTransition():
		s.Due = rhythm.Next(now, interval, cfg.Jitter)
	case interval == cfg.Down:
		s.Due = now.Add(health.Jittered(interval, min(cfg.Jitter, 0.1))) // more would break the bound on attempts
	default:
		s.Due = now.Add(health.Jittered(interval, cfg.Jitter))
	}
	interval = s.Due.Sub(now)
	if health.StandsIn(ep.health, ep.LastGood.Load(), s.Skipped, interval, now) {
		s.Skipped = true
		return s.Due, 0
	}
	s.Skipped = false
	ep.probed.Store(clock.Nano(now))
	s.Round++
	return s.Due, s.Round
}

// ProbeCame notes what a round of probing found. It reports whether a newer round has
// ended otherwise, and whether the next one is due sooner than it was.
func (ep *Endpoint) ProbeCame(cfg health.ProbeConfig, round uint64, stretch time.Duration, e health.Evidence, now time.Time) (stale, sooner bool) {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	if ep.probe.Late(round, e.Ready) {
		return true, false
	}
	ep.probe.Stretch = stretch
	if e.Ready == health.Pass && ep.health.State != health.Healthy && !e.Alone {
		ep.probe.Due = now.Add(cfg.Fast / 10) // the second pass decides
		sooner = true
	}
	if soon := now.Add(health.Jittered(cfg.Fast, cfg.Jitter)); e.Ready == health.Fail && ep.health.Usable() && ep.probe.Due.After(soon) {
		ep.probe.Due, sooner = soon, true // it was set at the pace of one that is well
	}
	return false, sooner
}
