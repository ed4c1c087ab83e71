package endpoint

import (
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/ankacluster/ankacluster/balancer/clock"
	"github.com/ankacluster/ankacluster/balancer/health"
)

// share is an endpoint's part of the turns: what a person has set, times what the slow
// start has come to. It is safe for concurrent use.
type share struct {
	length time.Duration // of a slow start
	from   float64       // where it begins
	set    atomic.Uint64 // as float bits
	ramp   atomic.Int64  // when the slow start began, nano; 0 for none
	credit atomic.Int64  // parts of a turn saved up, in wholeTurn
}

func (s *share) init(length time.Duration, from float64) {
	s.length, s.from = length, from
	s.SetWeight(1)
	s.credit.Store(rand.Int64N(wholeTurn)) // many clients do not begin a ramp in step
}

// SetWeight sets a person's part of the weight.
func (s *share) SetWeight(weight float64) { s.set.Store(math.Float64bits(weight)) }

// begin starts a slow start; the zero time ends it.
func (s *share) begin(at time.Time) {
	if at.IsZero() || s.length <= 0 {
		s.ramp.Store(0)
		return
	}
	s.ramp.Store(clock.Nano(at))
}

// wholeAgain ends a slow start whose time is over, and reports whether it did.
func (s *share) wholeAgain(now time.Time) bool {
	start := s.ramp.Load()
	if start == 0 || health.RampWeight(clock.At(start), s.length, s.from, now) < 1 {
		return false
	}
	return s.ramp.CompareAndSwap(start, 0)
}

// Weight is the part of a fair share that the endpoint takes now.
func (s *share) Weight() float64 {
	set := math.Float64frombits(s.set.Load())
	start := s.ramp.Load()
	if start == 0 {
		return set
	}
	return set * health.RampWeight(clock.At(start), s.length, s.from, time.Now())
}

// wholeTurn is the credit that one turn costs.
const wholeTurn = 1 << 20

// TakesTurn reports whether an endpoint of this weight takes the turn that came to
// it. Each turn earns it its weight: chance would give a share as small as the
// ramp's first one now twice and now half of what it is.
func (s *share) TakesTurn(weight float64) bool {
	if weight >= 1 {
		return true
	}
	if s.credit.Add(int64(weight*wholeTurn)) < wholeTurn {
		return false
	}
	s.credit.Add(-wholeTurn)
	return true
}
