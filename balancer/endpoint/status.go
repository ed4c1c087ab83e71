package endpoint

import (
	"math"
	"time"

	"github.com/ankacluster/ankacluster/balancer/health"
)

// Status is one endpoint's part of Status. Durations are in
// milliseconds.
type Status struct {
	URL string `json:"url"`
	// Server is the name that the server gives itself in its readiness answer. Two
	// endpoints with the same one are two addresses of one server; "" is not known, or
	// several servers behind one address.
	Server  string       `json:"server,omitempty"`
	Origins []Origin     `json:"origins"`
	State   health.State `json:"state"`
	Since   time.Time    `json:"since"`
	Reason  string       `json:"reason"`
	// Eligible: the next pick may choose it.
	Eligible bool `json:"eligible"`
	// Weight is its part of a fair share: below 1 during slow start.
	Weight    float64 `json:"weight"`
	InFlight  int64   `json:"in_flight"`
	LongPolls int64   `json:"long_polls"`
	Transfers int64   `json:"transfers"`
	// Share of the pool's requests in the last minute, and how many of its own
	// succeeded, 0 to 1; SuccessRate is 1 without requests.
	Share       float64 `json:"share"`
	SuccessRate float64 `json:"success_rate"`
	Requests    uint64  `json:"requests"`
	Failures    uint64  `json:"failures"`
	Late        uint64  `json:"late"`
	Ejections   uint64  `json:"ejections"`
	LatencyP50  float64 `json:"latency_p50_ms"`
	LatencyP95  float64 `json:"latency_p95_ms"`
	// FailuresInRow counts failed requests since the last good one.
	FailuresInRow int32  `json:"failures_in_row"`
	LastError     string `json:"last_error,omitempty"`
	// Breaker is closed, open or half-open; BreakerUntil is when an open one
	// becomes half-open.
	Breaker      string     `json:"breaker"`
	BreakerUntil *time.Time `json:"breaker_until,omitempty"`
	NextProbe    time.Time  `json:"next_probe"`
}

// Status is what there is to say of the endpoint, and how many requests it was sent in the
// last minute.
func (ep *Endpoint) Status(failedOpen bool, now time.Time) (Status, uint64) {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	sent, good, failed := ep.counters.minute.totals(now)
	s := Status{
		URL: ep.Name, Origins: append([]Origin{}, ep.identity.origins...),
		State: ep.health.State, Since: ep.health.Since, Reason: ep.health.Why(),
		Eligible: ep.health.Usable() || (failedOpen && ep.health.State != health.Draining),
		Weight:   ep.Weight(),
		InFlight: ep.InFlight.Load(), LongPolls: ep.waiting.Load(), Transfers: ep.Transfers.Load(),
		SuccessRate: 1, Requests: ep.counters.requests, Failures: ep.counters.failures, Late: ep.counters.late, Ejections: ep.counters.ejections,
		LatencyP50: milliseconds(ep.counters.latency.Quantile(0.5)), LatencyP95: milliseconds(ep.counters.latency.Quantile(0.95)),
		FailuresInRow: ep.BadRun(), LastError: ep.counters.lastErr,
		NextProbe: ep.probe.Due,
	}
	if !ep.identity.several {
		s.Server = ep.identity.server
	}
	s.Breaker, s.BreakerUntil = ep.Breaker.state()
	if good+failed > 0 {
		s.SuccessRate = float64(good) / float64(good+failed)
	}
	return s, sent
}

func milliseconds(d time.Duration) float64 {
	return math.Round(float64(d)/float64(time.Microsecond)) / 1000
}
