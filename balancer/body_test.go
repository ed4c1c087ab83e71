package balancer

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/test/faultnet"
)

// An endpoint that refuses, and whose refusal never comes to its end, is passed
// over like any that hangs.
func TestRefusalThatNeverEndsHoldsNobodyUp(t *testing.T) {
	for name, cfg := range map[string]Config{"control": DefaultConfig(), "blob": BlobConfig()} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, cfg, []string{"a", "b"}, func(w *world) {
				w.fakes["a"].set(func(rw http.ResponseWriter, r *http.Request) {
					rw.Header().Set("Content-Type", "text/plain")
					rw.WriteHeader(http.StatusServiceUnavailable)
					io.WriteString(rw, "busy, ")
					rw.(http.Flusher).Flush()
					<-r.Context().Done()
				})
				for range 4 {
					began := time.Now()
					if got := w.ask("GET", "/x", 30*time.Second); got != "200 b" || time.Since(began) > 2*time.Second {
						t.Errorf("got %q after %s, want the other's answer within the stall time", got, time.Since(began))
					}
				}
			})
		})
	}
}

// Two endpoints are connected to beside each other for a write that may be sent
// once: the one that is second must not take bytes of a body that can be read
// once.
func TestConnectRaceLeavesTheBodyToTheWinner(t *testing.T) {
	inWorld(t, DefaultConfig(), []string{"a", "b"}, func(w *world) {
		for _, host := range []string{"a", "b"} {
			w.fakes[host].set(func(rw http.ResponseWriter, r *http.Request) { io.Copy(rw, r.Body) })
		}
		w.net.Set("a:80", faultnet.Fault{Delay: 400 * time.Millisecond}) // longer than the race
		for range 2 {
			ctx, cancel := context.WithTimeout(WithPrefer(context.Background(), "http://a"), 20*time.Second)
			pieces := &slowReader{left: 20}
			req, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://pool/x", pieces)
			resp, err := w.b.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			cancel()
			if want := strings.Repeat("piece ", 20); string(got) != want || err != nil {
				t.Errorf("%s got %q, %v, want all pieces", resp.Request.URL.Host, got, err)
			}
		}
	})
}

// slowReader gives a piece every 100 ms.
type slowReader struct{ left int }

func (s *slowReader) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	s.left--
	time.Sleep(100 * time.Millisecond)
	return copy(p, "piece "), nil
}
