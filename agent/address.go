package agent

import (
	"context"
	"sync"
)

// address is the address that CI systems reach the node's VMs at. It is safe for
// concurrent use.
type address struct {
	fixed   string // by join's --host; "" follows the host's
	host    Host
	wakeups wakeups

	mu      sync.Mutex
	current string // guarded by mu
}

// run follows the node's address, with every heartbeat: looking it up may ask a
// name server, which no heartbeat waits for.
func (a *address) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-a.wakeups.address:
			a.update()
		}
	}
}

func (a *address) update() {
	found := a.fixed
	if found == "" {
		found = a.host.Address()
	}
	a.mu.Lock()
	changed := found != "" && a.current != found
	if changed {
		a.current = found
	}
	a.mu.Unlock()
	if changed {
		a.wakeups.heartbeat.wake()
	}
}

func (a *address) get() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.current
}
