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

// Events that come one by one as one JSON answer reach the caller as they come,
// and their endpoint is not called late for it.
func TestJSONStreamIsNotHeldBack(t *testing.T) {
	for _, before := range []time.Duration{0, 200 * time.Millisecond} { // the first byte, before and after the hedge's delay
		inWorld(t, DefaultConfig(), three, func(w *world) {
			for _, host := range three {
				w.fakes[host].set(func(rw http.ResponseWriter, r *http.Request) {
					time.Sleep(before)
					rw.Header().Set("Content-Type", "application/json")
					for range 30 {
						io.WriteString(rw, "{}\n")
						rw.(http.Flusher).Flush()
						select {
						case <-time.After(time.Second):
						case <-r.Context().Done(): // another was first
							return
						}
					}
				})
			}
			for range 6 {
				began := time.Now()
				resp, err := w.b.Client().Get("http://pool/events")
				if err != nil {
					t.Fatal(err)
				}
				event := make([]byte, 3)
				for i := range 30 {
					_, err := io.ReadFull(resp.Body, event)
					due := began.Add(time.Duration(i) * time.Second)
					if late := time.Since(due); err != nil || late > time.Second {
						t.Fatalf("event %d came %s after it was sent: %q, %v", i, late, event, err)
					}
				}
				if n, err := resp.Body.Read(event); n > 0 || err != io.EOF {
					t.Errorf("after the last event: %d bytes, %v", n, err)
				}
				resp.Body.Close()
			}
			for _, e := range w.b.Status().Endpoints {
				if e.State != Healthy || e.Transfers != 0 || before == 0 && e.Late > 0 {
					t.Errorf("%s is %s, %d late, %d transfers; want it healthy, on time and idle", e.URL, e.State, e.Late, e.Transfers)
				}
			}
		})
	}
}

// A document of unknown length that breaks off is asked of another endpoint; one
// that is too large to be read ahead passes whole.
func TestDocumentOfUnknownLength(t *testing.T) {
	for _, size := range []int{3, 100_000, 3 << 20} {
		cfg := DefaultConfig()
		inWorld(t, cfg, []string{"a", "b"}, func(w *world) {
			document := strings.Repeat("x", size)
			for _, host := range []string{"a", "b"} {
				w.fakes[host].set(func(rw http.ResponseWriter, r *http.Request) {
					rw.Header().Set("Content-Type", "application/json")
					rw.WriteHeader(http.StatusOK)
					rw.(http.Flusher).Flush()
					if host == "a" && size < int(cfg.ReadAhead) {
						io.WriteString(rw, document[:size/2])
						panic(http.ErrAbortHandler)
					}
					io.WriteString(rw, document)
				})
			}
			for range 4 {
				if got := w.ask("GET", "/x", 10*time.Second); got != "200 "+document {
					t.Errorf("got %d bytes of %d: %.40q", len(got)-4, size, got)
				}
			}
		})
	}
}
