package balancer

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// A proxy forwards requests as its server received them, with RequestURI set,
// which http.Client refuses. Such a request must still get a second pass.
func TestForwardedRequestGetsASecondPass(t *testing.T) {
	var calls atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	b, err := New(DefaultConfig(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.SetMembers(OriginJoin, []string{server.URL}); err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://pool/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.RequestURI = "/x"
	resp, err := b.Client().Transport.RoundTrip(req)
	if err != nil {
		t.Fatalf("forwarded request: %v, want the answer of the second pass", err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || calls.Load() < 2 {
		t.Errorf("got %d after %d calls, want 200 after 2", resp.StatusCode, calls.Load())
	}
}

// T11: what go-retryablehttp would do wrong inside a balancer.
func TestT11StreamingUploadIsNotBuffered(t *testing.T) {
	n := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		size, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, size)
	})
	b := start(t, BlobConfig(), n.URL)
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	const size = 256 << 20
	resp, err := b.Client().Post("http://pool/up", "application/octet-stream", io.LimitReader(zeros{}, size))
	if err != nil {
		t.Fatal(err)
	}
	data, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	runtime.ReadMemStats(&now)
	if grown := now.TotalAlloc - before.TotalAlloc; string(data) != fmt.Sprint(size) || grown > 16<<20 {
		t.Errorf("%s bytes arrived, %d MiB were allocated on the way", data, grown>>20)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestT11RetryAfterDoesNotStall(t *testing.T) {
	inWorld(t, DefaultConfig(), three, func(w *world) {
		for _, h := range three {
			w.fakes[h].set(func(rw http.ResponseWriter, r *http.Request) {
				rw.Header().Set("Retry-After", "86400")
				rw.WriteHeader(503)
			})
		}
		if got := w.ask("GET", "/x", 10*time.Second); !strings.HasPrefix(got, "503") {
			t.Errorf("got %q, want the 503, and not that the deadline has passed", got)
		}
		start := time.Now()
		time.AfterFunc(3*time.Second, func() {
			for _, h := range three {
				w.fakes[h].set(say(h))
			}
		})
		if got := w.ask("GET", "/x", time.Minute); !strings.HasPrefix(got, "200") || time.Since(start) > 31*time.Second {
			t.Errorf("got %q after %s, want an answer within the limit of 30s", got, time.Since(start))
		}
	})
}

func TestT11RetryAfterIsHonoured(t *testing.T) {
	inWorld(t, DefaultConfig(), []string{"a"}, func(w *world) {
		var came []time.Time
		w.fakes["a"].set(func(rw http.ResponseWriter, r *http.Request) {
			if came = append(came, time.Now()); len(came) == 1 {
				rw.Header().Set("Retry-After", "3")
				rw.WriteHeader(503)
			}
		})
		if got := w.ask("GET", "/x", 10*time.Second); !strings.HasPrefix(got, "200") {
			t.Fatalf("got %q", got)
		}
		if len(came) != 2 {
			t.Fatalf("came %d times, want twice", len(came))
		}
		if wait := came[1].Sub(came[0]); wait < 3*time.Second || wait > 3500*time.Millisecond {
			t.Errorf("came again after %s, want 3s", wait)
		}
	})
}

func TestT11FinalFailureKeepsGoodConnections(t *testing.T) {
	cfg := DefaultConfig()
	cfg.SlowStart = 0 // chance would say whom the turns of a small share go to
	inWorld(t, cfg, three, func(w *world) {
		for _, h := range three {
			w.fakes[h].set(after(90*time.Millisecond, say(h)))
		}
		together := func() { // so that each needs a connection of its own
			w.load("GET", "/x", 90*time.Millisecond, time.Millisecond, "200")
		}
		together()
		dials := w.net.Dials("a:80")
		if dials < 20 {
			t.Fatalf("%d connections were made, want many", dials)
		}
		for _, h := range three { // nothing can be tried, and nothing is wrong with any
			if err := w.b.Drain("http://"+h, true); err != nil {
				t.Fatal(err)
			}
		}
		if got := w.ask("GET", "/x", 400*time.Millisecond); !strings.HasPrefix(got, "error") {
			t.Fatalf("got %q, want a final failure", got)
		}
		for _, h := range three {
			if err := w.b.Undrain("http://" + h); err != nil {
				t.Fatal(err)
			}
		}
		together()
		if now := w.net.Dials("a:80"); now > dials+2 { // a probe may have needed one
			t.Errorf("%d of %d connections were made again", now-dials, dials)
		}
	})
}

func TestT11FailoverSendsTheNewHostWithoutSleep(t *testing.T) {
	inWorld(t, DefaultConfig(), three, func(w *world) {
		var hosts []string
		for _, h := range three {
			w.fakes[h].set(func(rw http.ResponseWriter, r *http.Request) {
				hosts = append(hosts, r.Host)
				rw.WriteHeader(503)
			})
		}
		start := time.Now()
		resp, err := w.b.RoundTrip(httptest.NewRequest("GET", "http://pool/x", nil))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if took := time.Since(start); took > 0 {
			t.Errorf("slept %s between untried endpoints", took)
		}
		slices.Sort(hosts)
		if !slices.Equal(hosts, three) {
			t.Errorf("hosts %v, want each endpoint once under its own name", hosts)
		}
	})
}

func TestT11LibraryLogsToZap(t *testing.T) {
	core, logs := observer.New(zap.DebugLevel)
	ctx, seen := context.WithCancel(context.Background())
	defer seen()
	b, err := New(DefaultConfig(), zap.New(core, zap.Hooks(func(e zapcore.Entry) error {
		if e.Message == "retrying request" {
			seen()
		}
		return nil
	})))
	if err != nil {
		t.Fatal(err)
	}
	b.SetMembers(OriginJoin, []string{"http://127.0.0.1:1"})
	req, _ := http.NewRequestWithContext(ctx, "GET", "http://pool/x", nil)
	if _, err := b.Client().Do(req); err == nil {
		t.Fatal("nothing listens there")
	}
	if logs.FilterMessage("retrying request").Len() == 0 {
		t.Error("the library's lines are not in the log")
	}
}
