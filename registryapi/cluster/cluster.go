package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/opencontainers/go-digest"

	"github.com/ankacluster/ankacluster/internal/etcdkit"
	"github.com/ankacluster/ankacluster/internal/wire"
	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/content"
	"github.com/ankacluster/ankacluster/registryapi/replication"
	"github.com/ankacluster/ankacluster/registryapi/transfer"
)

// Cluster makes a registry's directory one of several that are one registry.
type Cluster struct {
	cfg     Config
	log     *zap.Logger
	store   content.Store
	self    string // the store's id
	cat     *catalogue
	notes   *notes
	peers   *peers
	copier  *replication.Copier
	metrics *metrics
	queue   *queue
	pulls   chan pull // capacity: what is noted while etcd is slow; the rest is lost

	// of is the identity of the catalogue that the directory belongs to.
	of atomic.Pointer[string]

	tailsMu  sync.Mutex
	tails    map[string][]*tail         // uploads that are copied while they grow, by id; guarded by tailsMu
	fillings map[string]*filling        // guarded by tailsMu
	jobs     map[job]context.CancelFunc // copies of images; guarded by tailsMu
	slots    chan struct{}              // for large images
	ending   bool                       // guarded by tailsMu
	running  sync.WaitGroup             // tails; added to under tailsMu
	ctx      context.Context            // of Run, for tails; guarded by tailsMu

	listMu  sync.Mutex
	list    []registryapi.Template          // guarded by listMu; nil when it is to be made
	entries map[string]registryapi.Template // guarded by listMu
	created map[string]time.Time            // of the templates; guarded by listMu

	untaggedMu sync.Mutex
	untagged   map[string]map[digest.Digest]time.Time // since when, by our own clock; guarded by untaggedMu

	errMu   sync.Mutex
	lastErr string // guarded by errMu
}

// New checks cfg and starts nothing. store is the directory of this host.
func New(cfg Config, store content.Store, etcd *clientv3.Client, log *zap.Logger) (*Cluster, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("registry of the cluster: %w", err)
	}
	if store.ID() == "" {
		return nil, fmt.Errorf("registry of the cluster: %s: the directory has no id and cannot be written", store.Place())
	}
	if log == nil {
		log = zap.NewNop()
	}
	if cfg.HTTP == nil {
		cfg.HTTP = &http.Client{CheckRedirect: wire.NoRedirect, Transport: DefaultTransport()}
	}
	c := &Cluster{
		cfg: cfg, log: log, store: store, self: store.ID(), cat: newCatalogue(etcd, cfg.Wait, log),
		notes: &notes{etcd: etcd, wait: cfg.Wait},
		peers: &peers{http: cfg.HTTP, log: log, clients: make(map[string]*transfer.Client), failed: make(map[string]time.Time)},
		queue: newQueue(), pulls: make(chan pull, 256), tails: make(map[string][]*tail), fillings: make(map[string]*filling), jobs: make(map[job]context.CancelFunc), slots: make(chan struct{}, 3),
		entries: make(map[string]registryapi.Template), created: make(map[string]time.Time),
		untagged: make(map[string]map[digest.Digest]time.Time),
	}
	c.metrics = newMetrics(cfg.Metrics, c)
	var err error
	if c.copier, err = replication.NewCopier(store, 0, c.metrics.bytes, log); err != nil {
		return nil, fmt.Errorf("registry of the cluster: %w", err)
	}
	c.cat.changed = c.changed
	return c, nil
}

// DefaultTransport carries what hosts ask of each other.
func DefaultTransport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy = nil // hosts of a cluster are neighbours
	t.DialContext = (&net.Dialer{Timeout: 2 * time.Second, KeepAlive: 15 * time.Second}).DialContext
	t.MaxIdleConnsPerHost, t.IdleConnTimeout, t.DisableCompression = 16, time.Minute, true
	t.WriteBufferSize, t.ReadBufferSize = 64<<10, 64<<10
	return t
}

// Run works until ctx ends, and returns when all it began has ended. Nil means
// stopped as asked.
func (c *Cluster) Run(ctx context.Context) error {
	c.tailsMu.Lock()
	c.ctx = ctx
	c.tailsMu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() { c.cat.cache.Run(ctx) })
	wg.Go(func() { c.copier.Run(ctx) })
	wg.Go(func() { c.notePulls(ctx) })
	wg.Go(func() {
		c.join(ctx)
		wg.Go(func() { c.announce(ctx) })
		wg.Go(func() { c.reconcileAll(ctx) })
		c.rejoin(ctx)
	})
	<-ctx.Done()
	c.tailsMu.Lock()
	c.ending = true
	c.tailsMu.Unlock()
	wg.Wait()
	c.running.Wait()
	return nil
}

// belonging is the file that says which catalogue a directory belongs to.
type belonging struct {
	Catalogue string `json:"catalogue"`
}

// belongingName is that of the belonging among the store's documents.
const belongingName = "catalogue.json"

// join makes the directory part of the catalogue: what one that belonged to no
// other holds is added to it. It tries until ctx ends.
func (c *Cluster) join(ctx context.Context) {
	for backoff := etcdkit.MinBackoff; ctx.Err() == nil; backoff = etcdkit.SleepBackoff(ctx, backoff) {
		err := c.joinOnce(ctx)
		if err == nil {
			return
		}
		if ctx.Err() == nil && !errors.Is(err, content.ErrUnavailable) {
			c.note("directory not joined to the catalogue", "", err)
		}
	}
}

func (c *Cluster) joinOnce(ctx context.Context) error {
	if err := c.cat.fresh(ctx); err != nil {
		return err
	}
	of := c.cat.identity()
	if of == "" {
		return errors.New("the catalogue is not loaded")
	}
	var was belonging
	data, err := c.store.Documents().Read(belongingName)
	if err == nil {
		err = json.Unmarshal(data, &was)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s in %s: %w", belongingName, c.store.Place(), err)
	}
	if was.Catalogue != of {
		// What the catalogue has, others may ask this host for.
		if err := c.cat.put(ctx, c.place()...); err != nil {
			return err
		}
		if err := c.importAll(ctx); err != nil {
			return err
		}
		data, err := json.Marshal(belonging{of})
		if err != nil {
			return err
		}
		if err := c.store.Documents().Write(belongingName, data); err != nil {
			return err
		}
	}
	c.of.Store(&of)
	c.log.Info("registry is one with those of the cluster", zap.String("catalogue", of), zap.String("host", c.cfg.Name), zap.String("url", c.cfg.URL))
	c.markAll()
	return nil
}

// rejoin looks for etcd being another than before, as after it was restored.
func (c *Cluster) rejoin(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !c.joined() {
			c.join(ctx)
		}
	}
}

// joined reports whether the directory belongs to the catalogue that is
// followed.
func (c *Cluster) joined() bool {
	of := c.of.Load()
	return of != nil && *of == c.cat.identity()
}

// importAll adds all that the directory has to the catalogue.
func (c *Cluster) importAll(ctx context.Context) error {
	repos, err := c.store.Repositories()
	if err != nil {
		return err
	}
	for _, repo := range repos {
		is, err := c.island(repo)
		if err != nil {
			return fmt.Errorf("%s: %w", repo, err)
		}
		if len(is.images) == 0 {
			continue
		}
		if err := c.cat.change(ctx, repo, importIsland(repo, is)); err != nil {
			return fmt.Errorf("%s: %w", repo, err)
		}
		c.log.Info("template of this directory added to the cluster's catalogue", zap.String("repository", repo), zap.Int("tags", len(is.tags)))
	}
	return nil
}

// island reads what this directory has complete of a repository.
func (c *Cluster) island(repo string) (island, error) {
	is := island{meta: c.store.Meta(repo), images: make(map[digest.Digest]imageRecord)}
	digests, err := c.store.Manifests(repo)
	if err != nil {
		return is, err
	}
	for _, d := range digests {
		m, err := c.store.Manifest(repo, d)
		if err == nil {
			err = content.Complete(c.store, repo, m)
		}
		if errors.Is(err, content.ErrManifestUnknown) {
			continue // damaged, or unfinished
		}
		if err != nil {
			return is, err
		}
		says, err := content.ParseManifest(m.MediaType, m.Raw)
		if err != nil {
			continue
		}
		cfg, err := content.ReadConfig(c.store, repo, says)
		var blobs []blobRef
		for _, b := range content.BlobsOf(c.store, repo, says) {
			blobs = append(blobs, blobRef{b.Digest, b.Size})
		}
		var manifests []digest.Digest
		for _, child := range append(says.Manifests, says.Optional...) {
			if _, err := c.store.Manifest(repo, child.Digest); err == nil {
				manifests = append(manifests, child.Digest)
			}
		}
		is.images[d] = describe(m, says, cfg, err == nil, blobs, manifests)
	}
	tags, err := c.store.Tags(repo)
	for _, t := range tags {
		if _, ok := is.images[t.Digest]; ok {
			is.tags = append(is.tags, t)
		}
	}
	return is, err
}

// ready returns once what the catalogue says is proven to be up to date, and
// this directory belongs to it.
func (c *Cluster) ready(ctx context.Context) error {
	if err := c.cat.fresh(ctx); err != nil {
		return err
	}
	if !c.joined() {
		return fmt.Errorf("%w: this host is joining it", content.ErrUnavailable)
	}
	return nil
}

// changed is told of events.
func (c *Cluster) changed(all []touched) {
	for _, t := range all {
		switch {
		case t.repo != "" && !t.copies:
			c.queue.mark(t.repo)
		case t.hosts:
			c.queue.hurry()
		}
	}
}

func (c *Cluster) markAll() {
	var repos []string
	c.cat.read(func(v *view) {
		for repo := range v.repos {
			repos = append(repos, repo)
		}
	})
	if here, err := c.store.Repositories(); err == nil {
		repos = append(repos, here...)
	}
	for _, repo := range repos {
		c.queue.mark(repo)
	}
}

// note logs and remembers an error that is mended by trying again.
func (c *Cluster) note(what, repo string, err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	c.log.Warn(what, zap.String("repository", repo), zap.Error(err))
	c.metrics.errors.Inc()
	c.errMu.Lock()
	defer c.errMu.Unlock()
	c.lastErr = strings.TrimPrefix(repo+": "+err.Error(), ": ")
}
