package health

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ankacluster/ankacluster/balancer/clock"
)

// ProbeConfig is the active health check.
type ProbeConfig struct {
	Path    string
	Timeout time.Duration
	// Interval is the pace while all is well, Fast the pace while in transition,
	// Slow the pace that an endpoint long down is stretched to. Down is the pace
	// of the first minute of being down: a healed endpoint is to be back within
	// a second, with no more than three attempts a second.
	Interval time.Duration
	Fast     time.Duration
	Down     time.Duration
	Slow     time.Duration
	// Jitter is the fraction by which intervals vary.
	Jitter float64
	// Fall failures in a row take an endpoint out, Rise passes bring it back.
	Fall int
	Rise int
	// Header is sent with every probe.
	Header map[string]string
	// Identity is the header of a readiness answer that names the server, so that two
	// addresses of one are known as such; "" for none.
	Identity string
}

// DefaultProbe returns the probes of a pool of a few servers.
func DefaultProbe() ProbeConfig {
	return ProbeConfig{
		Path:     "/readyz",
		Timeout:  time.Second,
		Interval: 2 * time.Second, // HAProxy inter
		Fast:     500 * time.Millisecond,
		Down:     400 * time.Millisecond, // never more than three attempts in a second
		Slow:     5 * time.Second,
		Jitter:   0.2,
		Fall:     3, // HAProxy fall and rise
		Rise:     2,
		Identity: "X-Server-Id",
	}
}

// Schedule is when an endpoint is probed. Guarded by the endpoint's mu.
type Schedule struct {
	Due     time.Time
	Stretch time.Duration // what the server asked for
	Skipped bool          // the last round was left out for real traffic
	Round   uint64
	done    uint64 // newest round with a result; older failures are dropped
	failed  uint64 // newest round that failed; older passes are dropped
}

// Late notes the result of a round, and says that it is of the past: a newer round
// has ended otherwise.
func (s *Schedule) Late(round uint64, v Verdict) bool {
	if v == Fail && round < s.done || v == Pass && round < s.failed {
		return true
	}
	s.done = max(s.done, round)
	if v == Fail {
		s.failed = round
	}
	return false
}

// StandsIn reports whether real traffic makes a probe unnecessary. It never does so
// twice in a row: a server that wants to leave says so in its readiness only.
func StandsIn(h Record, lastGood int64, skipped bool, interval time.Duration, now time.Time) bool {
	return h.State == Healthy && h.fails == 0 && !skipped && clock.Nano(now)-lastGood < int64(interval)
}

// Interval is the pace for an endpoint in a state.
func Interval(cfg ProbeConfig, h Record, stretch time.Duration, now time.Time) time.Duration {
	switch {
	case h.State == Down, h.State == Ejected, h.State == Draining && h.fails > 0:
		out := now.Sub(h.Since)
		if out < time.Minute {
			return cfg.Down
		}
		// From the pace of the first minute to the slow one over ten minutes.
		part := min(1, float64(out-time.Minute)/float64(10*time.Minute))
		return cfg.Down + time.Duration(part*float64(max(0, cfg.Slow-cfg.Down)))
	case h.InTransition():
		return cfg.Fast
	}
	return max(cfg.Interval, stretch)
}

// Jittered is d, more or less by up to a fraction of it.
func Jittered(d time.Duration, jitter float64) time.Duration {
	return time.Duration(float64(d) * (1 + jitter*(2*rand.Float64()-1)))
}

// judgeReady: a server without readiness (404 and its like) tells nothing by
// it, and 429 fails only the probe that decides about an open breaker.
func JudgeReadiness(code int, halfOpen bool) Verdict {
	switch {
	case code >= 200 && code < 300:
		return Pass
	case code == http.StatusTooManyRequests && !halfOpen:
		return Nothing
	case code >= 400 && code < 500 && code != http.StatusTooManyRequests:
		return Nothing
	}
	return Fail
}

// AskedStretch is how long a server wants to be left alone: "Cache-Control:
// max-age=N" of its readiness answer, up to a minute.
func AskedStretch(h http.Header) time.Duration {
	for part := range strings.SplitSeq(h.Get("Cache-Control"), ",") {
		if value, ok := strings.CutPrefix(strings.TrimSpace(part), "max-age="); ok {
			if secs, err := strconv.Atoi(value); err == nil && secs > 0 {
				return min(time.Duration(secs)*time.Second, time.Minute)
			}
		}
	}
	return 0
}
