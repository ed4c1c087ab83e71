package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/ankacluster/ankacluster/registryapi/content"
	"github.com/ankacluster/ankacluster/registryapi/replication"
)

// askTimeout bounds a question to another host that needs no copying.
const askTimeout = 3 * time.Second

// hold asks a host what it lacks of some content, and keeps from its collector
// what it has.
type hold struct {
	Repository string    `json:"repository"`
	Refs       []blobRef `json:"refs"`
	// Manifest is the content of the first of Refs, when it is a manifest that
	// is being pushed.
	Manifest []byte `json:"manifest,omitempty"`
	// Fetch makes the host copy what it lacks. The answer comes when it has all
	// of it, or after a second.
	Fetch bool `json:"fetch,omitempty"`
}

// held is the answer: what is missing, and how far a copy is.
type held struct {
	Missing []blobRef `json:"missing"`
	Done    int64     `json:"done"`
	Error   string    `json:"error,omitempty"`
}

func (h held) bytes() (n int64) {
	for _, b := range h.Missing {
		n += b.Size + 1
	}
	return n
}

// missing returns what this directory lacks, and keeps the rest from the
// collector.
func (c *Cluster) missing(repo string, refs []blobRef) []blobRef {
	missing := []blobRef{}
	for _, b := range refs {
		if size, err := c.store.StatBlob(repo, b.Digest); err == nil && size == b.Size {
			continue
		}
		if size, err := c.store.Mount(repo, "", b.Digest); err == nil && size == b.Size {
			continue
		}
		// A manifest of the repository is no blob of it.
		if m, err := c.store.Manifest(repo, b.Digest); err == nil && int64(len(m.Raw)) == b.Size {
			continue
		}
		missing = append(missing, b)
	}
	return missing
}

// filling is a copy of content that somebody waits for.
type filling struct {
	done  atomic.Int64
	ended chan struct{}
	err   error // set before ended is closed
}

// hold answers another host, or this one.
func (c *Cluster) hold(ctx context.Context, h hold) held {
	if len(h.Manifest) > 0 && len(h.Refs) > 0 {
		d := h.Refs[0].Digest
		if d.Algorithm().FromBytes(h.Manifest) == d {
			if err := content.PutBlob(c.store, h.Repository, d, h.Manifest); err != nil {
				return held{Missing: h.Refs, Error: err.Error()}
			}
		}
	}
	missing := c.missing(h.Repository, h.Refs)
	if len(missing) == 0 || !h.Fetch {
		return held{Missing: missing}
	}
	var need int64
	for _, b := range missing {
		need += b.Size
	}
	f := c.fill(h.Repository, h.Refs[0].Digest, missing, need)
	wait := time.NewTimer(time.Second)
	defer wait.Stop()
	out := held{}
	select {
	case <-f.ended:
		if f.err != nil {
			out.Error = f.err.Error()
		}
	case <-wait.C:
	case <-ctx.Done():
	}
	out.Missing, out.Done = c.missing(h.Repository, missing), f.done.Load()
	return out
}

// fill begins to copy what is missing, or returns the copy that has begun.
func (c *Cluster) fill(repo string, of digest.Digest, missing []blobRef, need int64) *filling {
	key := repo + "@" + string(of)
	c.tailsMu.Lock()
	defer c.tailsMu.Unlock()
	if f := c.fillings[key]; f != nil {
		return f
	}
	f := &filling{ended: make(chan struct{})}
	if c.ending || c.ctx == nil {
		f.err = errors.New("this host is stopping")
		close(f.ended)
		return f
	}
	if err := c.store.CheckSpace(need); err != nil {
		f.err = err
		close(f.ended)
		return f
	}
	c.fillings[key] = f
	ctx := c.ctx
	c.running.Go(func() {
		f.err = c.fetchAll(ctx, repo, missing, &f.done)
		c.tailsMu.Lock()
		delete(c.fillings, key)
		c.tailsMu.Unlock()
		close(f.ended)
	})
	return f
}

// fetchAll copies content from the other hosts, some at a time.
func (c *Cluster) fetchAll(ctx context.Context, repo string, refs []blobRef, done *atomic.Int64) error {
	from := c.fromPeers()
	if len(from) == 0 {
		return errNoPeers
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(3)
	for _, b := range refs {
		g.Go(func() error { return c.copier.Blob(ctx, repo, b.descriptor(), from, done) })
	}
	return g.Wait()
}

// contentOf returns what a manifest refers to: what it must have, with its size,
// and what it may have, as far as a host has it.
func (c *Cluster) contentOf(ctx context.Context, repo string, says content.Content) (blobs []blobRef, manifests []digest.Digest, err error) {
	seen := make(map[digest.Digest]bool)
	for _, d := range says.Blobs() {
		if seen[d.Digest] {
			continue
		}
		seen[d.Digest] = true
		if d.Size < 0 {
			size, ok := c.sizeOf(ctx, repo, d.Digest)
			if !ok {
				return nil, nil, fmt.Errorf("%w: %s", content.ErrBlobMissing, d.Digest)
			}
			d.Size = size
		}
		blobs = append(blobs, blobRef{d.Digest, d.Size})
	}
	for _, d := range says.Manifests {
		manifests = append(manifests, d.Digest)
	}
	r := c.cat.repository(repo)
	for _, d := range says.Optional {
		if seen[d.Digest] {
			continue
		}
		seen[d.Digest] = true
		if r != nil && r.images[d.Digest] != nil {
			manifests = append(manifests, d.Digest)
		} else if size, ok := c.sizeOf(ctx, repo, d.Digest); ok {
			blobs = append(blobs, blobRef{d.Digest, size})
		}
	}
	return blobs, manifests, nil
}

// sizeOf returns the size of a blob that this host, or another that is up, has.
func (c *Cluster) sizeOf(ctx context.Context, repo string, d digest.Digest) (int64, bool) {
	if size, err := c.store.StatBlob(repo, d); err == nil {
		return size, true
	}
	holders, size := replication.WhoHas(ctx, repo, d, clientsOf(live(c.others())))
	return size, len(holders) > 0
}

// secure makes sure that as many hosts as asked for have all that a manifest
// needs, and returns their stores. With fewer hosts than asked for it returns
// those that have it, unless the setting is strict.
func (c *Cluster) secure(ctx context.Context, repo string, m content.Manifest, blobs []blobRef, manifests []digest.Digest) ([]string, error) {
	refs := append([]blobRef{{m.Digest, int64(len(m.Raw))}}, blobs...)
	if len(manifests) > 0 {
		r := c.cat.repository(repo)
		for _, child := range manifests {
			if r == nil || r.images[child] == nil {
				return nil, fmt.Errorf("%w: manifest %s", content.ErrBlobMissing, child)
			}
			refs = append(refs, r.needs(child)...)
		}
	}
	for _, b := range refs { // a wrong size is no missing content
		if size, err := c.store.StatBlob(repo, b.Digest); err == nil && size != b.Size {
			return nil, fmt.Errorf("%w: blob %s has %d bytes, not %d", content.ErrManifestInvalid, b.Digest, size, b.Size)
		}
	}
	c.settleTails(ctx, repo)
	wanted := c.cfg.wanted()
	hosts := c.survey(ctx, hold{Repository: repo, Refs: refs, Manifest: m.Raw}, wanted)
	if err := nowhere(refs, hosts); err != nil {
		return nil, err
	}
	var complete []string
	var rest []*surveyed
	for _, h := range hosts {
		switch {
		case h.err == nil && len(h.held.Missing) == 0:
			complete = append(complete, h.store(c))
		case h.err == nil:
			rest = append(rest, h)
		}
	}
	slices.SortStableFunc(rest, func(a, b *surveyed) int { return cmp.Compare(a.held.bytes(), b.held.bytes()) })
	for len(complete) < wanted && len(rest) > 0 {
		n := min(wanted-len(complete), len(rest))
		var mu sync.Mutex
		var wg sync.WaitGroup
		for _, h := range rest[:n] {
			wg.Go(func() {
				if err := c.complete(ctx, h, repo, refs); err != nil {
					c.note("a host took no copy of a push", repo, err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				complete = append(complete, h.store(c))
			})
		}
		wg.Wait()
		rest = rest[n:]
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	if len(complete) < wanted {
		if c.cfg.Strict {
			return nil, fmt.Errorf("%w: only %d of the %d hosts that must have a copy can take one now", content.ErrUnavailable, len(complete), wanted)
		}
		c.log.Warn("push has few copies", zap.String("repository", repo), zap.String("digest", string(m.Digest)),
			zap.Int("copies", len(complete)), zap.Int("wanted", wanted))
	}
	return complete, nil
}

// surveyed is what one host answered; a nil peer is this one.
type surveyed struct {
	peer *peer
	held held
	err  error
}

func (s *surveyed) store(c *Cluster) string {
	if s.peer == nil {
		return c.self
	}
	return s.peer.store
}

// survey asks this host and all that are up, and returns the answers when enough
// hosts have everything, or all have answered.
func (c *Cluster) survey(ctx context.Context, h hold, enough int) []*surveyed {
	peers := append([]*peer{nil}, live(c.others())...)
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	answers := make(chan *surveyed, len(peers)) // every asker can end, also unheard
	for _, p := range peers {
		go func() { // ends with its call, which ctx bounds
			s := &surveyed{peer: p}
			s.held, s.err = c.ask(ctx, p, h)
			answers <- s
		}()
	}
	var all []*surveyed
	for complete := 0; len(all) < len(peers) && complete < enough; {
		s := <-answers
		all = append(all, s)
		if s.err == nil && len(s.held.Missing) == 0 {
			complete++
		}
	}
	return all
}

func (c *Cluster) ask(ctx context.Context, p *peer, h hold) (held, error) {
	if p == nil {
		return c.hold(ctx, h), nil
	}
	return call[held](ctx, p, http.MethodPost, pathHold, h)
}

// nowhere returns an error when some content is on no host that answered.
func nowhere(refs []blobRef, hosts []*surveyed) error {
	absent := make(map[digest.Digest]int)
	answered := 0
	var silent []string
	for _, h := range hosts {
		if h.err != nil {
			silent = append(silent, h.peer.name)
			continue
		}
		answered++
		for _, b := range h.held.Missing {
			absent[b.Digest]++
		}
	}
	for _, b := range refs {
		if absent[b.Digest] < answered {
			continue
		}
		hint := ""
		if len(silent) > 0 {
			hint = "; no answer from " + strings.Join(silent, ", ")
		}
		return fmt.Errorf("%w: %s is on no host of the cluster%s", content.ErrBlobMissing, b.Digest, hint)
	}
	return nil
}

// complete makes a host copy what it lacks, for as long as bytes move.
func (c *Cluster) complete(ctx context.Context, s *surveyed, repo string, refs []blobRef) error {
	progress, since := int64(-1), time.Now()
	for {
		ask, cancel := context.WithTimeout(ctx, askTimeout)
		h, err := c.ask(ask, s.peer, hold{Repository: repo, Refs: refs, Fetch: true})
		cancel()
		switch {
		case err == nil && len(h.Missing) == 0:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil && h.Error == "" && h.Done > progress:
			progress, since = h.Done, time.Now()
			continue
		}
		if err == nil && h.Error != "" {
			err = errors.New(h.Error)
		}
		if time.Since(since) >= c.cfg.Patience {
			if s.peer != nil {
				c.peers.suspect(s.peer.store)
				err = fmt.Errorf("%s: %w", s.peer.url, cmp.Or(err, errStalled))
			}
			return cmp.Or(err, errStalled)
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

var errStalled = errors.New("its copy does not get on")
