package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/content"
)

// startUpload begins an upload, or does all of it: mounted from another
// repository, or with the content in this very request.
func (s *Server) startUpload(w http.ResponseWriter, r *http.Request, req oci.Request) error {
	q := r.URL.Query()
	// A mount names its source: who may read that may have its blobs, and a digest alone
	// shows nothing. Without one the client uploads, as the specification has it.
	if mount := q.Get("mount"); mount != "" && q.Get("from") != "" {
		d, err := oci.ParseDigest(mount)
		if err != nil {
			return err
		}
		if err := s.names(r).Mount(r.Context(), req.Repo, q.Get("from"), d); err == nil {
			s.blobCreated(w, req.Repo, d)
			return nil
		} else if errors.Is(err, content.ErrReadOnly) || errors.Is(err, content.ErrNoSpace) {
			return err
		}
		// Not there: the client uploads it, as the specification has it.
	}
	var want digest.Digest
	if text := q.Get("digest"); text != "" {
		var err error
		if want, err = oci.ParseDigest(text); err != nil {
			return err
		}
	}
	if err := s.store.CheckSpace(r.ContentLength); err != nil {
		return err
	}
	if want == "" {
		if err := s.empty.check(r); err != nil {
			return err
		}
	}
	alg := digest.Algorithm(q.Get("digest-algorithm"))
	if want != "" {
		alg = want.Algorithm()
	}
	u, err := s.store.NewUpload(req.Repo, alg)
	if err != nil {
		return err
	}
	defer u.Close()
	if want == "" {
		s.empty.begin(r, req.Repo, u.ID(), time.Now())
		s.uploadAccepted(w, req.Repo, u, http.StatusAccepted)
		return nil
	}
	err = s.receive(w, r, req.Repo, u)
	if err == nil {
		err = s.commit(w, r, req.Repo, u, want)
	}
	if err != nil {
		_ = u.Cancel() // the client never learned its location
	}
	return err
}

func (s *Server) patchUpload(w http.ResponseWriter, r *http.Request, req oci.Request) error {
	s.empty.end(req.Ref)
	u, err := s.openUpload(r, req)
	if err != nil {
		if errors.Is(err, content.ErrUploadUnknown) && s.repeatedChunk(w, r, req) {
			return nil
		}
		return err
	}
	defer u.Close()
	if err := s.receiveChunk(w, r, req.Repo, u); err != nil {
		return err
	}
	offset := u.Offset()
	if err := u.Close(); err != nil { // acknowledged bytes are durable
		return err
	}
	s.uploadHeaders(w, req.Repo, u.ID(), offset)
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func (s *Server) closeUpload(w http.ResponseWriter, r *http.Request, req oci.Request) error {
	s.empty.end(req.Ref)
	want, err := oci.ParseDigest(r.URL.Query().Get("digest"))
	if err != nil {
		return err
	}
	u, err := s.openUpload(r, req)
	if err != nil {
		// A repeat of a closing request whose answer was lost, with its content or
		// without.
		_, ended := s.store.Done(content.Note{Kind: "upload", Key: []string{req.Repo, req.Ref, want.String()}})
		if errors.Is(err, content.ErrUploadUnknown) && (ended || r.ContentLength == 0) {
			if _, berr := s.store.StatBlob(req.Repo, want); berr == nil {
				s.drop(w, r)
				s.blobCreated(w, req.Repo, want)
				return nil
			}
		}
		return err
	}
	defer u.Close()
	if err := s.receiveChunk(w, r, req.Repo, u); err != nil {
		return err
	}
	return s.commit(w, r, req.Repo, u, want)
}

func (s *Server) uploadStatus(w http.ResponseWriter, r *http.Request, req oci.Request) error {
	u, err := s.openUpload(r, req)
	if err != nil {
		return err
	}
	defer u.Close()
	s.uploadAccepted(w, req.Repo, u, http.StatusNoContent)
	return nil
}

func (s *Server) cancelUpload(w http.ResponseWriter, r *http.Request, req oci.Request) error {
	s.empty.end(req.Ref)
	u, err := s.openUpload(r, req)
	n := content.Note{Kind: "cancel", Key: []string{req.Repo, req.Ref}}
	if _, before := s.store.Done(n); before && errors.Is(err, content.ErrUploadUnknown) {
		w.WriteHeader(http.StatusNoContent) // a repeat
		return nil
	}
	if err != nil {
		return err
	}
	s.store.NoteDone(n)
	if err := u.Cancel(); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// openUpload waits for another server's request on the upload a little longer
// than that request may go without data.
func (s *Server) openUpload(r *http.Request, req oci.Request) (content.Upload, error) {
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.UploadInactivity+5*time.Second)
	defer cancel()
	return s.store.OpenUpload(ctx, req.Repo, req.Ref)
}

func (s *Server) receiveChunk(w http.ResponseWriter, r *http.Request, repo string, u content.Upload) error {
	if err := s.checkChunk(w, r, repo, u); err != nil {
		return err
	}
	return s.receive(w, r, repo, u)
}

// receive appends the request's body. What arrived before an error is kept.
func (s *Server) receive(w http.ResponseWriter, r *http.Request, repo string, u content.Upload) error {
	if err := s.store.CheckSpace(r.ContentLength); err != nil {
		return err
	}
	if s.shared != nil && r.ContentLength != 0 {
		s.shared.Receiving(repo, u.ID(), r.Header.Get(registryapi.HeaderPeer))
	}
	body := s.body(w, r)
	u.OnInterrupt(body.interrupt)
	n, err := u.Append(body)
	body.done()
	switch {
	case body.err != nil:
		return oci.NewError(http.StatusRequestTimeout, oci.CodeBlobUploadInvalid, fmt.Sprintf("the body ended after %d bytes: %v", n, body.err))
	case err != nil:
		return err
	}
	return nil
}

func (s *Server) commit(w http.ResponseWriter, r *http.Request, repo string, u content.Upload, want digest.Digest) error {
	id, size := u.ID(), u.Offset()
	err := u.Commit(want)
	if errors.Is(err, content.ErrDigestMismatch) {
		_ = u.Cancel() // nothing that could follow would make it right
	}
	if err != nil {
		return err
	}
	s.store.NoteDone(content.Note{Kind: "upload", Key: []string{repo, id, want.String()}})
	s.store.NoteDone(content.Note{Kind: "chunks", Key: []string{repo, id}, What: strconv.FormatInt(size, 10)})
	if s.shared != nil {
		s.shared.Received(r.Context(), repo, u.ID(), want, r.Header.Get(registryapi.HeaderPeer))
	}
	s.blobCreated(w, repo, want)
	return nil
}

// repeatedChunk answers a chunk that comes again after the upload was closed, as
// it was answered before: 202 and how far the upload was.
func (s *Server) repeatedChunk(w http.ResponseWriter, r *http.Request, req oci.Request) bool {
	text, ok := s.store.Done(content.Note{Kind: "chunks", Key: []string{req.Repo, req.Ref}})
	size, err := strconv.ParseInt(text, 10, 64)
	if !ok || err != nil {
		return false
	}
	if header := r.Header.Get("Content-Range"); header != "" {
		if _, last, ok := oci.ParseContentRange(header); !ok || last >= size {
			return false
		}
	}
	s.drop(w, r)
	s.uploadHeaders(w, req.Repo, req.Ref, size)
	w.WriteHeader(http.StatusAccepted)
	return true
}

// drop reads what a client still sends, so that it comes to read the answer.
func (s *Server) drop(w http.ResponseWriter, r *http.Request) {
	body := s.body(w, r)
	_, _ = io.Copy(io.Discard, body)
	body.done()
}

// checkChunk refuses a chunk that does not begin where the upload ends, or may not.
func (s *Server) checkChunk(w http.ResponseWriter, r *http.Request, repo string, u content.Upload) error {
	text := r.Header.Get("Content-Range")
	if text == "" && u.Overtook() && r.ContentLength != 0 {
		s.uploadHeaders(w, repo, u.ID(), u.Offset())
		return oci.NewError(http.StatusRequestedRangeNotSatisfiable, oci.CodeBlobUploadInvalid,
			fmt.Sprintf("another request was sending to this upload, which is at %d: say with Content-Range where yours begins, or send it again", u.Offset()))
	}
	if text == "" {
		return nil
	}
	first, last, ok := oci.ParseContentRange(text)
	if !ok {
		return oci.NewError(http.StatusBadRequest, oci.CodeBlobUploadInvalid, fmt.Sprintf("Content-Range %.100q is not <first>-<last>", text))
	}
	if first != u.Offset() {
		s.uploadHeaders(w, repo, u.ID(), u.Offset())
		return oci.NewError(http.StatusRequestedRangeNotSatisfiable, oci.CodeBlobUploadInvalid,
			fmt.Sprintf("the chunk begins at %d, the upload is at %d", first, u.Offset()))
	}
	if r.ContentLength >= 0 && r.ContentLength != last-first+1 {
		return oci.NewError(http.StatusBadRequest, oci.CodeSizeInvalid,
			fmt.Sprintf("Content-Range %s has %d bytes, Content-Length says %d", text, last-first+1, r.ContentLength))
	}
	return nil
}

func (s *Server) uploadAccepted(w http.ResponseWriter, repo string, u content.Upload, status int) {
	s.uploadHeaders(w, repo, u.ID(), u.Offset())
	w.WriteHeader(status)
}

func (s *Server) uploadHeaders(w http.ResponseWriter, repo, id string, offset int64) {
	if s.shared != nil {
		id = s.shared.UploadName(id)
	}
	h := w.Header()
	h.Set("Location", oci.UploadPath(repo, id))
	h.Set("Docker-Upload-UUID", id)
	h.Set("Range", oci.UploadRange(offset))
	h.Set(registryapi.HeaderUploadOffset, strconv.FormatInt(offset, 10))
}

func (s *Server) blobCreated(w http.ResponseWriter, repo string, d digest.Digest) {
	w.Header().Set("Location", oci.BlobPath(repo, d))
	w.Header().Set("Docker-Content-Digest", d.String())
	w.WriteHeader(http.StatusCreated)
}
