package balancer

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap/zaptest/observer"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/test/faultnet"
)

// T1: six transfers, each of which breaks after longer than the breaker's
// window, open the breaker, though each of them began well.
func TestT1LongTransfersThatBreakOpenTheBreaker(t *testing.T) {
	inWorld(t, BlobConfig(), []string{"a", "b"}, func(w *world) {
		w.fakes["b"].set(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Content-Length", "1000000")
			for range 40 {
				rw.Write(make([]byte, 1000))
				rw.(http.Flusher).Flush()
				time.Sleep(time.Second)
			}
			panic(http.ErrAbortHandler)
		})
		for i := range 6 {
			if w.count("b", Ejected) > 0 {
				if i < 5 {
					t.Fatalf("ejected after %d broken transfers, want 5", i)
				}
				return
			}
			req, _ := http.NewRequestWithContext(WithPrefer(context.Background(), "http://b"), "GET", "http://pool/blob", nil)
			resp, err := w.b.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		if w.count("b", Ejected) == 0 {
			t.Error("six broken transfers did not open the breaker")
		}
	})
}

// T2: at the edge from open to half-open, a thousand callers make one request:
// the prober's.
func TestT2OnlyTheProberUsesTheHalfOpenSlot(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Breaker.Jitter = 0
	inWorld(t, cfg, three, func(w *world) {
		w.fakes["b"].set(status(503))
		w.until(10*time.Second, func() bool {
			w.ask("POST", "/x", time.Second, IdempotencyHeader, "k")
			return w.state("b").State == Ejected
		})
		hits, _ := w.fakes["b"].counts()
		until := w.state("b").BreakerUntil
		if until == nil {
			t.Fatalf("the breaker is %s", w.state("b").Breaker)
		}
		w.fakes["b"].setReady(status(429)) // fails only the deciding probe
		time.Sleep(time.Until(*until) + time.Millisecond)
		_, before := w.fakes["b"].counts()
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() { w.ask("POST", "/x", time.Second) })
		}
		wg.Wait()
		time.Sleep(450 * time.Millisecond) // longer than the pace of probes, shorter than twice
		now, probes := w.fakes["b"].counts()
		if n := probes - before; now != hits || n < 1 || n > 2 {
			t.Errorf("the endpoint got %d requests and %d probes, want none and the one that is due", now-hits, n)
		}
		if s := w.state("b"); s.Breaker != "open" {
			t.Errorf("after a 429 to the deciding probe the breaker is %s, want open", s.Breaker)
		}
	})
}

// T2: a deciding probe that gets no answer counts as failed within twice its
// timeout, and gives its slot back.
func TestT2ProbeWithoutAnAnswerGivesItsSlotBack(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Breaker.Jitter = 0
	inWorld(t, cfg, three, func(w *world) {
		w.fakes["b"].set(status(503))
		w.until(10*time.Second, func() bool {
			w.ask("POST", "/x", time.Second, IdempotencyHeader, "k")
			return w.state("b").State == Ejected
		})
		w.fakes["b"].setReady(after(time.Hour, status(200)))
		until := w.state("b").BreakerUntil
		if until == nil {
			t.Fatalf("the breaker is %s", w.state("b").Breaker)
		}
		time.Sleep(time.Until(*until))
		asked := func() bool { return w.state("b").Breaker == "half-open" }
		if !w.until(time.Second, asked) {
			t.Fatalf("the breaker is %s, want half-open", w.state("b").Breaker)
		}
		failed := func() bool { return w.state("b").Breaker == "open" }
		if !w.until(2*cfg.Probe.Timeout+cfg.Probe.Down, failed) {
			t.Errorf("the breaker is %s though its probe has no answer", w.state("b").Breaker)
		}
		w.fakes["b"].set(say("b"))
		w.fakes["b"].setReady(status(200))
		if !w.until(5*time.Second, func() bool { return w.state("b").State == Healthy }) {
			t.Errorf("it answers again and is %s", w.state("b").State)
		}
	})
}

// T2: callers that go away, or panic, leave nothing behind: no request counted
// as in flight, no slot held, nobody blamed.
func TestT2CallersThatLeaveOrPanicHoldNothing(t *testing.T) {
	inWorld(t, DefaultConfig(), three, func(w *world) {
		for _, h := range three {
			w.fakes[h].set(after(time.Minute, say(h)))
		}
		ctx, leave := context.WithCancel(context.Background())
		var callers sync.WaitGroup
		for i := range 300 {
			callers.Go(func() {
				req, _ := http.NewRequestWithContext(ctx, []string{"GET", "POST"}[i%2], "http://pool/x", nil)
				if resp, err := w.b.Client().Do(req); err == nil {
					resp.Body.Close()
				}
			})
		}
		time.Sleep(20 * time.Millisecond) // all are under way, none is late
		leave()
		callers.Wait()

		w.net.Set("a:80", faultnet.Fault{Refuse: true}) // so that the body is asked for a second time
		w.net.Reset("a:80")
		panicked := 0
		for range 3 {
			func() {
				defer func() {
					if recover() != nil {
						panicked++
					}
				}()
				req, _ := http.NewRequest("PUT", "http://pool/x", strings.NewReader("body"))
				req.Header.Set(IdempotencyHeader, "k")
				req.GetBody = func() (io.ReadCloser, error) { panic("the caller's own") }
				ctx, cancel := context.WithTimeout(WithPrefer(context.Background(), "http://a"), time.Second)
				defer cancel()
				if resp, err := w.b.RoundTrip(req.WithContext(ctx)); err == nil {
					resp.Body.Close()
				}
			}()
		}
		if panicked == 0 {
			t.Fatal("nobody panicked")
		}
		for _, h := range three {
			w.fakes[h].set(say(h))
		}
		w.net.Heal("a:80")
		time.Sleep(10 * time.Second)
		for _, e := range w.b.Status().Endpoints {
			if e.InFlight != 0 || e.State != Healthy || e.Breaker != "closed" {
				t.Errorf("%s: %d in flight, %s, breaker %s; want none, healthy, closed", e.URL, e.InFlight, e.State, e.Breaker)
			}
			if e.URL != "http://a" && e.Failures > 0 {
				t.Errorf("%s is blamed for %d failures", e.URL, e.Failures)
			}
		}
	})
}

// T3: whoever is told of a transition may look at every breaker, and states
// follow their clocks without traffic.
func TestT3CallbacksMayReadAndStatesMoveAlone(t *testing.T) {
	var b *Balancer
	cfg := DefaultConfig()
	cfg.Breaker.Jitter = 0
	cfg.OnTransition = func(Transition) {
		if b != nil {
			b.Status()
		}
	}
	inWorld(t, cfg, three, func(w *world) {
		b = w.b
		w.fakes["b"].set(status(503))
		w.until(10*time.Second, func() bool {
			w.ask("POST", "/x", time.Second, IdempotencyHeader, "k")
			return w.state("b").State == Ejected
		})
		w.net.Set("b:80", faultnet.Fault{Hold: true}) // so that no probe decides
		until := w.state("b").BreakerUntil
		if until == nil {
			t.Fatal("the breaker is not open")
		}
		time.Sleep(time.Until(*until) + time.Second)
		if s := w.state("b"); s.Breaker == "closed" || s.BreakerUntil != nil && time.Until(*s.BreakerUntil) < 0 {
			t.Errorf("a second after its time the breaker is %s until %v", s.Breaker, s.BreakerUntil)
		}
	})
}

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

func TestT5MacOSMessageNamesThePermission(t *testing.T) {
	if msg := localMessageFor("darwin", syscall.EHOSTUNREACH); !strings.Contains(msg, "Local Network") {
		t.Errorf("got %q", msg)
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

// T6: a transfer on a healthy endpoint survives whatever happens to the list
// and to others.
func TestT6TransferSurvivesHundredUpdates(t *testing.T) {
	inWorld(t, BlobConfig(), three, func(w *world) {
		w.fakes["a"].set(func(rw http.ResponseWriter, r *http.Request) {
			for range 600 {
				io.WriteString(rw, "x")
				rw.(http.Flusher).Flush()
				time.Sleep(time.Second)
			}
		})
		req, _ := http.NewRequestWithContext(WithPrefer(context.Background(), "http://a"), "GET", "http://pool/blob", nil)
		resp, err := w.b.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		go func() {
			for i := range 100 {
				lists := [][]string{urls("a", "b"), urls("b"), urls("a", "c", "d"), urls("c")}
				w.b.SetMembers(OriginLearned, lists[i%4])
				if i%10 == 5 {
					w.net.Set("b:80", faultnet.Fault{Refuse: true})
				} else {
					w.net.Heal("b:80")
				}
				time.Sleep(5 * time.Second)
			}
		}()
		data, err := io.ReadAll(resp.Body)
		if err != nil || len(data) != 600 {
			t.Errorf("got %d bytes, %v, want 600", len(data), err)
		}
	})
}

var (
	hammer    = flag.Duration("hammer", 2*time.Second, "how long T7 hammers the balancer")
	hammerers = flag.Int("hammerers", 32, "how many goroutines send requests meanwhile")
)

// T7: updates, picks, probes and removals together. The long form is
//
//	go test -race ./balancer -run T7 -v -hammer 60s -hammerers 10000
func TestT7HammeredTogether(t *testing.T) {
	n := faultnet.New()
	hosts := []string{"a", "b", "c", "d", "e"}
	for _, h := range hosts {
		ln, _ := n.Listen(h + ":80")
		srv := &http.Server{Handler: say(h)}
		go srv.Serve(ln)
		defer srv.Close()
	}
	cfg := DefaultConfig()
	cfg.DialContext, cfg.Debounce = n.DialContext, 0
	b, err := New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.SetMembers(OriginJoin, urls("a"))
	before := runtime.NumGoroutine()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); b.Run(ctx) }()
	end := time.Now().Add(*hammer)
	var longest atomic.Int64
	timed := func(f func()) {
		start := time.Now()
		f()
		if took := int64(time.Since(start)); took > longest.Load() {
			longest.Store(took)
		}
	}
	var wg sync.WaitGroup
	busy := func(f func(i int)) {
		wg.Go(func() {
			for i := 0; time.Now().Before(end); i++ {
				f(i)
			}
		})
	}
	var sent, failed atomic.Int64
	over, stop := context.WithDeadline(context.Background(), end)
	defer stop()
	for range *hammerers {
		busy(func(int) {
			// Many take turns: what the machine can carry is not the question.
			select {
			case <-over.Done():
				return
			case <-time.After(time.Duration(*hammerers/32) * rand.N(100*time.Millisecond)):
			}
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			req, _ := http.NewRequestWithContext(ctx, "GET", "http://pool/x", nil)
			resp, err := b.Client().Do(req)
			sent.Add(1)
			if err == nil {
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			} else {
				if failed.Add(1) == 1 {
					t.Logf("the first that was not answered: %v", err)
				}
			}
		})
	}
	busy(func(i int) {
		timed(func() { b.SetMembers(OriginLearned, urls(hosts[i%5], hosts[(i+2)%5])) })
		time.Sleep(time.Millisecond)
	})
	busy(func(int) { timed(func() { b.Status() }); time.Sleep(time.Millisecond) })
	busy(func(i int) {
		h := hosts[i%5] + ":80"
		n.Set(h, faultnet.Fault{Refuse: true})
		n.Reset(h)
		time.Sleep(5 * time.Millisecond)
		n.Heal(h)
		time.Sleep(5 * time.Millisecond)
	})
	wg.Wait()
	t.Logf("%d requests by %d goroutines, %d not answered; the longest update or status took %s", sent.Load(), *hammerers, failed.Load(), time.Duration(longest.Load()))
	for _, h := range hosts {
		n.Heal(h + ":80")
	}
	if n := failed.Load(); n > 0 {
		t.Errorf("%d of %d requests were not answered", n, sent.Load())
	}
	if d := time.Duration(longest.Load()); d > time.Second {
		t.Errorf("a call waited %s, want at most 1s", d)
	}
	for _, h := range hosts[1:] {
		n.Set(h+":80", faultnet.Fault{Refuse: true})
		n.Reset(h + ":80")
	}
	eventually(t, "the address given at join answers when all else is dead", func() bool {
		resp, err := b.Client().Get("http://pool/x")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return true
	})
	cancel()
	<-done
	for _, h := range hosts {
		n.Reset(h + ":80")
	}
	eventually(t, "every goroutine ends", func() bool { return runtime.NumGoroutine() <= before+len(hosts) })
}

// T7: a removed endpoint's idle connections are closed at once, and what it is
// sending is sent to its end.
func TestT7RemovedEndpointDrains(t *testing.T) {
	inWorld(t, DefaultConfig(), []string{"a"}, func(w *world) {
		w.serve("d").set(func(rw http.ResponseWriter, r *http.Request) {
			for range 20 {
				io.WriteString(rw, "x")
				rw.(http.Flusher).Flush()
				if r.URL.Path == "/slow" {
					time.Sleep(time.Second)
				}
			}
		})
		w.b.SetMembers(OriginLearned, urls("d"))
		var answers []*http.Response
		for _, path := range []string{"/slow", "/quick", "/quick"} {
			req, _ := http.NewRequestWithContext(WithPrefer(context.Background(), "http://d"), "GET", "http://pool"+path, nil)
			resp, err := w.b.Client().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			answers = append(answers, resp)
		}
		for _, resp := range answers[1:] {
			io.Copy(io.Discard, resp.Body) // its connection is idle then
		}
		time.Sleep(2 * time.Second)
		open := w.net.Open("d:80")
		w.b.SetMembers(OriginLearned, urls("a"))
		synctest.Wait()
		if now := w.net.Open("d:80"); open < 2 || now != 1 {
			t.Errorf("%d connections are open, of %d before it was removed; want the one that is used", now, open)
		}
		if data, err := io.ReadAll(answers[0].Body); len(data) != 20 || err != nil {
			t.Errorf("got %d bytes, %v, from the endpoint that was removed meanwhile; want 20", len(data), err)
		}
		if !w.until(2*time.Second, func() bool { return w.net.Open("d:80") == 0 }) {
			t.Errorf("%d connections are open after the last answer", w.net.Open("d:80"))
		}
	})
}

// T8: three black holes from the cache and one live address from the join,
// whichever of them has the first turn.
func TestT8BlackHolesInTheCache(t *testing.T) {
	for i := range uint64(8) {
		method, turn := []string{"GET", "POST"}[i%2], i/2
		t.Run(fmt.Sprint(method, turn), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "cache.json")
			if err := writeCache(path, cacheFile{CloudID: "cloud", Pool: "endpoints", Endpoints: urls("x", "y", "z")}); err != nil {
				t.Fatal(err)
			}
			cfg := DefaultConfig()
			cfg.Cache = CacheConfig{Path: path, CloudID: "cloud"}
			inWorld(t, cfg, nil, func(w *world) {
				for _, h := range []string{"x", "y", "z"} {
					w.net.Set(h+":80", faultnet.Fault{Hold: true})
				}
				w.serve("live")
				w.b.SetMembers(OriginJoin, urls("live"))
				if n := len(w.b.Status().Endpoints); n != 4 {
					t.Fatalf("%d endpoints, want 4", n)
				}
				w.b.turn.Store(turn)
				start := time.Now()
				if got := w.ask(method, "/x", 30*time.Second); got != "200 live" || time.Since(start) > 2*time.Second {
					t.Errorf("got %q after %s, want it within 2s", got, time.Since(start))
				}
				for _, h := range []string{"x", "y", "z"} {
					w.net.Heal(h + ":80")
				}
			})
		})
	}
}

func TestT8AnyCacheStarts(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(path string) error{
		"missing":   func(string) error { return nil },
		"empty":     func(p string) error { return os.WriteFile(p, nil, 0o600) },
		"truncated": func(p string) error { return os.WriteFile(p, []byte(`{"cloud_id":"cloud","endp`), 0o600) },
		"foreign": func(p string) error {
			return writeCache(p, cacheFile{CloudID: "other", Pool: "endpoints", Endpoints: urls("x")})
		},
		"empty list": func(p string) error { return writeCache(p, cacheFile{CloudID: "cloud", Pool: "endpoints"}) },
		"directory":  func(p string) error { return os.Mkdir(p, 0o500) },
	} {
		path := filepath.Join(t.TempDir(), "cache.json")
		if err := prepare(path); err != nil {
			t.Fatal(err)
		}
		cfg := DefaultConfig()
		cfg.Cache = CacheConfig{Path: path, CloudID: "cloud"}
		b, err := New(cfg, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if n := len(b.Status().Endpoints); n != 0 {
			t.Errorf("%s: %d endpoints came from it", name, n)
		}
		if err := b.SetMembers(OriginLearned, urls("y")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		b.saveCache() // must not fail the pool either
	}
}

// T8: what the cloud announces now replaces what it announced before the restart.
func TestT8LearnedReplacesCached(t *testing.T) {
	t.Parallel()
	cfg := DefaultConfig()
	cfg.Cache = CacheConfig{Path: filepath.Join(t.TempDir(), "cache.json"), CloudID: "cloud"}
	if err := writeCache(cfg.Cache.Path, cacheFile{CloudID: "cloud", Pool: cfg.Name, Endpoints: urls("gone", "stays")}); err != nil {
		t.Fatal(err)
	}
	b, err := New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.SetMembers(OriginJoin, urls("given")), b.SetMembers(OriginLearned, urls("stays", "new"))); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range b.Status().Endpoints {
		got = append(got, e.URL)
	}
	if want := urls("given", "stays", "new"); !slices.Equal(got, want) {
		t.Errorf("the pool is %v, want %v", got, want)
	}
}

// T8: what was learned in the last moment is there at the next start.
func TestT8WhatWasLearnedIsKept(t *testing.T) {
	t.Parallel()
	cfg := DefaultConfig()
	cfg.Cache = CacheConfig{Path: filepath.Join(t.TempDir(), "cache.json"), CloudID: "cloud"}
	b, err := New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- b.Run(ctx) }()
	if err := b.SetMembers(OriginLearned, urls("x")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the list is written while it runs", func() bool { _, err := readCache(cfg.Cache, cfg.Name); return err == nil })
	if err := b.SetMembers(OriginLearned, urls("x", "y")); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
	next, err := New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(next.Status().Endpoints); n != 2 {
		t.Errorf("%d endpoints came from the last run, want the 2 learned last", n)
	}
}

const cacheWriterEnv = "BALANCER_TEST_CACHE"

func TestMain(m *testing.M) {
	if path := os.Getenv(cacheWriterEnv); path != "" {
		for i := 0; ; i++ {
			writeCache(path, cacheFile{CloudID: "cloud", Pool: "p", Endpoints: urls(strings.Repeat(fmt.Sprint(i%10), 4000))})
		}
	}
	os.Exit(m.Run())
}

// T8: kill -9 while the cache is written leaves the old or the new.
func TestT8KilledWhileWritingTheCache(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "cache.json")
	for i := range 8 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), cacheWriterEnv+"="+path)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the writer writes", func() bool { _, err := os.Stat(path); return err == nil })
		time.Sleep(time.Duration(i) * time.Millisecond) // another moment each time
		cmd.Process.Kill()
		cmd.Wait()
		if got, err := readCache(CacheConfig{Path: path, CloudID: "cloud"}, "p"); err != nil || len(got) != 1 || len(got[0]) != 4007 {
			t.Fatalf("kill %d left %d endpoints, %v", i, len(got), err)
		}
	}
}

// T9, the balancer's part: with each of three in turn killed, hung and cut off,
// every heartbeat is answered well before a node would be called offline, and
// each has one effect however often it was delivered.
func TestT9HeartbeatsSurviveEachController(t *testing.T) {
	inWorld(t, DefaultConfig(), three, func(w *world) {
		var mu sync.Mutex
		effects := make(map[string]int)
		for _, h := range three {
			w.fakes[h].set(func(rw http.ResponseWriter, r *http.Request) {
				key := r.Header.Get(IdempotencyHeader)
				mu.Lock()
				defer mu.Unlock()
				if effects[key] == 0 {
					effects[key]++
				}
			})
		}
		beat := 0
		for _, h := range three {
			for _, f := range []faultnet.Fault{{Refuse: true}, {Hold: true}, {Delay: time.Minute}} {
				w.net.Set(h+":80", f)
				if f.Refuse {
					w.net.Reset(h + ":80")
				}
				for range 4 {
					beat++
					start := time.Now()
					got := w.ask("POST", "/sync", 5*time.Second, IdempotencyHeader, fmt.Sprint(beat))
					if !strings.HasPrefix(got, "200") || time.Since(start) > time.Second {
						t.Errorf("heartbeat %d with %+v at %s: %s after %s", beat, f, h, got, time.Since(start))
					}
					time.Sleep(5 * time.Second)
				}
				w.net.Heal(h + ":80")
				w.net.Reset(h + ":80")
				time.Sleep(time.Minute)
			}
		}
		if len(effects) != beat {
			t.Errorf("%d effects of %d heartbeats", len(effects), beat)
		}
	})
}

// T10 over HTTP/2: requests leave a connection that went silent, and it is
// pinged and given up though nobody closed it.
func TestT10SilentHTTP2Connection(t *testing.T) {
	inTLSWorld(t, DefaultConfig(), func(w *world) {
		for range 4 {
			if got := w.ask("GET", "/x", time.Second); got != "200 HTTP/2.0" {
				t.Fatalf("got %q, want HTTP/2", got)
			}
		}
		w.net.Set("a:443", faultnet.Fault{Hold: true})
		for range 4 {
			began := time.Now()
			if got := w.ask("GET", "/x", 30*time.Second); got != "200 HTTP/2.0" || time.Since(began) > 3*time.Second {
				t.Errorf("got %q after %s, want an answer within 3s", got, time.Since(began))
			}
		}
		if !w.until(3*time.Second, func() bool { return w.net.Open("a:443") == 0 }) {
			t.Errorf("%d silent connections are still kept", w.net.Open("a:443"))
		}
	})
}

// T10 over HTTP/2: a download without a byte for 1.5 s is moved.
func TestT10SilentHTTP2DownloadIsMoved(t *testing.T) {
	inTLSWorld(t, BlobConfig(), func(w *world) {
		data := strings.Repeat("0123456789", 100_000)
		for _, h := range []string{"a", "b"} {
			w.fakes[h].set(serveSlowly(data, 50*time.Millisecond))
		}
		time.AfterFunc(200*time.Millisecond, func() { w.net.Set("a:443", faultnet.Fault{Hold: true}) })
		req, _ := http.NewRequestWithContext(WithPrefer(context.Background(), "https://a"), "GET", "http://pool/blob", nil)
		began := time.Now()
		resp, err := w.b.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		if err != nil || string(got) != data || time.Since(began) > 4*time.Second || w.b.Status().Resumes != 1 {
			t.Errorf("got %d bytes, %v, after %s and %d moves; want all of them after one", len(got), err, time.Since(began), w.b.Status().Resumes)
		}
	})
}

// inTLSWorld is inWorld with servers a and b that speak HTTP/2.
func inTLSWorld(t *testing.T, cfg Config, test func(w *world)) {
	cfg.TLS = &tls.Config{InsecureSkipVerify: true}
	inWorld(t, cfg, nil, func(w *world) {
		for _, h := range []string{"a", "b"} {
			f := &virtualFake{ready: status(http.StatusOK), serve: func(rw http.ResponseWriter, r *http.Request) { io.WriteString(rw, r.Proto) }}
			w.fakes[h] = f
			ln, err := w.net.Listen(h + ":443")
			if err != nil {
				t.Fatal(err)
			}
			s := httptest.NewUnstartedServer(f)
			s.Listener.Close()
			s.Listener, s.EnableHTTP2 = ln, true
			s.StartTLS()
			w.stops = append(w.stops, s.Close)
		}
		if err := w.b.SetMembers(OriginJoin, []string{"https://a", "https://b"}); err != nil {
			t.Fatal(err)
		}
		defer w.net.Heal("a:443")
		test(w)
	})
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
		start := time.Now()
		got := w.ask("GET", "/x", 10*time.Second)
		if !strings.HasPrefix(got, "503") || time.Since(start) > 10*time.Second {
			t.Errorf("got %q after %s, want the 503 within the deadline", got, time.Since(start))
		}
		start = time.Now()
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
		if wait := came[1].Sub(came[0]); len(came) != 2 || wait < 3*time.Second || wait > 3500*time.Millisecond {
			t.Errorf("came %d times, the second %s after the first; want twice, 3s apart", len(came), wait)
		}
	})
}

func TestT11FinalFailureKeepsGoodConnections(t *testing.T) {
	inWorld(t, DefaultConfig(), three, func(w *world) {
		for range 9 {
			w.ask("GET", "/x", time.Second)
		}
		dials := w.net.Dials("a:80")
		for _, h := range three {
			w.fakes[h].set(status(503))
		}
		w.ask("GET", "/x", 400*time.Millisecond)
		w.fakes["a"].set(say("a"))
		for range 9 {
			w.ask("GET", "/x", 10*time.Second)
		}
		if now := w.net.Dials("a:80"); now > dials+1 { // a probe may have needed one
			t.Errorf("%d connections were made again", now-dials)
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
		if len(hosts) != 3 || hosts[0] == hosts[1] || hosts[1] == hosts[2] {
			t.Errorf("hosts %v, want each endpoint once under its own name", hosts)
		}
	})
}

func TestT11LibraryLogsToZap(t *testing.T) {
	core, logs := observer.New(zap.DebugLevel)
	b, err := New(DefaultConfig(), zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	b.SetMembers(OriginJoin, []string{"http://127.0.0.1:1"})
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", "http://pool/x", nil)
	if _, err := b.Client().Do(req); err == nil {
		t.Fatal("nothing listens there")
	}
	if logs.FilterMessage("retrying request").Len() == 0 {
		t.Error("the library's lines are not in the log")
	}
}

// T12: members that come and go every 100 ms leave every share fair: those that
// stay have equal ones, and the one that comes and goes has as much while it is
// there.
func TestT12ChurnKeepsSharesFair(t *testing.T) {
	for _, debounce := range []time.Duration{0, DefaultConfig().Debounce} {
		cfg := DefaultConfig()
		cfg.Debounce = debounce
		inWorld(t, cfg, three, func(w *world) {
			w.serve("d")
			stop := make(chan struct{})
			done := make(chan struct{})
			var there time.Duration // of d
			go func() {
				defer close(done)
				for i := 0; ; i++ {
					lists := [][]string{urls("a", "d"), urls("c", "b", "a")}
					w.b.SetMembers(OriginLearned, lists[i%2])
					select {
					case <-stop:
						return
					case <-time.After(100 * time.Millisecond):
					}
				}
			}()
			end := time.Now().Add(30 * time.Second)
			watched := make(chan struct{})
			go func() {
				defer close(watched)
				for last := time.Now(); last.Before(end); last = time.Now() {
					time.Sleep(time.Millisecond)
					if len(w.b.Endpoints()) == 4 {
						there += time.Since(last)
					}
				}
			}()
			bad, _ := w.load("GET", "/x", 30*time.Second, 7*time.Millisecond, "200") // in step with no list
			close(stop)
			<-done
			<-watched
			if len(bad) > 0 {
				t.Errorf("%d requests failed: %s", len(bad), bad[0])
			}
			total := 0
			for _, f := range w.fakes {
				n, _ := f.counts()
				total += n
			}
			part := there.Seconds() / 30
			fair := map[string]float64{"d": part / 4 * float64(total)}
			for _, h := range three {
				fair[h] = (float64(total) - fair["d"]) / 3
			}
			for h, due := range fair {
				if n, _ := w.fakes[h].counts(); math.Abs(float64(n)-due) > due/10 {
					t.Errorf("debounce %s, d there %.0f%% of the time: %s got %d of %d, want %.0f", debounce, 100*part, h, n, total, due)
				}
			}
		})
	}
}

func TestT12LastEndpointIsNeverOffline(t *testing.T) {
	inWorld(t, DefaultConfig(), []string{"a"}, func(w *world) {
		w.fakes["a"].set(status(503))
		for range 20 {
			w.ask("POST", "/x", time.Second)
		}
		if s := w.state("a"); !s.Eligible || s.State != Healthy || w.count("a", Ejected) > 0 {
			t.Errorf("the only endpoint is %s, eligible %v, was taken out %d times", s.State, s.Eligible, w.count("a", Ejected))
		}
		w.fakes["a"].set(say("a"))
		if got := w.ask("GET", "/x", time.Second); got != "200 a" {
			t.Errorf("got %q", got)
		}
	})
}

func TestT12FastRefusalsDoNotAttractTraffic(t *testing.T) {
	for _, test := range []struct {
		policy Policy
		code   int
	}{{RoundRobin, 429}, {RoundRobin, 503}, {LeastInFlight, 429}, {LeastInFlight, 503}} {
		code, cfg := test.code, DefaultConfig()
		cfg.Policy = test.policy
		inWorld(t, cfg, []string{"busy", "good"}, func(w *world) {
			w.fakes["busy"].set(status(code))
			w.fakes["good"].set(after(50*time.Millisecond, say("good")))
			w.load("GET", "/x", 20*time.Second, 20*time.Millisecond, "200")
			busy, _ := w.fakes["busy"].counts()
			good, _ := w.fakes["good"].counts()
			if busy >= good/2 || w.count("busy", Down) > 0 {
				t.Errorf("%s, %d: %d requests went to the refusing endpoint, %d to the good one, state %s", test.policy, code, busy, good, w.state("busy").State)
			}
		})
	}
}

// T13: what may not continue a download.
func TestT13DownloadsContinueOnlyWithTheSameContent(t *testing.T) {
	data := strings.Repeat("0123456789", 1000)
	cut := func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("ETag", `"v1"`)
		rw.Header().Set("Content-Length", fmt.Sprint(len(data)))
		io.WriteString(rw, data[:4000])
		rw.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	ranged := func(etag, contentRange, body string) http.HandlerFunc {
		return func(rw http.ResponseWriter, r *http.Request) {
			if asked, only := r.Header.Get("Range"), r.Header.Get("If-Range"); asked != "bytes=4000-9999" || only != `"v1"` {
				t.Errorf("was asked for %q if it is %q", asked, only)
			}
			rw.Header().Set("ETag", etag)
			rw.Header().Set("Content-Range", contentRange)
			rw.WriteHeader(http.StatusPartialContent)
			io.WriteString(rw, body)
		}
	}
	for _, test := range []struct {
		name string
		next http.HandlerFunc
		want bool
	}{
		{"the exact rest", ranged(`"v1"`, "bytes 4000-9999/10000", data[4000:]), true},
		{"other content", ranged(`"v2"`, "bytes 4000-9999/10000", data[4000:]), false},
		{"another range", ranged(`"v1"`, "bytes 0-5999/10000", data[:6000]), false},
		{"another size", ranged(`"v1"`, "bytes 4000-9999/20000", data[4000:]), false},
		{"a whole answer", func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("ETag", `"v1"`)
			io.WriteString(rw, data)
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			inWorld(t, BlobConfig(), []string{"a", "b"}, func(w *world) {
				w.fakes["a"].set(func(rw http.ResponseWriter, r *http.Request) {
					if r.Header.Get("Range") != "" {
						rw.WriteHeader(http.StatusNotFound)
						return
					}
					cut(rw, r)
				})
				w.fakes["b"].set(test.next)
				ctx, cancel := context.WithTimeout(WithPrefer(context.Background(), "http://a"), 2*time.Minute)
				defer cancel()
				req, _ := http.NewRequestWithContext(ctx, "GET", "http://pool/blob", nil)
				resp, err := w.b.Client().Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				got, err := io.ReadAll(resp.Body)
				if test.want != (err == nil) || !strings.HasPrefix(data, string(got)) || test.want && len(got) != len(data) {
					t.Errorf("got %d bytes, %v", len(got), err)
				}
			})
		})
	}
}

func TestT13WrongDigestBreaksOff(t *testing.T) {
	cfg := BlobConfig()
	cfg.VerifyDigests = true // an option where the kernel carries the bytes
	inWorld(t, cfg, []string{"a"}, func(w *world) {
		w.fakes["a"].set(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("ETag", `"v1"`)
			rw.Header().Set("Content-Length", "5")
			io.WriteString(rw, "wrong")
		})
		resp, err := w.b.Client().Get("http://pool/v2/x/blobs/sha256:" + strings.Repeat("0", 64))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if got, err := io.ReadAll(resp.Body); !errors.Is(err, ErrDigest) || len(got) == 5 {
			t.Errorf("got %q, %v, want ErrDigest before the last byte", got, err)
		}
	})
}

// T14: the answer of a hedge is read long after the race is over.
func TestT14HedgedBodyIsReadToItsEnd(t *testing.T) {
	inWorld(t, DefaultConfig(), []string{"a", "b"}, func(w *world) {
		stream := func(rw http.ResponseWriter, r *http.Request) {
			for range 20 {
				io.WriteString(rw, "0123456789")
				rw.(http.Flusher).Flush()
				select {
				case <-time.After(time.Second):
				case <-r.Context().Done():
					return
				}
			}
		}
		w.fakes["a"].set(after(time.Hour, say("a")))
		w.fakes["b"].set(stream)
		for range 2 {
			resp, err := w.b.Client().Get("http://pool/x")
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || len(data) != 200 {
				t.Errorf("got %d bytes, %v, want 200", len(data), err)
			}
		}
		if w.b.Status().Hedges == 0 {
			t.Error("nothing was hedged")
		}
	})
}

// T16: endpoints, weights and drains change while it runs.
func TestT16SettingsChangeAtRunTime(t *testing.T) {
	inWorld(t, DefaultConfig(), three, func(w *world) {
		counted := func(d time.Duration) map[string]int {
			before := make(map[string]int)
			for h, f := range w.fakes {
				before[h], _ = f.counts()
			}
			w.load("GET", "/x", d, 10*time.Millisecond, "200")
			for h, f := range w.fakes {
				n, _ := f.counts()
				before[h] = n - before[h]
			}
			return before
		}
		if err := w.b.SetDrain("http://b", true); err != nil {
			t.Fatal(err)
		}
		drained, _ := w.fakes["b"].counts()
		if n := counted(3 * time.Second)["b"]; n > 0 {
			t.Errorf("%d requests went to a drained endpoint", n)
		}
		for _, h := range []string{"a", "c"} {
			w.net.Set(h+":80", faultnet.Fault{Refuse: true})
			w.net.Reset(h + ":80")
		}
		w.ask("GET", "/x", 5*time.Second)
		if n, _ := w.fakes["b"].counts(); n > drained {
			t.Errorf("%d requests went to a drained endpoint when the others were dead", n-drained)
		}
		for _, h := range []string{"a", "c"} {
			w.net.Heal(h + ":80")
		}
		w.until(time.Minute, func() bool { return w.state("a").Weight+w.state("c").Weight == 2 })
		w.b.SetDrain("http://b", false)
		if err := w.b.SetWeight("http://c", 0.1); err != nil {
			t.Fatal(err)
		}
		if n := counted(6 * time.Second); n["b"] < 150 || n["c"] > 60 {
			t.Errorf("after the drain b got %d of 600, c with a tenth of its share %d", n["b"], n["c"])
		}
		w.serve("d")
		w.b.SetMembers(OriginLearned, urls("d"))
		time.Sleep(2 * time.Second)
		if n := counted(3 * time.Second)["d"]; n < 60 {
			t.Errorf("a new member got %d of 300", n)
		}
		if err := w.b.SetMembers(OriginLearned, nil); !errors.Is(err, ErrEmptyList) {
			t.Errorf("an empty list: %v", err)
		}
		if err := w.b.SetWeight("http://c", 2); err == nil {
			t.Error("a weight of 2 was taken")
		}
	})
}
