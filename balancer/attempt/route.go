package attempt

import (
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ankacluster/ankacluster/balancer/endpoint"
)

// route is what the pool knows of one kind of request: how long its answers
// take, and so when a missing one is late. A list that always takes 300 ms must
// not be hedged by the measure of a status call.
type route struct {
	delay    atomic.Int64 // ns; 0 until there are enough samples
	refusals trouble      // answers that another endpoint may better
	unended  trouble      // answers that do not end where others do
	habit    habit

	mu        sync.Mutex
	latency   *endpoint.Histogram // nil without a sample
	answers   deviations
	unsettled int // samples since delay was computed
}

// routeCount is the number of routes told apart. Two kinds of requests that
// share one are hedged a little too early or too late, and the trouble of one of
// them is not seen.
const routeCount = 256

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

// observe adds an answer's latency and renews the delay now and then.
func (r *route) observe(cfg HedgeConfig, d time.Duration) {
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

// isRoutesOwn reports whether every usable endpoint refuses this kind of request, and the
// pool is otherwise well: what is behind it is down, and another try gives the same
// answer. Where nothing else is asked, refusals are waited out, as those of servers
// that have too much to do.
func (s *Sender) isRoutesOwn(r *route) bool {
	usable := s.view.Load().Usable
	since := r.refusals.ofAll(usable)
	if since == 0 {
		return false
	}
	for _, ep := range usable {
		if ep.LastGood.Load() > since {
			return true
		}
	}
	return false
}

// RefusedByAll is isRoutesOwn for requests like req.
func (s *Sender) RefusedByAll(req *http.Request) bool { return s.isRoutesOwn(s.routeOf(req)) }

// blameless reports whether an endpoint's refusal of this kind of request tells nothing of
// the endpoint: all refuse it, and this one has answered others well since.
func (s *Sender) blameless(ep *endpoint.Endpoint, r *route) bool {
	since := r.refusals.ofAll(s.view.Load().Usable)
	return since != 0 && ep.LastGood.Load() > since
}

// hedgeDelay is the 95th percentile, at least the least delay, and at most a
// multiple of the median: one slow endpoint of three must not make slow normal.
func hedgeDelay(cfg HedgeConfig, p95, p50 time.Duration) time.Duration {
	limit := max(cfg.Min, time.Duration(cfg.Multiple)*p50)
	return min(max(cfg.Min, p95), limit)
}

// wait is how long an answer may take before it is late.
func (r *route) wait(cfg HedgeConfig) time.Duration {
	if d := r.delay.Load(); d > 0 {
		return time.Duration(d)
	}
	return cfg.Initial
}
