package etcdkit

import (
	"context"
	"sync"
	"time"

	"go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// Model is what a Cache keeps in memory: V is the view of it, of type pointer or
// map, and C what a batch of events has touched.
type Model[V, C any] interface {
	// New returns an empty view.
	New() V
	// Apply brings an event into the view. It returns an error for a record that
	// does not decode; the view is then as before.
	Apply(v V, ev *clientv3.Event, touched *C) error
	// Loaded is called with a view that was loaded anew, before it is used. An
	// error refuses it, and the load is tried again.
	Loaded(v V, touched *C) error
	// Replace is called when a loaded view takes the place of another. etcd is the
	// id of the etcd cluster, and same reports whether both views are of one etcd.
	// The cache is locked.
	Replace(v, old V, etcd uint64, same bool, touched *C)
	// Advance is called when the view is complete up to a revision. The cache is
	// locked.
	Advance(v V, rev int64, touched *C)
	// Changed is called after each batch, by the goroutine that watches: it must be
	// quick, and must not call Fresh.
	Changed(touched *C)
}

// CacheConfig of a Cache.
type CacheConfig struct {
	// Prefix is above the keys that are followed.
	Prefix string
	// Anchor is a key below Prefix that is written once. Another value, or its
	// absence, means that etcd holds other data than was followed.
	Anchor string
	// Wait bounds how long Fresh waits, and LoadWait each read of a load.
	Wait, LoadWait time.Duration
	// Lag is how long the watch may be behind a revision that etcd has confirmed
	// before it is begun anew, at another member. It doubles while that does not
	// help, up to MaxLag: on a starved machine new watches would only add to the
	// load.
	Lag, MaxLag time.Duration
	// Prepare, when set, is called before each load.
	Prepare func(ctx context.Context) error
}

// Cache is a copy of a part of etcd, fed by one watch, which can be proven as new
// as any write that was acknowledged. It is safe for concurrent use.
type Cache[V, C any] struct {
	cfg    CacheConfig
	client *Client
	model  Model[V, C]
	log    *zap.Logger

	mu       sync.RWMutex
	view     V        // guarded by mu
	of       origin   // guarded by mu; the etcd that the view is of
	progress progress // guarded by mu

	restored chan struct{} // capacity 1: etcd's history is not the one that was followed
	fresh    freshness

	loaded   chan struct{} // closed once the view is complete
	loadOnce sync.Once
}

// NewCache returns a Cache. It starts nothing.
func NewCache[V, C any](cfg CacheConfig, client *Client, model Model[V, C], log *zap.Logger) *Cache[V, C] {
	return &Cache[V, C]{
		cfg: cfg, client: client, model: model, log: log,
		view:     model.New(),
		progress: progress{lagging: make(chan struct{}, 1)},
		fresh:    freshness{wake: make(chan struct{}, 1), proveWake: make(chan struct{}, 1)},
		restored: make(chan struct{}, 1),
		loaded:   make(chan struct{}),
	}
}

// Run keeps the view up to date and serves Fresh until ctx ends.
func (c *Cache[V, C]) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { c.watch(ctx) })
	wg.Go(func() { c.readRevisions(ctx) })
	wg.Go(func() { c.prove(ctx) })
	wg.Wait()
}

// Loaded is closed once the state is in memory for the first time.
func (c *Cache[V, C]) Loaded() <-chan struct{} { return c.loaded }

// Read calls f with the state as it is in memory. f must not block.
func (c *Cache[V, C]) Read(f func(v V)) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	f(c.view)
}

// Update calls f with the state as it is in memory, alone. f must not block. What
// it changes is not in etcd.
func (c *Cache[V, C]) Update(f func(v V)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(c.view)
}

// Revision returns the revision of etcd up to which the view is complete.
func (c *Cache[V, C]) Revision() int64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.progress.rev
}

// signal sends on a channel of capacity 1; the signal that is there will do.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
