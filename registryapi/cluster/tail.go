package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/internal/backoff"
	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/internal/wire"
	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/content"
)

const (
	// tailFrom is the size up to which a blob is copied in one request, after
	// its end: what is saved by beginning earlier would not show.
	tailFrom = 4 << 20
	// tailIdle ends a request on which nothing moves, well before the other
	// side does. The next begins with the next data.
	tailIdle = 5 * time.Second
	// tailAbandon ends the copy of an upload that does not go on.
	tailAbandon = 15 * time.Minute
	tailPoll    = 10 * time.Millisecond
)

// tail copies an upload to another host while it grows.
type tail struct {
	c     *Cluster
	repo  string
	id    string // of the upload here
	file  content.Growing
	to    *peer
	relay bool // the other host copies on

	finished chan struct{} // closed when the upload is a blob
	digest   digest.Digest // set before finished is closed
	moved    atomic.Int64  // grows while anything happens
	closing  atomic.Bool   // the other host has all and makes it durable
	done     chan struct{} // closed when the copy has ended
	err      error         // set before done is closed
}

// Receiving begins to copy an upload that is about to grow, as far as that is
// not under way.
func (c *Cluster) Receiving(repo, id, from string) {
	if c.cfg.wanted() < 2 || from == registryapi.PeerCopy {
		return
	}
	targets, relay := c.targets(repo, from)
	c.tailsMu.Lock()
	defer c.tailsMu.Unlock()
	if c.ending || c.ctx == nil || len(c.tails[id]) > 0 {
		return
	}
	for _, p := range targets {
		file, err := c.store.Growing(id)
		if err != nil {
			return // the manifest's copies are made later
		}
		t := &tail{c: c, repo: repo, id: id, file: file, to: p, relay: relay,
			finished: make(chan struct{}), done: make(chan struct{})}
		c.tails[id] = append(c.tails[id], t)
		ctx := c.ctx
		c.running.Go(func() { t.run(ctx) })
	}
}

// targets returns where the first copies of an upload go. A host that is no home
// of the repository sends one stream to a home, which copies it on.
func (c *Cluster) targets(repo, from string) (to []*peer, relay bool) {
	up := make(map[string]*peer)
	var others []*peer
	for _, p := range live(c.others()) {
		if !c.peers.suspected(p.store) {
			up[p.store] = p
			others = append(others, p)
		}
	}
	stores := homes(repo, c.self, others, c.cfg.wanted())
	own := false
	for _, store := range stores {
		if store == c.self {
			own = true
		} else {
			to = append(to, up[store])
		}
	}
	if own || from == registryapi.PeerRelay || len(to) == 0 {
		return to, false
	}
	return to[:1], len(stores) > 1
}

// Received waits for the copies of an upload that has become a blob, as long as
// they get on.
func (c *Cluster) Received(ctx context.Context, repo, id string, d digest.Digest, _ string) {
	c.tailsMu.Lock()
	tails := slices.Clone(c.tails[id])
	for _, t := range tails {
		if t.digest == "" {
			t.digest = d
			close(t.finished)
		}
	}
	c.tailsMu.Unlock()
	for _, t := range tails {
		t.wait(ctx)
	}
}

// settleTails waits for the copies of a repository's blobs, as long as they get
// on: what comes in a moment need not be asked for anew.
func (c *Cluster) settleTails(ctx context.Context, repo string) {
	var waiting []*tail
	c.tailsMu.Lock()
	for _, tails := range c.tails {
		for _, t := range tails {
			if t.repo == repo && t.digest != "" {
				waiting = append(waiting, t)
			}
		}
	}
	c.tailsMu.Unlock()
	for _, t := range waiting {
		t.wait(ctx)
	}
}

// wait returns when the copy has ended, or nothing has moved for too long.
func (t *tail) wait(ctx context.Context) {
	moved, since := t.moved.Load(), time.Now()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-t.done:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		patience := t.c.cfg.Patience
		if t.closing.Load() {
			patience *= 3 // a slow disk flushes
		}
		if now := t.moved.Load(); now != moved {
			moved, since = now, time.Now()
		} else if time.Since(since) > patience {
			t.c.peers.suspect(t.to.store)
			return
		}
	}
}

// run copies to the first host that takes it.
func (t *tail) run(ctx context.Context) {
	defer func() {
		t.file.Close()
		t.c.tailsMu.Lock()
		left := slices.DeleteFunc(t.c.tails[t.id], func(o *tail) bool { return o == t })
		if t.c.tails[t.id] = left; len(left) == 0 {
			delete(t.c.tails, t.id)
		}
		t.c.tailsMu.Unlock()
		close(t.done)
	}()
	tried := make(map[string]bool)
	for {
		t.err = t.copy(ctx)
		if t.err == nil || ctx.Err() != nil || errors.Is(t.err, errAbandoned) {
			return
		}
		t.c.note("an upload is not copied while it grows", t.repo, fmt.Errorf("%s: %w", t.to.url, t.err))
		t.c.peers.suspect(t.to.store)
		tried[t.to.store] = true
		next := t.another(tried)
		if next == nil {
			return
		}
		t.to, t.relay = next, false
		t.closing.Store(false)
	}
}

// another returns a host that was not tried and is no other copy's target.
func (t *tail) another(tried map[string]bool) *peer {
	t.c.tailsMu.Lock()
	for _, o := range t.c.tails[t.id] {
		if o != t {
			tried[o.to.store] = true
		}
	}
	t.c.tailsMu.Unlock()
	for _, p := range live(t.c.others()) {
		if !tried[p.store] && !t.c.peers.suspected(p.store) {
			return p
		}
	}
	return nil
}

// errAbandoned: the upload was cancelled, or does not go on.
var errAbandoned = errors.New("the upload does not go on")

func (t *tail) ended() bool {
	select {
	case <-t.finished:
		return true
	default:
		return false
	}
}

// grow waits until the upload has more than n bytes, or is finished.
func (t *tail) grow(ctx context.Context, n int64) error {
	began := time.Now()
	for t.file.Size() <= n && !t.ended() {
		if t.file.Ended() && time.Since(began) > time.Minute || time.Since(began) > tailAbandon {
			return errAbandoned
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.finished:
		case <-time.After(tailPoll):
		}
	}
	return nil
}

// tailPace is that of an upload to another host that broke off.
var tailPace = backoff.Pace{Min: 200 * time.Millisecond, Max: time.Second}

// copy sends the whole upload to t.to.
func (t *tail) copy(ctx context.Context) error {
	if err := t.grow(ctx, tailFrom); err != nil {
		return err
	}
	if t.ended() && t.file.Size() <= tailFrom {
		return t.whole(ctx)
	}
	location, _, err := t.send(ctx, http.MethodPost, oci.UploadsPath(t.repo), nil, 0, askTimeout)
	if err != nil {
		return err
	}
	at, failures := int64(0), 0
	for {
		if err := t.grow(ctx, at); err != nil {
			if errors.Is(err, errAbandoned) {
				_, _, _ = t.send(ctx, http.MethodDelete, location, nil, 0, askTimeout) // else it expires there
			}
			return err
		}
		if t.ended() && at >= t.file.Size() {
			break
		}
		_, offset, err := t.send(ctx, http.MethodPatch, location, &growing{t: t, ctx: ctx, at: at}, -1, 0)
		if err != nil {
			var sizeErr *statusError
			if errors.As(err, &sizeErr) && sizeErr.code != http.StatusRequestTimeout && sizeErr.code < 500 && sizeErr.code != http.StatusRequestedRangeNotSatisfiable {
				return err
			}
			if failures >= 4 {
				return err
			}
			if !tailPace.Wait(ctx, failures) {
				return ctx.Err()
			}
			failures++
			if _, offset, err = t.send(ctx, http.MethodGet, location, nil, 0, askTimeout); err != nil {
				return err
			}
		}
		if offset > at {
			failures = 0
		}
		at = offset
	}
	t.closing.Store(true)
	_, _, err = t.send(ctx, http.MethodPut, location+"?digest="+url.QueryEscape(string(t.digest)), nil, 0, 5*time.Minute)
	t.moved.Add(1)
	return err
}

// whole sends a small blob in one request.
func (t *tail) whole(ctx context.Context) error {
	size := t.file.Size()
	t.closing.Store(true)
	_, _, err := t.send(ctx, http.MethodPost, oci.UploadsPath(t.repo)+"?digest="+url.QueryEscape(string(t.digest)),
		io.NewSectionReader(t.file, 0, size), size, time.Minute)
	return err
}

// statusError is an answer that is not the one hoped for.
type statusError struct {
	code int
	text string
}

func (e *statusError) Error() string { return e.text }

// send makes one request of an upload at the other host, and returns where the
// upload is and how much of it arrived. limit 0 is none: a body has its own.
func (t *tail) send(ctx context.Context, method, path string, body io.Reader, size int64, limit time.Duration) (location string, offset int64, err error) {
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	if body == nil {
		body = http.NoBody
	}
	req, err := http.NewRequestWithContext(ctx, method, t.to.url+path, io.NopCloser(body))
	if err != nil {
		return "", 0, err
	}
	if req.ContentLength = size; size == 0 {
		req.Body = http.NoBody
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	req.Header.Set(registryapi.HeaderPeer, registryapi.PeerCopy)
	if t.relay {
		req.Header.Set(registryapi.HeaderPeer, registryapi.PeerRelay)
	}
	resp, err := t.to.http.Do(req)
	if err != nil {
		return "", 0, err
	}
	text := wire.Beginning(resp)
	if resp.StatusCode >= 300 {
		return "", 0, &statusError{resp.StatusCode, fmt.Sprintf("%s %s: %s %s", method, t.to.url, resp.Status, text)}
	}
	offset, _ = strconv.ParseInt(resp.Header.Get(registryapi.HeaderUploadOffset), 10, 64)
	if u, err := url.Parse(resp.Header.Get("Location")); err == nil {
		location = u.Path
	}
	t.c.log.Debug("copy of an upload", zap.String("method", method), zap.String("to", t.to.url), zap.Int64("offset", offset))
	return location, offset, nil
}

// growing is the body of a request that follows the upload.
type growing struct {
	t   *tail
	ctx context.Context
	at  int64
	buf []byte
}

// more waits for bytes and returns how many there are; 0 is the end.
func (g *growing) more() (int64, error) {
	began := time.Now()
	for {
		ended := g.t.ended() // before the size: after it the file does not grow
		if n := g.t.file.Size() - g.at; n > 0 {
			return n, nil
		}
		if ended || time.Since(began) > tailIdle {
			return 0, nil
		}
		select {
		case <-g.ctx.Done():
			return 0, g.ctx.Err()
		case <-g.t.finished:
		case <-time.After(tailPoll):
		}
	}
}

func (g *growing) Read(p []byte) (int, error) {
	n, err := g.more()
	if err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, io.EOF
	}
	m, err := g.t.file.ReadAt(p[:min(n, int64(len(p)))], g.at)
	g.at += int64(m)
	g.t.moved.Add(int64(m))
	if m > 0 {
		err = nil
	}
	return m, err
}

// WriteTo spares the transport's small buffer.
func (g *growing) WriteTo(w io.Writer) (total int64, err error) {
	if g.buf == nil {
		g.buf = make([]byte, 256<<10)
	}
	for {
		n, err := g.Read(g.buf)
		if errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil {
			return total, err
		}
		m, err := w.Write(g.buf[:n])
		total += int64(m)
		if err != nil {
			return total, err
		}
	}
}
