package serve

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"
)

// inRoom serves in a room of its own. Requests to /wait are answered when go on is closed.
func inRoom(t *testing.T, r *room) (addr string, waiting chan struct{}, goOn func()) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	waiting = make(chan struct{}, 100)
	end := make(chan struct{})
	srv := New(Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			waiting <- struct{}{}
			<-end
		}
		_, _ = io.Copy(io.Discard, r.Body)
	})})
	var served sync.WaitGroup
	served.Go(func() { _ = srv.Serve(r.listen(l)) })
	goOn = sync.OnceFunc(func() { close(end) })
	t.Cleanup(func() { goOn(); srv.Close(); served.Wait() })
	return l.Addr().String(), waiting, goOn
}

func dial(t *testing.T, addr string) net.Conn {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func ask(t *testing.T, c net.Conn, path string) *http.Response {
	t.Helper()
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return resp
}

func isClosed(c net.Conn) bool {
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	_, err := c.Read(make([]byte, 1))
	return err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}

// Connections without a request make room for those that have one.
func TestOldestQuietConnectionsEnd(t *testing.T) {
	r := newRoom(100, 3, 100)
	addr, waiting, goOn := inRoom(t, r)
	busy := dial(t, addr)
	fmt.Fprint(busy, "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
	<-waiting
	idle := dial(t, addr)
	ask(t, idle, "/")
	for quiet := 0; quiet == 0; runtime.Gosched() { // until it is idle for the server, too
		r.mu.Lock()
		quiet = r.clients["127.0.0.1"].quiet.Len()
		r.mu.Unlock()
	}
	slow := dial(t, addr)
	fmt.Fprint(slow, "GET / HTTP/1.1\r\nHost:")
	var quiet []net.Conn
	for range 3 {
		quiet = append(quiet, dial(t, addr))
	}
	last := dial(t, addr)
	ask(t, last, "/") // all before it have been accepted
	for name, c := range map[string]net.Conn{"after a request": idle, "in a header": slow, "oldest": quiet[0]} {
		if !isClosed(c) {
			t.Errorf("the connection %s is open", name)
		}
	}
	for _, c := range quiet[1:] {
		ask(t, c, "/")
	}
	goOn()
	if resp, err := http.ReadResponse(bufio.NewReader(busy), nil); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("the request under way: %v", err)
	}
}

// Beyond what the process may open, connections without a request end, and where all
// have one the new one does.
func TestProcessHasRoomForSoMany(t *testing.T) {
	r := newRoom(3, 100, 100)
	addr, waiting, goOn := inRoom(t, r)
	quiet := dial(t, addr)
	var busy []net.Conn
	for range 3 {
		c := dial(t, addr)
		fmt.Fprint(c, "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
		<-waiting
		busy = append(busy, c)
	}
	if !isClosed(quiet) || !isClosed(dial(t, addr)) {
		t.Error("a connection is open beyond what the process may have")
	}
	goOn()
	for _, c := range busy {
		if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
			t.Error(err)
		}
	}
	ask(t, dial(t, addr), "/") // there is room again
}

// Of an address so many requests send their bodies at a time, and others are served.
func TestBodiesOfAnAddressHaveANumber(t *testing.T) {
	r := newRoom(100, 100, 2)
	addr, _, _ := inRoom(t, r)
	var sending []net.Conn
	for range 2 {
		c := dial(t, addr)
		fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
		if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != http.StatusContinue {
			t.Fatalf("got %v, %v", resp, err)
		}
		sending = append(sending, c)
	}
	third := dial(t, addr)
	fmt.Fprint(third, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
	if resp, err := http.ReadResponse(bufio.NewReader(third), nil); err != nil || resp.StatusCode != http.StatusServiceUnavailable || !resp.Close {
		t.Errorf("the third: %v, %v", resp, err)
	}
	ask(t, dial(t, addr), "/")
	for _, c := range sending {
		fmt.Fprint(c, "12345")
		if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("got %v, %v", resp, err)
		}
		c.Close()
	}
	again := dial(t, addr)
	fmt.Fprint(again, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n1")
	if resp, err := http.ReadResponse(bufio.NewReader(again), nil); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("afterwards: %v, %v", resp, err)
	}
}

// Nothing is left of those that have gone.
func TestRoomForgetsClients(t *testing.T) {
	r := newRoom(100, 100, 100)
	addr, _, _ := inRoom(t, r)
	c := dial(t, addr)
	ask(t, c, "/")
	c.Close()
	other := dial(t, addr)
	for { // until the server has noticed
		ask(t, other, "/")
		r.mu.Lock()
		open, clients := r.open, len(r.clients)
		r.mu.Unlock()
		if open == 1 && clients == 1 {
			return
		}
	}
}
