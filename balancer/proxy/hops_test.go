package proxy

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ankacluster/ankacluster/balancer"
)

// looped serves a proxy whose pool has the given servers, and counts what it is
// asked.
func looped(t *testing.T, l net.Listener, asked *atomic.Int64, servers ...string) {
	t.Helper()
	pool, err := balancer.New(balancer.DefaultConfig(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := pool.SetMembers(balancer.OriginJoin, servers); err != nil {
		t.Fatal(err)
	}
	p := New(Config{Control: pool}, nil)
	srv := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		p.ServeHTTP(w, r)
	})}}
	srv.Start()
	t.Cleanup(srv.Close)
}

func listen(t *testing.T) (net.Listener, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l, "http://" + l.Addr().String()
}

// A request that comes back to a proxy ends there with an answer that says so,
// whether the proxy is among its own servers or two name each other.
func TestLoopOfProxiesIsEndedAndNamed(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 3} {
		var asked atomic.Int64
		var listeners []net.Listener
		var urls []string
		for range n {
			l, u := listen(t)
			listeners, urls = append(listeners, l), append(urls, u)
		}
		for k, l := range listeners {
			looped(t, l, &asked, urls[(k+1)%n])
		}
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			asked.Store(0)
			req, err := http.NewRequest(method, urls[0]+"/api/v1/vm", strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != http.StatusLoopDetected || !strings.Contains(string(body), "loop: ") || !strings.Contains(string(body), strings.TrimPrefix(urls[0], "http://")) {
				t.Errorf("%d proxies, %s: got %d %q", n, method, resp.StatusCode, body)
			}
			if got := asked.Load(); got > int64(4*(n+1)) {
				t.Errorf("%d proxies, %s: one request was %d", n, method, got)
			}
		}
	}
}

// Proxies behind one another that are no loop work.
func TestProxyBehindAProxyIsNoLoop(t *testing.T) {
	t.Parallel()
	var hops atomic.Value
	end := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hops.Store(r.Header.Get(HeaderHops))
		_, _ = io.WriteString(w, "ok")
	}))
	defer end.Close()
	var asked atomic.Int64
	back, backURL := listen(t)
	looped(t, back, &asked, end.URL)
	front, frontURL := listen(t)
	looped(t, front, &asked, backURL)
	resp, err := http.Get(frontURL + "/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got, _ := hops.Load().(string); resp.StatusCode != 200 || strings.Count(got, ", ") != 1 {
		t.Errorf("got %d, hops %q", resp.StatusCode, got)
	}
}
