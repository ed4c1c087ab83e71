package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ankacluster/ankacluster/internal/oci"
)

// copyBuffer is large enough to amortise system calls, and small enough for
// many blobs at once.
const copyBuffer = 256 << 10

// Blob writes the blob's bytes from offset on to dst, in order and each once,
// however often connections break in between. It does not check the digest: the
// caller has the bytes before offset. Errors of dst end the transfer.
func (c *Client) Blob(ctx context.Context, repo string, desc ocispec.Descriptor, offset int64, dst io.Writer) error {
	return c.BlobRange(ctx, repo, desc, offset, desc.Size, dst)
}

// BlobRange is Blob for the bytes [offset, to) alone.
func (c *Client) BlobRange(ctx context.Context, repo string, desc ocispec.Descriptor, offset, to int64, dst io.Writer) error {
	if err := oci.CheckRepository(repo); err != nil {
		return err
	}
	if err := oci.CheckDescriptor(desc); err != nil {
		return err
	}
	buf := make([]byte, copyBuffer)
	return c.persist(ctx, "get blob "+desc.Digest.String(), func() (bool, error) {
		if offset >= to {
			return false, nil // also the empty blob: there is nothing to ask for
		}
		n, err := c.blobRange(ctx, repo, desc, offset, to, dst, buf)
		offset += n
		return n > 0, err
	})
}

// blobRange copies bytes [from, to) in one request and returns how many reached
// dst. Fewer than asked is an error.
func (c *Client) blobRange(ctx context.Context, repo string, desc ocispec.Descriptor, from, to int64, dst io.Writer, buf []byte) (int64, error) {
	w := watch(ctx, c.cfg.Idle)
	defer w.stop()
	req, err := c.request(w.ctx, http.MethodGet, oci.BlobPath(repo, desc.Digest), nil)
	if err != nil {
		return 0, err
	}
	if from > 0 || to < desc.Size {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, to-1))
	}
	resp, err := c.send(w, req, http.StatusOK, http.StatusPartialContent)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	start, err := answeredFrom(resp)
	if err != nil {
		return 0, err
	}
	if start > from {
		return 0, fmt.Errorf("asked for bytes from %d, got them from %d", from, start)
	}
	// A server without ranges sends all; what we have is skipped.
	if _, err := io.CopyN(io.Discard, resp.Body, from-start); err != nil {
		return 0, err
	}
	out := &sink{w: dst} // dst must not see the reader, or it would bypass the watchdog
	n, err := io.CopyBuffer(out, readerOnly{io.LimitReader(resp.Body, to-from)}, buf)
	if out.err != nil {
		return n, final(out.err)
	}
	if err == nil && n < to-from {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

type writerOnly struct{ io.Writer }

// sink remembers that it was the destination that failed: another attempt would
// not mend that.
type sink struct {
	w   io.Writer
	err error
}

func (s *sink) Write(b []byte) (int, error) {
	n, err := s.w.Write(b)
	s.err = err
	return n, err
}

type readerOnly struct{ io.Reader }

// answeredFrom returns the offset of the first byte of an answer.
func answeredFrom(resp *http.Response) (int64, error) {
	if resp.StatusCode == http.StatusOK {
		return 0, nil
	}
	text := resp.Header.Get("Content-Range")
	first, _, ok := oci.ParseContentRange(text)
	if !ok {
		return 0, fmt.Errorf("206 with the Content-Range %q", text)
	}
	return first, nil
}

// HasBlob reports whether the registry has the blob in the repository.
func (c *Client) HasBlob(ctx context.Context, repo string, desc ocispec.Descriptor) (bool, error) {
	_, err := c.StatBlob(ctx, repo, desc.Digest)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// StatBlob returns the size of a blob, or ErrNotFound.
func (c *Client) StatBlob(ctx context.Context, repo string, d digest.Digest) (int64, error) {
	size := int64(-1)
	err := c.persist(ctx, "look for blob "+d.String(), func() (bool, error) {
		w := watch(ctx, c.cfg.Idle)
		defer w.stop()
		req, err := c.request(w.ctx, http.MethodHead, oci.BlobPath(repo, d), nil)
		if err != nil {
			return false, err
		}
		resp, err := c.send(w, req, http.StatusOK)
		if err != nil {
			return false, err
		}
		resp.Body.Close()
		size = resp.ContentLength
		return false, nil
	})
	if err == nil && size < 0 {
		err = fmt.Errorf("blob %s: the registry does not tell its size", d)
	}
	return size, err
}
