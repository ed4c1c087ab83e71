package balancer

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// An endpoint stops taking an upload's body: the caller gets to know in bounded time,
// and one whose body can be sent again does not notice.
func TestUploadThatIsNotTakenEnds(t *testing.T) {
	large := bytes.Repeat([]byte("x"), 4<<20) // more than connections hold
	for pool, cfg := range map[string]Config{"control": DefaultConfig(), "blob": BlobConfig()} {
		for name, header := range map[string]http.Header{"no key": {}, "key": {IdempotencyHeader: {"k"}}} {
			inWorld(t, cfg, []string{"a", "b"}, func(w *world) {
				leave := make(chan struct{})
				defer func() { close(leave); <-time.After(time.Second) }() // a server lingers for half a second
				w.fakes["a"].set(func(rw http.ResponseWriter, r *http.Request) {
					io.CopyN(io.Discard, r.Body, 1<<20)
					<-leave // it reads no more, and does not notice that the caller has gone
				})
				w.fakes["b"].set(func(rw http.ResponseWriter, r *http.Request) {
					if n, _ := io.Copy(io.Discard, r.Body); n == int64(len(large)) {
						io.WriteString(rw, "all")
					}
				})
				ctx, cancel := context.WithTimeout(WithPrefer(context.Background(), "http://a"), time.Hour)
				defer cancel()
				req, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://pool/x", bytes.NewReader(large))
				req.Header = header
				began := time.Now()
				resp, err := w.b.Client().Do(req)
				took := time.Since(began)
				got := ""
				if err == nil {
					data, _ := io.ReadAll(resp.Body)
					resp.Body.Close()
					got = string(data)
				}
				switch {
				case took > cfg.Stall.Upload+time.Second:
					t.Errorf("%s, %s: it took %s", pool, name, took)
				case name == "key" && got != "all":
					t.Errorf("%s: got %q, %v, want the other's answer", pool, got, err)
				case name == "no key" && (err == nil || !strings.Contains(err.Error(), "stopped taking the request's body")):
					t.Errorf("%s: got %q, %v, want the reason", pool, got, err)
				}
			})
		}
	}
}

// An upload whose sender is slow is no stall of its endpoint.
func TestSlowSenderIsNoStall(t *testing.T) {
	inWorld(t, DefaultConfig(), []string{"a", "b"}, func(w *world) {
		for _, host := range []string{"a", "b"} {
			w.fakes[host].set(func(rw http.ResponseWriter, r *http.Request) {
				data, _ := io.ReadAll(r.Body)
				after(time.Minute, say("got "+string(data)))(rw, r) // and the answer takes its time
			})
		}
		r, send := io.Pipe()
		go func() {
			for range 3 {
				io.WriteString(send, "x")
				<-time.After(time.Minute)
			}
			send.Close()
		}()
		resp, err := w.b.Client().Post("http://pool/x", "text/plain", r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if data, err := io.ReadAll(resp.Body); string(data) != "got xxx" {
			t.Errorf("got %q, %v", data, err)
		}
	})
}
