package replication

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/ankacluster/ankacluster/internal/backoff"
	"github.com/ankacluster/ankacluster/internal/wire"
	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/content"
	"github.com/ankacluster/ankacluster/registryapi/transfer"
)

// source is a registry that is followed.
type source struct {
	url   string // without credentials
	rest  *registryapi.Client
	blobs *transfer.Client
	known *known // guarded by Replicator.mu

	state registryapi.ReplicationSource // guarded by Replicator.mu
}

// Replicator copies from the sources into a store.
type Replicator struct {
	cfg     Config
	store   content.Store
	log     *zap.Logger
	sources []*source
	queue   *queue
	large   chan struct{} // slots
	small   chan struct{}
	metrics *metrics
	*Copier

	active atomic.Bool
	images sync.WaitGroup // copies of whole images

	mu      sync.Mutex
	jobs    map[job]*running
	errors  int64
	lastErr string
}

// New checks cfg and reads what earlier runs knew. It starts nothing.
func New(cfg Config, store content.Store, log *zap.Logger) (*Replicator, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("replication: %w", err)
	}
	if log == nil {
		log = zap.NewNop()
	}
	if cfg.Parallel == 0 {
		cfg.Parallel = 3
	}
	if cfg.Poll == 0 {
		cfg.Poll = 30 * time.Second
	}
	if cfg.HTTP == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.MaxIdleConnsPerHost, t.DisableCompression = 16, true
		cfg.HTTP = &http.Client{CheckRedirect: wire.NoRedirect, Transport: cfg.Trust.Transport(t)}
	}
	r := &Replicator{
		cfg: cfg, store: store, log: log, queue: newQueue(),
		large: make(chan struct{}, cfg.Parallel), small: make(chan struct{}, cfg.Parallel),
		jobs: make(map[job]*running),
	}
	var err error
	if r.Copier, err = NewCopier(store, cfg.Bandwidth, nil, log); err != nil {
		return nil, fmt.Errorf("replication: %w", err)
	}
	r.metrics = newMetrics(cfg.Metrics, r)
	r.bytes = r.metrics.bytes
	for _, base := range cfg.Sources {
		s, err := r.newSource(base)
		if err != nil {
			return nil, fmt.Errorf("replication: %w", err)
		}
		r.sources = append(r.sources, s)
	}
	return r, nil
}

func (r *Replicator) newSource(text string) (*source, error) {
	base, user := splitSource(text)
	hc := authorized(r.cfg.HTTP, base, user)
	blobs, err := transfer.New(transfer.Config{
		Base: base, HTTP: hc, Log: r.log, Attempts: 4, MaxBackoff: 2 * time.Second,
		// Copies are not pulls; and a push registry serves nobody else.
		Authorize: func(req *http.Request) { req.Header.Set(registryapi.HeaderNoPull, "replica") },
	})
	if err != nil {
		return nil, err
	}
	k, err := openKnown(r.store, base) // read again by Run; here it finds a directory that cannot be used
	if err != nil {
		return nil, err
	}
	return &source{url: base, rest: registryapi.NewClient(base, hc), blobs: blobs, known: k,
		state: registryapi.ReplicationSource{URL: base}}, nil
}

// Run replicates until ctx ends. Nil means stopped as asked.
func (r *Replicator) Run(ctx context.Context) error {
	unlock, err := r.waitTurn(ctx)
	if err != nil || unlock == nil {
		return err
	}
	defer unlock()
	if err := r.recall(); err != nil {
		return fmt.Errorf("replication: %w", err)
	}
	r.active.Store(true)
	defer r.active.Store(false)
	g, ctx := errgroup.WithContext(ctx)
	for _, s := range r.sources {
		g.Go(func() error { r.follow(ctx, s); return nil })
	}
	g.Go(func() error { r.reconcileAll(ctx); return nil })
	g.Go(func() error { r.Copier.Run(ctx); return nil })
	err = g.Wait()
	r.images.Wait()
	return err
}

// waitTurn takes the lock that one of the servers on a directory holds.
func (r *Replicator) waitTurn(ctx context.Context) (func(), error) {
	release, err := r.store.Documents(folder).Lock(ctx, "lock", time.Second)
	switch {
	case err == nil:
		return release, nil
	case ctx.Err() != nil:
		return nil, nil
	}
	return nil, fmt.Errorf("replication: %w", err)
}

// recall reads again what is known of the sources: another server of the
// directory may have copied, and died, while this one waited.
func (r *Replicator) recall() error {
	for _, s := range r.sources {
		k, err := openKnown(r.store, s.url)
		if err != nil {
			return err
		}
		r.mu.Lock()
		s.known = k
		r.mu.Unlock()
	}
	return nil
}

// reconcileAll compares the repositories that are marked, some at a time.
func (r *Replicator) reconcileAll(ctx context.Context) {
	slots := make(chan struct{}, 8)
	var wg sync.WaitGroup
	defer wg.Wait()
	for ctx.Err() == nil {
		slots <- struct{}{} // each holder has deadlines
		repo, sources, wait := r.queue.take(time.Now())
		if repo == "" {
			<-slots
			r.idle(ctx, wait)
			continue
		}
		wg.Go(func() {
			defer func() { <-slots }()
			copying, err := r.reconcile(ctx, repo, sources)
			if err != nil {
				r.note("replication of a repository failed", repo, err)
				r.queue.failed(repo, sources)
				return
			}
			r.queue.compared(repo, copying)
		})
	}
}

func (r *Replicator) idle(ctx context.Context, wait time.Duration) {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-r.queue.wake:
	case <-t.C:
	}
}

// note counts and logs an error that the replication mends by itself.
func (r *Replicator) note(what, repo string, err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	r.log.Warn(what, zap.String("repository", repo), zap.Error(err))
	r.metrics.errors.Inc()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errors++
	r.lastErr = fmt.Sprintf("%s: %v", repo, err)
}

// retryPace is that of reading a source that failed.
var retryPace = backoff.Pace{Min: 100 * time.Millisecond, Max: 10 * time.Second}

// clients are those of the sources.
func clients(sources []*source) []*transfer.Client {
	var all []*transfer.Client
	for _, s := range sources {
		all = append(all, s.blobs)
	}
	return all
}

func (r *Replicator) clients() []*transfer.Client { return clients(r.sources) }
