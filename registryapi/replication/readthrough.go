package replication

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/registryapi/storage"
)

// fill is a blob that somebody asked for and that is not here.
type fill struct {
	repo string
	desc ocispec.Descriptor
	from *source
}

// fillAll copies blobs that clients wait for. A client that goes away does not
// end the copy: the blob is wanted anyway.
func (r *Replicator) fillAll(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case f := <-r.fills:
			r.copies.Go(func() {
				if err := r.copyBlob(ctx, f.repo, f.desc, []*source{f.from}, nil); err != nil {
					r.note("read-through failed", f.repo, err)
				}
			})
		}
	}
}

// ReadThrough answers what is not here yet from a source. A blob is stored while
// it streams to the client, and its next reader finds it here.
func (r *Replicator) ReadThrough(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		asked := oci.Parse(req.URL.Path)
		served := false
		switch {
		case req.Method != http.MethodGet && req.Method != http.MethodHead, storage.CheckRepository(asked.Repo) != nil:
		case asked.Kind == oci.Manifest:
			served = !r.hasManifest(asked.Repo, asked.Ref) && r.throughManifest(w, req, asked.Repo, asked.Ref)
		case asked.Kind == oci.Blob:
			if d, err := storage.ParseDigest(asked.Ref); err == nil {
				_, err := r.store.StatBlob(asked.Repo, d)
				served = err != nil && r.throughBlob(w, req, asked.Repo, d)
			}
		}
		if !served {
			next.ServeHTTP(w, req)
		}
	})
}

func (r *Replicator) hasManifest(repo, ref string) bool {
	if d, err := storage.ParseDigest(ref); err == nil {
		return r.complete(repo, d)
	}
	t, err := r.store.Resolve(repo, ref)
	return err == nil && r.complete(repo, t.Digest)
}

// askTimeout bounds how long a client waits for a source that may be down
// before it is told that there is no such thing here.
const askTimeout = 5 * time.Second

func (r *Replicator) throughManifest(w http.ResponseWriter, req *http.Request, repo, ref string) bool {
	for _, s := range r.sources {
		ctx, cancel := context.WithTimeout(req.Context(), askTimeout)
		m, err := s.blobs.Manifest(ctx, repo, ref)
		cancel()
		if err != nil {
			continue
		}
		r.queue.mark(repo, time.Now(), s)
		h := w.Header()
		h.Set("Content-Type", m.MediaType)
		h.Set("Docker-Content-Digest", m.Digest.String())
		h.Set("Content-Length", strconv.Itoa(len(m.Raw)))
		w.WriteHeader(http.StatusOK)
		if req.Method == http.MethodGet {
			_, _ = w.Write(m.Raw) // the client went away; there is nobody to tell
		}
		return true
	}
	return false
}

func (r *Replicator) throughBlob(w http.ResponseWriter, req *http.Request, repo string, d digest.Digest) bool {
	s, size := r.whoHas(req.Context(), repo, d)
	if s == nil {
		return false
	}
	desc := ocispec.Descriptor{Digest: d, Size: size}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Docker-Content-Digest", d.String())
	h.Set("ETag", `"`+d.String()+`"`)
	h.Set("Accept-Ranges", "bytes")
	from, to, ranged := int64(0), size, false
	if text := req.Header.Get("Range"); req.Method == http.MethodGet && strings.HasPrefix(text, "bytes=") && !strings.Contains(text, ",") {
		if from, to, ranged = oneRange(text, size); !ranged {
			h.Set("Content-Range", "bytes */"+strconv.FormatInt(size, 10))
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return true
		}
		h.Set("Content-Range", "bytes "+strconv.FormatInt(from, 10)+"-"+strconv.FormatInt(to-1, 10)+"/"+strconv.FormatInt(size, 10))
	}
	h.Set("Content-Length", strconv.FormatInt(to-from, 10))
	if ranged {
		w.WriteHeader(http.StatusPartialContent)
	} else {
		w.WriteHeader(http.StatusOK)
	}
	if req.Method == http.MethodHead {
		return true
	}
	if err := r.serveWhileCopying(w, req, repo, desc, s, from, to); err != nil {
		r.log.Debug("read-through ended early", zap.String("repository", repo), zap.Error(err))
		panic(http.ErrAbortHandler) // the client must not take it for complete
	}
	return true
}

// whoHas returns a source that has the blob, and its size.
func (r *Replicator) whoHas(ctx context.Context, repo string, d digest.Digest) (*source, int64) {
	for _, s := range r.sources {
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		size, err := s.blobs.StatBlob(ctx, repo, d)
		cancel()
		if err == nil {
			return s, size
		}
	}
	return nil, 0
}

// oneRange reads "bytes=a-b", "bytes=a-" and "bytes=-n" as [from, to).
func oneRange(text string, size int64) (from, to int64, ok bool) {
	spec, ok := strings.CutPrefix(text, "bytes=")
	a, b, dash := strings.Cut(spec, "-")
	if !ok || !dash || strings.Contains(spec, ",") {
		return 0, 0, false
	}
	if a == "" {
		n, err := strconv.ParseInt(b, 10, 64)
		if err != nil || n <= 0 {
			return 0, 0, false
		}
		return max(size-n, 0), size, size > 0
	}
	from, err := strconv.ParseInt(a, 10, 64)
	if err != nil || from < 0 || from >= size {
		return 0, 0, false
	}
	to = size
	if b != "" {
		last, err := strconv.ParseInt(b, 10, 64)
		if err != nil || last < from {
			return 0, 0, false
		}
		to = min(last+1, size)
	}
	return from, to, true
}

// ahead is how far beyond what is here a client may begin and still be served
// from the growing file.
const ahead = 8 << 20

// serveWhileCopying sends [from, to) of the blob: from the file that grows while
// it is copied, and what is far ahead of that straight from the source.
func (r *Replicator) serveWhileCopying(w io.Writer, req *http.Request, repo string, desc ocispec.Descriptor, s *source, from, to int64) error {
	ctx := req.Context()
	f := r.startFill(ctx, fill{repo, desc, s})
	at := from
	if f != nil {
		n, err := r.tail(ctx, w, f, repo, desc, from, to)
		at += n
		if err != nil && (ctx.Err() != nil || !errors.Is(err, errNotHere)) {
			return err
		}
	}
	if at >= to {
		return nil
	}
	err := s.blobs.Blob(ctx, repo, desc, at, &upTo{w, to - at})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// startFill returns the flight of the blob, beginning it if there is none; nil
// when there is nobody to fly it.
func (r *Replicator) startFill(ctx context.Context, want fill) *flight {
	find := func() *flight {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.flights[want.desc.Digest.String()]
	}
	if f := find(); f != nil {
		return f
	}
	if !r.active.Load() {
		return nil
	}
	select {
	case r.fills <- want:
	case <-ctx.Done():
		return nil
	case <-time.After(time.Second):
		return nil
	}
	for range 100 { // it begins in a moment, or has ended already
		if f := find(); f != nil {
			return f
		}
		if _, err := r.store.StatBlob(want.repo, want.desc.Digest); err == nil {
			f := &flight{done: make(chan struct{})}
			close(f.done)
			return f
		}
		if sleep(ctx, 10*time.Millisecond) != nil {
			return nil
		}
	}
	return nil
}

// errNotHere: the rest must come from elsewhere.
var errNotHere = errors.New("not here")

// tail copies [from, to) from the file that a flight fills and returns how much
// it sent.
func (r *Replicator) tail(ctx context.Context, w io.Writer, f *flight, repo string, desc ocispec.Descriptor, from, to int64) (int64, error) {
	var file *os.File
	defer func() {
		if file != nil {
			file.Close()
		}
	}()
	at := from
	for at < to {
		ended := false
		select {
		case <-f.done:
			ended = true
		default:
		}
		if file == nil {
			if path, ok := f.path.Load().(string); ok {
				file, _ = os.Open(path) // renamed already: then the flight has ended
			}
		}
		if file == nil && ended {
			var err error
			if file, _, err = r.store.OpenBlob(repo, desc.Digest); err != nil {
				return at - from, errNotHere
			}
		}
		var n int64
		var have int64
		if file != nil {
			if info, err := file.Stat(); err == nil {
				have = min(info.Size(), to)
			}
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
		case ended, at > have+ahead:
			return at - from, errNotHere
		default:
			if err := sleep(ctx, 10*time.Millisecond); err != nil {
				return at - from, err
			}
		}
	}
	return at - from, nil
}

// upTo writes n bytes and then ends the transfer.
type upTo struct {
	w io.Writer
	n int64
}

var errEnough = errors.New("enough")

func (u *upTo) Write(b []byte) (int, error) {
	n, err := u.w.Write(b[:min(int64(len(b)), u.n)])
	u.n -= int64(n)
	if err == nil && u.n == 0 {
		err = errEnough
	}
	return n, err
}
