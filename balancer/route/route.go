// Package route is what a pool knows of one kind of request: how long its answers take and
// how they end, and whether an endpoint that refuses it, or answers oddly, is alone with
// that. A route counts and compares; what follows is the caller's.
package route

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ankacluster/ankacluster/balancer/endpoint"
)

// HedgeConfig says when a second copy of a request is sent.
type HedgeConfig struct {
	// Enabled is false for blobs.
	Enabled bool
	// Min is the least delay; the observed 95th percentile otherwise, up to
	// Multiple times the median. Initial is used until there are samples.
	Min      time.Duration
	Initial  time.Duration
	Multiple int
}

// Route is what the pool knows of one kind of request: how long its answers
// take, and so when a missing one is late. A list that always takes 300 ms must
// not be hedged by the measure of a status call.
type Route struct {
	delay    atomic.Int64 // ns; 0 until there are enough samples
	Refusals trouble      // answers that another endpoint may better
	Unended  trouble      // answers that do not end where others do
	Habit    habit

	mu        sync.Mutex
	latency   *endpoint.Histogram // nil without a sample
	answers   deviations
	unsettled int // samples since delay was computed
}

// routeCount is the number of routes told apart. Two kinds of requests that
// share one are hedged a little too early or too late, and the trouble of one of
// them is not seen.
const routeCount = 256

// Table is what the pool knows of each kind of request. The zero value knows nothing.
type Table [routeCount]Route

// Of is the route of requests like req.
func (r *Table) Of(req *http.Request) *Route {
	return &r[(routeOf(req.Method, req.URL.Path)+queryOf(req.URL.RawQuery))%routeCount]
}

// minSamples is how many answers a route's delay needs.
const minSamples = 20

// routeOf hashes the method and the first four segments of a path. One with a
// digit in it counts as any other such: it is an id, or a version like v1.
func routeOf(method, path string) int {
	h := uint32(2166136261)
	for i := range len(method) {
		h = (h ^ uint32(method[i])) * 16777619
	}
	slashes, before, id := 0, h, false
	for i := range len(path) {
		c := path[i]
		switch {
		case c == '/':
			if slashes++; slashes > 4 {
				return int(h % routeCount)
			}
			id = false
		case id:
			continue
		case '0' <= c && c <= '9':
			h, c, id = before, '0', true
		}
		h = (h ^ uint32(c)) * 16777619
		if c == '/' {
			before = h
		}
	}
	return int(h % routeCount)
}

// queryOf hashes the names in a query: one that asks for a stream, or for one item of a
// list, is another kind of request.
func queryOf(query string) int {
	h, name := uint32(0), true
	for i := range len(query) {
		switch c := query[i]; {
		case c == '&':
			name = true
		case c == '=':
			name = false
		case name:
			h = (h ^ uint32(c)) * 16777619
		}
	}
	return int(h % routeCount)
}

// Observe adds an answer's latency and renews the delay now and then.
func (r *Route) Observe(cfg HedgeConfig, d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.latency == nil {
		r.latency = new(endpoint.Histogram)
	}
	r.latency.Add(d)
	if r.unsettled++; r.latency.N >= minSamples && (r.unsettled >= minSamples || r.delay.Load() == 0) {
		r.unsettled = 0
		r.delay.Store(int64(hedgeDelay(cfg, r.latency.Quantile(0.95), r.latency.Quantile(0.5))))
	}
}

// hedgeDelay is the 95th percentile, at least the least delay, and at most a
// multiple of the median: one slow endpoint of three must not make slow normal.
func hedgeDelay(cfg HedgeConfig, p95, p50 time.Duration) time.Duration {
	limit := max(cfg.Min, time.Duration(cfg.Multiple)*p50)
	return min(max(cfg.Min, p95), limit)
}

// Wait is how long an answer may take before it is late.
func (r *Route) Wait(cfg HedgeConfig) time.Duration {
	if d := r.delay.Load(); d > 0 {
		return time.Duration(d)
	}
	return cfg.Initial
}
