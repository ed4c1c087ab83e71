package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ankacluster/ankacluster/balancer"
)

// Java's client offers HTTP/2 with each request. That makes none of them a
// conversation with one endpoint.
func TestOfferOfHTTP2IsPassedOver(t *testing.T) {
	t.Parallel()
	var saw atomic.Pointer[http.Header]
	good := backend(t, func(w http.ResponseWriter, r *http.Request) {
		saw.Store(&r.Header)
		data, _ := io.ReadAll(r.Body)
		w.Write(data)
	})
	var broken atomic.Int64
	bad := backend(t, func(w http.ResponseWriter, r *http.Request) {
		broken.Add(1)
		panic(http.ErrAbortHandler)
	})
	addr := startProxy(t, false, good.URL, bad.URL)
	for range 4 {
		req, _ := http.NewRequest(http.MethodPost, addr+"/x", strings.NewReader("keyed"))
		req.Header.Set(balancer.IdempotencyHeader, "k")
		req.Header.Set("Connection", "Upgrade, HTTP2-Settings")
		req.Header.Set("Upgrade", "h2c")
		req.Header.Set("Http2-Settings", "AAMAAABkAAQAAP__")
		resp, err := http.DefaultClient.Do(req)
		if got := read(t, resp, err); resp.StatusCode != http.StatusOK || got != "keyed" {
			t.Errorf("got %d %q, want the answer of the endpoint that works", resp.StatusCode, got)
		}
		for _, name := range []string{"Connection", "Upgrade", "Http2-Settings"} {
			if v := (*saw.Load())[name]; v != nil {
				t.Errorf("the endpoint saw %s: %q", name, v)
			}
		}
	}
	if broken.Load() == 0 {
		t.Error("the broken endpoint was never asked: this proves nothing")
	}
}

// A query means what the endpoint makes of it: not a byte of it changes.
func TestQueryPassesByteByByte(t *testing.T) {
	t.Parallel()
	s := backend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			io.WriteString(w, r.RequestURI)
			return
		}
		w.Header().Set("X-Saw", r.RequestURI)
		w.WriteHeader(http.StatusForbidden)
	})
	addr := strings.TrimPrefix(startProxy(t, false, s.URL), "http://")
	const uri = "/a%2fb//c/../d?b=2&a=1;c=%zz&&=+%20&e"
	for _, header := range []string{"X-Plain: 1", "Expect: 100-continue", "Connection: Upgrade\r\nUpgrade: websocket"} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n", uri, header)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if got := read(t, resp, err) + resp.Header.Get("X-Saw"); got != uri {
			t.Errorf("%s: the endpoint saw %q, want %q", header, got, uri)
		}
	}
}

// What an endpoint says before its answer comes before it here too, and is no
// part of it.
func TestEarlyHintsPass(t *testing.T) {
	t.Parallel()
	s := backend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		io.WriteString(w, "answer")
	})
	addr := startProxy(t, false, s.URL)
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		var hints []string
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
			hints = append(hints, fmt.Sprint(code, " ", header.Get("Link")))
			return nil
		}})
		req, _ := http.NewRequestWithContext(ctx, method, addr+"/x", nil)
		resp, err := http.DefaultClient.Do(req)
		if got := read(t, resp, err); got != "answer" || resp.Header.Get("Link") != "" {
			t.Errorf("%s: got %q with Link %q, want the answer as it was", method, got, resp.Header.Get("Link"))
		}
		if len(hints) != 1 || hints[0] != "103 </style.css>; rel=preload" {
			t.Errorf("%s: %q came before the answer, want the hint", method, hints)
		}
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(addr, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET /x HTTP/1.0\r\n\r\n")
	if line, err := bufio.NewReader(conn).ReadString('\n'); !strings.HasPrefix(line, "HTTP/1.0 200 ") {
		t.Errorf("HTTP/1.0: got %q first, %v; want the answer alone", line, err)
	}
}

// An attempt that lost the race may speak when the answer has begun: nobody hears it.
func TestEarlyHintsEndWithTheAnswer(t *testing.T) {
	t.Parallel()
	rec := httptest.NewRecorder()
	early := interim{w: rec}
	early.end()
	if err := early.pass(http.StatusEarlyHints, textproto.MIMEHeader{"Link": {"x"}}); err != nil || len(rec.Header()) > 0 {
		t.Errorf("got %v and header %v, want nothing", err, rec.Header())
	}
}

// A redirect leads through the proxy, below whatever path the endpoint has of its
// own; one to elsewhere stays as it is.
func TestLocationLeadsThroughTheProxy(t *testing.T) {
	t.Parallel()
	s := backend(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/readyz") {
			return
		}
		w.Header().Set("Location", strings.ReplaceAll(r.Header.Get("X-Location"), "SELF", "http://"+r.Host))
		w.WriteHeader(http.StatusTemporaryRedirect)
	})
	plain, below := startProxy(t, false, s.URL), startProxy(t, false, s.URL+"/own%20path")
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, test := range []struct{ proxy, location, want string }{
		{plain, "SELF/to%2Fit?x=1;y", "/to%2Fit?x=1;y"},
		{plain, "/to", "/to"},
		{plain, "to", "to"},
		{plain, "http://elsewhere.example/to", "http://elsewhere.example/to"},
		{below, "SELF/own%20path/to%2Fit?x=1", "/to%2Fit?x=1"},
		{below, "/own%20path/to", "/to"},
		{below, "/own%20pathological", "/own%20pathological"},
		{below, "to", "to"},
		{below, "http://elsewhere.example/own%20path/to", "http://elsewhere.example/own%20path/to"},
	} {
		for _, expect := range []string{"", "100-continue"} { // both ways that requests go
			req, _ := http.NewRequest(http.MethodPut, test.proxy+"/a%2Fb", strings.NewReader("x"))
			req.Header.Set("X-Location", test.location)
			req.Header.Set("Expect", expect)
			if expect == "" {
				req.Header.Del("Expect")
			}
			resp, err := client.Do(req)
			read(t, resp, err)
			if got := resp.Header.Get("Location"); got != test.want {
				t.Errorf("%s became %q, want %q", test.location, got, test.want)
			}
		}
	}
}
