package endpoint

import (
	"math/bits"
	"time"

	"github.com/ankacluster/ankacluster/balancer/clock"
)

// Histogram holds durations in buckets a quarter of a power of two wide, and
// forgets by halving, so that old answers fade as new ones come. It is not safe
// for concurrent use. The zero value is empty.
type Histogram struct {
	N       uint32
	buckets [128]uint32
}

// histogramLimit is how many samples there are before the old ones are halved.
const histogramLimit = 1024

func bucketOf(d time.Duration) int {
	us := uint64(max(d/time.Microsecond, 4))
	e := bits.Len64(us) - 3 // us>>e is 4 to 7
	return min(e*4+int(us>>e)-4, len(Histogram{}.buckets)-1)
}

// bucketTop is the upper bound of bucket i.
func bucketTop(i int) time.Duration {
	return time.Duration((uint64(i%4)+5)<<(i/4)) * time.Microsecond
}

// Add counts a duration.
func (h *Histogram) Add(d time.Duration) {
	h.buckets[bucketOf(d)]++
	if h.N++; h.N < histogramLimit {
		return
	}
	h.N = 0
	for i := range h.buckets {
		h.buckets[i] /= 2
		h.N += h.buckets[i]
	}
}

// Quantile returns an upper bound of the q-th quantile, 0 when empty.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.N == 0 {
		return 0
	}
	rank := uint32(q * float64(h.N))
	var seen uint32
	for i, c := range h.buckets {
		if seen += c; seen > rank {
			return bucketTop(i)
		}
	}
	return bucketTop(len(h.buckets) - 1)
}

// minute counts requests of the last minute in twelve slots of five seconds.
// It is not safe for concurrent use. The zero value is empty.
type minute struct {
	slots [12]minuteSlot
}

type minuteSlot struct {
	epoch              int64
	sent, good, failed uint32
}

const minuteSlotLength = 5 * time.Second

func (m *minute) at(now time.Time) *minuteSlot {
	epoch := clock.Nano(now) / int64(minuteSlotLength)
	s := &m.slots[epoch%int64(len(m.slots))]
	if s.epoch != epoch {
		*s = minuteSlot{epoch: epoch}
	}
	return s
}

func (m *minute) totals(now time.Time) (sent, good, failed uint64) {
	oldest := clock.Nano(now)/int64(minuteSlotLength) - int64(len(m.slots))
	for _, s := range m.slots {
		if s.epoch > oldest {
			sent += uint64(s.sent)
			good += uint64(s.good)
			failed += uint64(s.failed)
		}
	}
	return sent, good, failed
}

// Counts that fade are whole for fadeAfter, or until there are fadeMost; then half, a
// quarter, … A fault of a tenth must show soon after a long time of health.
const (
	FadeAfter = 30 * time.Second
	FadeMost  = 400
)

// Fades is how often counts that were halved at last are to be halved at now. After ten
// times nothing is left of fadeMost.
func Fades(last, now time.Time) int { return int(min(now.Sub(last)/FadeAfter, 10)) }

// Tally is the number of recent requests and of those that failed. It is not safe for
// concurrent use.
type Tally struct {
	All, Bad int
	faded    time.Time // when they were halved last
}

func (t *Tally) add(bad bool, now time.Time) {
	times := Fades(t.faded, now)
	if times == 0 && t.All >= FadeMost {
		times = 1
	}
	if times > 0 {
		t.All, t.Bad, t.faded = t.All>>times, t.Bad>>times, now
	}
	t.All++
	if bad {
		t.Bad++
	}
}

// counters are what people read of an endpoint. They are not safe for concurrent use. The
// zero value is empty.
type counters struct {
	latency Histogram
	minute  minute
	lastErr string
	failAt  time.Time // of the last failure

	requests, failures, late, ejections uint64
}

// sent counts a request that says nothing about the endpoint.
func (c *counters) sent(now time.Time) {
	c.minute.at(now).sent++
	c.requests++
}

func (c *counters) good(now time.Time) {
	slot := c.minute.at(now)
	slot.sent++
	slot.good++
	c.requests++
}

func (c *counters) bad(now time.Time, err error) {
	slot := c.minute.at(now)
	slot.sent++
	slot.failed++
	c.requests++
	c.failures++
	c.lastErr, c.failAt = err.Error(), now
}
