package drill

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ankacluster/ankacluster/balancer/drill/door"
)

// kind is what a request is, as far as repeating it goes.
type kind int

const (
	get kind = iota
	keyed
	unkeyed
	kinds // how many there are
)

func (k kind) String() string { return [...]string{"GET", "POST with a key", "POST without a key"}[k] }

// deadline is how long a caller waits for one request, whatever happens.
const deadline = 30 * time.Second

// SlowAfter is when an answer, though correct, counts as slow.
const SlowAfter = 500 * time.Millisecond

// largeSlowAfter is the same for an answer above readAhead: it goes on elsewhere
// within this time when its backend hangs.
const largeSlowAfter = 2500 * time.Millisecond

// sample is one request as its caller saw it.
type sample struct {
	id      string
	kind    kind
	size    int // of the answer; 0 is a short document
	due     time.Time
	done    time.Time
	backend string // who answered
	failure string // "" when all went well

	stood time.Duration // of its time, in which the machine stood still
	void  bool          // it failed while the machine stood still
}

// slowAfter: a large answer may be the one that was under way when its backend hung.
func (s *sample) slowAfter() time.Duration {
	if s.size > readAhead {
		return largeSlowAfter
	}
	return SlowAfter
}

func (s *sample) latency() time.Duration { return s.done.Sub(s.due) - s.stood }
func (s *sample) slow() bool             { return s.failure == "" && s.latency() > s.slowAfter() }
func (s *sample) bad() bool              { return s.failure != "" && !s.void || s.slow() }

// lane is one client: its door, its requests and what became of them.
type lane struct {
	posts   kind // keyed or unkeyed
	door    door.Door
	client  *http.Client
	base    string
	prefix  string // of the request ids
	samples []*sample
	live    *live
	calm    bool // nothing will break: any answer may be large
}

// live are the counters behind the line that moves while a scenario runs.
type live struct {
	sent, failed, slow, open atomic.Int64
}

// run sends a request every interval until stop is closed, and returns when the
// last one has been answered or given up.
func (l *lane) run(ctx context.Context, interval time.Duration, seed uint64, stop <-chan struct{}) {
	var open sync.WaitGroup
	defer open.Wait()
	order := rand.New(rand.NewPCG(seed, uint64(l.posts)))
	var second kind
	start := time.Now()
	for i := 0; ; i++ {
		due := start.Add(time.Duration(i) * interval)
		wait(ctx, time.Until(due))
		select {
		case <-stop:
			return
		case <-ctx.Done():
			return
		default:
		}
		// One GET and one POST in each pair, in an order that no rotation over a
		// fixed number of backends falls into step with.
		k := second
		if i%2 == 0 {
			k, second = get, l.posts
			if order.IntN(2) == 1 {
				k, second = second, k
			}
		}
		s := &sample{id: fmt.Sprintf("%s-%d", l.prefix, i), kind: k, due: due, size: l.sizeOf(i, k)}
		l.samples = append(l.samples, s)
		open.Go(func() { l.send(ctx, s) })
	}
}

func (l *lane) send(ctx context.Context, s *sample) {
	l.live.sent.Add(1)
	l.live.open.Add(1)
	defer l.live.open.Add(-1)
	ctx, cancel := context.WithDeadline(ctx, s.due.Add(deadline))
	defer cancel()
	backend, err := l.exchange(ctx, s)
	s.done = time.Now()
	s.backend = backend
	if err != nil {
		s.failure = err.Error()
		l.live.failed.Add(1)
	} else if s.slow() {
		l.live.slow.Add(1)
	}
}

// exchange sends one request and accepts nothing but its whole, right answer.
func (l *lane) exchange(ctx context.Context, s *sample) (backend string, err error) {
	method, body := http.MethodGet, io.Reader(nil)
	if s.kind != get {
		method, body = http.MethodPost, strings.NewReader(`{"count":1}`)
	}
	req, err := http.NewRequestWithContext(ctx, method, l.base+pathCall, body)
	if err != nil {
		return "", err
	}
	req.Header.Set(headerRequest, s.id)
	if s.kind == keyed {
		req.Header.Set(headerKey, "key-"+s.id)
	}
	if s.size > 0 {
		req.Header.Set(headerSize, fmt.Sprint(s.size))
	}
	resp, err := l.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	backend = resp.Header.Get(headerBackend)
	got, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	if err != nil {
		return backend, fmt.Errorf("read the answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return backend, fmt.Errorf("%s from %q", resp.Status, backend)
	}
	if s.size > 0 {
		if !bytes.Equal(got, sized(s.id, s.size)) {
			return backend, fmt.Errorf("broken answer: %d bytes that are not the %d asked for", len(got), s.size)
		}
		return backend, nil
	}
	var a answer
	if err := json.Unmarshal(got, &a); err != nil {
		return backend, fmt.Errorf("broken answer: %w", err)
	}
	if a.Request != s.id {
		return backend, fmt.Errorf("got the answer to request %q", a.Request)
	}
	if s.kind == get && a.Filler != filler {
		return backend, fmt.Errorf("broken answer: its %d bytes of filler are not the %d sent", len(a.Filler), len(filler))
	}
	return backend, nil
}
