package replication

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/ankacluster/ankacluster/registryapi/content"
	"github.com/ankacluster/ankacluster/registryapi/transfer"
)

// job is a manifest to be copied with all that it names.
type job struct{ repo, digest string }

type running struct {
	cancel context.CancelFunc
	total  atomic.Int64
	done   *atomic.Int64
}

// startCopies makes the copies under way for repo those of digests: what is no
// longer wanted stops, what is missing begins.
func (r *Replicator) startCopies(ctx context.Context, repo string, digests []string, w wanted, holders map[string][]*source) {
	want := make(map[string]bool)
	for _, d := range digests {
		want[d] = true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for j, run := range r.jobs {
		if j.repo == repo && !want[j.digest] {
			run.cancel()
		}
	}
	for _, d := range digests {
		j := job{repo, d}
		if r.jobs[j] != nil {
			continue
		}
		jctx, cancel := context.WithCancel(ctx)
		run := &running{cancel: cancel, done: new(atomic.Int64)}
		r.jobs[j] = run
		from := holders[d]
		if len(from) == 0 { // a tag whose manifest the source does not list
			from = r.sources
		}
		pushed := w.manifests[d].Pushed
		r.images.Go(func() {
			defer cancel()
			err := r.copyManifest(jctx, repo, digest.Digest(d), pushed, from, run, 0)
			r.mu.Lock()
			delete(r.jobs, j)
			r.mu.Unlock()
			switch {
			case jctx.Err() != nil && ctx.Err() == nil: // no longer wanted, or wanted again by now
				r.queue.mark(repo, time.Now())
			case err != nil:
				r.note("replication of an image failed", repo, err)
				r.queue.later(repo, r.sources)
			default:
				r.queue.mark(repo, time.Now())
			}
		})
	}
}

// copyManifest copies one manifest: its content, the manifests it names, then
// itself. run may be nil. depth is how many manifests lead to it.
func (r *Replicator) copyManifest(ctx context.Context, repo string, d digest.Digest, pushed time.Time, from []*source, run *running, depth int) error {
	if depth > content.MaxNesting {
		return fmt.Errorf("manifest %s: manifests are more than %d deep in one another", d, content.MaxNesting)
	}
	m, c, err := r.fetchManifest(ctx, repo, d, from)
	if err != nil {
		return err
	}
	blobs, manifests, err := r.contentOf(ctx, repo, c, from)
	if err != nil {
		return err
	}
	var size int64
	for _, b := range blobs {
		size += b.Size
	}
	if run != nil {
		run.total.Store(size)
		slots := r.large
		if size <= small {
			slots = r.small
		}
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	started := time.Now()
	if err := r.copyBlobs(ctx, repo, blobs, from, run); err != nil {
		return err
	}
	for _, child := range manifests {
		if r.complete(repo, child.Digest) {
			continue
		}
		if err := r.copyManifest(ctx, repo, child.Digest, pushed, from, nil, depth+1); err != nil {
			return err
		}
	}
	m.Pushed = pushed
	if err := r.store.PutManifest(repo, m); err != nil {
		return fmt.Errorf("manifest %s: %w", d, err)
	}
	r.log.Info("image copied", zap.String("repository", repo), zap.String("digest", d.String()),
		zap.Int64("bytes", size), zap.Duration("duration", time.Since(started)))
	return nil
}

// contentOf returns all that is to be copied with a manifest, sizes included: what
// it must have, and what it may have as far as a source has it.
func (r *Replicator) contentOf(ctx context.Context, repo string, c content.Content, from []*source) (blobs, manifests []ocispec.Descriptor, err error) {
	manifests = c.Manifests
	for _, b := range c.Blobs() {
		if b.Size < 0 {
			size, err := r.sizeAtSource(ctx, repo, b.Digest, from)
			if err != nil {
				return nil, nil, fmt.Errorf("blob %s: %w", b.Digest, err)
			}
			b.Size = size
		}
		blobs = append(blobs, b)
	}
	for _, b := range c.Optional {
		size, err := r.sizeAtSource(ctx, repo, b.Digest, from)
		switch {
		case err == nil:
			b.Size = size
			blobs = append(blobs, b)
			continue
		case !errors.Is(err, transfer.ErrNotFound):
			return nil, nil, fmt.Errorf("blob %s: %w", b.Digest, err)
		}
		_, _, err = r.fetchManifest(ctx, repo, b.Digest, from)
		switch {
		case err == nil:
			manifests = append(manifests, b)
		case !errors.Is(err, transfer.ErrNotFound):
			return nil, nil, fmt.Errorf("manifest %s: %w", b.Digest, err)
		}
	}
	return blobs, manifests, nil
}

// sizeAtSource returns the size of a blob at the first source that has it.
// ErrNotFound means that none has it; another error, that one could not be asked.
func (r *Replicator) sizeAtSource(ctx context.Context, repo string, d digest.Digest, from []*source) (int64, error) {
	var missing, failed error
	for _, s := range from {
		size, err := s.blobs.StatBlob(ctx, repo, d)
		switch {
		case err == nil:
			return size, nil
		case errors.Is(err, transfer.ErrNotFound):
			missing = err
		default:
			failed = err
		}
	}
	if failed != nil {
		return 0, failed
	}
	return 0, missing
}

func (r *Replicator) fetchManifest(ctx context.Context, repo string, d digest.Digest, from []*source) (content.Manifest, content.Content, error) {
	var errs []error
	for _, s := range from {
		got, err := s.blobs.Manifest(ctx, repo, d.String())
		if err == nil {
			var c content.Content
			if c, err = content.ParseManifest(got.MediaType, got.Raw); err == nil {
				return content.Manifest{Digest: d, MediaType: got.MediaType, Raw: got.Raw}, c, nil
			}
		}
		errs = append(errs, err)
	}
	return content.Manifest{}, content.Content{}, errors.Join(errs...)
}

// copyBlobs copies blobs, some at a time. Those that are done are kept from the
// collector for as long as the others take.
func (r *Replicator) copyBlobs(ctx context.Context, repo string, blobs []ocispec.Descriptor, from []*source, run *running) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(3)
	stop := make(chan struct{})
	var keeper errgroup.Group
	keeper.Go(func() error { r.keepFresh(repo, blobs, stop); return nil })
	for _, b := range blobs {
		g.Go(func() error { return r.blob(gctx, repo, b, clients(from), run) })
	}
	err := g.Wait()
	close(stop)
	return errors.Join(err, keeper.Wait())
}

func (r *Replicator) keepFresh(repo string, blobs []ocispec.Descriptor, stop <-chan struct{}) {
	tick := time.NewTicker(5 * time.Minute) // half of the shortest grace period
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			for _, b := range blobs {
				_, _ = r.store.StatBlob(repo, b.Digest) // touches it if it is there
			}
		}
	}
}
