package door

import (
	"context"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/ankacluster/ankacluster/balancer"
)

// Balancer is package balancer with its default configuration, in the
// process that sends, as the agent uses it.
func Balancer() Door { return &balancerDoor{} }

type balancerDoor struct {
	cancel  context.CancelFunc
	running sync.WaitGroup
	dials   dialLog

	mu    sync.Mutex
	moves []balancer.Transition // guarded by mu
}

func (d *balancerDoor) Name() string { return "balancer" }

func (d *balancerDoor) Open(ctx context.Context, backends []string) (*http.Client, string, error) {
	cfg := balancer.DefaultConfig()
	cfg.Name = "drill"
	cfg.DialContext = d.dials.dial
	cfg.OnTransition = func(t balancer.Transition) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.moves = append(d.moves, t)
	}
	b, err := balancer.New(cfg, nil)
	if err != nil {
		return nil, "", err
	}
	if err := b.SetMembers(balancer.OriginJoin, backends); err != nil {
		return nil, "", err
	}
	ctx, d.cancel = context.WithCancel(ctx)
	d.running.Go(func() { _ = b.Run(ctx) })
	return b.Client(), "http://drill", nil
}

func (d *balancerDoor) Close() {
	if d.cancel != nil {
		d.cancel()
		d.running.Wait()
	}
}

// Dials is when connections to each address were begun.
func (d *balancerDoor) Dials() map[string][]time.Time { return d.dials.all() }

// Moves are the changes of what the balancer thinks of the backends.
func (d *balancerDoor) Moves() []balancer.Transition {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.moves)
}

type dialLog struct {
	dialer net.Dialer
	mu     sync.Mutex
	at     map[string][]time.Time // guarded by mu
}

func (l *dialLog) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	l.mu.Lock()
	if l.at == nil {
		l.at = make(map[string][]time.Time)
	}
	l.at[addr] = append(l.at[addr], time.Now())
	l.mu.Unlock()
	return l.dialer.DialContext(ctx, network, addr)
}

func (l *dialLog) all() map[string][]time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make(map[string][]time.Time)
	for addr, at := range l.at {
		out[addr] = slices.Clone(at)
	}
	return out
}
