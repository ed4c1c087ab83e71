package wire

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/internal/access"
)

// parkingServer parks every request to /wait until a word comes for it; the
// answer is the word. It answers others with the client's address.
type parkingServer struct {
	addr    string
	lot     *Lot
	http    *http.Server
	leaving atomic.Bool
	words   chan string
	waiting chan struct{} // gets one for each request that is parked
	gone    chan error    // gets the context's error of each whose client went away
	served  chan error    // ends of Serve
	stop    func(context.Context) error
}

func startParking(t *testing.T) *parkingServer {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &parkingServer{addr: ln.Addr().String(), words: make(chan string), waiting: make(chan struct{}, 10), gone: make(chan error, 10), served: make(chan error, 2)}
	s.lot = NewLot(ln.Addr(), time.Minute, s.leaving.Load)
	wait := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.waiting <- struct{}{}
		select {
		case word := <-s.words:
			switch word {
			case "panic":
				panic(word)
			case "abort":
				panic(http.ErrAbortHandler)
			}
			_, _ = io.WriteString(w, word+" "+RequestID(r.Context())+" "+access.From(r.Context()).String())
		case <-r.Context().Done():
			s.gone <- r.Context().Err()
		}
	})
	s.http = &http.Server{ConnContext: s.lot.ConnContext, Handler: WithRequestID((&API{Log: zap.NewNop(), Guard: access.Guard{Authenticator: always{"ada"}}}).Protect(access.ListVMs, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/unread" {
			ParkAfter(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusRequestEntityTooLarge)
				_, _ = io.WriteString(w, "too large")
			})).ServeHTTP(w, r)
			return
		}
		if r.URL.Path == "/after" {
			ParkAfter(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				w.WriteHeader(http.StatusTeapot)
				_, _ = io.WriteString(w, r.RemoteAddr)
			})).ServeHTTP(w, r)
			return
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Error(err)
		}
		if r.URL.Path != "/wait" {
			_, _ = io.WriteString(w, r.RemoteAddr)
		} else if !Park(w, r, Recover(zap.NewNop(), wait)) {
			t.Error("not parked")
		}
	})))}
	go func() { s.served <- s.http.Serve(ln) }()
	go func() { s.served <- s.http.Serve(s.lot) }()
	s.stop = func(ctx context.Context) error {
		err := s.http.Shutdown(ctx)
		s.lot.Drain(ctx)
		return err
	}
	t.Cleanup(func() {
		_ = s.http.Close()
		cut, now := context.WithCancel(context.Background())
		now()
		s.lot.Drain(cut)
		for range 2 {
			if err := <-s.served; !errors.Is(err, http.ErrServerClosed) {
				t.Errorf("serve: %v", err)
			}
		}
	})
	return s
}

// rawConn is a client that writes and reads one connection.
type rawConn struct {
	net.Conn
	in *bufio.Reader
}

func (s *parkingServer) dial(t *testing.T) *rawConn {
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &rawConn{c, bufio.NewReader(c)}
}

func request(path string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nX-Request-Id: id-of-%s\r\nContent-Length: 2\r\n\r\n{}", path, path)
}

func (c *rawConn) send(t *testing.T, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

func (c *rawConn) answer(t *testing.T) (string, *http.Response) {
	t.Helper()
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body), resp
}

func TestParkedConnectionServesOn(t *testing.T) {
	t.Parallel()
	s := startParking(t)
	c := s.dial(t)
	for _, word := range []string{"one", "two"} {
		c.send(t, request("/wait"))
		<-s.waiting
		s.words <- word
		body, resp := c.answer(t)
		if body != word+" id-of-/wait user:ada" || resp.StatusCode != 200 || resp.Header.Get(RequestIDHeader) != "id-of-/wait" || resp.Header.Get("Date") == "" || resp.Close {
			t.Errorf("got %q %v", body, resp)
		}
	}
	c.send(t, request("/other"))
	if body, _ := c.answer(t); body != c.LocalAddr().String() {
		t.Errorf("the same connection answers as %q, want %q", body, c.LocalAddr())
	}
}

func TestConnectionIsParkedBetweenRequests(t *testing.T) {
	t.Parallel()
	s := startParking(t)
	c := s.dial(t)
	for range 2 {
		c.send(t, request("/after"))
		if body, resp := c.answer(t); body != c.LocalAddr().String() || resp.StatusCode != http.StatusTeapot || resp.Header.Get(RequestIDHeader) != "id-of-/after" {
			t.Errorf("got %q %v", body, resp)
		}
		s.lot.mu.Lock()
		if len(s.lot.parked) != 1 {
			t.Errorf("%d connections are parked after the answer, want 1", len(s.lot.parked))
		}
		s.lot.mu.Unlock()
	}
	c.send(t, request("/other"))
	if body, _ := c.answer(t); body != c.LocalAddr().String() {
		t.Errorf("the same connection answers as %q, want %q", body, c.LocalAddr())
	}
	c.send(t, "POST /after HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}")
	if body, resp := c.answer(t); body != c.LocalAddr().String() || resp.StatusCode != http.StatusTeapot {
		t.Errorf("HTTP/1.0: got %q %v", body, resp)
	}
}

// What a handler leaves of a request must not be taken for the next request: it
// would be the word of whoever wrote the first.
func TestRestOfARequestIsNoRequest(t *testing.T) {
	t.Parallel()
	s := startParking(t)
	c := s.dial(t)
	inner := request("/other")
	c.send(t, fmt.Sprintf("POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(inner), inner))
	if body, resp := c.answer(t); body != "too large" || resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("got %d %q", resp.StatusCode, body)
	}
	c.send(t, request("/after"))
	if body, resp := c.answer(t); resp.StatusCode != http.StatusTeapot || resp.Header.Get(RequestIDHeader) != "id-of-/after" {
		t.Errorf("the next answer is %d %q for %q, want that of the next request", resp.StatusCode, body, resp.Header.Get(RequestIDHeader))
	}
}

func TestClientThatGoesAwayEndsItsParkedRequest(t *testing.T) {
	t.Parallel()
	s := startParking(t)
	c := s.dial(t)
	c.send(t, request("/wait"))
	<-s.waiting
	_ = c.Close()
	if err := <-s.gone; !errors.Is(err, context.Canceled) {
		t.Errorf("context ended with %v", err)
	}
}

func TestRequestAheadOfAParkedOnesAnswerComesAfterIt(t *testing.T) {
	t.Parallel()
	s := startParking(t)
	for name, send := range map[string]func(*rawConn){
		"in one piece": func(c *rawConn) { c.send(t, request("/wait")+request("/other")); <-s.waiting },
		"later":        func(c *rawConn) { c.send(t, request("/wait")); <-s.waiting; c.send(t, request("/other")) },
	} {
		c := s.dial(t)
		send(c)
		s.words <- "first"
		if body, _ := c.answer(t); !strings.HasPrefix(body, "first") {
			t.Errorf("%s: first answer %q", name, body)
		}
		if body, _ := c.answer(t); body != c.LocalAddr().String() {
			t.Errorf("%s: second answer %q", name, body)
		}
	}
}

func TestPanicOfAParkedHandlerIsAnAnswer(t *testing.T) {
	t.Parallel()
	s := startParking(t)
	c := s.dial(t)
	c.send(t, request("/wait"))
	<-s.waiting
	s.words <- "panic"
	if body, resp := c.answer(t); resp.StatusCode != 500 || !strings.Contains(body, "internal error") {
		t.Errorf("got %d %q", resp.StatusCode, body)
	}
}

func TestParkedHandlerThatAbortsEndsItsConnectionAlone(t *testing.T) {
	t.Parallel()
	s := startParking(t)
	c, other := s.dial(t), s.dial(t)
	for _, c := range []*rawConn{c, other} {
		c.send(t, request("/wait"))
		<-s.waiting
	}
	s.words <- "abort"
	s.words <- "one"
	ended := 0
	for _, c := range []*rawConn{c, other} {
		if resp, err := http.ReadResponse(c.in, nil); err != nil {
			ended++
		} else if body, _ := io.ReadAll(resp.Body); !strings.HasPrefix(string(body), "one ") {
			t.Errorf("got %q", body)
		}
	}
	if ended != 1 {
		t.Errorf("%d connections ended, want 1", ended)
	}
}

func TestShutdownWaitsForParkedRequests(t *testing.T) {
	t.Parallel()
	s := startParking(t)
	idle, waits := s.dial(t), s.dial(t)
	for _, c := range []*rawConn{idle, waits} {
		c.send(t, request("/wait"))
		<-s.waiting
	}
	s.words <- "one"
	s.words <- "two"
	for _, c := range []*rawConn{idle, waits} {
		c.answer(t)
	}
	waits.send(t, request("/wait"))
	<-s.waiting
	s.leaving.Store(true)
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop(context.Background()) }()
	if _, err := idle.in.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("the idle connection: %v, want it closed", err)
	}
	select {
	case err := <-stopped:
		t.Errorf("stopped (%v) before the parked request had its answer", err)
	default:
	}
	s.words <- "last"
	if body, resp := waits.answer(t); !strings.HasPrefix(body, "last") || !resp.Close {
		t.Errorf("got %q, close %v; want the last word and the connection's end", body, resp.Close)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestDrainCutsWhatIsLate(t *testing.T) {
	t.Parallel()
	s := startParking(t)
	c := s.dial(t)
	c.send(t, request("/wait"))
	<-s.waiting
	over, cancel := context.WithCancel(t.Context())
	cancel()
	_ = s.stop(over)
	if err := <-s.gone; !errors.Is(err, context.Canceled) {
		t.Errorf("context ended with %v", err)
	}
	if _, err := c.in.ReadByte(); err == nil {
		t.Error("the connection is open")
	}
}

func TestWhatCannotBeParkedStays(t *testing.T) {
	t.Parallel()
	never := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("ran") })
	if Park(httptest.NewRecorder(), httptest.NewRequest("POST", "/wait", nil), never) {
		t.Error("parked without a connection")
	}
	rec := httptest.NewRecorder()
	ParkAfter(http.NotFoundHandler()).ServeHTTP(rec, httptest.NewRequest("POST", "/after", nil))
	if rec.Code != http.StatusNotFound {
		t.Errorf("without a connection to park: got %d, want the handler's 404", rec.Code)
	}
	lot := NewLot(nil, time.Minute, func() bool { return false })
	secured, other := net.Pipe() // as a tls.Conn, not a plain TCP connection
	defer secured.Close()
	defer other.Close()
	if ctx := lot.ConnContext(t.Context(), secured); ctx.Value(lotKey{}) != nil {
		t.Error("a connection that is not plain TCP would be parked")
	}
}
