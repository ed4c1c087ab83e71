package wire

import (
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/internal/serve"
)

// FuzzParkedLikePlain: a connection that is parked between its requests sees those that
// net/http alone sees: what follows a broken body is no request.
func FuzzParkedLikePlain(f *testing.F) {
	f.Add([]byte("POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nmalformed\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"))
	f.Add([]byte("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}GET /b HTTP/1.1\r\nHost: a\r\n\r\n"))
	f.Fuzz(func(t *testing.T, sent []byte) {
		plain, parked := requestsOf(t, sent, false), requestsOf(t, sent, true)
		if len(parked) > len(plain) || !slices.Equal(parked, plain[:len(parked)]) {
			t.Fatalf("%q: parked %q, plain %q", sent, parked, plain)
		}
	})
}

// requestsOf returns what a server takes for requests.
func requestsOf(t *testing.T, sent []byte, park bool) []string {
	var mu sync.Mutex
	var seen []string
	var h http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, r.Method+" "+r.URL.Path)
		w.WriteHeader(http.StatusOK)
	})
	if park {
		h = ParkAfter(h)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	lot := NewLot(l.Addr(), time.Minute, func() bool { return false })
	srv := serve.New(serve.Options{Handler: h, ConnContext: lot.ConnContext})
	var served sync.WaitGroup
	served.Go(func() { _ = srv.Serve(l) })
	served.Go(func() { _ = srv.Serve(lot) })
	defer served.Wait()
	defer srv.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = c.Write(sent)
	_ = c.(*net.TCPConn).CloseWrite()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.Copy(io.Discard, c) // until the server has no more to say
	mu.Lock()
	defer mu.Unlock()
	return slices.Clone(seen)
}
