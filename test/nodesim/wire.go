package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// wire is the simulated nodes' way to the controllers: HTTP/1.1 on sockets, the
// controllers in turn, another one after a failure. net/http's client hands each
// request to two more goroutines a connection, and the balancer watches over each
// attempt; for ten thousand nodes in one process that is much of what two cores
// can do, and none of it is the cloud's. Answers must be small: they are read
// whole.
type wire struct {
	hosts []string
	turn  atomic.Uint32
	mu    sync.Mutex
	idle  map[string][]*wireConn // guarded by mu; by host, the one used last is the last
}

type wireConn struct {
	net.Conn
	in *bufio.Reader
}

const (
	// wireIdle connections are kept to each controller. Every node has a long poll
	// open, and a sync now and then on a connection that another has left: more
	// would only fill this process's table of files.
	wireIdle = 2000
	// wireBuffer is for the head of an answer.
	wireBuffer = 1 << 10
	// dialLimit is long, for a machine that runs both sides is slow to connect.
	dialLimit = 5 * time.Second
)

func newWire(urls []string) (*wire, error) {
	w := &wire{idle: make(map[string][]*wireConn)}
	for _, raw := range urls {
		u, err := url.Parse(raw)
		if err != nil {
			return nil, fmt.Errorf("--controllers: %w", err)
		}
		if u.Scheme != "http" || u.Port() == "" {
			return nil, fmt.Errorf("--controllers: %s: nodes are simulated over http://HOST:PORT only", raw)
		}
		w.hosts = append(w.hosts, u.Host)
	}
	return w, nil
}

// RoundTrip implements http.RoundTripper. Everything that nodes send may be sent
// twice.
func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	first := int(w.turn.Add(1))
	for i := 0; ; i++ {
		resp, err := w.try(req, w.hosts[(first+i)%len(w.hosts)])
		passing := err != nil || resp.StatusCode == http.StatusServiceUnavailable
		if !passing || i+1 == len(w.hosts) || req.Context().Err() != nil {
			return resp, err
		}
		if req.GetBody != nil {
			if req.Body, err = req.GetBody(); err != nil {
				return nil, err
			}
		}
	}
}

// try sends req to one controller, on an idle connection if there is one. The
// server may have closed that meanwhile: then a new one is taken.
func (w *wire) try(req *http.Request, host string) (*http.Response, error) {
	var out bytes.Buffer
	if err := req.Write(&out); err != nil {
		return nil, err
	}
	for {
		c, used, err := w.conn(req.Context(), host)
		if err != nil {
			return nil, err
		}
		resp, begun, err := c.exchange(req, out.Bytes())
		if err == nil && !resp.Close {
			w.keep(host, c)
			return resp, nil
		}
		_ = c.Close()
		if err == nil || !used || begun || req.Context().Err() != nil {
			return resp, err
		}
	}
}

func (w *wire) conn(ctx context.Context, host string) (c *wireConn, used bool, err error) {
	w.mu.Lock()
	if idle := w.idle[host]; len(idle) > 0 {
		c = idle[len(idle)-1]
		w.idle[host] = idle[:len(idle)-1]
	}
	w.mu.Unlock()
	if c != nil {
		return c, true, nil
	}
	conn, err := (&net.Dialer{Timeout: dialLimit}).DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, false, err
	}
	return &wireConn{conn, bufio.NewReaderSize(conn, wireBuffer)}, false, nil
}

func (w *wire) keep(host string, c *wireConn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.idle[host]) >= wireIdle {
		_ = c.Close()
		return
	}
	w.idle[host] = append(w.idle[host], c)
}

// close closes what is idle.
func (w *wire) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, conns := range w.idle {
		for _, c := range conns {
			_ = c.Close()
		}
	}
	clear(w.idle)
}

// exchange sends a request and reads its answer. begun reports whether some of
// the answer came. After an error the connection is of no use.
func (c *wireConn) exchange(req *http.Request, out []byte) (resp *http.Response, begun bool, err error) {
	ctx := req.Context()
	unwatch := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	resp, begun, err = c.call(req, out)
	if !unwatch() {
		return nil, begun, ctx.Err() // the deadline is set, or will be
	}
	return resp, begun, err
}

func (c *wireConn) call(req *http.Request, out []byte) (resp *http.Response, begun bool, err error) {
	if _, err := c.Write(out); err != nil {
		return nil, false, err
	}
	if _, err := c.in.Peek(1); err != nil {
		return nil, false, err
	}
	resp, err = http.ReadResponse(c.in, req)
	if err != nil {
		return nil, true, err
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, true, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, true, nil
}
