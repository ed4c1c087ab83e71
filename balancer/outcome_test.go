package balancer

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/test/faultnet"
)

// net/http sends some writes again by itself when the connection is closed under
// them. That it could not connect for that does not mean that nothing was sent.
func TestRefusedRepeatOfTheTransportIsNoProof(t *testing.T) {
	inWorld(t, DefaultConfig(), []string{"a"}, func(w *world) {
		var ran atomic.Int64
		w.fakes["a"].set(func(_ http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				return
			}
			ran.Add(1)
			w.net.Set("a:80", faultnet.Fault{Refuse: true})
			time.AfterFunc(time.Second, func() { w.net.Heal("a:80") })
			panic(http.ErrAbortHandler)
		})
		if got := w.ask("GET", "/warm", time.Minute); !strings.HasPrefix(got, "200") {
			t.Fatal(got)
		}
		got := w.ask("DELETE", "/vm", time.Minute, "X-Idempotency-Key", "")
		if ran.Load() != 1 || !strings.HasPrefix(got, "error") {
			t.Errorf("ran %d times and got %q, want once, and an error", ran.Load(), got)
		}
	})
}

// A write that was sent when this machine lost its network may have run: it is
// not sent again.
func TestWriteCutOffByThisMachineIsNotSentAgain(t *testing.T) {
	var sent atomic.Int64
	cfg := DefaultConfig()
	inWorld(t, cfg, three, func(w *world) {
		for _, host := range three {
			w.fakes[host].set(func(rw http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				sent.Add(1)
				w.net.Break(host+":80", syscall.ENETUNREACH)
			})
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		req, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://pool/vm", strings.NewReader("start"))
		resp, err := w.b.Client().Do(req)
		if err == nil {
			resp.Body.Close()
		}
		if !errors.Is(err, syscall.ENETUNREACH) || sent.Load() != 1 {
			t.Errorf("got %v after it ran %d times, want the machine's own error after once", err, sent.Load())
		}
	})
}
