package balancer

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
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

// piecewise is a body of so many pieces, each of which the caller takes a while
// to come by.
type piecewise struct {
	left  int
	pause time.Duration
}

func (p *piecewise) Read(b []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	p.left--
	time.Sleep(p.pause)
	return copy(b, make([]byte, 4<<10)), nil
}

// An upload takes as long as the caller and the endpoint take together: it is no
// late answer. An endpoint that takes nothing of it any more gives one.
func TestLongUploadIsNoLateAnswer(t *testing.T) {
	slowly := func(rw http.ResponseWriter, r *http.Request) {
		buf := make([]byte, 4<<10)
		for {
			if _, err := io.ReadFull(r.Body, buf); err != nil {
				return
			}
			time.Sleep(12 * time.Millisecond) // a part of it is on its way when the caller has given all
		}
	}
	takesNothing := func(rw http.ResponseWriter, r *http.Request) { time.Sleep(5 * time.Second) }
	for _, test := range []struct {
		name  string
		cfg   Config
		pause time.Duration
		serve http.HandlerFunc
		late  bool
	}{
		{"slow caller", DefaultConfig(), 4 * time.Second, status(http.StatusOK), false},
		{"slow caller of a transfer", BlobConfig(), 8 * time.Second, status(http.StatusOK), false},
		{"slow endpoint of a transfer", BlobConfig(), 0, slowly, false},
		{"endpoint that takes nothing", DefaultConfig(), 0, takesNothing, true},
		{"endpoint that takes nothing of a transfer", BlobConfig(), 0, takesNothing, true},
		{"answer that is late after the upload", BlobConfig(), time.Second, after(5*time.Second, status(http.StatusOK)), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			inWorld(t, test.cfg, three, func(w *world) {
				w.fakes["a"].set(test.serve)
				done := make(chan struct{})
				go func() { // the peers are on time
					defer close(done)
					w.load("GET", "/x", time.Minute, 100*time.Millisecond, "200")
				}()
				for range 8 {
					ctx, cancel := context.WithTimeout(WithPrefer(context.Background(), "http://a"), 20*time.Second)
					req, _ := http.NewRequestWithContext(ctx, http.MethodPatch, "http://pool/up", &piecewise{256, test.pause / 256})
					if resp, err := w.b.Client().Do(req); err == nil {
						resp.Body.Close()
					} else if !test.late {
						t.Error(err)
					}
					cancel()
				}
				<-done
				time.Sleep(time.Minute) // until no handler is left
				if n := w.state("a").Late; (n > 0) != test.late {
					t.Errorf("%d late answers, want some: %v", n, test.late)
				}
			})
		})
	}
}

// A body that its caller cannot come by is no endpoint's fault.
func TestBrokenBodyBlamesNobody(t *testing.T) {
	inWorld(t, DefaultConfig(), three, func(w *world) {
		broken := errors.New("disk on fire")
		for _, key := range []string{"", "k"} {
			for range 20 {
				began := time.Now()
				req, _ := http.NewRequest(http.MethodPost, "http://pool/x", io.MultiReader(strings.NewReader("some of it"), iotest.ErrReader(broken)))
				req.Header.Set(IdempotencyHeader, key)
				req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(iotest.ErrReader(broken)), nil }
				_, err := w.b.Client().Do(req)
				if !errors.Is(err, ErrBody) || !errors.Is(err, broken) {
					t.Fatalf("key %q: got %v, want the body's error", key, err)
				}
				if took := time.Since(began); took > 0 {
					t.Errorf("key %q: it was tried again for %s", key, took)
				}
			}
		}
		for _, host := range three {
			if s := w.state(host); s.Failures > 0 || s.State != Healthy {
				t.Errorf("%s is %s after %d failures (%s)", host, s.State, s.Failures, s.LastError)
			}
		}
	})
}
