package attempt

import (
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/balancer/endpoint"
	"github.com/ankacluster/ankacluster/balancer/health"
	"github.com/ankacluster/ankacluster/balancer/pick"
	"github.com/ankacluster/ankacluster/balancer/route"
)

// unmoved is a pool whose endpoints stay as they are.
type unmoved struct{}

func (unmoved) Transition(*endpoint.Endpoint, time.Time, func(health.Record) (health.Record, bool)) {}
func (unmoved) Republish(time.Time)                                                                 {}
func (unmoved) LookAgain(*endpoint.Endpoint)                                                        {}

// An alarm that rings late tells of this machine: the endpoint gets a moment
// more before it is called late.
func TestLateAlarmBlamesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, _ := endpoint.Parse("http://a")
		ep := endpoint.New(endpoint.Config{Breaker: endpoint.DefaultBreaker()}, u, time.Now())
		var view atomic.Pointer[pick.Snapshot]
		view.Store(pick.New([]*endpoint.Endpoint{ep}, false, 0))
		cfg := Config{Class: Control, Slow: health.DefaultSlow(), Retry: RetryConfig{Window: time.Second}, Hedge: route.HedgeConfig{Initial: time.Millisecond}}
		s := New(cfg, zap.NewNop(), unmoved{}, &view)
		lateOnes := func() uint64 { status, _ := ep.Status(false, time.Now()); return status.Late }

		req, _ := http.NewRequest(http.MethodPost, "http://pool/x", nil)
		a := &attempt{p: s.newPass(req), ep: ep, sent: time.Now()}
		a.due = alarm{at: time.Now(), attempt: a, ring: (*attempt).onLate}
		time.Sleep(cfg.Slow.Pause + 1)
		a.onLate()
		if a.late.Load() || lateOnes() > 0 {
			t.Error("it was called late at once")
		}
		time.Sleep(cfg.Slow.Pause)
		synctest.Wait()
		if !a.late.Load() || lateOnes() != 1 {
			t.Error("it was not called late when the moment was over")
		}
	})
}
