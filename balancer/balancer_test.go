package balancer

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"
)

// fake is a server that behaves as a test tells it.
type fake struct {
	*httptest.Server
	hits  atomic.Int64
	ready atomic.Bool
	mu    sync.Mutex
	serve http.HandlerFunc
}

func newFake(t *testing.T, serve http.HandlerFunc) *fake {
	t.Helper()
	f := &fake{serve: serve}
	f.ready.Store(true)
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/readyz" {
			if !f.ready.Load() {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			return
		}
		f.hits.Add(1)
		f.mu.Lock()
		serve := f.serve
		f.mu.Unlock()
		serve(w, r)
	}))
	t.Cleanup(func() {
		f.CloseClientConnections()
		f.Close()
	})
	return f
}

func (f *fake) behave(serve http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.serve = serve
}

func answer(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, text)
	}
}

// start runs a balancer over the servers until the test ends.
func start(t *testing.T, cfg Config, urls ...string) *Balancer {
	t.Helper()
	b, err := New(cfg, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.SetMembers(OriginJoin, urls); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return b
}

func get(t *testing.T, c *http.Client, path string) string {
	t.Helper()
	resp, err := c.Get("http://pool" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d %s", resp.StatusCode, data)
}

// eventually polls until ok, with a deadline that only a broken program meets.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func stateOf(b *Balancer, url string) EndpointStatus {
	for _, e := range b.Status().Endpoints {
		if e.URL == url {
			return e
		}
	}
	return EndpointStatus{}
}

func TestSequenceSpreadsEvenly(t *testing.T) {
	inWorld(t, DefaultConfig(), three, func(w *world) {
		for range 31 {
			w.ask("GET", "/x", time.Second)
		}
		for host, f := range w.fakes {
			if n, _ := f.counts(); n < 10 || n > 11 {
				t.Errorf("endpoint %s got %d of 31 requests, want 10 or 11", host, n)
			}
		}
	})
}

// refusing returns the URL of an address at which nothing listens, nor will: a
// connection to elsewhere has it.
func refusing(t *testing.T, elsewhere net.Addr) string {
	t.Helper()
	conn, err := net.Dial("tcp", elsewhere.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return "http://" + conn.LocalAddr().String()
}

func TestDeadEndpointIsPassedOver(t *testing.T) {
	t.Parallel()
	live := newFake(t, answer("live"))
	dead := refusing(t, live.Listener.Addr())
	b := start(t, DefaultConfig(), dead, live.URL)
	for i := range 40 {
		if got := get(t, b.Client(), "/x"); got != "200 live" {
			t.Fatalf("request %d: got %q, want it answered by the live one", i, got)
		}
	}
	eventually(t, "the dead endpoint goes out", func() bool { s := stateOf(b, dead).State; return s == Ejected || s == Down })
}

func TestHungEndpointIsHedgedAndEjected(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	fakes := []*fake{newFake(t, answer("a")), newFake(t, answer("b")), newFake(t, answer("c"))}
	b := start(t, DefaultConfig(), fakes[0].URL, fakes[1].URL, fakes[2].URL)
	for range 90 {
		get(t, b.Client(), "/x")
	}
	fakes[1].behave(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	})
	defer close(hang)
	var wg sync.WaitGroup
	for range 60 {
		wg.Go(func() {
			if got := get(t, b.Client(), "/x"); !strings.HasPrefix(got, "200 ") {
				t.Errorf("got %q", got)
			}
		})
	}
	wg.Wait()
	eventually(t, "the hung endpoint is ejected", func() bool {
		get(t, b.Client(), "/x")
		return stateOf(b, fakes[1].URL).State == Ejected
	})
	fakes[1].behave(answer("b"))
	eventually(t, "the healed endpoint is back", func() bool {
		get(t, b.Client(), "/x")
		return stateOf(b, fakes[1].URL).State == Healthy
	})
}

func TestWriteWithoutKeyIsSentOnce(t *testing.T) {
	t.Parallel()
	var runs atomic.Int64
	cut := func(w http.ResponseWriter, r *http.Request) {
		runs.Add(1)
		panic(http.ErrAbortHandler)
	}
	x, y := newFake(t, cut), newFake(t, cut)
	b := start(t, DefaultConfig(), x.URL, y.URL)
	resp, err := b.Client().Post("http://pool/vm", "text/plain", strings.NewReader("start"))
	if err == nil {
		resp.Body.Close()
		t.Fatalf("got %s, want an error", resp.Status)
	}
	if n := runs.Load(); n != 1 {
		t.Errorf("ran %d times, want once", n)
	}
}

// net/http itself sends some writes again when a connection that was used before
// is closed under them. Its reasons are not ours.
func TestTransportRepeatsNoWriteWithoutKey(t *testing.T) {
	t.Parallel()
	var runs, length atomic.Int64
	x := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			return
		}
		n, _ := io.Copy(io.Discard, r.Body)
		length.Store(r.ContentLength - n) // 0 when the length was announced as it is
		runs.Add(1)
		panic(http.ErrAbortHandler)
	})
	b := start(t, DefaultConfig(), x.URL)
	for _, header := range []string{"X-Idempotency-Key", IdempotencyHeader} {
		for _, method := range []string{http.MethodPost, http.MethodDelete} {
			for _, body := range []string{"", "start"} {
				get(t, b.Client(), "/warm")
				runs.Store(0)
				req, _ := http.NewRequest(method, "http://pool/vm", strings.NewReader(body))
				req.Header.Set(header, "")
				resp, err := b.Client().Do(req)
				if err == nil {
					resp.Body.Close()
					t.Fatalf("got %s, want an error", resp.Status)
				}
				if n := runs.Load(); n != 1 || length.Load() != 0 {
					t.Errorf("%s of %q with an empty %s ran %d times, want once, and with its length", method, body, header, n)
				}
			}
		}
	}
}

func TestWriteWithKeyIsRepeated(t *testing.T) {
	t.Parallel()
	bad := newFake(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	good := newFake(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	b := start(t, DefaultConfig(), bad.URL, good.URL)
	for range 4 {
		req, _ := http.NewRequest(http.MethodPost, "http://pool/vm", strings.NewReader("start"))
		req.Header.Set(IdempotencyHeader, "k")
		resp, err := b.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		data, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(data) != "start" {
			t.Errorf("body arrived as %q, want it whole", data)
		}
	}
}
