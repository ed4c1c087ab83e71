package node

import (
	"net/http"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/ankacluster/ankacluster/balancer"
)

// callLog writes to the log what the network did, after every so many requests of
// the node (--dump-network-meter, --num-http-sample-threshold). It has no clock
// of its own: a quiet node writes nothing.
type callLog struct {
	every int64 // 0 never
	pools []*balancer.Balancer
	log   *zap.Logger

	requests atomic.Int64

	mu          sync.Mutex
	moved       func() int64                       // guarded by mu; bytes of templates through the loopback proxy
	logged      map[string]balancer.EndpointStatus // guarded by mu; what was last logged, by pool and URL
	loggedMoved int64                              // guarded by mu
}

func newCallLog(every int, log *zap.Logger, pools ...*balancer.Balancer) *callLog {
	return &callLog{every: int64(every), pools: pools, log: log, moved: func() int64 { return 0 }, logged: make(map[string]balancer.EndpointStatus)}
}

// transfers adds what counts the bytes of templates.
func (m *callLog) transfers(moved func() int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.moved = moved
}

// request counts one.
func (m *callLog) request() {
	if n := m.requests.Add(1); m.every > 0 && n%m.every == 0 {
		m.write(n)
	}
}

// counting counts the requests that go through a transport.
func (m *callLog) counting(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		defer m.request()
		return next.RoundTrip(req)
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// write writes a line for each endpoint that had requests since the last time.
func (m *callLog) write(requests int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	moved := m.moved()
	lines := [][]zapcore.Field{{zap.Int64("requests", requests), zap.Int64("template_bytes", moved-m.loggedMoved)}}
	m.loggedMoved = moved
	for _, p := range m.pools {
		s := p.Status()
		for _, e := range s.Endpoints {
			before := m.logged[s.Name+" "+e.URL]
			m.logged[s.Name+" "+e.URL] = e
			if e.Requests == before.Requests {
				continue
			}
			lines = append(lines, []zapcore.Field{zap.String("pool", s.Name), zap.String("endpoint", e.URL),
				zap.Uint64("requests", e.Requests-before.Requests), zap.Uint64("failures", e.Failures-before.Failures),
				zap.Uint64("late", e.Late-before.Late), zap.Float64("p50_ms", e.LatencyP50), zap.Float64("p95_ms", e.LatencyP95)})
		}
	}
	for _, fields := range lines {
		m.log.Info("network meter", fields...)
	}
}
