package balancer

import (
	"math"
	"time"
)

// Status is what a balancer knows of its pool, for people and for programs.
type Status struct {
	Name   string    `json:"name"`
	Class  Class     `json:"class"`
	Policy Policy    `json:"policy"`
	At     time.Time `json:"at"`
	// Usable of the Endpoints may be chosen; FailedOpen says that too few are,
	// so that the others are tried as well.
	Usable     int  `json:"usable"`
	FailedOpen bool `json:"failed_open"`
	// LocalFault is a network fault of this machine, or "".
	LocalFault string `json:"local_fault,omitempty"`
	// RetryBudget is how many repeats there is room for now.
	RetryBudget float64 `json:"retry_budget"`
	Retries     uint64  `json:"retries"`
	Hedges      uint64  `json:"hedges"`
	// Resumes counts downloads that were continued at another endpoint.
	Resumes   uint64           `json:"resumes"`
	Endpoints []EndpointStatus `json:"endpoints"`
}

// EndpointStatus is one endpoint's part of Status. Durations are in
// milliseconds.
type EndpointStatus struct {
	URL string `json:"url"`
	// Server is the name that the server gives itself in its readiness answer. Two
	// endpoints with the same one are two addresses of one server; "" is not known, or
	// several servers behind one address.
	Server  string    `json:"server,omitempty"`
	Origins []Origin  `json:"origins"`
	State   State     `json:"state"`
	Since   time.Time `json:"since"`
	Reason  string    `json:"reason"`
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

// Status returns the pool's state now. It may be called at any time.
func (b *Balancer) Status() Status {
	now := time.Now()
	b.mu.Lock()
	local := b.local
	b.mu.Unlock()
	snap := b.snap.Load()
	s := Status{
		Name: b.cfg.Name, Class: b.cfg.Class, Policy: b.cfg.Policy, At: now,
		Usable: len(snap.usable), FailedOpen: snap.failedOpen, LocalFault: local,
		RetryBudget: math.Floor(b.budget.left(now)), Retries: b.retries.Load(), Hedges: b.hedges.Load(), Resumes: b.resumes.Load(),
		Endpoints: make([]EndpointStatus, 0, len(snap.all)),
	}
	var total uint64
	sent := make([]uint64, len(snap.all))
	for i, ep := range snap.all {
		es, n := ep.status(b.cfg, snap, now)
		s.Endpoints = append(s.Endpoints, es)
		sent[i] = n
		total += n
	}
	for i := range s.Endpoints {
		if total > 0 {
			s.Endpoints[i].Share = float64(sent[i]) / float64(total)
		}
	}
	return s
}

// EverAnswered says that some endpoint answered a request or a probe well since
// the start.
func (b *Balancer) EverAnswered() bool {
	for _, ep := range b.snap.Load().all {
		if ep.lastAlive() > 0 {
			return true
		}
	}
	return false
}

// Endpoints returns the URLs of the usable endpoints.
func (b *Balancer) Endpoints() []string {
	snap := b.snap.Load()
	names := make([]string, 0, len(snap.usable))
	for _, ep := range snap.usable {
		names = append(names, ep.name)
	}
	return names
}

func (ep *endpoint) status(cfg Config, snap *snapshot, now time.Time) (EndpointStatus, uint64) {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	sent, good, failed := ep.counters.minute.totals(now)
	s := EndpointStatus{
		URL: ep.name, Origins: append([]Origin{}, ep.identity.origins...),
		State: ep.health.State, Since: ep.health.Since, Reason: ep.health.Why(),
		Eligible: ep.health.Usable() || (snap.failedOpen && ep.health.State != Draining),
		Weight:   ep.weight(),
		InFlight: ep.inFlight.Load(), LongPolls: ep.waiting.Load(), Transfers: ep.transfers.Load(),
		SuccessRate: 1, Requests: ep.counters.requests, Failures: ep.counters.failures, Late: ep.counters.late, Ejections: ep.counters.ejections,
		LatencyP50: milliseconds(ep.counters.latency.quantile(0.5)), LatencyP95: milliseconds(ep.counters.latency.quantile(0.95)),
		FailuresInRow: ep.badRun(), LastError: ep.counters.lastErr,
		NextProbe: ep.probe.Due,
	}
	if !ep.identity.several {
		s.Server = ep.identity.server
	}
	s.Breaker, s.BreakerUntil = ep.breaker.state()
	if good+failed > 0 {
		s.SuccessRate = float64(good) / float64(good+failed)
	}
	return s, sent
}

func milliseconds(d time.Duration) float64 {
	return math.Round(float64(d)/float64(time.Microsecond)) / 1000
}
