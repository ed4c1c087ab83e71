package serve

import (
	"container/list"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// What the clients of this process may hold. A connection is quiet until all headers
// of a request have come, and again between two requests: that costs a client nothing,
// so the oldest quiet ones end where there are too many. A client that means it sends
// its request at once, and is not among them.
const (
	// mostQuiet is how many quiet connections an address may have: those of a proxy in
	// front of all nodes, and 50 MB of memory.
	mostQuiet = 4096
	// mostReceiving is how many requests of an address may be sending their bodies.
	mostReceiving = 1024
)

// room is what all listeners of this process share: descriptors are the process's.
type room struct {
	most, quiet, receiving int

	mu      sync.Mutex
	open    int                // guarded by mu
	clients map[string]*client // guarded by mu
	warned  time.Time          // guarded by mu
	warn    func(string)       // guarded by mu; nil is silent
}

// client is an address.
type client struct {
	open, receiving int
	quiet           list.List // of *Conn, the oldest first
}

// process is the room of this process.
var process = sync.OnceValue(func() *room { return newRoom(descriptors()*3/4, mostQuiet, mostReceiving) })

func newRoom(most, quiet, receiving int) *room {
	return &room{most: most, quiet: quiet, receiving: receiving, clients: make(map[string]*client)}
}

// descriptors is how many files and connections this process may have. A quarter of
// them stays for etcd, which ends the process without, for disks and for other servers.
func descriptors() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > 1<<20 {
		return 1 << 20
	}
	return int(limit.Cur)
}

// Listen returns a listener whose connections have a place in the process.
func Listen(l net.Listener) net.Listener { return process().listen(l) }

func (r *room) listen(l net.Listener) net.Listener { return &listener{l, r} }

type listener struct {
	net.Listener
	room *room
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c, ok := l.room.enter(c); ok {
			return c, nil
		}
	}
}

// Conn is a connection of a client.
type Conn struct {
	net.Conn
	room *room
	from string
	own  *client
	at   *list.Element // guarded by room.mu; nil while a request is being answered
	left bool          // guarded by room.mu
}

func (r *room) enter(conn net.Conn) (net.Conn, bool) {
	c := &Conn{Conn: conn, room: r}
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		c.from = tcp.IP.String()
	}
	r.mu.Lock()
	victim := r.makeRoomLocked(c.from)
	if r.open-count(victim) >= r.most {
		r.warnLocked("a connection was refused: %d are open, and each has a request", r.open)
		r.mu.Unlock()
		_ = conn.Close()
		return nil, false
	}
	c.own = r.clients[c.from]
	if c.own == nil {
		c.own = new(client)
		r.clients[c.from] = c.own
	}
	r.open++
	c.own.open++
	c.at = c.own.quiet.PushBack(c)
	r.mu.Unlock()
	if victim != nil {
		victim.evict()
	}
	return c, true
}

func count(c *Conn) int {
	if c == nil {
		return 0
	}
	return 1
}

// makeRoomLocked returns the connection that has to end for another of from, or nil.
func (r *room) makeRoomLocked(from string) *Conn {
	of := r.clients[from]
	if of != nil && of.quiet.Len() >= r.quiet {
		r.warnLocked("the oldest connections without a request end: %s has %d", from, of.quiet.Len())
		return of.quiet.Front().Value.(*Conn)
	}
	if r.open < r.most {
		return nil
	}
	of = nil
	for _, c := range r.clients { // rare, and some microseconds for thousands
		if of == nil || c.quiet.Len() > of.quiet.Len() {
			of = c
		}
	}
	if of == nil || of.quiet.Len() == 0 {
		return nil
	}
	r.warnLocked("the oldest connections without a request end: %d are open", r.open)
	return of.quiet.Front().Value.(*Conn)
}

func (r *room) warnLocked(format string, args ...any) {
	if now := time.Now(); r.warn != nil && now.Sub(r.warned) > time.Minute {
		r.warned = now
		r.warn(fmt.Sprintf(format, args...))
	}
}

// ReadFrom lets the kernel move files and what comes from other connections.
func (c *Conn) ReadFrom(src io.Reader) (int64, error) {
	if to, ok := c.Conn.(io.ReaderFrom); ok {
		return to.ReadFrom(src)
	}
	return io.Copy(struct{ io.Writer }{c.Conn}, src)
}

// evict closes c, unless a request has come meanwhile.
func (c *Conn) evict() {
	c.room.mu.Lock()
	quiet := c.at != nil
	c.room.mu.Unlock()
	if quiet {
		_ = c.Close()
	}
}

// Close gives the place back.
func (c *Conn) Close() error {
	err := c.Conn.Close()
	r := c.room
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.left {
		return err
	}
	c.left = true
	c.busyLocked()
	r.open--
	c.own.open--
	r.forgetLocked(c)
	return err
}

// forgetLocked forgets an address of which nothing is left.
func (r *room) forgetLocked(c *Conn) {
	if c.own.open == 0 && c.own.receiving == 0 && r.clients[c.from] == c.own {
		delete(r.clients, c.from)
	}
}

func (c *Conn) busyLocked() {
	if c.at != nil {
		c.own.quiet.Remove(c.at)
		c.at = nil
	}
}

// busy: the headers of a request are here. receives is true where a body is to come;
// it is false as the answer where there are too many of them.
func (c *Conn) busy(receives bool) bool {
	r := c.room
	r.mu.Lock()
	defer r.mu.Unlock()
	c.busyLocked()
	if !receives {
		return true
	}
	if c.own.receiving >= r.receiving {
		r.warnLocked("a request was refused: %s is sending the bodies of %d others", c.from, c.own.receiving)
		return false
	}
	c.own.receiving++
	return true
}

// received: the body that busy was told of has come, or will not.
func (c *Conn) received() {
	c.room.mu.Lock()
	defer c.room.mu.Unlock()
	c.own.receiving--
	c.room.forgetLocked(c)
}

// idle: the request has been answered.
func (c *Conn) idle() {
	c.room.mu.Lock()
	defer c.room.mu.Unlock()
	if !c.left && c.at == nil {
		c.at = c.own.quiet.PushBack(c)
	}
}

// ConnOf returns the Conn below c, which may be one of TLS, or nil.
func ConnOf(c net.Conn) *Conn {
	for {
		switch below := c.(type) {
		case *Conn:
			return below
		case interface{ NetConn() net.Conn }:
			c = below.NetConn()
		default:
			return nil
		}
	}
}
