package replication

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/ankacluster/ankacluster/registryapi/content"
	"github.com/ankacluster/ankacluster/registryapi/transfer"
)

// Copier copies blobs from other registries into a store, each once at a time,
// and serves them while they come. Copies that were cut go on where they
// stopped, also after a restart.
type Copier struct {
	store    content.Store
	sessions content.Documents // one for each blob that is on the way
	log      *zap.Logger
	limiter  *rate.Limiter // nil: no limit
	bytes    prometheus.Counter
	copied   atomic.Int64
	running  atomic.Bool
	fills    chan fill // blobs that a client waits for; unbuffered
	copies   sync.WaitGroup

	mu      sync.Mutex
	flights map[digest.Digest]*flight // blobs on the way; guarded by mu
}

// fill is a blob that a client asked for and that is not here.
type fill struct {
	repo string
	desc ocispec.Descriptor
	from []*transfer.Client
}

// folder is where replication keeps its documents.
const folder = "replication"

// NewCopier returns a Copier that keeps its place in unfinished copies among the
// store's documents. bytesPerSecond limits all copies together; 0 is no limit. bytes, when not
// nil, counts what is copied.
func NewCopier(store content.Store, bytesPerSecond int64, bytes prometheus.Counter, log *zap.Logger) (*Copier, error) {
	sessions := store.Documents(folder, "blobs")
	if err := sessions.Make(); err != nil {
		return nil, fmt.Errorf("copies: %w", err)
	}
	if bytes == nil {
		bytes = prometheus.NewCounter(prometheus.CounterOpts{Name: "unregistered"})
	}
	c := &Copier{store: store, sessions: sessions, log: log, bytes: bytes, fills: make(chan fill), flights: make(map[digest.Digest]*flight)}
	if bytesPerSecond > 0 {
		c.limiter = newLimiter(bytesPerSecond)
	}
	return c, nil
}

// Run copies what clients wait for until ctx ends. A client that goes away does
// not end the copy: the blob is wanted anyway.
func (c *Copier) Run(ctx context.Context) {
	c.running.Store(true)
	defer c.copies.Wait()
	defer c.running.Store(false)
	for {
		select {
		case <-ctx.Done():
			return
		case f := <-c.fills:
			c.copies.Go(func() {
				if err := c.blob(ctx, f.repo, f.desc, f.from, nil); err != nil && ctx.Err() == nil {
					c.log.Warn("read-through failed", zap.String("repository", f.repo), zap.Error(err))
				}
			})
		}
	}
}

// Blob makes sure that the repository has the blob, from any of the registries.
// It adds what it copies to done, which may be nil.
func (c *Copier) Blob(ctx context.Context, repo string, desc ocispec.Descriptor, from []*transfer.Client, done *atomic.Int64) error {
	var run *running
	if done != nil {
		run = &running{done: done}
	}
	return c.blob(ctx, repo, desc, from, run)
}

// Copied is how many bytes were copied since the start.
func (c *Copier) Copied() int64 { return c.copied.Load() }
