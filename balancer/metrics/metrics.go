// Package metrics is a pool's status for Prometheus. It is apart from the pool, so that a
// program which counts otherwise need not link it.
//
//	prometheus.MustRegister(metrics.Of(pool))
//
// By pool and endpoint: anka_balancer_endpoint_state, _eligible, _weight_ratio,
// _in_flight_requests, _transfers, _requests_total, _failures_total, _late_total,
// _ejections_total, _latency_seconds and _breaker_state. By pool: anka_balancer_failed_open,
// _local_fault, _retry_budget_requests, _retries_total, _hedges_total and _resumes_total.
package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ankacluster/ankacluster/balancer"
)

// Of returns the pool's metrics. They are read from its Status when they are asked for, so
// that requests pay nothing for them.
func Of(b *balancer.Balancer) prometheus.Collector { return collector{b} }

type collector struct{ b *balancer.Balancer }

var (
	perEndpoint = []string{"pool", "endpoint"}
	perPool     = []string{"pool"}

	descState     = desc("endpoint_state", "1 for the state that the endpoint is in.", append(perEndpoint, "state"))
	descEligible  = desc("endpoint_eligible", "1 when the next request may choose the endpoint.", perEndpoint)
	descWeight    = desc("endpoint_weight_ratio", "Part of a fair share; below 1 during slow start.", perEndpoint)
	descInFlight  = desc("endpoint_in_flight_requests", "Requests without an answer yet.", perEndpoint)
	descTransfers = desc("endpoint_transfers", "Answers whose body is being read.", perEndpoint)
	descRequests  = desc("endpoint_requests_total", "Goes up with every request sent to the endpoint.", perEndpoint)
	descFailures  = desc("endpoint_failures_total", "Goes up with every failed request.", perEndpoint)
	descLate      = desc("endpoint_late_total", "Goes up when an answer is late.", perEndpoint)
	descEjections = desc("endpoint_ejections_total", "Goes up when the endpoint is taken out.", perEndpoint)
	descLatency   = desc("endpoint_latency_seconds", "Recent time to answer, by quantile.", append(perEndpoint, "quantile"))
	descBreaker   = desc("endpoint_breaker_state", "1 for the state that the breaker is in.", append(perEndpoint, "state"))
	descFailOpen  = desc("failed_open", "1 when too few endpoints are usable and all are tried.", perPool)
	descLocal     = desc("local_fault", "1 when this machine's own network keeps it from all endpoints.", perPool)
	descBudget    = desc("retry_budget_requests", "Repeats that there is room for.", perPool)
	descRetries   = desc("retries_total", "Goes up with every repeat after a failure.", perPool)
	descResumes   = desc("resumes_total", "Goes up when a download continues at another endpoint.", perPool)
	descHedges    = desc("hedges_total", "Goes up with every second copy sent for a late answer.", perPool)
)

func desc(name, help string, labels []string) *prometheus.Desc {
	return prometheus.NewDesc("anka_balancer_"+name, help, labels, nil)
}

// Describe sends nothing: the set of endpoints changes, which makes the
// collector an unchecked one.
func (collector) Describe(chan<- *prometheus.Desc) {}

// Collect sends the metrics of now.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	s := c.b.Status()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{s.Name}, labels...)...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), append([]string{s.Name}, labels...)...)
	}
	gauge(descFailOpen, bit(s.FailedOpen))
	gauge(descLocal, bit(s.LocalFault != ""))
	gauge(descBudget, s.RetryBudget)
	counter(descRetries, s.Retries)
	counter(descHedges, s.Hedges)
	counter(descResumes, s.Resumes)
	for _, e := range s.Endpoints {
		for _, state := range []balancer.State{balancer.Unknown, balancer.Healthy, balancer.Ejected, balancer.Down, balancer.Draining} {
			gauge(descState, bit(e.State == state), e.URL, string(state))
		}
		for _, state := range []string{"closed", "half-open", "open"} {
			gauge(descBreaker, bit(e.Breaker == state), e.URL, state)
		}
		gauge(descEligible, bit(e.Eligible), e.URL)
		gauge(descWeight, e.Weight, e.URL)
		gauge(descInFlight, float64(e.InFlight), e.URL)
		gauge(descTransfers, float64(e.Transfers), e.URL)
		counter(descRequests, e.Requests, e.URL)
		counter(descFailures, e.Failures, e.URL)
		counter(descLate, e.Late, e.URL)
		counter(descEjections, e.Ejections, e.URL)
		gauge(descLatency, e.LatencyP50/1000, e.URL, "0.5")
		gauge(descLatency, e.LatencyP95/1000, e.URL, "0.95")
	}
}

func bit(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
