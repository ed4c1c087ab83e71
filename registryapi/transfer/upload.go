package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/registryapi"
)

// Upload stores a blob unless the registry has it already. src is read at
// offsets, more than once where the connection breaks.
func (c *Client) Upload(ctx context.Context, repo string, desc ocispec.Descriptor, src io.ReaderAt) error {
	if err := errors.Join(oci.CheckRepository(repo), oci.CheckDescriptor(desc)); err != nil {
		return err
	}
	return c.pushBlob(ctx, repo, desc, src, desc.Digest.String(), newMeter(desc.Size, nil))
}

func (c *Client) pushBlob(ctx context.Context, repo string, desc ocispec.Descriptor, src io.ReaderAt, name string, meter *meter) error {
	ok, err := c.HasBlob(ctx, repo, desc)
	if err != nil {
		return err
	}
	if ok {
		meter.add(name, desc.Size, 0)
		return nil
	}
	u := &upload{c: c, repo: repo, desc: desc, src: src, name: name, meter: meter}
	return c.persist(ctx, "upload blob "+desc.Digest.String(), func() (bool, error) { return u.attempt(ctx) })
}

// upload is one blob on its way to the registry.
//
//	       POST                PATCH ...             PUT
//	(none) ----> open, offset ---------> offset=size ---> stored
//	  ^           |  ^   | failed
//	  |  404      |  |   v
//	  +---- GET status (offset = what the server has; again after a 416)
type upload struct {
	c     *Client
	repo  string
	desc  ocispec.Descriptor
	src   io.ReaderAt
	name  string
	meter *meter

	location string // of the session; "" when there is none
	offset   int64  // what the server is known to have
	unsure   bool   // a request failed: ask the server before sending more
	counted  int64  // what the meter was told
	best     int64  // the furthest offset confirmed; gains are measured by it
	finished bool   // the closing PUT was sent at least once
	misfits  int    // how often the server was not where it had said
}

// attempt goes as far as it can and reports whether the server got further than
// ever before.
func (u *upload) attempt(ctx context.Context) (gained bool, err error) {
	before := u.best
	err = u.advance(ctx)
	if u.offset > u.best {
		u.best = u.offset
	}
	if err != nil {
		u.unsure = true
		err = u.explain(ctx, err)
	}
	return u.best > before, err
}

// explain decides what an error means for the session, and makes those mendable
// that the next attempt gets around.
func (u *upload) explain(ctx context.Context, err error) error {
	var r *ResponseError
	if u.location == "" || !errors.As(err, &r) {
		return err
	}
	switch r.Status {
	case http.StatusNotFound: // it expired, or another server of the pool answered
		u.location = ""
		return fmt.Errorf("the upload session is gone: %v", err)
	case http.StatusRequestedRangeNotSatisfiable:
		// A request that was cut here may have reached the server after it told
		// its offset: it is asked again. One that never agrees is left.
		if u.misfits++; u.misfits > 3 {
			u.misfits, u.location = 0, ""
		}
		return fmt.Errorf("the upload is elsewhere: %v", err)
	case http.StatusInsufficientStorage:
		u.abandon(ctx)
	}
	return err
}

// abandon gives back what the session holds: a registry that is full would
// stay so until it expires. Failure leaves it to that.
func (u *upload) abandon(ctx context.Context) {
	w := watch(context.WithoutCancel(ctx), u.c.cfg.Idle)
	defer w.stop()
	req, err := u.c.request(w.ctx, http.MethodDelete, u.location, nil)
	if err != nil {
		return
	}
	if resp, err := u.c.send(w, req, http.StatusNoContent, http.StatusAccepted, http.StatusOK); err == nil {
		drain(resp)
	}
	u.location = ""
}

// monolithic is the size up to which a blob is sent in the closing PUT: what a
// cut costs is less than the round trip saved.
const monolithic = 1 << 20

func (u *upload) advance(ctx context.Context) error {
	if u.unsure && u.finished {
		// The answer to the closing PUT may have been lost.
		ok, err := u.c.HasBlob(ctx, u.repo, u.desc)
		if ok {
			u.count(u.desc.Size)
		}
		if ok || err != nil {
			return err
		}
	}
	switch {
	case u.location == "" || u.desc.Size <= monolithic:
		if err := u.open(ctx); err != nil {
			return err
		}
	case u.unsure:
		if err := u.ask(ctx); err != nil {
			return err
		}
	}
	u.unsure = false
	for u.desc.Size > monolithic && u.offset < u.desc.Size {
		if err := u.patch(ctx, min(u.c.cfg.Chunk, u.desc.Size-u.offset)); err != nil {
			return err
		}
	}
	return u.close(ctx)
}

// open begins a session.
func (u *upload) open(ctx context.Context) error {
	w := watch(ctx, u.c.cfg.Idle)
	defer w.stop()
	req, err := u.c.request(w.ctx, http.MethodPost, oci.UploadsPath(u.repo), http.NoBody)
	if err != nil {
		return err
	}
	resp, err := u.c.send(w, req, http.StatusAccepted)
	if err != nil {
		return err
	}
	defer drain(resp)
	u.offset = 0
	u.count(0)
	return u.move(req, resp)
}

// ask learns how far the server got.
func (u *upload) ask(ctx context.Context) error {
	w := watch(ctx, u.c.cfg.Idle)
	defer w.stop()
	req, err := u.c.request(w.ctx, http.MethodGet, u.location, nil)
	if err != nil {
		return err
	}
	resp, err := u.c.send(w, req, http.StatusNoContent, http.StatusOK, http.StatusAccepted)
	if err != nil {
		return err
	}
	defer drain(resp)
	offset, err := rangeEnd(resp)
	if err != nil {
		return err
	}
	if offset > u.desc.Size {
		u.location = ""
		return fmt.Errorf("the server has %d bytes of a blob of %d", offset, u.desc.Size)
	}
	u.offset = offset
	u.count(offset)
	return u.move(req, resp)
}

// patch sends n bytes from the offset on.
func (u *upload) patch(ctx context.Context, n int64) error {
	w := watch(ctx, u.c.cfg.Idle)
	defer w.stop()
	start := u.offset
	body := &section{u: u, w: w, at: start, end: start + n}
	req, err := u.c.request(w.ctx, http.MethodPatch, u.location, body)
	if err != nil {
		return err
	}
	req.ContentLength = n
	// A balancer may repeat a request that provably reached nobody.
	req.GetBody = func() (io.ReadCloser, error) { return &section{u: u, w: w, at: start, end: start + n}, nil }
	req.Header.Set("Content-Type", "application/octet-stream")
	req.Header.Set("Content-Range", fmt.Sprintf("%d-%d", start, start+n-1))
	resp, err := u.c.send(w, req, http.StatusAccepted, http.StatusNoContent, http.StatusCreated)
	if err != nil {
		return err
	}
	defer drain(resp)
	offset, err := rangeEnd(resp)
	if err != nil {
		return err
	}
	if offset <= start || offset > start+n {
		return fmt.Errorf("sent bytes %d to %d, and the server says it has %d", start, start+n, offset)
	}
	u.offset = offset
	u.count(offset)
	return u.move(req, resp)
}

// close ends the session; the server checks the digest.
func (u *upload) close(ctx context.Context) error {
	w := watch(ctx, u.c.cfg.Commit)
	defer w.stop()
	target, err := url.Parse(u.location)
	if err != nil {
		return err
	}
	q := target.Query()
	q.Set("digest", u.desc.Digest.String())
	target.RawQuery = q.Encode()
	rest := func() (io.ReadCloser, error) {
		if u.offset == u.desc.Size {
			return http.NoBody, nil
		}
		return &section{u: u, w: w, at: u.offset, end: u.desc.Size}, nil
	}
	body, _ := rest()
	req, err := u.c.request(w.ctx, http.MethodPut, target.String(), body)
	if err != nil {
		return err
	}
	req.ContentLength, req.GetBody = u.desc.Size-u.offset, rest
	req.Header.Set("Content-Type", "application/octet-stream")
	u.finished = true
	resp, err := u.c.send(w, req, http.StatusCreated, http.StatusNoContent)
	if err != nil {
		return err
	}
	drain(resp)
	u.offset = u.desc.Size
	u.count(u.offset)
	return nil
}

// move follows the session to the location that an answer names. It is resolved
// against our own URL, so that a pool stays a pool. One of another server is an error:
// credentials and content are for the one that was named.
func (u *upload) move(req *http.Request, resp *http.Response) error {
	loc := resp.Header.Get("Location")
	if loc == "" {
		if u.location == "" {
			return errors.New("the answer to an upload's beginning has no Location")
		}
		return nil
	}
	ref, err := url.Parse(loc)
	if err != nil {
		return fmt.Errorf("location of the upload: %w", err)
	}
	to := req.URL.ResolveReference(ref)
	if to.Scheme != req.URL.Scheme || to.Host != req.URL.Host {
		return final(fmt.Errorf("the registry names %s://%s for the upload, which is another server: push there, if it is meant", to.Scheme, to.Host))
	}
	u.location = to.String()
	return nil
}

// count tells the meter how many bytes are at the server now.
func (u *upload) count(offset int64) {
	u.meter.add(u.name, offset-u.counted, 0)
	u.counted = offset
}

// rangeEnd returns how many bytes the server has: by our registry's own header,
// or by the Range of its answer.
func rangeEnd(resp *http.Response) (int64, error) {
	if n, err := strconv.ParseInt(resp.Header.Get(registryapi.HeaderUploadOffset), 10, 64); err == nil && n >= 0 {
		return n, nil
	}
	return oci.ParseUploadRange(resp.Header.Get("Range"))
}

// section is the body of one PATCH.
type section struct {
	u       *upload
	w       *watchdog
	at, end int64
}

func (s *section) Read(b []byte) (int, error) {
	s.w.kick()
	if s.at >= s.end {
		return 0, io.EOF
	}
	if left := s.end - s.at; int64(len(b)) > left {
		b = b[:left]
	}
	n, err := s.u.src.ReadAt(b, s.at)
	s.at += int64(n)
	s.u.meter.add(s.u.name, 0, int64(n))
	if s.at >= s.end {
		s.w.patience(s.u.c.cfg.Commit) // all is sent: now it is for the server to flush
		return n, nil
	}
	if err == io.EOF {
		err = final(errors.New("the file became shorter while it was pushed"))
	}
	return n, err
}

// Close is called by the transport, perhaps while a Read is under way; there is
// nothing to release.
func (s *section) Close() error { return nil }
