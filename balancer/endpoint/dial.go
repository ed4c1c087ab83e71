package endpoint

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// dialer connects to one endpoint. Of several addresses of its name the next one is
// tried beside the first when that takes longer than the race delay, or fails, and the
// one that answered last is tried first. While the name cannot be looked up, the last
// known addresses are used. It is safe for concurrent use.
type dialer struct {
	dial    func(ctx context.Context, network, addr string) (net.Conn, error)
	resolve func(ctx context.Context, host string) ([]string, error) // nil: dial looks names up
	race    time.Duration

	mu    sync.Mutex
	known []string // addresses of the last lookup that found some
	good  string   // the address that was connected to last
}

func systemResolve(ctx context.Context, host string) ([]string, error) {
	return net.DefaultResolver.LookupHost(ctx, host)
}

func (d *dialer) connect(ctx context.Context, network, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || d.resolve == nil || isAddress(host) {
		return d.dial(ctx, network, addr)
	}
	addrs, err := d.addresses(ctx, host)
	if err != nil {
		return nil, err
	}
	return d.first(ctx, network, addrs, port)
}

func isAddress(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

// addresses looks the host up, and answers with what is known already when that fails
// or takes too long.
func (d *dialer) addresses(ctx context.Context, host string) ([]string, error) {
	type result struct {
		addrs []string
		err   error
	}
	found := make(chan result, 1)
	go func() { // ends with ctx at the latest
		addrs, err := d.resolve(ctx, host)
		if len(addrs) > 0 {
			d.mu.Lock()
			d.known = addrs
			d.mu.Unlock()
		}
		found <- result{addrs, err}
	}()
	patience := time.NewTimer(d.race)
	defer patience.Stop()
	for {
		select {
		case r := <-found:
			if len(r.addrs) > 0 {
				return d.ordered(r.addrs), nil
			}
			if known := d.lastKnown(); len(known) > 0 {
				return d.ordered(known), nil
			}
			if r.err == nil {
				r.err = &net.DNSError{Err: "no addresses", Name: host, IsNotFound: true}
			}
			return nil, r.err
		case <-patience.C:
			if known := d.lastKnown(); len(known) > 0 {
				return d.ordered(known), nil
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (d *dialer) lastKnown() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.known
}

// ordered puts the address that answered last first.
func (d *dialer) ordered(addrs []string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := slices.Index(addrs, d.good)
	if i <= 0 {
		return addrs
	}
	return append([]string{addrs[i]}, slices.Delete(slices.Clone(addrs), i, i+1)...)
}

// first connects to the addresses beside each other, each one begun a race delay after
// the one before it or as soon as that has failed, and returns the first connection.
func (d *dialer) first(ctx context.Context, network string, addrs []string, port string) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		addr string
		conn net.Conn
		err  error
	}
	done := make(chan result)
	running, next := 0, 0
	begin := func() {
		if next == len(addrs) {
			return
		}
		addr := addrs[next]
		next++
		running++
		go func() { // ends with ctx at the latest
			conn, err := d.dial(ctx, network, net.JoinHostPort(addr, port))
			select {
			case done <- result{addr, conn, err}:
			case <-ctx.Done():
				if conn != nil {
					conn.Close() // another one was first
				}
			}
		}()
	}
	begin()
	timer := time.NewTicker(d.race)
	defer timer.Stop()
	var failure error
	for running > 0 {
		select {
		case r := <-done:
			if r.err == nil {
				d.mu.Lock()
				d.good = r.addr
				d.mu.Unlock()
				return r.conn, nil
			}
			running--
			if failure == nil {
				failure = r.err
			}
			begin()
		case <-timer.C:
			begin()
		case <-ctx.Done():
			if failure == nil {
				failure = &net.OpError{Op: "dial", Net: network, Err: ctx.Err()}
			}
			return nil, failure
		}
	}
	return nil, failure
}
