package replication

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/time/rate"

	"github.com/ankacluster/ankacluster/registryapi/content"
	"github.com/ankacluster/ankacluster/registryapi/transfer"
)

// paceStep is the piece in which the bandwidth limit lets bytes pass.
const paceStep = 64 << 10

// newLimiter limits to perSecond bytes. What the wait for an answer left unused
// may be caught up with, up to a quarter of a second's worth.
func newLimiter(perSecond int64) *rate.Limiter {
	return rate.NewLimiter(rate.Limit(perSecond), int(max(paceStep, perSecond/4)))
}

// pieceOf is how much of a blob is asked for at a time. Who keeps to a bandwidth
// reads slower than the source sends, so that the machine's own buffers fill:
// megabytes that were fetched and are lost with the process. Under a limit no
// more is asked for than a quarter of a second's worth, and little of the blob.
func (c *Copier) pieceOf(size int64) int64 {
	if c.limiter == nil {
		return size
	}
	return max(128<<10, min(size/256, int64(c.limiter.Limit())/4))
}

// flight is a blob on its way. Layers are shared by the tags of a template:
// whoever else needs it waits for the one that fetches it.
type flight struct {
	done   chan struct{}
	err    error        // set before done is closed
	upload atomic.Value // string: the upload that it grows in, once there is one
}

// session remembers the upload that a blob grows in, over restarts.
type session struct {
	Repository string `json:"repository"`
	Upload     string `json:"upload"`
}

// blob makes sure that the repository has the blob.
func (c *Copier) blob(ctx context.Context, repo string, desc ocispec.Descriptor, from []*transfer.Client, run *running) error {
	for {
		if size, err := c.store.StatBlob(repo, desc.Digest); err == nil && size == desc.Size {
			return nil
		}
		if size, err := c.store.Mount(repo, "", desc.Digest); err == nil && size == desc.Size {
			return nil
		}
		f, mine := c.join(desc.Digest)
		if mine {
			err := c.fetchBlob(ctx, repo, desc, from, run, f)
			c.land(desc.Digest, f, err)
			if err != nil {
				return fmt.Errorf("blob %s: %w", desc.Digest, err)
			}
			continue // the session may have been of another repository
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.done:
			if f.err != nil && !errors.Is(f.err, context.Canceled) {
				return fmt.Errorf("blob %s: %w", desc.Digest, f.err)
			}
		}
	}
}

// join returns the flight of a blob and whether the caller is to fly it.
func (c *Copier) join(d digest.Digest) (*flight, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.flights[d]; f != nil {
		return f, false
	}
	f := &flight{done: make(chan struct{})}
	c.flights[d] = f
	return f, true
}

func (c *Copier) land(d digest.Digest, f *flight, err error) {
	c.mu.Lock()
	delete(c.flights, d)
	c.mu.Unlock()
	f.err = err
	close(f.done)
}

// fetchBlob fetches a blob into an upload session and commits it. What it has
// when it fails is kept.
func (c *Copier) fetchBlob(ctx context.Context, repo string, desc ocispec.Descriptor, from []*transfer.Client, run *running, f *flight) error {
	u, err := c.openSession(ctx, repo, desc)
	if err != nil {
		return err
	}
	defer u.Close()
	f.upload.Store(u.ID())
	if run != nil {
		run.done.Add(u.Offset())
	}
	var errs []error
	for _, s := range from {
		if err = c.stream(ctx, s, repo, desc, u, run); err == nil {
			break
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	if u.Offset() != desc.Size {
		return errors.Join(errs...)
	}
	if err := u.Commit(desc.Digest); err != nil {
		if errors.Is(err, content.ErrDigestMismatch) { // no byte of it can be trusted
			err = errors.Join(err, u.Cancel(), c.forgetSession(desc.Digest))
		}
		return err
	}
	return c.forgetSession(desc.Digest)
}

// stream appends the rest of the blob to u.
func (c *Copier) stream(ctx context.Context, s *transfer.Client, repo string, desc ocispec.Descriptor, u content.Upload, run *running) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pr, pw := io.Pipe()
	sent := make(chan struct{})
	at, piece := u.Offset(), c.pieceOf(desc.Size)
	go func() {
		defer close(sent)
		var err error
		for dst := (&paced{ctx, pw, c, run}); err == nil && at < desc.Size; at += piece {
			err = s.BlobRange(ctx, repo, desc, at, min(at+piece, desc.Size), dst)
		}
		pw.CloseWithError(err)
	}()
	_, err := u.Append(pr)
	cancel()
	pr.CloseWithError(err) // a full disk here ends the transfer there
	<-sent
	if err != nil && errors.Is(err, transfer.ErrNotFound) {
		return fmt.Errorf("%s: %w", s.Base(), err)
	}
	return err
}

// paced is the way into the store: it keeps to the bandwidth and counts.
type paced struct {
	ctx context.Context
	w   io.Writer
	c   *Copier
	run *running
}

func (p *paced) Write(b []byte) (int, error) {
	done := 0
	for done < len(b) {
		n := min(len(b)-done, paceStep)
		if p.c.limiter == nil {
			n = len(b) - done
		} else if err := p.c.limiter.WaitN(p.ctx, n); err != nil {
			return done, err
		}
		m, err := p.w.Write(b[done : done+n])
		done += m
		p.c.copied.Add(int64(m))
		p.c.bytes.Add(float64(m))
		if p.run != nil {
			p.run.done.Add(int64(m))
		}
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

func sessionName(d digest.Digest) string {
	return d.Algorithm().String() + "-" + d.Encoded() + ".json"
}

// openSession goes on with the upload that an earlier try began, or begins one.
func (c *Copier) openSession(ctx context.Context, repo string, desc ocispec.Descriptor) (content.Upload, error) {
	name := sessionName(desc.Digest)
	var s session
	if data, err := c.sessions.Read(name); err == nil && json.Unmarshal(data, &s) == nil {
		u, err := c.store.OpenUpload(ctx, s.Repository, s.Upload)
		if err == nil && u.Offset() <= desc.Size {
			return u, nil
		}
		if err == nil {
			err = u.Cancel()
		}
		if err != nil && !errors.Is(err, content.ErrUploadUnknown) {
			return nil, err
		}
	}
	u, err := c.store.NewUpload(repo, desc.Digest.Algorithm())
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(session{Repository: repo, Upload: u.ID()})
	if err == nil {
		err = c.sessions.WriteSoon(name, data)
	}
	if err != nil {
		return nil, errors.Join(err, u.Cancel())
	}
	return u, nil
}

func (c *Copier) forgetSession(d digest.Digest) error { return c.sessions.Remove(sessionName(d)) }
