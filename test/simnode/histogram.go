package simnode

import (
	"math"
	"sync/atomic"
	"time"
)

// Histogram counts durations in buckets that grow by 2 %, so that a percentile
// is right to 2 %. The zero value is ready. It is safe for concurrent use.
type Histogram struct {
	buckets [1200]atomic.Int64 // 1.02^1200 µs is six hours
	count   atomic.Int64
	max     atomic.Int64
}

var growth = math.Log(1.02)

// Add counts d.
func (h *Histogram) Add(d time.Duration) {
	i := 0
	if us := d.Seconds() * 1e6; us > 1 {
		i = min(int(math.Log(us)/growth), len(h.buckets)-1)
	}
	h.buckets[i].Add(1)
	h.count.Add(1)
	for {
		m := h.max.Load()
		if int64(d) <= m || h.max.CompareAndSwap(m, int64(d)) {
			return
		}
	}
}

// Count returns how many durations were added.
func (h *Histogram) Count() int64 { return h.count.Load() }

// Max returns the longest.
func (h *Histogram) Max() time.Duration { return time.Duration(h.max.Load()) }

// Quantile returns the duration that the share q of all is not above; 0 when
// there are none.
func (h *Histogram) Quantile(q float64) time.Duration {
	want := int64(math.Ceil(q * float64(h.Count())))
	var seen int64
	for i := range h.buckets {
		seen += h.buckets[i].Load()
		if seen >= want && seen > 0 {
			upper := time.Duration(math.Exp(float64(i+1)*growth) * float64(time.Microsecond))
			return min(upper, h.Max())
		}
	}
	return h.Max()
}
