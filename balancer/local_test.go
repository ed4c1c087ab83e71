package balancer

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/test/faultnet"
)

// T5: this machine's faults trip nothing.
func TestT5LocalFaultsOpenNoBreaker(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EMFILE, syscall.ENOTDIR} {
		t.Run(errno.Error(), func(t *testing.T) {
			inWorld(t, DefaultConfig(), three, func(w *world) {
				w.ask("GET", "/x", time.Second)
				time.Sleep(10 * time.Second)
				for _, h := range three {
					w.net.Set(h+":80", faultnet.Fault{Dial: errno})
					w.net.Reset(h + ":80")
				}
				for range 20 {
					w.ask("GET", "/x", 300*time.Millisecond)
				}
				s := w.b.Status()
				if s.LocalFault == "" {
					t.Error("the local fault was not raised")
				}
				for _, e := range s.Endpoints {
					if e.State != Healthy || e.Breaker != "closed" {
						t.Errorf("%s is %s, breaker %s: %s", e.URL, e.State, e.Breaker, e.Reason)
					}
				}
				for _, h := range three {
					w.net.Heal(h + ":80")
				}
				if got := w.ask("GET", "/x", time.Second); !strings.HasPrefix(got, "200") {
					t.Errorf("after the fault: %s", got)
				}
				if s := w.b.Status(); s.LocalFault != "" {
					t.Errorf("the condition stays: %s", s.LocalFault)
				}
			})
		})
	}
}

func TestT5OneUnreachableEndpointIsItsOwnFault(t *testing.T) {
	inWorld(t, DefaultConfig(), three, func(w *world) {
		w.net.Set("b:80", faultnet.Fault{Dial: syscall.EHOSTUNREACH})
		w.net.Reset("b:80")
		bad, _ := w.load("GET", "/x", 5*time.Second, 10*time.Millisecond, "200")
		if s := w.state("b"); len(bad) > 0 || s.State == Healthy || w.b.Status().LocalFault != "" {
			t.Errorf("%d failed, b is %s, local fault %q", len(bad), s.State, w.b.Status().LocalFault)
		}
	})
}

// T5: the condition is of all endpoints. Nobody sends requests here, whose
// answers would clear a condition that was raised too soon.
func TestT5LocalFaultIsOfAllEndpoints(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EHOSTUNREACH, syscall.ENETUNREACH} {
		for n := range len(three) + 1 {
			t.Run(fmt.Sprintf("%s at %d of %d", errno, n, len(three)), func(t *testing.T) {
				inWorld(t, DefaultConfig(), three, func(w *world) {
					w.mustReach("a", Healthy)
					for _, h := range three[:n] {
						w.net.Set(h+":80", faultnet.Fault{Dial: errno})
						w.net.Break(h+":80", errno)
					}
					raised := w.until(20*time.Second, func() bool { return w.b.Status().LocalFault != "" })
					if want := n == len(three); raised != want {
						t.Errorf("raised: %v, want %v", raised, want)
					}
				})
			})
		}
	}
}

func TestT5CancelledCallersDoNotCount(t *testing.T) {
	inWorld(t, DefaultConfig(), three, func(w *world) {
		w.fakes["b"].set(after(20*time.Millisecond, say("b")))
		for range 60 {
			w.ask("GET", "/x", 5*time.Millisecond)
		}
		if s := w.state("b"); s.Failures > 0 || s.State != Healthy {
			t.Errorf("%d failures, %s", s.Failures, s.State)
		}
	})
}
