package server

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/google/uuid"
)

// F24: what comes and goes leaves nothing in memory. The long form is `make soak`,
// which runs for as long as one likes; this one looks at what grows with every
// instance and every long poll when it leaks.
func TestF24LivesAndPollsLeaveNothingInMemory(t *testing.T) {
	c := startCloud(t, 1, nil)
	ctl := c.controllers[0]
	n := newNode(t, "n1", ctl)
	n.register()
	lives := func(count int) {
		for range count {
			id := mustStart(t, ctl, api.StartRequest{})
			if n.start(n.reserve(api.TaskStart)) {
				t.Fatal("abandoned")
			}
			n.sync()
			if err := ctl.client().Terminate(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			n.terminate(n.reserve(api.TaskTerminate))
			n.sync()
			if _, err := n.tryReserve(t.Context(), uuid.NewString(), time.Millisecond); err != nil {
				t.Fatal(err)
			}
		}
	}
	lives(20)
	before := runtime.NumGoroutine()
	lives(200)
	// Goroutines of connections and hedges end a moment later.
	eventually(t, "the goroutines of 200 lives are gone", func() bool { return runtime.NumGoroutine() <= before+20 })
	d := ctl.disp
	d.mu.Lock()
	for id, o := range d.offered { // as if offerLife had passed
		o.at = o.at.Add(-offerLife)
		d.offered[id] = o
	}
	d.mu.Unlock()
	// Nodes that came and went, of which placement was told.
	for k := range 20 {
		gone := newNode(t, fmt.Sprintf("gone-%d", k), ctl)
		gone.register()
		if err := ctl.client().Unregister(t.Context(), api.UnregisterRequest{NodeID: gone.id, Session: gone.session}); err != nil {
			t.Fatal(err)
		}
	}
	lives(1) // the round that offers it forgets the others
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.waiters) > 0 || len(d.charged) > 0 {
		t.Errorf("%d nodes with polls and %d with offers are kept, with none waiting", len(d.waiters), len(d.charged))
	}
	if _, own := d.dirty[n.id]; len(d.offered) > 1 || len(d.dirty) > 1 || len(d.dirty) == 1 && !own {
		t.Errorf("%d offers and %d changed nodes are kept", len(d.offered), len(d.dirty))
	}
}
