package balancer

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/balancer/attempt"
	"github.com/ankacluster/ankacluster/balancer/download"
	"github.com/ankacluster/ankacluster/balancer/endpoint"
	"github.com/ankacluster/ankacluster/balancer/health"
	"github.com/ankacluster/ankacluster/balancer/pick"
)

// Balancer is an http.RoundTripper that spreads requests over a pool of
// endpoints. It is safe for concurrent use.
type Balancer struct {
	cfg    Config
	log    *zap.Logger
	client *http.Client

	snap      atomic.Pointer[pick.Snapshot]
	sender    *attempt.Sender
	downloads *download.Downloads
	reread    chan struct{} // capacity 1: "look at the endpoints again now"
	learned   chan struct{} // capacity 1: "the learned list is newer than the cache"

	mu      sync.Mutex // guards all below; taken before an endpoint's mu
	running bool
	roster
}

// roster is who is in a pool.
type roster struct {
	members members
	eps     map[string]*endpoint.Endpoint
	applied time.Time            // when the newest lists were
	pending bool                 // a member list waits for the debounce
	leaving []*endpoint.Endpoint // removed, with requests still running
	drained map[string]time.Time // by hand, since when; members or not
}

// New returns a balancer without endpoints; SetMembers gives it some. It starts
// nothing: Run does. log may be nil.
func New(cfg Config, log *zap.Logger) (*Balancer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if log == nil {
		log = zap.NewNop()
	}
	if cfg.Rhythm == nil {
		cfg.Rhythm = new(Rhythm)
	}
	b := &Balancer{
		cfg:     cfg,
		log:     log.Named("balancer").With(zap.String("pool", cfg.Name)),
		reread:  make(chan struct{}, 1),
		learned: make(chan struct{}, 1),
		roster: roster{
			members: members{},
			eps:     make(map[string]*endpoint.Endpoint),
			drained: make(map[string]time.Time),
		},
	}
	b.snap.Store(pick.New(nil, false, 0))
	b.sender = attempt.New(b.cfg.sender(), b.log, senderPool{b}, &b.snap)
	b.downloads = download.New(b.cfg.downloads(), b.log, b.sender)
	b.client = &http.Client{Transport: newRepeater(b)}
	b.loadCache()
	return b, nil
}

// Client returns an http.Client that repeats passes over the endpoints, with
// growing waits, until the request's deadline (or Retry.MaxElapsed without one).
func (b *Balancer) Client() *http.Client { return b.client }

// RoundTrip makes one pass over the endpoints: every usable one at most once,
// the next one at once. The request's scheme and host name the pool and are
// replaced. The error is a *PassError, or the context's.
func (b *Balancer) RoundTrip(req *http.Request) (*http.Response, error) {
	return b.roundTrip(req, nil)
}

// roundTrip makes a pass that begins at first, or at the endpoint picked if
// that is nil.
func (b *Balancer) roundTrip(req *http.Request, first *endpoint.Endpoint) (*http.Response, error) {
	resp, err := b.sender.Send(req, first)
	if err == nil {
		b.downloads.Watch(resp)
	}
	return resp, err
}

// senderPool is the pool as its sender sees it.
type senderPool struct{ b *Balancer }

func (p senderPool) Transition(ep *endpoint.Endpoint, now time.Time, step func(health.Record) (health.Record, bool)) {
	p.b.transition(ep, now, step)
}
func (p senderPool) Republish(now time.Time)         { p.b.republish(now) }
func (p senderPool) LookAgain(ep *endpoint.Endpoint) { p.b.lookAgain(ep) }

// transition applies a change of health, publishes a new snapshot, and lets go
// of requests that wait at an endpoint that went out.
func (b *Balancer) transition(ep *endpoint.Endpoint, now time.Time, step func(health.Record) (health.Record, bool)) {
	b.mu.Lock()
	before, after, changed, waiting := ep.Transition(now, step)
	if !changed {
		b.mu.Unlock()
		return
	}
	b.publishLocked(now)
	failedOpen := b.snap.Load().FailedOpen
	b.mu.Unlock()

	if after.Usable() {
		b.comeBack(ep, waiting)
	} else {
		moveOn(waiting)
	}
	b.announce(Transition{Pool: b.cfg.Name, Endpoint: ep.Name, From: before.State, To: after.State, Reason: after.Reason, At: now}, failedOpen)
	b.wakeProber()
}

// moveOn lets late requests go to another endpoint, if they may.
func moveOn(waiting []endpoint.Waiter) {
	for _, w := range waiting {
		w.MoveOn()
	}
}

// comeBackGrace is how long an endpoint that came back has to answer what it
// was asked before: a process that was stopped answers at once, a connection
// that lost packets may take many seconds to notice.
const comeBackGrace = 300 * time.Millisecond

// comeBack moves the requests that still wait, at the endpoint that is back or
// at others that are out, to where they are answered.
func (b *Balancer) comeBack(ep *endpoint.Endpoint, waiting []endpoint.Waiter) {
	if len(waiting) > 0 {
		time.AfterFunc(comeBackGrace, func() { moveOn(waiting) })
	}
	for _, other := range b.snap.Load().Resort {
		if other != ep {
			moveOn(other.WaitersOf())
		}
	}
}

func (b *Balancer) announce(t Transition, failedOpen bool) {
	b.log.Info(t.String(), zap.String("endpoint", t.Endpoint), zap.String("from", string(t.From)),
		zap.String("to", string(t.To)), zap.String("reason", t.Reason), zap.Bool("failed_open", failedOpen))
	if b.cfg.OnTransition != nil {
		b.cfg.OnTransition(t)
	}
}

func (b *Balancer) republish(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.publishLocked(now)
}

// publishLocked builds the snapshot that requests pick from.
func (b *Balancer) publishLocked(now time.Time) {
	var all []*endpoint.Endpoint
	for _, name := range b.members.order() {
		if ep := b.eps[name]; ep != nil {
			all = append(all, ep)
		}
	}
	snap := pick.New(all, b.cfg.Policy == LeastInFlight, b.cfg.FailOpenBelow)
	close(b.snap.Swap(snap).Replaced)
}

// Run probes the endpoints, applies member lists and keeps the cache until ctx
// ends. It returns when all of its goroutines have ended; nil means "as asked".
// A Balancer runs once.
func (b *Balancer) Run(ctx context.Context) error {
	b.mu.Lock()
	if b.running {
		b.mu.Unlock()
		return errors.New("balancer is already running")
	}
	b.running = true
	b.mu.Unlock()
	var keeper sync.WaitGroup
	keeper.Go(func() { b.keepCache(ctx) })
	newProber(b).run(ctx)
	keeper.Wait()
	b.closeIdle()
	return nil
}

func (b *Balancer) closeIdle() {
	for _, ep := range b.snap.Load().All {
		ep.Transport.CloseIdleConnections()
	}
}
