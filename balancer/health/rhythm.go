package health

import (
	"sync"
	"time"
)

// Rhythm is when endpoints that are well are probed: together, as far as the
// probes' jitter allows, so that a process which has nothing else to do wakes
// once for all of them. Pools may share one. The moments are drawn, so that
// processes stay apart from one another. The zero Rhythm is ready to use, and
// safe for concurrent use.
type Rhythm struct {
	mu   sync.Mutex
	beat time.Time // guarded by mu; the moment drawn last
}

// Next returns when an endpoint is due that is to be probed an interval from
// now, give or take the jitter, a fraction of it.
func (r *Rhythm) Next(now time.Time, interval time.Duration, jitter float64) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if off := r.beat.Sub(now) - interval; off.Abs() > time.Duration(jitter*float64(interval)) {
		r.beat = now.Add(Jittered(interval, jitter))
	}
	return r.beat
}
