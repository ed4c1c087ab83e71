package cluster

import (
	"context"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ankacluster/ankacluster/registryapi/content"
)

// silentGrace keeps unreferenced content while some host cannot say what it is
// being pushed.
const silentGrace = 24 * time.Hour

// Collect prepares a run of the collector on this directory: nothing goes that
// the catalogue, proven to be up to date, refers to, or that belongs to a
// repository which is being pushed to at any host. Manifests without a tag go
// by a change of the catalogue, and are removed here because of that.
func (c *Cluster) Collect(ctx context.Context, opt content.CollectOptions) (content.CollectOptions, error) {
	if err := c.ready(ctx); err != nil {
		return opt, err
	}
	busy, all, err := c.busy(ctx)
	if err != nil {
		return opt, err
	}
	if !all {
		opt.Grace = max(opt.Grace, silentGrace)
	}
	if opt.KeepUntagged > 0 {
		c.dropUntagged(ctx, opt.KeepUntagged, busy)
		opt.KeepUntagged = 0
	}
	keep := make(map[string]map[digest.Digest]bool)
	c.cat.read(func(v *view) {
		for name, r := range v.repos {
			refs := make(map[digest.Digest]bool)
			for d, m := range r.images {
				refs[d] = true
				for _, b := range m.Blobs {
					refs[b.Digest] = true
				}
			}
			keep[name] = refs
		}
	})
	opt.Keep = func(repo string, d digest.Digest) bool { return busy[repo] || keep[repo][d] }
	return opt, nil
}

// dropUntagged removes manifests from the catalogue that had no tag for so long
// while this host looked. It measures by its own clock: a restart begins anew.
func (c *Cluster) dropUntagged(ctx context.Context, after time.Duration, busy map[string]bool) {
	now := time.Now()
	old := make(map[string]map[digest.Digest]bool)
	c.untaggedMu.Lock()
	seen := make(map[string]map[digest.Digest]time.Time)
	c.cat.read(func(v *view) {
		for name, r := range v.repos {
			for _, d := range r.untagged() {
				since, ok := c.untagged[name][d]
				if !ok {
					since = now
				}
				if seen[name] == nil {
					seen[name] = make(map[digest.Digest]time.Time)
				}
				seen[name][d] = since
				if now.Sub(since) >= after && !busy[name] {
					if old[name] == nil {
						old[name] = make(map[digest.Digest]bool)
					}
					old[name][d] = true
				}
			}
		}
	})
	c.untagged = seen
	c.untaggedMu.Unlock()
	for repo, digests := range old {
		if err := c.cat.change(ctx, repo, dropUntagged(repo, digests)); err != nil {
			c.note("manifests without a tag not removed", repo, err)
		}
	}
}
