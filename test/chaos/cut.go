package chaos

import (
	"errors"
	"net"
	"sync"
)

// link is a proxy in front of a server. While it is cut, bytes stop where they
// are and new connections are taken and left alone.
type link struct {
	l      net.Listener
	target string
	wg     sync.WaitGroup

	mu    sync.Mutex
	open  chan struct{} // closed while bytes may pass
	conns map[net.Conn]bool
	ended chan struct{}
}

// newLink returns a proxy that listens on a loopback port of its own.
func newLink(target string) (*link, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &link{l: l, target: target, open: make(chan struct{}), conns: make(map[net.Conn]bool), ended: make(chan struct{})}
	close(p.open)
	p.wg.Go(p.accept)
	return p, nil
}

func (p *link) addr() string { return p.l.Addr().String() }
func (p *link) url() string  { return "http://" + p.addr() }

func (p *link) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.open:
		p.open = make(chan struct{})
	default: // cut already
	}
}

// heal lets bytes pass again, those that were held too: to both ends it was a
// network that was slow.
func (p *link) heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.open:
	default:
		close(p.open)
	}
}

// close ends the proxy with all its connections.
func (p *link) close() error {
	err := p.l.Close()
	p.mu.Lock()
	close(p.ended)
	for c := range p.conns {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
	return err
}

// passable waits until the link is not cut, and reports false when it is over.
func (p *link) passable() bool {
	p.mu.Lock()
	open := p.open
	p.mu.Unlock()
	select {
	case <-open:
		return true
	case <-p.ended:
		return false
	}
}

func (p *link) accept() {
	for {
		client, err := p.l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue // out of files for a moment
		}
		if p.track(client) {
			p.wg.Go(func() { p.serve(client) })
		}
	}
}

func (p *link) serve(client net.Conn) {
	defer p.forget(client)
	if !p.passable() {
		return
	}
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return // nobody listens: hanging up is what a refused caller sees
	}
	if !p.track(server) {
		return
	}
	defer p.forget(server)
	var both sync.WaitGroup
	both.Go(func() { p.copy(server, client) })
	both.Go(func() { p.copy(client, server) })
	both.Wait()
}

// copy forwards one direction and hands on its end.
func (p *link) copy(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if !p.passable() {
				break
			}
			if _, werr := to.Write(buf[:n]); werr != nil {
				_ = from.Close() // a sender must learn that nobody listens
				break
			}
		}
		if err != nil {
			break
		}
	}
	if p.passable() {
		_ = to.(*net.TCPConn).CloseWrite()
	}
}

func (p *link) track(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.ended:
		_ = c.Close()
		return false
	default:
		p.conns[c] = true
		return true
	}
}

func (p *link) forget(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	_ = c.Close()
}
