package serve

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener in memory, for virtual time.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// inBubble serves h in virtual time and calls f with one connection to it.
func inBubble(t *testing.T, h http.HandlerFunc, f func(t *testing.T, c net.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		l := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
		srv := New(Options{Handler: h})
		var served sync.WaitGroup
		served.Go(func() { _ = srv.Serve(newRoom(10, 10, 10).listen(l)) })
		here, there := net.Pipe()
		l.conns <- there
		f(t, here)
		here.Close()
		srv.Close()
		served.Wait()
		time.Sleep(time.Second) // net/http waits half of one after a refusal
	})
}

// A body that trickles ends, and what its handler had read is there.
func TestSlowBodyEnds(t *testing.T) {
	var got int64
	var err error
	inBubble(t, func(_ http.ResponseWriter, r *http.Request) { got, err = io.Copy(io.Discard, r.Body) }, func(t *testing.T, c net.Conn) {
		begin := time.Now()
		go func() { _, _ = io.Copy(io.Discard, c) }()
		_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
		for range 100 {
			if _, werr := c.Write([]byte("x")); werr != nil {
				break
			}
			time.Sleep(7 * time.Second)
		}
		if took := time.Since(begin); took < paceGrace || took > paceGrace+10*time.Second {
			t.Errorf("it ended after %v", took)
		}
	})
	if got < 4 || got > 6 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %d bytes: %v", got, err)
	}
}

// A body that comes at a rate takes as long as it takes.
func TestSteadyBodyHasNoEnd(t *testing.T) {
	const pieces = 600
	var got int64
	var err error
	inBubble(t, func(_ http.ResponseWriter, r *http.Request) { got, err = io.Copy(io.Discard, r.Body) }, func(t *testing.T, c net.Conn) {
		_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
		data := "5000\r\n" + strings.Repeat("x", 0x5000) + "\r\n"
		for range pieces {
			if _, werr := io.WriteString(c, data); werr != nil {
				t.Fatal(werr)
			}
			time.Sleep(time.Second)
		}
		_, _ = io.WriteString(c, "0\r\n\r\n")
		if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
			t.Error(err)
		}
	})
	if got != pieces*0x5000 || err != nil {
		t.Errorf("read %d bytes: %v", got, err)
	}
}

// A client that does not take its answer is left, however the handler sends it.
func TestAnswerThatNobodyTakesEnds(t *testing.T) {
	for name, send := range map[string]func(w http.ResponseWriter) error{
		"written": func(w http.ResponseWriter) (err error) {
			for err == nil {
				_, err = w.Write(make([]byte, 1000))
			}
			return err
		},
		"copied": func(w http.ResponseWriter) error { _, err := io.Copy(w, endless{}); return err },
	} {
		var err error
		var took time.Duration
		inBubble(t, func(w http.ResponseWriter, _ *http.Request) {
			begin := time.Now()
			err = send(w)
			took = time.Since(begin)
		}, func(_ *testing.T, c net.Conn) {
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			buf := make([]byte, 1)
			for { // a byte now and then
				if _, err := c.Read(buf); err != nil {
					return
				}
				time.Sleep(10 * time.Second)
			}
		})
		if !errors.Is(err, os.ErrDeadlineExceeded) || took < paceGrace || took > paceGrace+took2(piece) {
			t.Errorf("%s: ended after %v: %v", name, took, err)
		}
	}
}

func took2(bytes int64) time.Duration { return took(bytes) + time.Second }

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// What the server waits for by itself has no time: a long poll, a source that is slow.
func TestLongPollsHaveNoEnd(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"with an answer": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			time.Sleep(time.Hour)
			_, _ = io.WriteString(w, "late")
		},
		"without": func(w http.ResponseWriter, r *http.Request) { time.Sleep(time.Hour) },
		"status": func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Hour)
			w.WriteHeader(http.StatusNoContent)
		},
	} {
		inBubble(t, h, func(t *testing.T, c net.Conn) {
			for range 2 { // the next request on the connection is as the first
				_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}")
				resp, err := http.ReadResponse(bufio.NewReader(c), nil)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
			}
		})
	}
}

// A handler's own deadline counts where it is the earlier one.
func TestHandlersMayBeStricter(t *testing.T) {
	var took time.Duration
	inBubble(t, func(w http.ResponseWriter, r *http.Request) {
		begin := time.Now()
		_ = http.NewResponseController(w).SetReadDeadline(begin.Add(5 * time.Second))
		_, _ = io.Copy(io.Discard, r.Body)
		took = time.Since(begin)
	}, func(_ *testing.T, c net.Conn) {
		_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
		_, _ = io.Copy(io.Discard, c)
	})
	if took != 5*time.Second {
		t.Errorf("ended after %v", took)
	}
}

// A large header is refused.
func TestHeadersHaveASize(t *testing.T) {
	inBubble(t, func(http.ResponseWriter, *http.Request) { t.Error("it came through") }, func(t *testing.T, c net.Conn) {
		go func() {
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nX: "+strings.Repeat("x", 80<<10)+"\r\n\r\n")
		}()
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("got %v, %v", resp, err)
		}
	})
}
