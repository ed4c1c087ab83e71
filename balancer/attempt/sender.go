package attempt

import (
	"errors"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ankacluster/ankacluster/balancer/endpoint"
	"github.com/ankacluster/ankacluster/balancer/health"
	"github.com/ankacluster/ankacluster/balancer/pick"
	"github.com/ankacluster/ankacluster/balancer/route"
	"go.uber.org/zap"
)

// Class says what kind of traffic a balancer carries. Classes are kept in
// separate balancers, so that a slow transfer cannot starve a heartbeat.
type Class string

const (
	// Control is for small requests and answers: they may be hedged and read
	// ahead.
	Control Class = "control"
	// Blob is for large transfers: they are never hedged and never buffered, and
	// their bytes may be left to the kernel.
	Blob Class = "blob"
)

// RetryConfig bounds and paces repeats.
type RetryConfig struct {
	// Share of requests, and Reserve repeats a second on top, over Window.
	Share   float64
	Reserve float64
	Window  time.Duration
	// WaitMin and WaitMax pace further passes; MaxElapsed bounds a request that
	// has no deadline of its own; RetryAfterMax bounds what a server may ask for.
	WaitMin       time.Duration
	WaitMax       time.Duration
	MaxElapsed    time.Duration
	RetryAfterMax time.Duration
	// TrialInterval is the pace at which requests may try an endpoint that is
	// out while nothing else is left.
	TrialInterval time.Duration
}

// StallConfig is about answers whose length is known and that are not read ahead.
type StallConfig struct {
	// Timeout without a byte moves a download to another endpoint, and ends an
	// answer that cannot be continued with an error.
	Timeout time.Duration
	// Upload is how long an endpoint may take nothing of a request's body that it has
	// not answered: the request is given up then, or repeated where it may be.
	Upload time.Duration
	// CrawlFactor slower than the best peer for CrawlFor moves it as well.
	CrawlFactor float64
	CrawlFor    time.Duration
}

// Config is what concerns the requests of a pool.
type Config struct {
	Name    string
	Class   Class
	Breaker endpoint.BreakerConfig
	Slow    health.SlowConfig
	Retry   RetryConfig
	Hedge   route.HedgeConfig
	Stall   StallConfig

	ConnectRace      time.Duration
	ProveAfter       time.Duration
	LocalFaultWindow time.Duration
	ReadAhead        int64
	NotFoundAsksNext bool
	ReturnAtOnce     int
}

// pool is what the requests of a pool change in it.
type pool interface {
	// Transition applies a change of an endpoint's health.
	Transition(ep *endpoint.Endpoint, now time.Time, step func(health.Record) (health.Record, bool))
	// Republish makes a new view, for what has changed in the endpoints.
	Republish(now time.Time)
	// LookAgain has an endpoint probed soon.
	LookAgain(ep *endpoint.Endpoint)
}

// Sender sends the requests of one pool, each over its endpoints until one answers, and
// judges the endpoints by what comes of it. It is safe for concurrent use.
type Sender struct {
	cfg  Config
	log  *zap.Logger
	pool pool
	view *atomic.Pointer[pick.Snapshot] // the pool's

	turn    atomic.Uint64
	hedges  atomic.Uint64
	retries atomic.Uint64
	budget  *budget
	routes  route.Table
	alarms  alarms
	sample  atomic.Pointer[endpoint.Sample] // a recent harmless request, for proving recovery
	local   localFault
	queue   queue
}

// New returns a sender for the pool of which view is the newest view.
func New(cfg Config, log *zap.Logger, pool pool, view *atomic.Pointer[pick.Snapshot]) *Sender {
	return &Sender{
		cfg: cfg, log: log, pool: pool, view: view,
		budget: newBudget(cfg.Retry),
		queue:  queue{returning: make(chan struct{}, cfg.ReturnAtOnce)},
	}
}

// Stats are counts of a sender, for people.
type Stats struct {
	BudgetLeft      float64
	Retries, Hedges uint64
	LocalFault      string // "" without one
}

// Stats returns the counts of now.
func (s *Sender) Stats(now time.Time) Stats {
	return Stats{s.budget.left(now), s.retries.Load(), s.hedges.Load(), s.local.why()}
}

// Newest is the newest view of the pool.
func (s *Sender) Newest() *pick.Snapshot { return s.view.Load() }

// RecentSample is a recent harmless request, nil without one.
func (s *Sender) RecentSample() *endpoint.Sample { return s.sample.Load() }

// Send sends req to one endpoint after the other until one answers, each at most once. It
// begins at first, or at the endpoint picked if that is nil. The error is a *PassError, or
// the context's.
func (s *Sender) Send(req *http.Request, first *endpoint.Endpoint) (*http.Response, error) {
	p := s.newPass(req)
	resp, err := p.run(first)
	p.body.leaveTo(p.answered)
	if err != nil {
		return nil, err
	}
	if body, ok := resp.Body.(*Body); ok && resp.ContentLength < 0 && !declaresStream(resp) {
		resp.Body = s.watchOpen(p, body)
	}
	return resp, nil
}

// SendRest sends the request for the rest of a download, whose answer has to be accepted.
// It begins at first, if that is not nil; avoid, if not nil, is asked last.
func (s *Sender) SendRest(req *http.Request, accept func(*http.Response) error, first, avoid *endpoint.Endpoint) (*http.Response, error) {
	p := s.newPass(req)
	p.accept = accept
	if avoid != nil && len(p.snap.Usable) > 1 {
		p.tried = append(p.tried, avoid)
	}
	return p.run(first)
}

func (s *Sender) newPass(req *http.Request) *pass {
	p := &pass{
		s:     s,
		snap:  s.view.Load(),
		turn:  s.turn.Add(1) - 1,
		asked: asked{req: req, repeatable: Repeatable(req), wait: declaredWait(req), route: s.routes.Of(req), body: bodyOf(req)},
	}
	p.tried, p.running = p.triedSpace[:0], p.runningSpace[:0]
	p.hedgeable = s.cfg.Hedge.Enabled && p.repeatable
	p.delay = max(p.wait+p.route.Wait(s.cfg.Hedge), hedgeAfter(req))
	if p.alone = len(p.snap.Usable) == 1; p.alone && p.hedgeable {
		p.delay = max(p.delay, p.wait+s.cfg.ConnectRace) // there is one server to be asked twice
	}
	if s.cfg.Class == Blob {
		p.delay = p.wait + s.cfg.Stall.Timeout
	}
	return p
}

// firstOf picks the endpoint for the first attempt, nil when nothing can be
// tried now.
func (s *Sender) firstOf(p *pass, now time.Time) *endpoint.Endpoint {
	if name, ok := p.req.Context().Value(preferKey{}).(string); ok {
		for _, ep := range p.snap.Usable {
			if ep.Name == name && !slices.Contains(p.tried, ep) {
				p.preferred = true
				return ep
			}
		}
	}
	w := pick.Want{Now: now, Careful: !p.repeatable || s.cfg.Class == Blob}
	ep := p.snap.First(p.turn, w)
	if ep == nil || slices.Contains(p.tried, ep) {
		ep = p.snap.Next(p.turn, w, p.tried)
	}
	return ep
}

func (s *Sender) nothingToTry(snap *pick.Snapshot) error {
	reason := ErrAllDown
	if len(snap.All) == 0 {
		reason = ErrNoEndpoints
	}
	return &PassError{Pool: s.cfg.Name, Reason: reason, Attempts: s.StateOfAll(), Repeatable: len(snap.All) > 0}
}

// StateOfAll is what there is to say of each endpoint when none can be tried.
func (s *Sender) StateOfAll() []AttemptError {
	var all []AttemptError
	for _, ep := range s.view.Load().All {
		h, _ := ep.Record()
		why := string(h.State) + ": " + h.Why()
		all = append(all, AttemptError{ep.Name, errors.New(why)})
	}
	return all
}
