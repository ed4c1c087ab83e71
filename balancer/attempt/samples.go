package attempt

import (
	"context"
	"net/http"
	"time"

	"github.com/ankacluster/ankacluster/balancer/endpoint"
)

// sampleEvery bounds how often a sample is kept while an endpoint is out.
const sampleEvery = 100 * time.Millisecond

func (s *Sender) keepSample(a *attempt, resp *http.Response, now time.Time) {
	if !a.p.provable() || resp.StatusCode != http.StatusOK || a.late.Load() {
		return
	}
	if _, small := resp.Body.(*readBody); !small && resp.Body != http.NoBody {
		return
	}
	if old := s.sample.Load(); old != nil && now.Sub(old.At) < sampleEvery {
		return
	}
	kept := a.p.copied(now)
	kept.Took = now.Sub(a.sent)
	s.sample.Store(kept)
}

// provable reports whether a copy of the request does no harm and is answered soon.
func (p *pass) provable() bool {
	return p.s.cfg.Class == Control && p.req.Method == http.MethodGet && p.wait == 0
}

// copied is the request as a sample.
func (p *pass) copied(now time.Time) *endpoint.Sample {
	copied := p.req.Clone(context.WithoutCancel(context.Background()))
	copied.Body, copied.GetBody = nil, nil
	return &endpoint.Sample{Req: copied, At: now}
}
