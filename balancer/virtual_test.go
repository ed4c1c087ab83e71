package balancer

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/test/faultnet"
)

// world is a pool over an in-memory network, in virtual time.
type world struct {
	t     *testing.T
	net   *faultnet.Network
	b     *Balancer
	cfg   Config
	fakes map[string]*virtualFake

	mu          sync.Mutex
	transitions []Transition
	stops       []func()
}

// virtualFake is a server whose behaviour and readiness a test sets.
type virtualFake struct {
	mu    sync.Mutex
	ready http.HandlerFunc
	serve http.HandlerFunc
	hits  int // without probes
	seen  int // probes
	busy  int // requests that are being answered
}

func (f *virtualFake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.busy++
	h := f.serve
	if r.URL.Path == "/readyz" {
		h = f.ready
		f.seen++
	} else {
		f.hits++
	}
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.busy--
		f.mu.Unlock()
	}()
	h(w, r)
}

// rest waits until no request is being answered.
func (f *virtualFake) rest() {
	for {
		synctest.Wait()
		f.mu.Lock()
		busy := f.busy
		f.mu.Unlock()
		if busy == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func (f *virtualFake) set(serve http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.serve = serve
}

func (f *virtualFake) setReady(ready http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ready = ready
}

func (f *virtualFake) counts() (hits, probes int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hits, f.seen
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(code)
	}
}

func say(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, text)
	}
}

// after answers d later, or not at all when the caller is gone.
func after(d time.Duration, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		select {
		case <-time.After(d):
			h(w, r)
		case <-r.Context().Done():
		}
	}
}

// inWorld runs test in virtual time with a server at each of the hosts.
func inWorld(t *testing.T, cfg Config, hosts []string, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, net: faultnet.New(), cfg: cfg, fakes: make(map[string]*virtualFake)}
		w.cfg.DialContext = w.net.DialContext
		callback := cfg.OnTransition
		w.cfg.OnTransition = func(tr Transition) {
			w.mu.Lock()
			w.transitions = append(w.transitions, tr)
			w.mu.Unlock()
			if callback != nil {
				callback(tr)
			}
		}
		for _, host := range hosts {
			w.serve(host)
		}
		b, err := New(w.cfg, zap.NewNop())
		if err != nil {
			t.Fatal(err)
		}
		w.b = b
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		if len(hosts) > 0 {
			if err := b.SetMembers(OriginJoin, urls(hosts...)); err != nil {
				t.Fatal(err)
			}
		}
		go func() { defer close(done); b.Run(ctx) }()
		synctest.Wait()
		defer func() {
			for _, host := range hosts {
				w.net.Heal(host + ":80")
			}
			cancel()
			<-done
			for _, stop := range w.stops {
				stop()
			}
		}()
		test(w)
	})
}

// serve starts a server at host.
func (w *world) serve(host string) *virtualFake {
	f := &virtualFake{ready: status(http.StatusOK), serve: say(host)}
	ln, err := w.net.Listen(host + ":80")
	if err != nil {
		w.t.Fatal(err)
	}
	srv := &http.Server{Handler: f}
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve(ln) }()
	w.fakes[host] = f
	w.stops = append(w.stops, func() {
		srv.Close()
		<-done
		f.rest() // virtual time ends with the test: a handler must not sleep then
	})
	return f
}

func urls(hosts ...string) []string {
	out := make([]string, len(hosts))
	for i, h := range hosts {
		out[i] = "http://" + h
	}
	return out
}

// ask makes a request and returns "CODE BODY" or the error.
func (w *world) ask(method, path string, timeout time.Duration, header ...string) string {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	var body io.Reader
	if method == http.MethodPost {
		body = strings.NewReader("body")
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://pool"+path, body)
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := w.b.Client().Do(req)
	if err != nil {
		return "error: " + err.Error()
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return "error: " + err.Error()
	}
	return resp.Status[:3] + " " + string(data)
}

// load asks every gap for d and returns what did not begin with want, and the
// longest time that one took.
func (w *world) load(method, path string, d, gap time.Duration, want string, header ...string) (bad []string, longest time.Duration) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(gap) {
		wg.Go(func() {
			start := time.Now()
			got := w.ask(method, path, 30*time.Second, header...)
			mu.Lock()
			defer mu.Unlock()
			longest = max(longest, time.Since(start))
			if !strings.HasPrefix(got, want) {
				bad = append(bad, got)
			}
		})
	}
	wg.Wait()
	return bad, longest
}

func (w *world) state(host string) EndpointStatus { return stateOf(w.b, "http://"+host) }

func (w *world) count(host string, to State) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, tr := range w.transitions {
		if tr.Endpoint == "http://"+host && tr.To == to {
			n++
		}
	}
	return n
}

// reasons are why an endpoint came to a state, in order.
func (w *world) reasons(host string, to State) (all []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, tr := range w.transitions {
		if tr.Endpoint == "http://"+host && tr.To == to {
			all = append(all, tr.Reason)
		}
	}
	return all
}

// until waits in virtual time.
func (w *world) until(d time.Duration, ok func() bool) bool {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return true
		}
	}
	return ok()
}

var three = []string{"a", "b", "c"}
