package faultnet

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// conn is one end of a connection.
type conn struct {
	n             *Network
	server        string // whose faults apply
	in, out       *stream
	local, remote address

	mu            sync.Mutex
	readBy        time.Time
	writeBy       time.Time
	deadlineMoved chan struct{} // closed and replaced when a deadline moves
}

func (n *Network) pair(server string) (client, accepted *conn) {
	up, down := newStream(), newStream()
	client = &conn{n: n, server: server, in: down, out: up, local: "client", remote: address(server), deadlineMoved: make(chan struct{})}
	accepted = &conn{n: n, server: server, in: up, out: down, local: address(server), remote: "client", deadlineMoved: make(chan struct{})}
	n.mu.Lock()
	n.conns[client] = struct{}{}
	n.mu.Unlock()
	return client, accepted
}

// stream is one direction of a connection.
type stream struct {
	mu     sync.Mutex
	chunks []chunk
	size   int
	ended  bool  // no more bytes come
	lost   bool  // none arrives any more, and no one is told
	err    error // reset or closed
	moved  chan struct{}
}

type chunk struct {
	due  time.Time
	data []byte
}

// streamLimit is how many bytes are on their way before writing blocks.
const streamLimit = 256 << 10

func newStream() *stream { return &stream{moved: make(chan struct{})} }

func (s *stream) wakeLocked() {
	close(s.moved)
	s.moved = make(chan struct{})
}

func (s *stream) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
		s.wakeLocked()
	}
}

func (s *stream) lose() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost = true
	s.wakeLocked()
}

func (s *stream) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.wakeLocked()
}

// take moves what has arrived into p. wait is how long until the next bytes
// arrive, 0 when that is not known.
//
//lint:ignore ST1008 n and err are the pair of io.Reader
func (s *stream) take(p []byte, now time.Time, held bool) (n int, err error, moved <-chan struct{}, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, s.err, nil, 0
	}
	if held || s.lost {
		return 0, nil, s.moved, 0
	}
	if len(s.chunks) == 0 {
		if s.ended {
			return 0, io.EOF, nil, 0
		}
		return 0, nil, s.moved, 0
	}
	first := &s.chunks[0]
	if left := first.due.Sub(now); left > 0 {
		return 0, nil, s.moved, left
	}
	n = copy(p, first.data)
	first.data = first.data[n:]
	if len(first.data) == 0 {
		s.chunks = s.chunks[1:]
	}
	s.size -= n
	s.wakeLocked()
	return n, nil, nil, 0
}

//lint:ignore ST1008 n and err are the pair of io.Writer
func (s *stream) put(p []byte, due time.Time) (n int, err error, moved <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, s.err, nil
	}
	if s.ended {
		return 0, net.ErrClosed, nil // a writer that waits for room must not wait for ever
	}
	room := streamLimit - s.size
	if room <= 0 {
		return 0, nil, s.moved
	}
	n = min(room, len(p))
	s.chunks = append(s.chunks, chunk{due: due, data: append([]byte(nil), p[:n]...)})
	s.size += n
	s.wakeLocked()
	return n, nil, nil
}

func (c *conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		f, healed := c.n.fault(c.server)
		now := time.Now()
		n, err, moved, wait := c.in.take(p, now, f.Hold)
		if n > 0 || err != nil {
			return n, err
		}
		if err := c.await(now, moved, healed, wait, &c.readBy); err != nil {
			return 0, err
		}
	}
}

func (c *conn) Write(p []byte) (int, error) {
	total := 0
	for len(p) > 0 {
		f, healed := c.n.fault(c.server)
		now := time.Now()
		n, err, moved := c.out.put(p, now.Add(f.Delay))
		total += n
		p = p[n:]
		if err != nil {
			return total, err
		}
		if n == 0 {
			if err := c.await(now, moved, healed, 0, &c.writeBy); err != nil {
				return total, err
			}
		}
	}
	return total, nil
}

// await blocks until something may have changed, or the deadline is over.
func (c *conn) await(now time.Time, moved, healed <-chan struct{}, wait time.Duration, by *time.Time) error {
	c.mu.Lock()
	deadline, deadlineMoved := *by, c.deadlineMoved
	c.mu.Unlock()
	if !deadline.IsZero() {
		left := deadline.Sub(now)
		if left <= 0 {
			return os.ErrDeadlineExceeded
		}
		if wait == 0 || left < wait {
			wait = left
		}
	}
	var due <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-moved:
	case <-healed:
	case <-deadlineMoved:
	case <-due:
	}
	return nil
}

// Close ends both directions: the other end reads what was sent, then EOF, and
// its writes fail.
func (c *conn) Close() error {
	c.in.fail(net.ErrClosed) // first: what the other end says to the EOF is not read
	c.out.end()
	c.n.mu.Lock()
	delete(c.n.conns, c)
	c.n.mu.Unlock()
	return nil
}

func (c *conn) LocalAddr() net.Addr  { return c.local }
func (c *conn) RemoteAddr() net.Addr { return c.remote }

func (c *conn) SetDeadline(t time.Time) error {
	c.setDeadlines(func() { c.readBy, c.writeBy = t, t })
	return nil
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.setDeadlines(func() { c.readBy = t })
	return nil
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.setDeadlines(func() { c.writeBy = t })
	return nil
}

func (c *conn) setDeadlines(set func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	set()
	close(c.deadlineMoved)
	c.deadlineMoved = make(chan struct{})
}
