package faultnet

import (
	"context"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"
)

// Fault is what is wrong with an address. The zero Fault is none.
type Fault struct {
	// Refuse answers connects with "connection refused".
	Refuse bool
	// Dial is the error of every connect, such as syscall.EHOSTUNREACH.
	Dial error
	// Hold loses every packet: connects get no answer and bytes do not arrive
	// until the address is healed, when they do, as TCP sends them again.
	Hold bool
	// Delay is how much later bytes arrive, in each direction.
	Delay time.Duration
}

// Network is a set of listeners and the connections to them. It is safe for
// concurrent use.
type Network struct {
	mu        sync.Mutex
	listeners map[string]*listener
	faults    map[string]Fault
	conns     map[*conn]struct{} // clients' ends
	dials     map[string]int
	changed   chan struct{} // closed and replaced at each change of a fault
}

// New returns an empty network.
func New() *Network {
	return &Network{
		listeners: make(map[string]*listener),
		faults:    make(map[string]Fault),
		conns:     make(map[*conn]struct{}),
		dials:     make(map[string]int),
		changed:   make(chan struct{}),
	}
}

// Set breaks addr. It holds for connections that exist and for new ones.
func (n *Network) Set(addr string, f Fault) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.faults[addr] = f
	close(n.changed)
	n.changed = make(chan struct{})
}

// Heal mends addr.
func (n *Network) Heal(addr string) { n.Set(addr, Fault{}) }

// Reset breaks every connection to addr, as a server that died does.
func (n *Network) Reset(addr string) { n.Break(addr, syscall.ECONNRESET) }

// Break is Reset with another error, such as syscall.ENETUNREACH.
func (n *Network) Break(addr string, err error) {
	for _, c := range n.connsTo(addr) {
		c.in.fail(err)
		c.out.fail(err)
	}
}

// HalfClose ends the direction from addr to its clients; theirs stays open.
func (n *Network) HalfClose(addr string) {
	for _, c := range n.connsTo(addr) {
		c.in.end()
	}
}

// Forget loses every packet of the connections that addr has, for ever, as a
// firewall does that has forgotten their flows. New ones are well.
func (n *Network) Forget(addr string) {
	for _, c := range n.connsTo(addr) {
		c.in.lose()
		c.out.lose()
	}
}

// Dials is how often a connection to addr was begun.
func (n *Network) Dials(addr string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dials[addr]
}

// Open is how many connections to addr there are.
func (n *Network) Open(addr string) int { return len(n.connsTo(addr)) }

func (n *Network) connsTo(addr string) []*conn {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []*conn
	for c := range n.conns {
		if c.server == addr {
			out = append(out, c)
		}
	}
	return out
}

func (n *Network) fault(addr string) (Fault, <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.faults[addr], n.changed
}

// Listen makes addr reachable.
func (n *Network) Listen(addr string) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listeners[addr] != nil {
		return nil, fmt.Errorf("listen %s: %w", addr, syscall.EADDRINUSE)
	}
	l := &listener{n: n, addr: addr, accept: make(chan net.Conn), closed: make(chan struct{})}
	n.listeners[addr] = l
	return l, nil
}

// DialContext connects to addr as its fault allows.
func (n *Network) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	n.mu.Lock()
	n.dials[addr]++
	n.mu.Unlock()
	fail := func(err error) error { return &net.OpError{Op: "dial", Net: network, Addr: address(addr), Err: err} }
	for {
		f, changed := n.fault(addr)
		switch {
		case f.Dial != nil:
			return nil, fail(f.Dial)
		case f.Refuse:
			return nil, fail(syscall.ECONNREFUSED)
		case !f.Hold:
			return n.connect(ctx, addr, f.Delay, fail)
		}
		select {
		case <-ctx.Done():
			return nil, fail(ctx.Err())
		case <-changed:
		}
	}
}

func (n *Network) connect(ctx context.Context, addr string, delay time.Duration, fail func(error) error) (net.Conn, error) {
	if delay > 0 {
		select {
		case <-ctx.Done():
			return nil, fail(ctx.Err())
		case <-time.After(delay):
		}
	}
	n.mu.Lock()
	l := n.listeners[addr]
	n.mu.Unlock()
	if l == nil {
		return nil, fail(syscall.ECONNREFUSED)
	}
	client, server := n.pair(addr)
	select {
	case <-ctx.Done():
		return nil, fail(ctx.Err())
	case <-l.closed:
		return nil, fail(syscall.ECONNREFUSED)
	case l.accept <- server:
		return client, nil
	}
}

type listener struct {
	n      *Network
	addr   string
	accept chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.n.mu.Lock()
		delete(l.n.listeners, l.addr)
		l.n.mu.Unlock()
	})
	return nil
}

func (l *listener) Addr() net.Addr { return address(l.addr) }

type address string

func (address) Network() string  { return "tcp" }
func (a address) String() string { return string(a) }
