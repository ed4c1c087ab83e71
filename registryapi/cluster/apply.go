package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/ankacluster/ankacluster/internal/backoff"
	"github.com/ankacluster/ankacluster/registryapi/content"
	"github.com/ankacluster/ankacluster/registryapi/transfer"
)

// queue holds the repositories whose directory may differ from the catalogue.
type queue struct {
	wake chan struct{} // capacity 1: something changed

	mu    sync.Mutex
	items map[string]*item // guarded by mu
}

type item struct {
	again, busy bool
	failures    int
	notBefore   time.Time
}

func newQueue() *queue { return &queue{wake: make(chan struct{}, 1), items: make(map[string]*item)} }

// mark asks for a repository to be compared now.
func (q *queue) mark(repo string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.items[repo]
	if it == nil {
		it = &item{}
		q.items[repo] = it
	}
	it.again, it.notBefore = true, time.Time{}
	signal(q.wake)
}

// applyPace is that of a repository that could not be brought up to date.
var applyPace = backoff.Pace{Min: 200 * time.Millisecond, Max: 20 * time.Second}

// later asks for it after a while, which grows with the failures in a row.
func (q *queue) later(repo string) {
	q.mark(repo)
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.items[repo]
	it.notBefore = time.Now().Add(applyPace.Next(it.failures))
	it.failures++
}

// hurry ends all waits: a host came, or went.
func (q *queue) hurry() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, it := range q.items {
		it.notBefore = time.Time{}
	}
	signal(q.wake)
}

// take returns a repository to compare, or how long there will be none.
func (q *queue) take(now time.Time) (string, time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	wait := time.Hour
	for repo, it := range q.items {
		if it.busy || !it.again {
			continue
		}
		if d := it.notBefore.Sub(now); d > 0 {
			wait = min(wait, d)
			continue
		}
		it.busy, it.again = true, false
		return repo, 0
	}
	return "", wait
}

// done ends what take began.
func (q *queue) done(repo string, well bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.items[repo]
	it.busy = false
	if well {
		it.failures = 0
	}
	if !it.again {
		delete(q.items, repo)
	}
	signal(q.wake)
}

// reconcileAll makes the directory what the catalogue says until ctx ends.
func (c *Cluster) reconcileAll(ctx context.Context) {
	slots := make(chan struct{}, 4)
	all := time.NewTicker(10 * time.Minute) // finds what was damaged or removed by hand
	defer all.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for ctx.Err() == nil {
		slots <- struct{}{} // holders end by themselves
		repo, wait := c.queue.take(time.Now())
		if repo == "" {
			<-slots
			t := time.NewTimer(wait)
			select {
			case <-ctx.Done():
			case <-c.queue.wake:
			case <-t.C:
			case <-all.C:
				c.markAll()
			}
			t.Stop()
			continue
		}
		wg.Go(func() {
			defer func() { <-slots }()
			copying, err := c.reconcile(ctx, repo)
			if err != nil && ctx.Err() == nil {
				c.note("directory not made equal to the catalogue", repo, err)
				c.queue.later(repo)
			}
			c.queue.done(repo, err == nil && !copying)
		})
	}
}

// complete reports whether the directory can serve all of a manifest.
func (c *Cluster) completeHere(repo string, d digest.Digest) bool {
	m, err := c.store.Manifest(repo, d)
	return err == nil && content.Complete(c.store, repo, m) == nil
}

// reconcile makes a repository of the directory what the catalogue says, as far
// as its content is here, and begins to copy the rest.
func (c *Cluster) reconcile(ctx context.Context, repo string) (copying bool, err error) {
	if !c.joined() {
		return false, errors.New("the directory is not joined to the catalogue")
	}
	r := c.cat.repository(repo)
	if r == nil {
		r = newView().repo(repo)
	}
	here := make(map[digest.Digest]bool)
	for d := range r.images {
		here[d] = c.completeHere(repo, d)
	}
	if err := c.remove(repo, r); err != nil {
		return false, err
	}
	if err := c.putTags(repo, r, here); err != nil {
		return false, err
	}
	var lacking []digest.Digest
	for _, t := range slices.Backward(r.sorted()) { // the newest first
		if !here[t.Digest] && r.images[t.Digest] != nil && !slices.Contains(lacking, t.Digest) {
			lacking = append(lacking, t.Digest)
		}
	}
	for _, d := range slices.Sorted(maps.Keys(r.images)) {
		if !here[d] && !slices.Contains(lacking, d) {
			lacking = append(lacking, d)
		}
	}
	c.startCopies(ctx, repo, lacking)
	return len(lacking) > 0, c.tellCopies(ctx, repo, r, here)
}

// remove removes tags, manifests and the repository that the catalogue does not
// have.
func (c *Cluster) remove(repo string, r *repository) error {
	tags, damaged, err := c.store.ReadTags(repo)
	if err != nil {
		return err
	}
	for _, t := range tags {
		if _, ok := r.tags[t.Name]; !ok {
			if err := c.store.DeleteTag(repo, t.Name); err != nil && !errors.Is(err, content.ErrTagUnknown) {
				return fmt.Errorf("delete tag %s: %w", t.Name, err)
			}
		}
	}
	if !r.there() {
		if len(tags) == 0 && len(damaged) == 0 && c.store.Meta(repo).Created.IsZero() {
			digests, err := c.store.Manifests(repo)
			if err != nil || len(digests) == 0 {
				return err // only content, which the collector judges
			}
		}
		if err := c.store.DeleteRepository(repo); err != nil && !errors.Is(err, content.ErrRepositoryUnknown) {
			return fmt.Errorf("delete repository: %w", err)
		}
		return nil
	}
	digests, err := c.store.Manifests(repo)
	if err != nil {
		return err
	}
	for _, d := range digests {
		if r.images[d] != nil {
			continue
		}
		err := c.store.DeleteManifest(repo, d)
		if err != nil && !errors.Is(err, content.ErrManifestUnknown) && !errors.Is(err, content.ErrInUse) {
			return fmt.Errorf("delete manifest %s: %w", d, err)
		}
	}
	return nil
}

// putTags points the directory's tags where the catalogue has them, the oldest
// first, where the content is here.
func (c *Cluster) putTags(repo string, r *repository, here map[digest.Digest]bool) error {
	if want := (content.Meta{ID: r.rec.ID, Created: r.rec.Created, Arch: r.rec.Arch}); r.there() && want.ID != "" {
		have := c.store.Meta(repo)
		if have.ID != want.ID || !have.Created.Equal(want.Created) || have.Arch != want.Arch {
			if err := c.store.SetMeta(repo, want); err != nil {
				return err
			}
		}
	}
	for _, t := range r.sorted() {
		if !here[t.Digest] {
			continue
		}
		if err := c.store.PutTag(repo, content.Tag{Name: t.Name, Digest: t.Digest, Order: t.Order, Pushed: t.Pushed}); err != nil {
			return fmt.Errorf("put tag %s: %w", t.Name, err)
		}
	}
	return nil
}

// tellCopies writes into the catalogue what this host has complete.
func (c *Cluster) tellCopies(ctx context.Context, repo string, r *repository, here map[digest.Digest]bool) error {
	var ops []clientv3.Op
	for d := range r.images {
		switch told := r.copies[d][c.self]; {
		case here[d] && !told:
			ops = append(ops, clientv3.OpPut(copyKey(repo, d, c.self), ""))
		case !here[d] && told:
			// A push that this host took is told before the directory has it.
			if len(c.missing(repo, r.needs(d))) > 0 {
				ops = append(ops, clientv3.OpDelete(copyKey(repo, d, c.self)))
			}
		}
	}
	for d, stores := range r.copies {
		if r.images[d] == nil && stores[c.self] {
			ops = append(ops, clientv3.OpDelete(copyKey(repo, d, c.self)))
		}
	}
	if len(ops) == 0 {
		return nil
	}
	return c.cat.put(ctx, ops...)
}

// job is a manifest on its way here with all that it names.
type job struct {
	repo   string
	digest digest.Digest
}

// startCopies makes the copies under way for a repository those of digests.
func (c *Cluster) startCopies(ctx context.Context, repo string, digests []digest.Digest) {
	c.tailsMu.Lock()
	defer c.tailsMu.Unlock()
	for j, cancel := range c.jobs {
		if j.repo == repo && !slices.Contains(digests, j.digest) {
			cancel()
		}
	}
	for _, d := range digests {
		j := job{repo, d}
		if c.jobs[j] != nil || c.ending {
			continue
		}
		jctx, cancel := context.WithCancel(ctx)
		c.jobs[j] = cancel
		c.running.Go(func() {
			defer cancel()
			err := c.copyImage(jctx, repo, d)
			c.tailsMu.Lock()
			delete(c.jobs, j)
			c.tailsMu.Unlock()
			if err != nil && jctx.Err() == nil {
				c.note("an image is not copied", repo, err)
				c.queue.later(repo)
				return
			}
			c.queue.mark(repo)
		})
	}
}

// small is the size up to which an image does not wait for large ones.
const small = 64 << 20

// copyImage copies one manifest: its content, the manifests that it names, then
// itself.
func (c *Cluster) copyImage(ctx context.Context, repo string, d digest.Digest) error {
	r := c.cat.repository(repo)
	if r == nil || r.images[d] == nil {
		return nil // deleted meanwhile
	}
	rec := r.images[d]
	var size int64
	for _, b := range rec.Blobs {
		size += b.Size
	}
	if size > small {
		select {
		case c.slots <- struct{}{}:
			defer func() { <-c.slots }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	began := time.Now()
	from := c.holders(r, d)
	if len(c.missing(repo, r.needs(d))) > 0 && len(from) == 0 {
		return errNoPeers
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(3)
	for _, b := range rec.Blobs {
		g.Go(func() error { return c.copier.Blob(gctx, repo, b.descriptor(), from, nil) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, child := range rec.Manifests {
		if !c.completeHere(repo, child) {
			if err := c.copyImage(ctx, repo, child); err != nil {
				return err
			}
		}
	}
	raw, err := c.raw(ctx, repo, d, rec.Size)
	if err != nil {
		return err
	}
	if err := c.store.PutManifest(repo, content.Manifest{Digest: d, MediaType: rec.MediaType, Raw: raw, Pushed: rec.Pushed}); err != nil {
		return fmt.Errorf("manifest %s: %w", d, err)
	}
	c.log.Info("image is here", zap.String("repository", repo), zap.String("digest", string(d)),
		zap.Int64("bytes", size), zap.Duration("duration", time.Since(began)))
	return nil
}

// holders returns the other hosts, first those that are up and known to have all
// of a manifest.
func (c *Cluster) holders(r *repository, d digest.Digest) []*transfer.Client {
	others := c.others()
	rank := func(p *peer) int {
		switch {
		case p.live && r.copies[d][p.store]:
			return 0
		case p.live:
			return 1
		}
		return 2
	}
	slices.SortStableFunc(others, func(a, b *peer) int { return rank(a) - rank(b) })
	return clientsOf(others)
}

// signal sends on a channel of capacity 1; the signal that is there will do.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
