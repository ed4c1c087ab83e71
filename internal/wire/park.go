package wire

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/ankacluster/ankacluster/internal/serve"
)

// Lot is where connections stay whose requests wait for long. net/http keeps some
// 30 KB for each request under way: its buffers, and the stacks of two goroutines
// of which one has grown. Park gives that up for two goroutines with small stacks;
// ParkAfter does so between two requests. When the client sends its next request,
// the connection goes back to the server, which takes it from the Lot as from any other net.Listener:
//
//	lot := wire.NewLot(l.Addr(), idle, leaving)
//	srv := serve.New(serve.Options{Handler: h, ConnContext: lot.ConnContext})
//	go srv.Serve(l)
//	go srv.Serve(lot)
//
// Only HTTP/1.1 without TLS can be parked. A Lot is safe for concurrent use.
type Lot struct {
	addr    net.Addr
	idle    time.Duration
	leaving func() bool

	ready  chan net.Conn // with a request that has begun; none is buffered, so none is lost at the end
	closed chan struct{}
	wg     sync.WaitGroup
	mu     sync.Mutex
	parked map[*parked]bool // guarded by mu; true for those that are answered
	ended  bool             // guarded by mu; closed is closed
}

// parked is a connection in a Lot, from Park until the next request or its end.
type parked struct {
	lot      *Lot
	conn     net.Conn
	cancel   context.CancelFunc
	answered chan struct{} // closed when the answer is sent, or will not be
	keep     bool          // valid once answered: the connection can take a request
}

// answerLimit bounds how long an answer may take to be sent to a client that does
// not read.
const answerLimit = time.Minute

type lotKey struct{}

// NewLot returns a Lot for connections that came from a listener at addr. A
// connection without a request is closed after idle, and each with its next
// answer once leaving says that the server drains.
func NewLot(addr net.Addr, idle time.Duration, leaving func() bool) *Lot {
	return &Lot{addr: addr, idle: idle, leaving: leaving,
		ready: make(chan net.Conn), closed: make(chan struct{}), parked: make(map[*parked]bool)}
}

// ConnContext is to be the http.Server's: it lets Park find the Lot.
func (l *Lot) ConnContext(ctx context.Context, c net.Conn) context.Context {
	if tcpConn(c) == nil {
		return ctx
	}
	return context.WithValue(ctx, lotKey{}, l)
}

// Accept returns the next connection with a request.
func (l *Lot) Accept() (net.Conn, error) {
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Addr returns the address that was given to NewLot.
func (l *Lot) Addr() net.Addr { return l.addr }

// Close closes the connections without a request. Those that wait for an answer
// still get it.
func (l *Lot) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return nil
	}
	l.ended = true
	close(l.closed)
	for p, answered := range l.parked {
		if answered {
			_ = p.conn.Close()
		}
	}
	return nil
}

// Drain waits for the answers of parked requests, after Close, and cuts those that
// are not there when ctx ends.
func (l *Lot) Drain(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for p := range l.parked {
			_ = p.conn.Close()
		}
	})
	defer stop()
	l.wg.Wait()
}

// ParkAfter runs h, sends its answer, and parks the connection until the next
// request comes: for calls of clients of which thousands keep a connection that
// they use every few seconds. h is given a ResponseWriter that keeps the answer.
// Where a connection cannot be parked it only runs h; nor is it parked when h has
// left a part of the request's body unread, which would be taken for a request.
func ParkAfter(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		lot := lotOf(r)
		if lot == nil {
			h.ServeHTTP(w, r)
			return
		}
		answer := &parkedWriter{header: w.Header()}
		body := &watchedBody{ReadCloser: r.Body}
		h.ServeHTTP(answer, serve.WithBody(r, body))
		p := &parked{lot: lot, cancel: func() {}, answered: make(chan struct{})}
		if !body.ended || !lot.enter(p, w) {
			answer.copyTo(w)
			return
		}
		p.finish(r.Context(), answer)
	})
}

// Park lets h answer the request of w, which has been read to its end and not been
// answered yet, after everything that net/http keeps for it has been let go. The caller
// must return at once. h is given a context that ends when the client goes away,
// and has the values of the request's; of the request it sees method, URL, pattern
// and address, and of the answer the headers set so far. Park reports false, and has
// done nothing, where a connection cannot be parked.
func Park(w http.ResponseWriter, r *http.Request, h http.Handler) bool {
	lot := lotOf(r)
	if lot == nil {
		return false
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	p := &parked{lot: lot, cancel: cancel, answered: make(chan struct{})}
	if !lot.enter(p, w) {
		cancel()
		return false
	}
	answer := &parkedWriter{header: w.Header().Clone()}
	request := (&http.Request{Method: r.Method, URL: r.URL, Pattern: r.Pattern, RemoteAddr: r.RemoteAddr, Header: http.Header{}, Body: http.NoBody}).WithContext(ctx)
	lot.wg.Go(func() {
		defer p.finish(ctx, answer)
		defer func() {
			if e := recover(); e == http.ErrAbortHandler {
				answer.code = 0 // finish closes the connection, as net/http would
			} else if e != nil {
				panic(e)
			}
		}()
		h.ServeHTTP(answer, request)
	})
	return true
}

// lotOf returns where the connection of r can be parked, or nil.
func lotOf(r *http.Request) *Lot {
	lot, _ := r.Context().Value(lotKey{}).(*Lot)
	if lot == nil || r.ProtoMajor != 1 || r.ProtoMinor < 1 || r.Close {
		return nil
	}
	return lot
}

// enter takes the connection of w, and watches it.
func (l *Lot) enter(p *parked, w http.ResponseWriter) bool {
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return false
	}
	p.conn = tcpConn(conn)
	_ = p.conn.SetDeadline(time.Time{}) // an error shows with the next call
	l.mu.Lock()
	l.parked[p] = false
	l.mu.Unlock()
	ahead, _ := buf.Reader.Peek(buf.Reader.Buffered()) // of the next request, from a client in a hurry
	ahead = bytes.Clone(ahead)
	l.wg.Go(func() { p.watch(ahead) })
	return true
}

// watch waits for the next request or the end of the connection.
func (p *parked) watch(ahead []byte) {
	if len(ahead) == 0 {
		ahead = make([]byte, 1)
		if _, err := p.conn.Read(ahead); err != nil {
			p.cancel()
			p.leave()
			_ = p.conn.Close()
			return
		}
	}
	<-p.answered
	p.leave()
	if !p.keep || p.conn.SetReadDeadline(time.Time{}) != nil {
		_ = p.conn.Close()
		return
	}
	select {
	case p.lot.ready <- &resumed{p.conn, ahead}:
	case <-p.lot.closed:
		_ = p.conn.Close()
	}
}

func (p *parked) leave() {
	p.lot.mu.Lock()
	defer p.lot.mu.Unlock()
	delete(p.lot.parked, p)
}

// finish sends the answer. A handler that wrote none, because the client went
// away or it panicked, ends the connection.
func (p *parked) finish(ctx context.Context, answer *parkedWriter) {
	defer p.cancel()
	defer close(p.answered)
	stay := !p.lot.leaving()
	if ctx.Err() != nil || answer.code == 0 || p.conn.SetWriteDeadline(time.Now().Add(answerLimit)) != nil || answer.send(p.conn, stay) != nil {
		stay = false
	}
	p.lot.mu.Lock()
	defer p.lot.mu.Unlock()
	if !stay || p.lot.ended || p.conn.SetWriteDeadline(time.Time{}) != nil || p.conn.SetReadDeadline(time.Now().Add(p.lot.idle)) != nil {
		_ = p.conn.Close()
		return
	}
	p.keep = true
	if _, here := p.lot.parked[p]; here {
		p.lot.parked[p] = true
	}
}

// watchedBody notes whether it was read to its end.
type watchedBody struct {
	io.ReadCloser
	ended bool
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.ended = b.ended || err == io.EOF
	return n, err
}

// parkedWriter keeps an answer until it is complete.
type parkedWriter struct {
	header http.Header
	code   int // 0 for none yet
	body   bytes.Buffer
}

func (w *parkedWriter) Header() http.Header { return w.header }

func (w *parkedWriter) WriteHeader(code int) {
	if w.code == 0 {
		w.code = code
	}
}

func (w *parkedWriter) Write(data []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(data)
}

func (w *parkedWriter) copyTo(to http.ResponseWriter) {
	if w.code != 0 {
		to.WriteHeader(w.code)
	}
	_, _ = w.body.WriteTo(to) // the client went away; there is nobody to tell
}

func (w *parkedWriter) send(conn io.Writer, stay bool) error {
	w.header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	w.header.Set("Content-Length", strconv.Itoa(w.body.Len()))
	if !stay {
		w.header.Set("Connection", "close")
	}
	out := bytes.NewBuffer(make([]byte, 0, 512+w.body.Len()))
	fmt.Fprintf(out, "HTTP/1.1 %03d %s\r\n", w.code, http.StatusText(w.code))
	if err := w.header.Write(out); err != nil {
		return err
	}
	out.WriteString("\r\n")
	out.Write(w.body.Bytes())
	_, err := conn.Write(out.Bytes())
	return err
}

// resumed is a connection that was parked, with what was read of its next request.
type resumed struct {
	net.Conn
	ahead []byte
}

// NetConn returns the connection as it was before.
func (c *resumed) NetConn() net.Conn { return c.Conn }

func (c *resumed) Read(p []byte) (int, error) {
	if len(c.ahead) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.ahead)
	c.ahead = c.ahead[n:]
	return n, nil
}

// tcpConn returns the TCP connection that c is, or nil.
func tcpConn(c net.Conn) net.Conn {
	switch own := c.(type) {
	case *net.TCPConn:
		return own
	case *resumed:
		return own.Conn
	case *serve.Conn:
		if _, ok := own.Conn.(*net.TCPConn); ok {
			return own
		}
	}
	return nil
}
