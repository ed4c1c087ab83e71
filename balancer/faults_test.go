package balancer

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/test/faultnet"
)

// The faults that one of three endpoints may have, and what a steady load of
// 200 requests a second may notice of each: no failure and no long wait.
func TestOneOfThreeBreaksAndNobodyNotices(t *testing.T) {
	abort := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	midBody := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		w.Write(make([]byte, 500))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	for _, test := range []struct {
		name  string
		begin func(w *world, f *virtualFake)
		end   func(w *world, f *virtualFake)
	}{
		{"killed", func(w *world, f *virtualFake) { w.net.Set("b:80", faultnet.Fault{Refuse: true}); w.net.Reset("b:80") }, nil},
		{"hung", func(w *world, f *virtualFake) {
			f.set(after(time.Hour, say("b")))
			f.setReady(after(time.Hour, status(200)))
		}, nil},
		{"hung with good readiness", func(w *world, f *virtualFake) { f.set(after(time.Hour, say("b"))) }, nil},
		{"dropped packets", func(w *world, f *virtualFake) { w.net.Set("b:80", faultnet.Fault{Hold: true}) }, nil},
		{"503", func(w *world, f *virtualFake) { f.set(status(503)); f.setReady(status(503)) }, nil},
		{"503 with good readiness", func(w *world, f *virtualFake) { f.set(status(503)) }, nil},
		{"500 with good readiness", func(w *world, f *virtualFake) { f.set(status(500)) }, nil},
		{"slow with good readiness", func(w *world, f *virtualFake) { f.set(after(5*time.Second, say("b"))) }, nil},
		{"reset", func(w *world, f *virtualFake) { f.set(abort) }, nil},
		{"reset in mid body", func(w *world, f *virtualFake) { f.set(midBody) }, nil},
	} {
		for _, kind := range []string{"GET", "POST with a key"} {
			t.Run(test.name+"/"+kind, func(t *testing.T) {
				t.Parallel()
				inWorld(t, DefaultConfig(), three, func(w *world) {
					method, header := "GET", []string(nil)
					if kind != "GET" {
						method, header = "POST", []string{IdempotencyHeader, "k"}
					}
					gap := 5 * time.Millisecond
					w.load(method, "/x", time.Second, gap, "200", header...)
					test.begin(w, w.fakes["b"])
					began := time.Now()
					bad, longest := w.load(method, "/x", 3*time.Second, gap, "200", header...)
					if len(bad) > 0 || longest > 500*time.Millisecond {
						t.Errorf("%d failed, first %v; longest %s; want none over 500ms", len(bad), bad[:min(1, len(bad))], longest)
					}
					if s := w.state("b"); s.State != Ejected && s.State != Down {
						t.Errorf("after %s it is %s, want it out", time.Since(began), s.State)
					}
					for _, host := range []string{"a", "c"} {
						if n := w.count(host, Ejected) + w.count(host, Down); n > 0 {
							t.Errorf("%s, which is well, was taken out", host)
						}
					}
					w.fakes["b"].set(say("b"))
					w.fakes["b"].setReady(status(200))
					w.net.Heal("b:80")
					if method != "GET" {
						return // a recovery with good readiness needs reads to be proven by
					}
					healed := time.Now()
					back := w.until(5*time.Second, func() bool { w.ask(method, "/x", time.Second); return w.state("b").State == Healthy })
					if took := time.Since(healed); !back || took > time.Second {
						t.Errorf("back %v after %s, want within 1s", back, took)
					}
				})
			})
		}
	}
}

// A write without a key is lost only by those that were on their way.
func TestUnkeyedWritesAvoidAnEndpointInTrouble(t *testing.T) {
	for name, begin := range map[string]func(w *world, f *virtualFake){
		"hung": func(w *world, f *virtualFake) { f.set(after(time.Hour, say("b"))) },
		"503":  func(w *world, f *virtualFake) { f.set(status(503)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, DefaultConfig(), three, func(w *world) {
				w.load("POST", "/x", time.Second, 5*time.Millisecond, "200")
				begin(w, w.fakes["b"])
				bad, _ := w.load("POST", "/x", 3*time.Second, 5*time.Millisecond, "200")
				if len(bad) > 4 {
					t.Errorf("%d failed, want at most 4", len(bad))
				}
				if hits, _ := w.fakes["b"].counts(); hits > 75 {
					t.Errorf("the broken endpoint got %d requests", hits)
				}
			})
		})
	}
}

// A machine that sleeps finds every answer late: none of the endpoints is to
// blame.
func TestPauseOfTheWholeMachineEjectsNobody(t *testing.T) {
	for _, delay := range []time.Duration{100 * time.Millisecond, 700 * time.Millisecond} { // below and above the probe's timeout
		inWorld(t, DefaultConfig(), three, func(w *world) {
			w.load("GET", "/x", time.Second, 5*time.Millisecond, "200")
			for _, h := range three {
				w.net.Set(h+":80", faultnet.Fault{Delay: delay})
			}
			w.load("GET", "/x", 10*time.Second, 20*time.Millisecond, "200")
			for _, h := range three {
				w.net.Heal(h + ":80")
				if n := w.count(h, Ejected) + w.count(h, Down); n > 0 {
					t.Errorf("%s was taken out while all were %s late: %v", h, delay, w.state(h).Reason)
				}
			}
		})
	}
}

// T4: every probe fails, and one server answers.
func TestT4ProbesFailButRequestsSucceed(t *testing.T) {
	inWorld(t, DefaultConfig(), three, func(w *world) {
		for _, h := range three {
			w.fakes[h].setReady(status(503))
		}
		w.fakes["a"].set(status(503))
		w.net.Set("c:80", faultnet.Fault{Refuse: true})
		w.net.Reset("c:80")
		if !w.until(20*time.Second, func() bool { return w.b.Status().Usable == 0 }) {
			t.Fatal("the probes took nobody out")
		}
		bad, longest := w.load("GET", "/x", 5*time.Second, 20*time.Millisecond, "200 b")
		if len(bad) > 0 || longest > 5*time.Second {
			t.Errorf("%d failed, first %v; longest %s", len(bad), bad[:min(1, len(bad))], longest)
		}
		if !w.b.Status().FailedOpen {
			t.Error("the status does not say that the pool has failed open")
		}
	})
}

// A request that comes alone, to an endpoint that answers although its probes
// fail, waits for its turn between two of them and no longer.
func TestT4LoneRequestWaitsForItsTurn(t *testing.T) {
	for range 20 {
		inWorld(t, DefaultConfig(), []string{"a"}, func(w *world) {
			w.fakes["a"].setReady(status(503))
			if !w.until(20*time.Second, func() bool { return w.b.Status().Usable == 0 }) {
				t.Fatal("the probes took nobody out")
			}
			time.Sleep(rand.N(time.Second))
			_, longest := w.load("GET", "/x", time.Millisecond, time.Millisecond, "200 a")
			if longest > 2*w.cfg.Probe.Down {
				t.Errorf("it waited %s", longest)
			}
		})
	}
}

// All endpoints are down for ten seconds: whoever can wait that long is
// answered, at once when the first one is back, and nothing hammers them.
func TestAllDownForTenSeconds(t *testing.T) {
	inWorld(t, DefaultConfig(), three, func(w *world) {
		w.load("GET", "/x", time.Second, 5*time.Millisecond, "200")
		for _, h := range three {
			w.net.Set(h+":80", faultnet.Fault{Refuse: true})
			w.net.Reset(h + ":80")
		}
		dials := w.net.Dials("b:80")
		var back, first time.Time
		time.AfterFunc(10*time.Second, func() { back = time.Now(); w.net.Heal("b:80") })
		w.fakes["b"].set(func(rw http.ResponseWriter, r *http.Request) {
			if first.IsZero() {
				first = time.Now()
			}
			say("b")(rw, r)
		})
		time.AfterFunc(9*time.Second, func() { dials = w.net.Dials("b:80") - dials })
		bad, _ := w.load("GET", "/x", 12*time.Second, 20*time.Millisecond, "200")
		if len(bad) > 0 {
			t.Errorf("%d failed, first %v", len(bad), bad[:1])
		}
		if wait := first.Sub(back); wait > 500*time.Millisecond {
			t.Errorf("first answer %s after the return, want within 500ms", wait)
		}
		if dials > 9*3+5 { // the requests that met the fault come on top
			t.Errorf("%d attempts in 9 seconds at one endpoint, want at most 3 a second", dials)
		}
	})
}

// T10: warm connections, then packets are dropped.
func TestT10WarmConnectionsThenSilence(t *testing.T) {
	inWorld(t, DefaultConfig(), three, func(w *world) {
		for range 9 {
			w.ask("GET", "/x", time.Second)
		}
		w.net.Set("b:80", faultnet.Fault{Hold: true})
		for range 6 {
			start := time.Now()
			if got := w.ask("GET", "/x", 30*time.Second); !strings.HasPrefix(got, "200") || time.Since(start) > 3*time.Second {
				t.Errorf("got %q after %s, want an answer within 3s", got, time.Since(start))
			}
		}
	})
}

// T10: a download without a byte for 1.5 s is moved.
// A registry whose host is gone does not even refuse: a download is begun at the
// next beside it.
func TestDownloadDoesNotWaitForAConnection(t *testing.T) {
	inWorld(t, BlobConfig(), []string{"b"}, func(w *world) {
		w.net.Set("gone:80", faultnet.Fault{Hold: true})
		defer w.net.Heal("gone:80")
		if err := w.b.SetMembers(OriginLearned, urls("gone")); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		req, _ := http.NewRequestWithContext(WithPrefer(context.Background(), "http://gone"), http.MethodGet, "http://pool/x", nil)
		resp, err := w.b.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if took := time.Since(start); took != w.cfg.ConnectRace || resp.Request.URL.Host != "b" {
			t.Errorf("%s answered after %s, want b after the connect race of %s", resp.Request.URL.Host, took, w.cfg.ConnectRace)
		}
	})
}

func TestT10SilentDownloadIsMoved(t *testing.T) {
	inWorld(t, BlobConfig(), []string{"a", "b"}, func(w *world) {
		data := strings.Repeat("0123456789", 100_000)
		for _, h := range []string{"a", "b"} {
			w.fakes[h].set(serveSlowly(data, 50*time.Millisecond))
		}
		start := time.Now()
		w.ask("GET", "/blob", time.Minute)
		limit := time.Since(start) + w.cfg.Stall.Timeout + 100*time.Millisecond
		for range 2 { // once from each, since they take turns
			var served string
			time.AfterFunc(200*time.Millisecond, func() {
				for _, e := range w.b.Status().Endpoints {
					if e.Transfers > 0 {
						served = strings.TrimPrefix(e.URL, "http://")
						w.net.Set(served+":80", faultnet.Fault{Hold: true})
					}
				}
			})
			start := time.Now()
			got := w.ask("GET", "/blob", time.Minute)
			if got != "200 "+data {
				t.Fatalf("got %d bytes, %.60q", len(got), got)
			}
			if took := time.Since(start); served == "" || took > limit {
				t.Errorf("served by %q, took %s, want what it takes and the stall time, %s", served, took, limit)
			}
			w.net.Heal(served + ":80")
			time.Sleep(time.Minute)
		}
	})
}

// However the moments of a crash, of probes and of few requests fall, an
// endpoint that is back is used again within a second.
func TestCrashLoopIsBackWithinASecondEachTime(t *testing.T) {
	inWorld(t, DefaultConfig(), three, func(w *world) {
		w.load("GET", "/x", time.Second, 10*time.Millisecond, "200")
		for i := range 25 {
			w.net.Set("b:80", faultnet.Fault{Refuse: true})
			w.net.Reset("b:80")
			bad, _ := w.load("GET", "/x", time.Second, 10*time.Millisecond, "200")
			w.net.Heal("b:80")
			healed := time.Now()
			before, _ := w.fakes["b"].counts()
			back := w.until(3*time.Second, func() bool {
				w.ask("GET", "/x", time.Second)
				hits, _ := w.fakes["b"].counts()
				return hits > before
			})
			if took := time.Since(healed); !back || took > time.Second || len(bad) > 0 {
				t.Errorf("crash %d: back %v after %s, %d requests failed; want within 1s, none", i, back, took, len(bad))
			}
			w.load("GET", "/x", time.Duration(i)*37*time.Millisecond, 10*time.Millisecond, "200")
		}
	})
}

// A download that has slowed to a crawl beside what its peers give goes on at
// one of them; one that is as slow as they are stays.
func TestCrawlingDownloadMovesOn(t *testing.T) {
	data := strings.Repeat("0123456789", 100_000)
	for _, test := range []struct {
		name  string
		peer  int // bytes a second
		moves bool
	}{{"peers are fast", 100_000, true}, {"peers are as slow", 8_000, false}} {
		t.Run(test.name, func(t *testing.T) {
			inWorld(t, BlobConfig(), []string{"a", "b"}, func(w *world) {
				w.fakes["a"].set(paced(data, 5_000))
				w.fakes["b"].set(paced(data, test.peer))
				fetch := func(from string) (took time.Duration) {
					req, _ := http.NewRequestWithContext(WithPrefer(context.Background(), from), "GET", "http://pool/blob", nil)
					began := time.Now()
					resp, err := w.b.Client().Do(req)
					if err != nil {
						t.Fatal(err)
					}
					defer resp.Body.Close()
					got, err := io.ReadAll(resp.Body)
					if err != nil || string(got) != data {
						t.Fatalf("got %d bytes, %v, that are not the content", len(got), err)
					}
					return time.Since(began)
				}
				fetch("http://b") // what a peer gives is known from its transfers
				took := fetch("http://a")
				resumes := w.b.Status().Resumes
				if test.moves && (resumes != 1 || took < 20*time.Second || took > 90*time.Second) {
					t.Errorf("moved %d times and took %s, want once, after 20 s", resumes, took)
				}
				if !test.moves && resumes != 0 {
					t.Errorf("moved %d times, want never", resumes)
				}
				if s := w.state("a"); s.State != Healthy {
					t.Errorf("a is %s for one slow download", s.State)
				}
			})
		})
	}
}

// paced sends data, or a range of it, at so many bytes a second.
func paced(data string, perSecond int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		http.ServeContent(&pacedWriter{w, perSecond, r.Context().Done()}, r, "", time.Time{}, strings.NewReader(data))
	}
}

type pacedWriter struct {
	http.ResponseWriter
	perSecond int
	gone      <-chan struct{}
}

func (p *pacedWriter) Write(b []byte) (written int, err error) {
	for len(b) > 0 && err == nil {
		var n int
		n, err = p.ResponseWriter.Write(b[:min(len(b), p.perSecond/10)])
		written += n
		b = b[n:]
		p.ResponseWriter.(http.Flusher).Flush()
		select {
		case <-time.After(100 * time.Millisecond):
		case <-p.gone:
			return written, http.ErrAbortHandler
		}
	}
	return written, err
}

// serveSlowly sends data in twenty pieces.
func serveSlowly(data string, gap time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		http.ServeContent(&slowWriter{w, gap}, r, "", time.Time{}, strings.NewReader(data))
	}
}

type slowWriter struct {
	http.ResponseWriter
	gap time.Duration
}

func (s *slowWriter) Write(p []byte) (int, error) {
	time.Sleep(s.gap)
	n, err := s.ResponseWriter.Write(p)
	s.ResponseWriter.(http.Flusher).Flush()
	return n, err
}

// T9, the balancer's part: with each of three in turn killed, hung and cut off,
// every heartbeat is answered well before a node would be called offline. With
// each of them answering nothing for what it has done, every heartbeat is
// delivered again under the same key and with the same body: so a controller
// that keeps keys gives it one effect.
func TestT9HeartbeatsSurviveEachController(t *testing.T) {
	inWorld(t, DefaultConfig(), three, func(w *world) {
		var mu sync.Mutex
		delivered := make(map[string]int) // by key and body
		mute := ""                        // this one does its work and says nothing
		for _, h := range three {
			w.fakes[h].set(func(rw http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				mu.Lock()
				defer mu.Unlock()
				delivered[r.Header.Get(IdempotencyHeader)+" "+string(body)]++
				if h == mute {
					panic(http.ErrAbortHandler)
				}
			})
		}
		beat := 0
		send := func(what string) {
			beat++
			start := time.Now()
			got := w.ask("POST", "/sync", 5*time.Second, IdempotencyHeader, fmt.Sprint(beat))
			if !strings.HasPrefix(got, "200") || time.Since(start) > time.Second {
				t.Errorf("heartbeat %d with %s: %s after %s", beat, what, got, time.Since(start))
			}
			<-time.After(5 * time.Second)
		}
		for _, h := range three {
			for _, f := range []faultnet.Fault{{Refuse: true}, {Hold: true}, {Delay: time.Minute}} {
				w.net.Set(h+":80", f)
				if f.Refuse {
					w.net.Reset(h + ":80")
				}
				for range 4 {
					send(fmt.Sprintf("%+v at %s", f, h))
				}
				w.net.Heal(h + ":80")
				w.net.Reset(h + ":80")
				<-time.After(time.Minute)
			}
			mu.Lock()
			mute = h
			mu.Unlock()
			for range 4 {
				send("no answers of " + h)
			}
			mu.Lock()
			mute = ""
			mu.Unlock()
			<-time.After(time.Minute)
		}
		again := 0
		for k := range beat {
			n := delivered[fmt.Sprintf("%d body", k+1)]
			if n == 0 {
				t.Errorf("heartbeat %d did not arrive as it was sent", k+1)
			}
			again += max(0, n-1)
		}
		if len(delivered) != beat || again < len(three) {
			t.Errorf("%d heartbeats had %d effects at controllers that keep keys; %d were delivered again, want one of each mute controller at least", beat, len(delivered), again)
		}
	})
}
