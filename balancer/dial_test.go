package balancer

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/test/faultnet"
)

// inNamedWorld is inWorld with one endpoint, whose name has two addresses, of which the
// first is black-holed.
func inNamedWorld(t *testing.T, test func(w *world, vanished *atomic.Int32)) {
	cfg := DefaultConfig()
	var vanished atomic.Int32 // 1: the name is not found; 2: its lookup hangs
	cfg.Resolve = func(ctx context.Context, host string) ([]string, error) {
		switch vanished.Load() {
		case 1:
			return nil, errors.New("no such host")
		case 2:
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return []string{"10.0.0.1", "10.0.0.2"}, nil
	}
	inWorld(t, cfg, nil, func(w *world) {
		w.net.Set("10.0.0.1:80", faultnet.Fault{Hold: true})
		f := w.serve("10.0.0.2")
		f.set(func(rw http.ResponseWriter, r *http.Request) { say("two")(rw, r) })
		if err := w.b.SetMembers(OriginJoin, []string{"http://name"}); err != nil {
			t.Fatal(err)
		}
		test(w, &vanished)
		w.net.Heal("10.0.0.1:80")
	})
}

func TestBlackHoledAddressOfANameCostsAMoment(t *testing.T) {
	inNamedWorld(t, func(w *world, _ *atomic.Int32) {
		for i := range 20 {
			began := time.Now()
			got := w.ask("POST", "/x", 30*time.Second)
			limit := 50 * time.Millisecond // the address that answered is the first to be tried
			if i == 0 {
				limit = 300 * time.Millisecond
			}
			if took := time.Since(began); got != "200 two" || took > limit {
				t.Errorf("request %d: got %q after %s, want it within %s", i, got, took, limit)
			}
			w.net.Reset("10.0.0.2:80")
			<-time.After(10 * time.Millisecond)
		}
	})
}

func TestLastKnownAddressesServeWhileTheNameHasVanished(t *testing.T) {
	for _, how := range []int32{1, 2} {
		inNamedWorld(t, func(w *world, vanished *atomic.Int32) {
			if got := w.ask("GET", "/x", time.Minute); got != "200 two" {
				t.Fatal(got)
			}
			vanished.Store(how)
			for end := time.Now().Add(15 * time.Second); time.Now().Before(end); {
				w.net.Reset("10.0.0.2:80") // the server closes connections
				<-time.After(time.Millisecond)
				began := time.Now()
				if got := w.ask("POST", "/x", time.Minute); got != "200 two" || time.Since(began) > 500*time.Millisecond {
					t.Fatalf("got %q after %s, want the answer of the last known address", got, time.Since(began))
				}
				<-time.After(100 * time.Millisecond)
			}
		})
	}
}
