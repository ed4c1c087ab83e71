package balancer

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ankacluster/ankacluster/balancer/health"
	"github.com/ankacluster/ankacluster/test/faultnet"
)

// A server may ask to be probed less often, and real traffic stands in for every
// other probe.
func TestProbesAreSpared(t *testing.T) {
	probes := func(cacheControl string, busy bool) (n int) {
		inWorld(t, DefaultConfig(), []string{"a"}, func(w *world) {
			w.fakes["a"].setReady(func(rw http.ResponseWriter, r *http.Request) {
				rw.Header().Set("Cache-Control", cacheControl)
			})
			time.Sleep(time.Minute) // it has been heard
			_, before := w.fakes["a"].counts()
			if busy {
				w.load("GET", "/x", time.Minute, 100*time.Millisecond, "200")
			} else {
				time.Sleep(time.Minute)
			}
			_, n = w.fakes["a"].counts()
			n -= before
		})
		return n
	}
	for _, test := range []struct {
		name, cacheControl string
		busy               bool
		least, most        int
	}{
		{"idle", "no-store", false, 25, 38},
		{"busy", "no-store", true, 12, 19},
		{"asked for ten seconds", "private, max-age=10", false, 5, 8},
		{"asked for an hour", "max-age=3600", false, 0, 2},
	} {
		if got := probes(test.cacheControl, test.busy); got < test.least || got > test.most {
			t.Errorf("%s: %d probes in a minute, want %d to %d", test.name, got, test.least, test.most)
		}
	}
}

// A server without readiness is used as long as its answers are good, and comes
// back when it answers again, whichever way it went out. Where readiness was good
// before, an answer that says nothing does not replace it, and is shown.
func TestServerWithoutReadinessComesBack(t *testing.T) {
	for _, test := range []struct {
		name     string
		code     int // of its readiness
		wasReady bool
		killed   bool // or else answers 503
		busy     bool // requests go on meanwhile
		back     bool
	}{
		{"404, killed", 404, false, true, false, true},
		{"401, killed", 401, false, true, true, true},
		{"404, bad answers", 404, false, false, false, true},
		{"404, bad answers while requests go on", 404, false, false, true, true},
		{"ready before, killed", 404, true, true, true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			inWorld(t, DefaultConfig(), []string{"b", "c"}, func(w *world) {
				a := w.serve("a")
				if !test.wasReady {
					a.setReady(status(test.code))
				}
				if err := w.b.SetMembers(OriginLearned, urls("a")); err != nil {
					t.Fatal(err)
				}
				w.load("GET", "/x", 5*time.Second, 50*time.Millisecond, "200")
				if hits, _ := a.counts(); hits < 25 {
					t.Fatalf("%d of 100 requests went there while it was well", hits)
				}
				if test.killed {
					w.net.Set("a:80", faultnet.Fault{Refuse: true})
					w.net.Reset("a:80")
				} else {
					a.set(status(http.StatusServiceUnavailable))
				}
				w.load("GET", "/x", 10*time.Second, 50*time.Millisecond, "200")
				if s := w.state("a"); s.State != Down && s.State != Ejected {
					t.Fatalf("it is %s while it is broken", s.State)
				}
				a.setReady(status(test.code))
				a.set(say("a"))
				w.net.Heal("a:80")
				if test.busy {
					w.load("GET", "/x", 15*time.Second, 50*time.Millisecond, "200")
				} else {
					time.Sleep(15 * time.Second) // no request to copy is left, but the open time is over
				}
				s := w.state("a")
				if got := s.State == Healthy; got != test.back {
					t.Errorf("it is %s (%s), want it back: %v", s.State, s.Reason, test.back)
				}
				if !strings.Contains(s.Reason, fmt.Sprint("answered ", test.code)) {
					t.Errorf("reason %q does not tell what its readiness answers", s.Reason)
				}
			})
		})
	}
}

// Three probes are answered late, and badly, when a newer one has passed: what
// they say is of the past, and the endpoint stays.
func TestLateAnswersOfOldProbesAreDropped(t *testing.T) {
	inWorld(t, DefaultConfig(), []string{"a", "b"}, func(w *world) {
		a := w.fakes["a"]
		// A server that stops keeping connections is looked at again soon.
		a.set(func(rw http.ResponseWriter, r *http.Request) { rw.Header().Set("Connection", "close") })
		probe := func() {
			_, before := a.counts()
			w.until(time.Second, func() bool {
				w.ask("GET", "/x", time.Second)
				_, now := a.counts()
				return now > before
			})
		}
		const late = 800 * time.Millisecond
		began := time.Now()
		a.setReady(after(late, status(http.StatusServiceUnavailable)))
		for range w.cfg.Probe.Fall {
			probe()
		}
		a.setReady(status(http.StatusOK))
		probe()
		synctest.Wait()
		if took := time.Since(began); took >= late {
			t.Fatalf("the newer probe came %s after the first, which is answered by then: this proves nothing", took)
		}
		time.Sleep(2 * late)
		if n := w.count("a", Down); n > 0 {
			t.Errorf("%d late answers took the endpoint down %d times", w.cfg.Probe.Fall, n)
		}
	})
}

// What a round of probing found counts unless a newer one has found the other.
func TestResultsOfOlderRounds(t *testing.T) {
	type result struct {
		round uint64
		v     health.Verdict
	}
	for _, test := range []struct {
		name   string
		before []result
		next   result
		late   bool
	}{
		{"the first", nil, result{1, health.Fail}, false},
		{"a newer failure", []result{{1, health.Pass}}, result{2, health.Fail}, false},
		{"a newer pass", []result{{1, health.Fail}}, result{2, health.Pass}, false},
		{"a failure older than a pass", []result{{2, health.Pass}}, result{1, health.Fail}, true},
		{"a failure older than one that told nothing", []result{{2, health.Nothing}}, result{1, health.Fail}, true},
		{"a pass older than a failure", []result{{2, health.Fail}}, result{1, health.Pass}, true},
		{"a pass between a failure and a pass", []result{{1, health.Fail}, {3, health.Pass}}, result{2, health.Pass}, false},
		{"a pass older than a pass", []result{{2, health.Pass}}, result{1, health.Pass}, false},
	} {
		var s health.Schedule
		for _, r := range test.before {
			s.Late(r.round, r.v)
		}
		if got := s.Late(test.next.round, test.next.v); got != test.late {
			t.Errorf("%s is late: %v, want %v", test.name, got, test.late)
		}
	}
}

// A probe passes, slowly, while a newer one has found that the endpoint is gone:
// that does not bring it back.
func TestLatePassOfAnOldProbeIsDropped(t *testing.T) {
	inWorld(t, DefaultConfig(), []string{"a"}, func(w *world) {
		a := w.fakes["a"]
		a.setReady(status(http.StatusServiceUnavailable))
		w.until(time.Minute, func() bool { return w.state("a").State == Down })
		const late = 800 * time.Millisecond
		a.setReady(after(late, status(http.StatusOK)))
		_, before := a.counts()
		w.until(time.Second, func() bool { _, now := a.counts(); return now > before })
		a.setReady(status(http.StatusServiceUnavailable))
		time.Sleep(2 * late)
		if n := w.count("a", Healthy); n != 1 {
			t.Errorf("the endpoint came back %d times, on the word of an old probe", n-1)
		}
	})
}

// Requests that waited for an endpoint are not all sent to it at once when it is
// back.
func TestReturnIsNoStampede(t *testing.T) {
	inWorld(t, DefaultConfig(), []string{"a"}, func(w *world) {
		w.load("GET", "/x", time.Second, 10*time.Millisecond, "200")
		w.net.Set("a:80", faultnet.Fault{Refuse: true})
		w.net.Reset("a:80")
		var mu sync.Mutex
		under, most := 0, 0
		w.fakes["a"].set(func(rw http.ResponseWriter, r *http.Request) {
			mu.Lock()
			under++
			most = max(most, under)
			mu.Unlock()
			time.Sleep(20 * time.Millisecond)
			mu.Lock()
			under--
			mu.Unlock()
		})
		time.AfterFunc(5*time.Second, func() { w.net.Heal("a:80") })
		bad, _ := w.load("GET", "/x", 5*time.Second, 5*time.Millisecond, "200")
		if len(bad) > 0 {
			t.Errorf("%d failed, first %s", len(bad), bad[0])
		}
		if limit := w.cfg.ReturnAtOnce; most > limit+2 || most < limit/2 { // one may be new
			t.Errorf("%d requests were under way at once after the return, want %d", most, limit)
		}
	})
}

// Two addresses of one server are known by the name that it gives itself; an address
// behind which several take turns is that of none.
func TestServersAreKnownByTheirNames(t *testing.T) {
	inWorld(t, DefaultConfig(), []string{"a", "b", "c", "vip"}, func(w *world) {
		named := func(names ...string) http.HandlerFunc {
			turn := 0
			return func(rw http.ResponseWriter, r *http.Request) {
				rw.Header().Set("X-Server-Id", names[turn%len(names)])
				turn++
			}
		}
		w.fakes["a"].setReady(named("one"))
		w.fakes["b"].setReady(named("one"))
		w.fakes["vip"].setReady(named("one", "two"))
		time.Sleep(time.Minute)
		for host, want := range map[string]string{"a": "one", "b": "one", "c": "", "vip": ""} {
			if got := w.state(host).Server; got != want {
				t.Errorf("%s is of server %q, want %q", host, got, want)
			}
		}
	})
}
