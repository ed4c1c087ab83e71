package route

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/ankacluster/ankacluster/balancer/clock"
	"github.com/ankacluster/ankacluster/balancer/endpoint"
)

// trouble is what one kind of request met at some endpoints. Whether that is an
// endpoint's fault, or lies behind all of them, shows when a peer does well what it
// failed: only then is it charged. What every usable endpoint does is charged to none.
// The zero value is none. It is safe for concurrent use.
type trouble struct {
	since atomic.Int64 // since when no endpoint has done well, nano; 0 while one does

	mu  sync.Mutex
	met []Charge
}

// Charge is what an endpoint has to answer for.
type Charge struct {
	Ep  *endpoint.Endpoint
	N   int // failures that no peer has proven to be its own yet
	Err error
}

// Add notes a failure of ep.
func (t *trouble) Add(ep *endpoint.Endpoint, err error, usable []*endpoint.Endpoint, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.since.Load() == 0 {
		t.met = t.met[:0]
		t.since.Store(clock.Nano(now))
	}
	c := t.ofLocked(ep)
	if c == nil {
		t.met = append(t.met, Charge{Ep: ep})
		c = &t.met[len(t.met)-1]
	}
	c.N++
	c.Err = err
	if t.coversLocked(usable) {
		for i := range t.met {
			t.met[i].N = 0
		}
	}
}

func (t *trouble) ofLocked(ep *endpoint.Endpoint) *Charge {
	for i := range t.met {
		if t.met[i].Ep == ep {
			return &t.met[i]
		}
	}
	return nil
}

func (t *trouble) coversLocked(usable []*endpoint.Endpoint) bool {
	for _, ep := range usable {
		if t.ofLocked(ep) == nil {
			return false
		}
	}
	return true
}

// Well notes that ep did well, and returns what its peers are to be charged with.
func (t *trouble) Well(ep *endpoint.Endpoint, now time.Time, window time.Duration) []Charge {
	if t.since.Load() == 0 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	fresh := clock.Nano(now)-t.since.Load() < int64(window)
	t.since.Store(0)
	var due []Charge
	for _, c := range t.met {
		if c.Ep != ep && c.N > 0 && fresh {
			due = append(due, c)
		}
	}
	t.met = t.met[:0]
	return due
}

// OfAll is since when every usable endpoint has been in this trouble; 0 when one has
// not.
func (t *trouble) OfAll(usable []*endpoint.Endpoint) int64 {
	since := t.since.Load()
	if since == 0 {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.coversLocked(usable) {
		return 0
	}
	return since
}
