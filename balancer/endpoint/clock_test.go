package endpoint

import (
	"testing"
	"time"
	"unsafe"

	"github.com/ankacluster/ankacluster/balancer/clock"
	"github.com/ankacluster/ankacluster/balancer/health"
)

// setBack is t as it would have been read had the time of day been set back by
// d meanwhile: the monotonic reading stays.
func setBack(t *testing.T, at time.Time, d time.Duration) time.Time {
	const nanoBits = 30 // of the first word of a time.Time with a monotonic reading; the seconds are above
	before := at
	*(*uint64)(unsafe.Pointer(&at)) -= uint64(d/time.Second) << nanoBits
	if before.Sub(at) != 0 || before.Unix()-at.Unix() != int64(d/time.Second) {
		t.Fatalf("time.Time has another layout: %s became %s", before, at)
	}
	return at
}

// What an endpoint is due for, and what is known of it, follows how much time
// has passed, and not the time of day.
func TestTimeOfDaySetBack(t *testing.T) {
	now := time.Now()
	ep := someEndpoint()
	ep.Succeeded(nil, now, now, false, false)
	ep.Failed(nil, now, StatusError(503))
	if !ep.MayTry(now) || ep.MayTry(now) {
		t.Fatal("an endpoint that is out may be tried once")
	}
	later := setBack(t, now.Add(ep.cfg.TrialInterval), time.Hour)
	if !ep.MayTry(later) {
		t.Errorf("the next trial is due in %s, want now", ep.TrialDue().Sub(later))
	}
	if ep.LastAlive() >= clock.Nano(later) {
		t.Error("an answer from before counts as one from after")
	}
	if health.StandsIn(health.Record{State: health.Healthy}, ep.LastGood.Load(), false, time.Second, later) {
		t.Error("an answer long ago stands in for a probe")
	}
	if sent, _, _ := ep.counters.minute.totals(later); sent == 0 {
		t.Error("the last minute's requests are forgotten")
	}
}
