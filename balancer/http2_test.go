package balancer

import (
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/test/faultnet"
)

// T10 over HTTP/2: requests leave a connection that went silent, and it is
// pinged and given up though nobody closed it.
func TestT10SilentHTTP2Connection(t *testing.T) {
	inTLSWorld(t, DefaultConfig(), func(w *world) {
		for range 4 {
			if got := w.ask("GET", "/x", time.Second); got != "200 HTTP/2.0" {
				t.Fatalf("got %q, want HTTP/2", got)
			}
		}
		w.net.Set("a:443", faultnet.Fault{Hold: true})
		for range 4 {
			began := time.Now()
			if got := w.ask("GET", "/x", 30*time.Second); got != "200 HTTP/2.0" || time.Since(began) > 3*time.Second {
				t.Errorf("got %q after %s, want an answer within 3s", got, time.Since(began))
			}
		}
		if !w.until(3*time.Second, func() bool { return w.net.Open("a:443") == 0 }) {
			t.Errorf("%d silent connections are still kept", w.net.Open("a:443"))
		}
	})
}

// T10 over HTTP/2: a download without a byte for 1.5 s is moved.
func TestT10SilentHTTP2DownloadIsMoved(t *testing.T) {
	inTLSWorld(t, BlobConfig(), func(w *world) {
		data := strings.Repeat("0123456789", 100_000)
		for _, h := range []string{"a", "b"} {
			w.fakes[h].set(serveSlowly(data, 50*time.Millisecond))
		}
		time.AfterFunc(200*time.Millisecond, func() { w.net.Set("a:443", faultnet.Fault{Hold: true}) })
		req, _ := http.NewRequestWithContext(WithPrefer(context.Background(), "https://a"), "GET", "http://pool/blob", nil)
		began := time.Now()
		resp, err := w.b.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		if err != nil || string(got) != data || time.Since(began) > 4*time.Second || w.b.Status().Resumes != 1 {
			t.Errorf("got %d bytes, %v, after %s and %d moves; want all of them after one", len(got), err, time.Since(began), w.b.Status().Resumes)
		}
	})
}

// inTLSWorld is inWorld with servers a and b that speak HTTP/2.
func inTLSWorld(t *testing.T, cfg Config, test func(w *world)) {
	cfg.TLS = &tls.Config{InsecureSkipVerify: true}
	inWorld(t, cfg, nil, func(w *world) {
		for _, h := range []string{"a", "b"} {
			f := &virtualFake{ready: status(http.StatusOK), serve: func(rw http.ResponseWriter, r *http.Request) { io.WriteString(rw, r.Proto) }}
			w.fakes[h] = f
			ln, err := w.net.Listen(h + ":443")
			if err != nil {
				t.Fatal(err)
			}
			s := httptest.NewUnstartedServer(f)
			s.Listener.Close()
			s.Listener, s.EnableHTTP2 = ln, true
			s.StartTLS()
			w.stops = append(w.stops, s.Close)
		}
		if err := w.b.SetMembers(OriginJoin, []string{"https://a", "https://b"}); err != nil {
			t.Fatal(err)
		}
		defer w.net.Heal("a:443")
		test(w)
	})
}
