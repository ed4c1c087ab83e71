package replication

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/internal/backoff"
	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/registryapi/content"
	"github.com/ankacluster/ankacluster/registryapi/transfer"
)

// Serve answers a GET or HEAD of a blob from one of the registries, storing it
// while it streams; false means that none of them has it, and nothing was
// written.
func (c *Copier) Serve(w http.ResponseWriter, req *http.Request, repo string, d digest.Digest, from []*transfer.Client) bool {
	holders, size := WhoHas(req.Context(), repo, d, from)
	if len(holders) == 0 {
		return false
	}
	desc := ocispec.Descriptor{Digest: d, Size: size}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Docker-Content-Digest", d.String())
	h.Set("ETag", `"`+d.String()+`"`)
	h.Set("Accept-Ranges", "bytes")
	first, to, ranged := int64(0), size, false
	if text := req.Header.Get("Range"); req.Method == http.MethodGet && strings.HasPrefix(text, "bytes=") && !strings.Contains(text, ",") {
		if first, to, ranged = oci.ParseRange(text, size); !ranged {
			h.Set("Content-Range", oci.NoRange(size))
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return true
		}
		h.Set("Content-Range", oci.ContentRange(first, to, size))
	}
	h.Set("Content-Length", strconv.FormatInt(to-first, 10))
	if ranged {
		w.WriteHeader(http.StatusPartialContent)
	} else {
		w.WriteHeader(http.StatusOK)
	}
	if req.Method == http.MethodHead {
		return true
	}
	if err := c.serveWhileCopying(w, req, repo, desc, holders, first, to); err != nil {
		c.log.Debug("read-through ended early", zap.String("repository", repo), zap.Error(err))
		panic(http.ErrAbortHandler) // the client must not take it for complete
	}
	return true
}

// WhoHas returns those of the registries that have the blob, the quickest to
// answer first, and its size. It returns as soon as one has it and half a second
// has passed, or all have answered.
func WhoHas(ctx context.Context, repo string, d digest.Digest, from []*transfer.Client) (holders []*transfer.Client, size int64) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	type answer struct {
		c    *transfer.Client
		size int64
		err  error
	}
	answers := make(chan answer, len(from)) // every asker can end, also unheard
	for _, c := range from {
		go func() { // ends with its call, which ctx bounds
			size, err := c.StatBlob(ctx, repo, d)
			answers <- answer{c, size, err}
		}()
	}
	var enough <-chan time.Time
	for range from {
		select {
		case a := <-answers:
			if a.err == nil && (len(holders) == 0 || a.size == size) {
				holders, size = append(holders, a.c), a.size
				if enough == nil {
					enough = time.After(500 * time.Millisecond)
				}
			}
		case <-enough:
			return holders, size
		}
	}
	return holders, size
}

// ahead is how far beyond what is here a client may begin and still be served
// from the growing file.
const ahead = 8 << 20

// standstill is how long a client waits for a copy that does not get on before it
// is served from elsewhere.
const standstill = 3 * time.Second

// serveWhileCopying sends [from, to) of the blob: from the file that grows while
// it is copied, and what is far ahead of that straight from the source.
func (c *Copier) serveWhileCopying(w io.Writer, req *http.Request, repo string, desc ocispec.Descriptor, holders []*transfer.Client, from, to int64) error {
	ctx := req.Context()
	f := c.startFill(ctx, fill{repo, desc, holders})
	at := from
	if f != nil {
		n, err := c.tail(ctx, w, f, repo, desc, from, to)
		at += n
		if err != nil && (ctx.Err() != nil || !errors.Is(err, errNotHere)) {
			return err
		}
	}
	if at >= to {
		return nil
	}
	var errs []error
	for _, s := range holders { // what one began another goes on with
		counted := &upTo{w: w, n: to - at}
		err := s.BlobRange(ctx, repo, desc, at, to, counted)
		at = to - counted.n
		if err == nil || at >= to || ctx.Err() != nil || counted.failed {
			return err
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// startFill returns the flight of the blob, beginning it if there is none; nil
// when there is nobody to fly it.
func (c *Copier) startFill(ctx context.Context, want fill) *flight {
	find := func() *flight {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.flights[want.desc.Digest]
	}
	if f := find(); f != nil {
		return f
	}
	if !c.running.Load() {
		return nil
	}
	select {
	case c.fills <- want:
	case <-ctx.Done():
		return nil
	case <-time.After(time.Second):
		return nil
	}
	for range 100 { // it begins in a moment, or has ended already
		if f := find(); f != nil {
			return f
		}
		if _, err := c.store.StatBlob(want.repo, want.desc.Digest); err == nil {
			f := &flight{done: make(chan struct{})}
			close(f.done)
			return f
		}
		if !backoff.Sleep(ctx, 10*time.Millisecond) {
			return nil
		}
	}
	return nil
}

// readable is a blob, or what will become one.
type readable interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// whole is a blob that is here.
type whole struct {
	content.Blob
	size int64
}

func (w whole) Size() int64 { return w.size }

// errNotHere: the rest must come from elsewhere.
var errNotHere = errors.New("not here")

// tail copies [from, to) from the file that a flight fills and returns how much
// it sent.
func (c *Copier) tail(ctx context.Context, w io.Writer, f *flight, repo string, desc ocispec.Descriptor, from, to int64) (int64, error) {
	var file readable
	defer func() {
		if file != nil {
			file.Close()
		}
	}()
	at, moved := from, time.Now()
	for at < to {
		ended := false
		select {
		case <-f.done:
			ended = true
		default:
		}
		if file == nil {
			if upload, ok := f.upload.Load().(string); ok {
				if g, err := c.store.Growing(upload); err == nil { // else the flight has ended
					file = g
				}
			}
		}
		if file == nil && ended {
			blob, size, err := c.store.OpenBlob(repo, desc.Digest)
			if err != nil {
				return at - from, errNotHere
			}
			file = whole{blob, size}
		}
		var n int64
		var have int64
		if file != nil {
			have = min(file.Size(), to)
			if at < have {
				var err error
				n, err = io.Copy(w, io.NewSectionReader(file, at, have-at))
				at += n
				if err != nil {
					return at - from, err
				}
			}
		}
		switch {
		case n > 0:
			moved = time.Now()
		case ended, at > have+ahead, time.Since(moved) > standstill: // perhaps its source hangs
			return at - from, errNotHere
		default:
			if !backoff.Sleep(ctx, 10*time.Millisecond) {
				return at - from, ctx.Err()
			}
		}
	}
	return at - from, nil
}

// upTo counts down what is still to be written, and remembers that it was the
// client that failed.
type upTo struct {
	w      io.Writer
	n      int64
	failed bool
}

func (u *upTo) Write(b []byte) (int, error) {
	n, err := u.w.Write(b)
	u.n -= int64(n)
	u.failed = u.failed || err != nil
	return n, err
}
