package balancer

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ankacluster/ankacluster/test/faultnet"
)

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
		b.SetMembers(OriginLearned, urls(hosts[i%5], hosts[(i+2)%5]))
		time.Sleep(time.Millisecond)
	})
	busy(func(int) { b.Status(); <-time.After(time.Millisecond) })
	busy(func(i int) {
		h := hosts[i%5] + ":80"
		n.Set(h, faultnet.Fault{Refuse: true})
		n.Reset(h)
		time.Sleep(5 * time.Millisecond)
		n.Heal(h)
		time.Sleep(5 * time.Millisecond)
	})
	wg.Wait()
	t.Logf("%d requests by %d goroutines, %d not answered", sent.Load(), *hammerers, failed.Load())
	for _, h := range hosts {
		n.Heal(h + ":80")
	}
	if n := failed.Load(); n > 0 {
		t.Errorf("%d of %d requests were not answered", n, sent.Load())
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

// T7: an update of the list, and a look at it, wait for no endpoint: not for one
// that hangs in the middle of requests, nor for one that cannot be reached.
func TestT7UpdatesWaitForNoEndpoint(t *testing.T) {
	inWorld(t, DefaultConfig(), three, func(w *world) {
		for _, h := range three {
			w.fakes[h].set(after(time.Hour, say(h)))
		}
		ctx, giveUp := context.WithCancel(context.Background())
		var asking sync.WaitGroup
		for range 20 {
			asking.Go(func() {
				req, _ := http.NewRequestWithContext(ctx, "GET", "http://pool/x", nil)
				if resp, err := w.b.Client().Do(req); err == nil {
					resp.Body.Close()
				}
			})
		}
		<-time.After(10 * time.Second)
		for _, h := range three {
			w.net.Set(h+":80", faultnet.Fault{Hold: true})
		}
		for step := range 200 {
			start := time.Now()
			err := w.b.SetMembers(OriginLearned, urls(three[step%3], fmt.Sprintf("nobody%d", step%7)))
			status := w.b.Status()
			if took := time.Since(start); err != nil || len(status.Endpoints) == 0 || took > 0 {
				t.Fatalf("step %d: %v, %d endpoints, after %s; want at once", step, err, len(status.Endpoints), took)
			}
			<-time.After(time.Duration(step) * 7 * time.Millisecond)
		}
		giveUp()
		asking.Wait()
	})
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
		if err := w.b.Drain("http://b", false); err != nil {
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
		back := func(h string) bool { return w.state(h).State == Healthy && w.state(h).Weight == 1 }
		if !w.until(2*time.Minute, func() bool { return back("a") && back("c") }) {
			t.Fatal("the others never had their whole share again")
		}
		if err := w.b.Undrain("http://b"); err != nil {
			t.Fatal(err)
		}
		if w.state("b").Weight >= 0.2 || !w.until(time.Minute, func() bool { return back("b") }) {
			t.Errorf("after the drain b is %+v, want a share that grows", w.state("b"))
		}
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
