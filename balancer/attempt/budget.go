package attempt

import (
	"sync"
	"time"

	"github.com/ankacluster/ankacluster/balancer/clock"
)

// budget bounds repeats to a share of the requests of the last seconds, plus a
// reserve for quiet times, so that repeats cannot turn an outage into an
// overload. It is safe for concurrent use.
type budget struct {
	share   float64
	reserve float64

	mu    sync.Mutex
	slots []budgetSlot // one second each
}

type budgetSlot struct {
	second            int64
	requests, repeats uint32
}

func newBudget(cfg RetryConfig) *budget {
	n := int((cfg.Window + time.Second - 1) / time.Second)
	return &budget{share: cfg.Share, reserve: cfg.Reserve, slots: make([]budgetSlot, n)}
}

func (b *budget) slotLocked(now time.Time) *budgetSlot {
	second := clock.Nano(now) / int64(time.Second)
	s := &b.slots[second%int64(len(b.slots))]
	if s.second != second {
		*s = budgetSlot{second: second}
	}
	return s
}

// request counts a first attempt.
func (b *budget) request(now time.Time) {
	b.mu.Lock()
	b.slotLocked(now).requests++
	b.mu.Unlock()
}

// left is how many repeats the budget has room for.
func (b *budget) left(now time.Time) float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.leftLocked(now)
}

func (b *budget) leftLocked(now time.Time) float64 {
	oldest := clock.Nano(now)/int64(time.Second) - int64(len(b.slots))
	room := b.reserve * float64(len(b.slots))
	for _, s := range b.slots {
		if s.second > oldest {
			room += b.share*float64(s.requests) - float64(s.repeats)
		}
	}
	return room
}

// take uses up one repeat, and says whether there was one.
func (b *budget) take(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.slotLocked(now)
	if b.leftLocked(now) < 1 {
		return false
	}
	s.repeats++
	return true
}
