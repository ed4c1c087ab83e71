package endpoint

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// BreakerConfig says when failures of real traffic take an endpoint out.
type BreakerConfig struct {
	// Consecutive failures open the breaker, and so does a success rate below
	// SuccessRate over Window with at least MinSamples.
	Consecutive uint32
	SuccessRate float64
	Window      time.Duration
	MinSamples  uint32
	// OpenFor is the first open time; it doubles with each opening up to
	// OpenMax and is forgotten after a healthy time as long as itself.
	OpenFor time.Duration
	OpenMax time.Duration
	Jitter  float64
}

// DefaultBreaker returns the breaker of a pool of a few servers.
func DefaultBreaker() BreakerConfig {
	return BreakerConfig{
		Consecutive: 5, // Finagle failure accrual
		SuccessRate: 0.8,
		Window:      30 * time.Second,
		MinSamples:  5,
		OpenFor:     5 * time.Second,
		OpenMax:     300 * time.Second,
		Jitter:      0.1,
	}
}

// ErrUncounted is the outcome of a request that says nothing about its endpoint: this
// machine's own fault, a caller that left, an answer that may be the caller's fault.
var ErrUncounted = errors.New("says nothing about the endpoint")

// breaker takes an endpoint out by how the requests to it end. gobreaker counts them and
// keeps the open time; this is what a pool adds to it: failures in a row however far
// apart, what comparing with the peers shows, and an open time that doubles. It is safe
// for concurrent use.
type breaker struct {
	cfg     BreakerConfig
	inRow   func() int32 // failures in a row
	cb      atomic.Pointer[gobreaker.TwoStepCircuitBreaker[struct{}]]
	refuses atomic.Bool // it is not closed
	against atomic.Bool // comparing with the peers speaks against the endpoint

	mu      sync.Mutex // guards all below; never held when gobreaker is called
	opens   int        // openings that are not forgotten yet
	openFor time.Duration
	openAt  time.Time // when it opened last
}

// Admission is a request's part in the breaker's count, until its outcome is told. The
// zero value is that of a request which the breaker did not admit.
type Admission struct{ done func(error) }

// Tell tells the breaker the outcome. Only the first counts; a may be nil.
func (a *Admission) Tell(err error) {
	if a == nil || a.done == nil {
		return
	}
	done := a.done
	a.done = nil
	done(err)
}

// reset replaces the breaker with a closed one whose open time is the next in the
// doubling row: gobreaker's is fixed for the life of a breaker. Outcomes of requests that
// the old one admitted are dropped with it.
func (br *breaker) reset() {
	br.mu.Lock()
	open := br.cfg.OpenFor
	for range br.opens {
		open = min(open*2, br.cfg.OpenMax)
	}
	open = time.Duration(float64(open) * (1 + br.cfg.Jitter*(2*rand.Float64()-1)))
	br.openFor = open
	br.mu.Unlock()
	br.refuses.Store(false)
	br.cb.Store(gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests:   1,
		Interval:      br.cfg.Window,
		BucketPeriod:  br.cfg.Window / 10, // rolling: a fixed window forgets everything at its edge
		Timeout:       open,
		ReadyToTrip:   br.readyToTrip,
		IsExcluded:    func(err error) bool { return errors.Is(err, ErrUncounted) },
		OnStateChange: br.changed,
	}))
}

// readyToTrip decides after a failure. gobreaker forgets failures in a row with its
// buckets, so that rare long transfers could fail for ever: the row is counted outside.
func (br *breaker) readyToTrip(c gobreaker.Counts) bool {
	if br.against.Load() || br.inRow() >= int32(br.cfg.Consecutive) {
		return true
	}
	total := c.TotalSuccesses + c.TotalFailures
	return total >= br.cfg.MinSamples && float64(c.TotalSuccesses) < br.cfg.SuccessRate*float64(total)
}

// changed runs under gobreaker's lock.
func (br *breaker) changed(_ string, from, to gobreaker.State) {
	br.refuses.Store(to != gobreaker.StateClosed)
	if to != gobreaker.StateOpen {
		return
	}
	br.mu.Lock()
	defer br.mu.Unlock()
	br.openAt = time.Now()
	if from == gobreaker.StateClosed && br.opens < 16 {
		br.opens++
	}
}

// Admit asks whether a request may be sent. The slot of a half-open breaker is left to
// the prober.
func (br *breaker) Admit() (Admission, bool) {
	if br.refuses.Load() {
		return Admission{}, false
	}
	done, err := br.cb.Load().Allow()
	return Admission{done}, err == nil
}

// Decide takes the one slot of a half-open breaker; nil when there is none to take.
func (br *breaker) Decide() (done func(error)) {
	if cb := br.cb.Load(); cb.State() == gobreaker.StateHalfOpen {
		done, _ = cb.Allow()
	}
	return done
}

// failed tells the breaker of a failure, by a request's admission or, once that is told,
// as an event of its own: a transfer breaks long after it was admitted, and gobreaker
// drops an outcome whose window has passed. It reports whether the breaker is open now.
func (br *breaker) failed(by *Admission, err error) (open bool) {
	if by == nil || by.done == nil {
		admitted, ok := br.Admit()
		if !ok {
			return false
		}
		by = &admitted
	}
	by.Tell(err)
	return br.refuses.Load()
}

// condemn tells the breaker what comparing the endpoint with its peers has shown.
func (br *breaker) condemn(err error) {
	br.against.Store(true)
	defer br.against.Store(false)
	br.failed(nil, err)
}

// forget has the next opening be as short as the first, after a healthy time as long as
// the last one. It reports whether there is still something to forget.
func (br *breaker) forget(healthy time.Duration) (left bool) {
	br.mu.Lock()
	if br.opens == 0 {
		br.mu.Unlock()
		return false
	}
	if healthy <= br.openFor {
		br.mu.Unlock()
		return true
	}
	br.opens = 0
	br.mu.Unlock()
	br.reset()
	return false
}

// state is what people are shown: the state's name, and when an open one becomes
// half-open.
func (br *breaker) state() (name string, until *time.Time) {
	state := br.cb.Load().State()
	if state == gobreaker.StateOpen {
		br.mu.Lock()
		defer br.mu.Unlock()
		at := br.openAt.Add(br.openFor)
		until = &at
	}
	return state.String(), until
}
