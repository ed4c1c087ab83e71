package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/ankacluster/ankacluster/balancer"
	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/test/faultnet"
)

func startPool(t *testing.T, cfg balancer.Config, urls []string) *balancer.Balancer {
	t.Helper()
	b, err := balancer.New(cfg, zaptest.NewLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.SetMembers(balancer.OriginJoin, urls); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return b
}

// patient is cfg for tests that are not about time: the machine may stand still
// for seconds, and no endpoint is left for that.
func patient(cfg balancer.Config) balancer.Config {
	cfg.ConnectTimeout, cfg.ConnectRace, cfg.Probe.Timeout, cfg.Hedge.Initial, cfg.Hedge.Min = time.Minute, time.Minute, time.Minute, time.Minute, time.Minute
	cfg.Stall.Timeout, cfg.Retry.MaxElapsed = time.Minute, time.Minute
	return cfg
}

// startProxy serves a proxy over the urls and returns its address.
func startProxy(t *testing.T, registry bool, urls ...string) string {
	t.Helper()
	if registry {
		return startRegistryProxy(t, patient(balancer.BlobConfig()), urls...)
	}
	return serveProxy(t, Config{Control: startPool(t, patient(balancer.DefaultConfig()), urls)})
}

func startRegistryProxy(t *testing.T, blob balancer.Config, urls ...string) string {
	t.Helper()
	return serveProxy(t, Config{Control: startPool(t, patient(balancer.DefaultConfig()), urls), Blob: startPool(t, blob, urls), Step: oci.Step})
}

func serveProxy(t *testing.T, cfg Config) string {
	t.Helper()
	cfg.FirstContact = time.Minute // the backends are there, if the machine lets them
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := Server{Listener: ln, Handler: New(cfg, zaptest.NewLogger(t)), Grace: time.Second}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return "http://" + ln.Addr().String()
}

func backend(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			h(w, r)
		}
	}))
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s
}

func read(t *testing.T, resp *http.Response, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestHeadersPassBothWays(t *testing.T) {
	t.Parallel()
	s := backend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header()["X-Many"] = []string{"1", "2"}
		w.Header().Set("X-Saw", r.Header.Get("X-Custom")+"|"+r.URL.RequestURI()+"|"+r.Host)
		w.WriteHeader(http.StatusTeapot)
	})
	addr := startProxy(t, false, s.URL)
	req, _ := http.NewRequest(http.MethodGet, addr+"/api/v1/vm?id=a%2Fb&tag=x+y", nil)
	req.Header.Set("X-Custom", "v")
	resp, err := http.DefaultClient.Do(req)
	read(t, resp, err)
	want := "v|/api/v1/vm?id=a%2Fb&tag=x+y|" + strings.TrimPrefix(s.URL, "http://")
	if got := resp.Header.Get("X-Saw"); got != want {
		t.Errorf("the endpoint saw %q, want %q", got, want)
	}
	if resp.StatusCode != http.StatusTeapot || len(resp.Header["X-Many"]) != 2 {
		t.Errorf("got %d %v, want 418 and both values", resp.StatusCode, resp.Header["X-Many"])
	}
}

// Headers that concern one connection stay on it, both ways, and where a request
// came from is told, whatever it says itself.
func TestHeadersOfOneConnectionStay(t *testing.T) {
	t.Parallel()
	var saw http.Header
	s := backend(t, func(w http.ResponseWriter, r *http.Request) {
		saw = r.Header.Clone()
		w.Header().Set("Connection", "X-Hop")
		w.Header().Set("X-Hop", "1")
		w.Header().Set("Keep-Alive", "timeout=5")
		w.Header().Set("X-Kept", "1")
	})
	addr := startProxy(t, false, s.URL)
	req, _ := http.NewRequest(http.MethodGet, addr+"/x", nil)
	for name, value := range map[string]string{"Connection": "x-mine, keep-alive", "X-Mine": "1", "Keep-Alive": "timeout=9", "Proxy-Authorization": "Basic x",
		"Te": "trailers, gzip", "X-Forwarded-For": "192.0.2.1", "Forwarded": "for=192.0.2.1", "X-Kept": "1"} {
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	read(t, resp, err)
	for _, name := range []string{"Connection", "X-Mine", "Keep-Alive", "Proxy-Authorization", "Forwarded"} {
		if v := saw[name]; v != nil {
			t.Errorf("the endpoint saw %s: %q", name, v)
		}
	}
	for name, want := range map[string]string{"X-Kept": "1", "Te": "trailers", "X-Forwarded-For": "127.0.0.1",
		"X-Forwarded-Host": strings.TrimPrefix(addr, "http://"), "X-Forwarded-Proto": "http"} {
		if got := saw.Get(name); got != want {
			t.Errorf("the endpoint saw %s: %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"X-Hop", "Keep-Alive"} {
		if v := resp.Header[name]; v != nil {
			t.Errorf("the client saw %s: %q", name, v)
		}
	}
	if resp.Header.Get("X-Kept") != "1" {
		t.Error("an ordinary header was lost")
	}
}

// What the endpoint does not say of its answer, the proxy does not make up.
func TestNoHeaderIsAdded(t *testing.T) {
	t.Parallel()
	s := backend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Content-Type"] = nil
		io.WriteString(w, "<html>what is it?")
	})
	resp, err := http.Get(startProxy(t, false, s.URL) + "/x")
	read(t, resp, err)
	for name := range resp.Header {
		if name != "Content-Length" && name != "Date" {
			t.Errorf("the answer has %s: %q", name, resp.Header[name])
		}
	}
}

func TestHeadHasLengthAndNoBody(t *testing.T) {
	t.Parallel()
	s := backend(t, func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Content-Length", "1234567") })
	resp, err := http.Head(startProxy(t, false, s.URL) + "/x")
	if body := read(t, resp, err); body != "" || resp.ContentLength != 1234567 {
		t.Errorf("got length %d and body %q, want 1234567 and none", resp.ContentLength, body)
	}
}

func TestRangePasses(t *testing.T) {
	t.Parallel()
	s := backend(t, func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "x", time.Time{}, strings.NewReader("0123456789"))
	})
	req, _ := http.NewRequest(http.MethodGet, startProxy(t, true, s.URL)+"/v2/a/blobs/x", nil)
	req.Header.Set("Range", "bytes=2-4")
	resp, err := http.DefaultClient.Do(req)
	if got := read(t, resp, err); got != "234" || resp.StatusCode != http.StatusPartialContent {
		t.Errorf("got %d %q, want 206 and 234", resp.StatusCode, got)
	}
}

func TestChunkedBodiesAndTrailersPass(t *testing.T) {
	t.Parallel()
	s := backend(t, func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "X-Sum")
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		fmt.Fprintf(w, "%s %d %s", data, r.ContentLength, r.Trailer.Get("X-Up"))
		w.Header().Set("X-Sum", "s")
	})
	req, _ := http.NewRequest(http.MethodPost, startProxy(t, false, s.URL)+"/x", io.MultiReader(strings.NewReader("ab"), strings.NewReader("cd")))
	req.Trailer = http.Header{"X-Up": {"t"}}
	resp, err := http.DefaultClient.Do(req)
	if got := read(t, resp, err); got != "abcd -1 t" {
		t.Errorf("got %q, want the chunked body with its trailer", got)
	}
	if got := resp.Trailer.Get("X-Sum"); got != "s" {
		t.Errorf("trailer %q, want s", got)
	}
}

// A server that refuses must be able to do so before the body is sent, and one
// that takes it asks once. In virtual time: the transport sends the body anyway
// when a second has passed without a word.
func TestExpectContinueIsTheEndpointsWord(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		network := faultnet.New()
		serve := func(addr string, h http.Handler) (stop func()) {
			ln, err := network.Listen(addr)
			if err != nil {
				t.Fatal(err)
			}
			srv := &http.Server{Handler: h}
			var serving sync.WaitGroup
			serving.Go(func() { srv.Serve(ln) })
			return func() { srv.Close(); serving.Wait() }
		}
		defer serve("a:80", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == "/refuse":
				w.WriteHeader(http.StatusForbidden)
			case r.URL.Path == "/take" && r.Header.Get("Expect") == "":
				w.WriteHeader(http.StatusExpectationFailed)
			default:
				io.Copy(w, r.Body)
			}
		}))()
		cfg := balancer.DefaultConfig()
		cfg.DialContext = network.DialContext
		pool, err := balancer.New(cfg, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := pool.SetMembers(balancer.OriginJoin, []string{"http://a"}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { pool.Run(ctx) })
		defer running.Wait()
		defer cancel()
		defer serve("proxy:80", New(Config{Control: pool}, nil))()
		// What comes first, the transport's first read of the body or the endpoint's
		// word on its way to the client, is for the scheduler to say: many times.
		for range 200 {
			for path, want := range map[string]string{"/take": "[100 200] body", "/refuse": "[403] "} {
				if got := expectContinue(t, network, path); got != want {
					t.Fatalf("%s: got %s, want %s", path, got, want)
				}
			}
		}
	})
}

// expectContinue puts "body" to the path, once it is asked to, and returns the
// codes of all answers and the last one's body.
func expectContinue(t *testing.T, network *faultnet.Network, path string) string {
	t.Helper()
	conn, err := network.DialContext(t.Context(), "tcp", "proxy:80")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n", path)
	br := bufio.NewReader(conn)
	var codes []int
	for {
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		codes = append(codes, resp.StatusCode)
		if resp.StatusCode >= 200 {
			return fmt.Sprintf("%d %s", codes, read(t, resp, nil))
		}
		if len(codes) == 1 {
			io.WriteString(conn, "body")
		}
	}
}

func TestUpgradePasses(t *testing.T) {
	t.Parallel()
	s := backend(t, func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		io.Copy(conn, rw)
	})
	conn, err := net.Dial("tcp", strings.TrimPrefix(startProxy(t, false, s.URL), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET /x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	br := bufio.NewReader(conn)
	resp, err := http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("got %v, %v", resp, err)
	}
	io.WriteString(conn, "ping")
	buf := make([]byte, 4)
	if _, err := io.ReadFull(br, buf); err != nil || string(buf) != "ping" {
		t.Errorf("got %q, %v", buf, err)
	}
}

// refusing returns an address at which nothing listens, nor will: a connection to
// elsewhere has it.
func refusing(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.LocalAddr().String()
}

// A body that is malformed is the client's doing, and no endpoint's.
func TestMalformedBodyIsTheClientsFault(t *testing.T) {
	t.Parallel()
	s := backend(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	pool := startPool(t, balancer.DefaultConfig(), []string{s.URL})
	addr := strings.TrimPrefix(serveProxy(t, Config{Control: pool}), "http://")
	for _, header := range []string{"X-Plain: 1", "Idempotency-Key: k", "Expect: 100-continue"} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST /x HTTP/1.1\r\nHost: x\r\n%s\r\nTransfer-Encoding: chunked\r\n\r\nno number\r\n", header)
		br := bufio.NewReader(conn)
		resp, err := http.ReadResponse(br, nil)
		if err == nil && resp.StatusCode == http.StatusContinue {
			resp, err = http.ReadResponse(br, nil)
		}
		if got := read(t, resp, err); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: got %d %q, want 400", header, resp.StatusCode, got)
		}
	}
	if e := pool.Status().Endpoints[0]; e.Failures > 0 {
		t.Errorf("the endpoint was blamed %d times: %s", e.Failures, e.LastError)
	}
}

// T15: the proxy answers before any endpoint has been reachable, and says why.
func TestT15AnswersBeforeAnyEndpointIsReachable(t *testing.T) {
	t.Parallel()
	dead := refusing(t)
	cfg := Config{Control: startPool(t, balancer.DefaultConfig(), []string{"http://" + dead}), FirstContact: 50 * time.Millisecond}
	srv := httptest.NewServer(New(cfg, zaptest.NewLogger(t)))
	defer srv.Close()
	began := time.Now()
	resp, err := http.Get(srv.URL + "/api/v1/status")
	body := read(t, resp, err)
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("got %d, Retry-After %q, want 503 with one", resp.StatusCode, resp.Header.Get("Retry-After"))
	}
	if took := time.Since(began); took > balancer.DefaultConfig().Retry.MaxElapsed/2 {
		t.Errorf("answered after %s, as if an endpoint had ever answered", took)
	}
	if !strings.Contains(body, dead) || !strings.Contains(body, "refused") {
		t.Errorf("got %q, want the address and the reason", body)
	}
}

// cuttingListener breaks what comes in while it is dead.
type cuttingListener struct {
	net.Listener
	dead atomic.Bool
	cuts atomic.Int64
}

func (l *cuttingListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil || !l.dead.Load() {
			return c, err
		}
		c.Close()
		l.cuts.Add(1)
	}
}

// A request that finds no endpoint waits for one: it is passed on in a second
// pass, which goes through http.Client.
func TestRequestWaitsForAnEndpointToReturn(t *testing.T) {
	t.Parallel()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "back") }))
	ln := &cuttingListener{Listener: s.Listener}
	s.Listener = ln
	s.Start()
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	proxied := startProxy(t, false, s.URL)
	resp, err := http.Get(proxied + "/x")
	read(t, resp, err)
	ln.dead.Store(true)
	s.CloseClientConnections()

	answered := make(chan string, 1) // one answer, whether or not it is waited for
	go func() {
		resp, err := http.Get(proxied + "/x")
		if err != nil {
			answered <- err.Error()
			return
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		answered <- string(body)
	}()
	for ln.cuts.Load() < 4 { // the request's passes among them, for probes are far apart
		select {
		case got := <-answered:
			t.Fatalf("got %q while the endpoint was dead", got)
		case <-time.After(time.Millisecond):
		}
	}
	ln.dead.Store(false)
	if got := <-answered; got != "back" {
		t.Errorf("got %q, want the answer of the endpoint that returned", got)
	}
}

func blob(size int) (data []byte, path string) {
	data = make([]byte, size)
	rand.New(rand.NewSource(1)).Read(data)
	sum := sha256.Sum256(data)
	return data, "/v2/lib/mac/blobs/sha256:" + hex.EncodeToString(sum[:])
}

// blobServer serves data; cut, if above 0, breaks each answer after that many bytes.
func blobServer(t *testing.T, data []byte, cut int64, served *atomic.Int64) *httptest.Server {
	return backend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"`+strings.TrimPrefix(r.URL.Path, "/v2/lib/mac/blobs/")+`"`)
		cw := &cutWriter{ResponseWriter: w, left: cut, cut: cut > 0, served: served}
		http.ServeContent(cw, r, "", time.Time{}, bytes.NewReader(data))
	})
}

type cutWriter struct {
	http.ResponseWriter
	left   int64
	cut    bool
	served *atomic.Int64
}

func (c *cutWriter) Write(p []byte) (int, error) {
	if c.cut && c.left < int64(len(p)) {
		c.ResponseWriter.Write(p[:c.left])
		panic(http.ErrAbortHandler)
	}
	c.left -= int64(len(p))
	n, err := c.ResponseWriter.Write(p)
	c.served.Add(int64(n))
	return n, err
}

// T13, for both ways in which bytes pass: through this process, where they are
// hashed, and from one connection to the other.
func TestT13DownloadContinuesAtAnotherRegistry(t *testing.T) {
	t.Parallel()
	for _, verify := range []bool{true, false} {
		data, path := blob(8 << 20)
		var a, b atomic.Int64
		cfg := patient(balancer.BlobConfig())
		cfg = cfg.Verified(verify)
		cfg.Splice = !verify
		addr := startRegistryProxy(t, cfg, blobServer(t, data, 3<<20, &a).URL, blobServer(t, data, 3<<20, &b).URL)
		for range 3 {
			resp, err := http.Get(addr + path)
			if got := read(t, resp, err); got != string(data) {
				t.Fatalf("verify %v: got %d bytes that differ, want the blob", verify, len(got))
			}
		}
		if total := a.Load() + b.Load(); total > int64(len(data))*3*101/100 {
			t.Errorf("verify %v: registries served %d bytes for three blobs of %d: too much twice", verify, total, len(data))
		}
	}
}

func TestLaggingReplicaIsPassedOver(t *testing.T) {
	t.Parallel()
	data, path := blob(1 << 10)
	var n atomic.Int64
	lagging := backend(t, func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) })
	addr := startProxy(t, true, lagging.URL, blobServer(t, data, 0, &n).URL)
	for range 4 {
		resp, err := http.Get(addr + path)
		if got := read(t, resp, err); got != string(data) {
			t.Fatalf("got %d %q", resp.StatusCode, got)
		}
	}
	resp, err := http.Get(startProxy(t, true, lagging.URL) + path)
	read(t, resp, err)
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("with no registry that has it: got %d, want 404", resp.StatusCode)
	}
}

func TestPushStaysOnOneRegistry(t *testing.T) {
	t.Parallel()
	var hits [3]atomic.Int64
	var urls []string
	for i := range hits {
		s := backend(t, func(w http.ResponseWriter, r *http.Request) {
			hits[i].Add(1)
			io.Copy(io.Discard, r.Body)
			switch r.Method {
			case http.MethodHead:
				w.WriteHeader(http.StatusNotFound)
			case http.MethodPost, http.MethodPatch:
				w.Header().Set("Location", "http://"+r.Host+"/v2/a/b/blobs/uploads/1")
				w.WriteHeader(http.StatusAccepted)
			default:
				w.WriteHeader(http.StatusCreated)
			}
		})
		urls = append(urls, s.URL)
	}
	addr := startProxy(t, true, urls...)
	do := func(method, url string) *http.Response {
		req, _ := http.NewRequest(method, url, strings.NewReader("x"))
		resp, err := http.DefaultClient.Do(req)
		read(t, resp, err)
		return resp
	}
	for range 4 {
		loc := do(http.MethodPost, addr+"/v2/a/b/blobs/uploads/").Header.Get("Location")
		if loc != "/v2/a/b/blobs/uploads/1" {
			t.Fatalf("location %q, want it to lead through the proxy", loc)
		}
		do(http.MethodPatch, addr+loc)
		do(http.MethodPut, addr+loc+"?digest=sha256:x")
	}
	do(http.MethodPut, addr+"/v2/a/b/manifests/latest")
	used := 0
	for i := range hits {
		if hits[i].Load() > 0 {
			used++
		}
	}
	if used != 1 {
		t.Errorf("the push went to %d registries, want one", used)
	}
}

// An upload goes on at the registry that began it, also when the one that others
// of its repository go to has come back meanwhile.
func TestPushStaysWhereItBegan(t *testing.T) {
	t.Parallel()
	var hits [2]atomic.Int64
	var servers [2]*httptest.Server
	var urls []string
	for i := range servers {
		servers[i] = backend(t, func(w http.ResponseWriter, r *http.Request) {
			hits[i].Add(1)
			io.Copy(io.Discard, r.Body)
			w.Header().Set("Location", "/v2/a/b/blobs/uploads/1")
			w.WriteHeader(http.StatusAccepted)
		})
		urls = append(urls, servers[i].URL)
	}
	first := rendezvous("a/b", urls)
	home := 0
	if first == urls[1] {
		home = 1
	}
	blob := startPool(t, patient(balancer.BlobConfig()), urls)
	addr := serveProxy(t, Config{Control: startPool(t, patient(balancer.DefaultConfig()), urls), Blob: blob, Step: oci.Step})
	step := func(method, path string) {
		req, _ := http.NewRequest(method, addr+path, strings.NewReader("x"))
		resp, err := http.DefaultClient.Do(req)
		read(t, resp, err)
	}
	if err := blob.Drain(first, false); err != nil {
		t.Fatal(err)
	}
	step(http.MethodPost, "/v2/a/b/blobs/uploads/")
	if err := blob.Undrain(first); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		step(http.MethodPatch, "/v2/a/b/blobs/uploads/1")
	}
	if n := hits[home].Load(); n > 0 || hits[1-home].Load() != 5 {
		t.Errorf("%d of 5 steps went to the registry that did not begin the upload", n)
	}
}

// A stream that breaks off has no end that the client could take for its own.
func TestBrokenStreamIsNotTakenForWhole(t *testing.T) {
	t.Parallel()
	s := backend(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "some of it")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	resp, err := http.Get(startProxy(t, false, s.URL) + "/x")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("got %q and no error, want a broken connection", got)
	}
}

func TestWrongBytesNeverArriveWhole(t *testing.T) {
	t.Parallel()
	data, path := blob(1 << 20)
	wrong := bytes.Clone(data)
	wrong[len(wrong)/2] ^= 1
	var n atomic.Int64
	cfg := patient(balancer.BlobConfig())
	cfg = cfg.Verified(true)
	addr := startRegistryProxy(t, cfg, blobServer(t, wrong, 0, &n).URL)
	resp, err := http.Get(addr + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %d of %d bytes and %v, want a broken connection", len(got), len(data), err)
	}
}
