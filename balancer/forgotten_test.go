package balancer

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestForgottenConnectionsHoldNothingUp: a NAT or firewall forgets the flows of all
// connections. Bytes vanish both ways without a sign, and new connections are well.
func TestForgottenConnectionsHoldNothingUp(t *testing.T) {
	for _, hosts := range [][]string{{"a"}, three} {
		for pool, cfg := range map[string]Config{"control": DefaultConfig(), "blob": BlobConfig()} {
			t.Run(fmt.Sprintf("%s of %d", pool, len(hosts)), func(t *testing.T) {
				inWorld(t, cfg, hosts, func(w *world) {
					for _, host := range hosts {
						w.fakes[host].set(after(20*time.Millisecond, say("ok")))
					}
					limit := 500 * time.Millisecond
					if cfg.Class == Blob {
						limit = 2 * time.Second // a large transfer is not doubled
					}
					for range 3 {
						var warm sync.WaitGroup
						for range 16 {
							warm.Go(func() { w.ask("GET", "/x", time.Minute) })
						}
						warm.Wait()
						var forgotten sync.WaitGroup
						forgotten.Go(func() {
							<-time.After(time.Second)
							for _, host := range hosts {
								w.net.Forget(host + ":80")
							}
						})
						bad, longest := w.load("GET", "/x", 5*time.Second, 5*time.Millisecond, "200 ok")
						if len(bad) > 0 || longest > limit {
							t.Errorf("%d failed (%.1q), the slowest took %s, want none and %s", len(bad), bad, longest, limit)
						}
						forgotten.Wait()
					}
				})
			})
		}
	}
}

// A request that may be sent only once rides on no connection that has been quiet.
func TestQuietConnectionIsNotTrustedWithAWrite(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Probe.Interval = time.Hour // a probe would be the last use of its connection
	for _, hosts := range [][]string{{"a"}, three} {
		inWorld(t, cfg, hosts, func(w *world) {
			var writes atomic.Int64
			for _, host := range hosts {
				w.fakes[host].set(func(rw http.ResponseWriter, r *http.Request) {
					if r.Method == http.MethodPost {
						writes.Add(1)
					}
					after(20*time.Millisecond, say("ok"))(rw, r)
				})
			}
			for i := range 20 {
				w.b.closeIdle() // what was forgotten before
				var warm sync.WaitGroup
				for range 16 {
					warm.Go(func() { w.ask("GET", "/x", time.Minute) })
				}
				warm.Wait()
				<-time.After(1100 * time.Millisecond) // quiet
				for _, host := range hosts {
					w.net.Forget(host + ":80")
				}
				began := time.Now()
				got := w.ask("POST", "/x", time.Minute)
				if took := time.Since(began); got != "200 ok" || took > 100*time.Millisecond {
					t.Errorf("write %d: got %q after %s, want it on a new connection", i, got, took)
				}
			}
			if writes.Load() != 20 {
				t.Errorf("20 writes ran %d times", writes.Load())
			}
			// One that is in use needs no proof.
			before := w.net.Dials("a:80")
			for range 50 {
				w.ask("POST", "/x", time.Minute)
			}
			if n := w.net.Dials("a:80") - before; n > 1 {
				t.Errorf("%d connections were made for 50 writes in a row", n)
			}
		})
	}
}
