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

// Status returns the pool's state now. It may be called at any time.
func (b *Balancer) Status() Status {
	now := time.Now()
	sent := b.sender.Stats(now)
	snap := b.snap.Load()
	s := Status{
		Name: b.cfg.Name, Class: b.cfg.Class, Policy: b.cfg.Policy, At: now,
		Usable: len(snap.Usable), FailedOpen: snap.FailedOpen, LocalFault: sent.LocalFault,
		RetryBudget: math.Floor(sent.BudgetLeft), Retries: sent.Retries, Hedges: sent.Hedges, Resumes: b.downloads.Resumes(),
		Endpoints: make([]EndpointStatus, 0, len(snap.All)),
	}
	var total uint64
	counts := make([]uint64, len(snap.All))
	for i, ep := range snap.All {
		es, n := ep.Status(snap.FailedOpen, now)
		s.Endpoints = append(s.Endpoints, es)
		counts[i] = n
		total += n
	}
	for i := range s.Endpoints {
		if total > 0 {
			s.Endpoints[i].Share = float64(counts[i]) / float64(total)
		}
	}
	return s
}

// EverAnswered reports whether some endpoint answered a request or a probe well since
// the start.
func (b *Balancer) EverAnswered() bool {
	for _, ep := range b.snap.Load().All {
		if ep.LastAlive() > 0 {
			return true
		}
	}
	return false
}

// Endpoints returns the URLs of the usable endpoints.
func (b *Balancer) Endpoints() []string {
	snap := b.snap.Load()
	names := make([]string, 0, len(snap.Usable))
	for _, ep := range snap.Usable {
		names = append(names, ep.Name)
	}
	return names
}
