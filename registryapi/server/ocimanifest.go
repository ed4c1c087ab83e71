package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/content"
)

func (s *Server) getManifest(w http.ResponseWriter, r *http.Request, req oci.Request) error {
	m, tag, err := s.findManifest(r, req)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", served(m.MediaType))
	h.Set("Docker-Content-Digest", m.Digest.String())
	h.Set("ETag", `"`+m.Digest.String()+`"`)
	if tag != "" {
		h.Set("Cache-Control", "no-cache") // a tag may move
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(m.Raw))
	if r.Method == http.MethodGet && r.Header.Get(registryapi.HeaderNoPull) == "" {
		s.names(r).Pulled(req.Repo, tag, m.Digest)
	}
	return nil
}

// served is the type under which a manifest is given out: as it was pushed, unless a
// browser might take it for a page of this server.
func served(mediaType string) string {
	kind, name, _ := strings.Cut(mediaType, "/")
	if kind == "application" && (name == "json" || strings.HasPrefix(name, "vnd.") && !strings.HasSuffix(name, "xml") && !strings.HasSuffix(name, "html")) {
		return mediaType
	}
	return "application/octet-stream"
}

// findManifest returns a manifest by tag or digest, and the tag's name.
func (s *Server) findManifest(r *http.Request, req oci.Request) (content.Manifest, string, error) {
	if oci.LooksLikeDigest(req.Ref) {
		d, err := oci.ParseDigest(req.Ref)
		if err != nil {
			return content.Manifest{}, "", err
		}
		m, err := s.names(r).Manifest(r.Context(), req.Repo, d)
		return m, "", err
	}
	t, err := s.names(r).Resolve(r.Context(), req.Repo, req.Ref)
	if errors.Is(err, content.ErrTagInvalid) {
		err = fmt.Errorf("%w: %w", content.ErrManifestUnknown, err)
		return content.Manifest{}, "", oci.NewError(http.StatusNotFound, oci.CodeManifestUnknown, err.Error())
	}
	if err != nil {
		return content.Manifest{}, "", err
	}
	m, err := s.names(r).Manifest(r.Context(), req.Repo, t.Digest)
	return m, t.Name, err
}

// recordPull notes a pull of the tag asked for. A pull by digest counts for the
// newest tag that points there.
func (s *Server) recordPull(repo, tag string, d digest.Digest) {
	if tag == "" {
		tags, err := s.store.Tags(repo)
		if err != nil {
			return
		}
		for _, t := range tags {
			if t.Digest == d {
				tag = t.Name
			}
		}
	}
	if tag != "" {
		now := time.Now()
		s.store.RecordPull(repo, tag, now)
		s.catalog.pulled(repo, tag, now)
	}
}

func (s *Server) putManifest(w http.ResponseWriter, r *http.Request, req oci.Request) error {
	if r.ContentLength > content.MaxManifest {
		return errManifestTooLarge
	}
	body := s.body(w, r)
	raw, err := io.ReadAll(io.LimitReader(body, content.MaxManifest+1))
	body.done()
	if err != nil {
		return oci.NewError(http.StatusRequestTimeout, oci.CodeManifestInvalid, "the body could not be read: "+err.Error())
	}
	if len(raw) > content.MaxManifest {
		return errManifestTooLarge
	}
	m, tags, err := manifestRequest(r, req, raw)
	if err != nil {
		return err
	}
	if err := s.store.CheckSpace(int64(len(raw))); err != nil {
		return err
	}
	if err := s.names(r).PutManifest(r.Context(), req.Repo, m, tags...); err != nil {
		return err
	}
	h := w.Header()
	h.Set("Location", oci.ManifestPath(req.Repo, m.Digest.String()))
	h.Set("Docker-Content-Digest", m.Digest.String())
	if c, err := content.ParseManifest(m.MediaType, raw); err == nil && c.Subject != nil {
		h.Set("OCI-Subject", c.Subject.Digest.String())
	}
	for _, tag := range r.URL.Query()["tag"] {
		h.Add("OCI-Tag", tag)
	}
	w.WriteHeader(http.StatusCreated)
	return nil
}

// mostTags is how many tags a manifest can be given in one request.
const mostTags = 100

var errManifestTooLarge = oci.NewError(http.StatusRequestEntityTooLarge, oci.CodeSizeInvalid,
	fmt.Sprintf("a manifest has at most %d bytes", content.MaxManifest))

// manifestRequest reads digest, media type and tags of a PUT. Tags are the
// path's, or any number of query parameters beside a digest.
func manifestRequest(r *http.Request, req oci.Request, raw []byte) (content.Manifest, []string, error) {
	m := content.Manifest{Raw: raw}
	tags := r.URL.Query()["tag"]
	if len(tags) > mostTags {
		return m, nil, oci.NewError(http.StatusBadRequest, oci.CodeManifestInvalid, fmt.Sprintf("%d tags are given: at most %d are possible", len(tags), mostTags))
	}
	if oci.LooksLikeDigest(req.Ref) {
		d, err := oci.ParseDigest(req.Ref)
		if err != nil {
			return m, nil, err
		}
		m.Digest = d
	} else {
		m.Digest = digest.SHA256.FromBytes(raw)
		tags = append([]string{req.Ref}, tags...)
	}
	var head struct {
		MediaType string          `json:"mediaType"`
		Manifests json.RawMessage `json:"manifests"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return m, nil, oci.NewError(http.StatusBadRequest, oci.CodeManifestInvalid, "the manifest is not JSON: "+err.Error())
	}
	if ct := r.Header.Get("Content-Type"); ct != "" {
		mt, _, err := mime.ParseMediaType(ct)
		if err != nil {
			return m, nil, oci.NewError(http.StatusBadRequest, oci.CodeManifestInvalid, fmt.Sprintf("Content-Type %.100q is malformed", ct))
		}
		m.MediaType = mt
	}
	switch {
	case m.MediaType != "":
	case head.MediaType != "":
		m.MediaType = head.MediaType
	case head.Manifests != nil:
		m.MediaType = ispec.MediaTypeImageIndex
	default:
		m.MediaType = ispec.MediaTypeImageManifest
	}
	return m, tags, nil
}

func (s *Server) deleteManifest(w http.ResponseWriter, r *http.Request, req oci.Request) error {
	return s.deleteOnce(w, r, req, func(n content.Note) error { return s.removeManifest(r, req, n) })
}

// deleteOnce answers a delete, and one that is repeated as the first.
func (s *Server) deleteOnce(w http.ResponseWriter, r *http.Request, req oci.Request, remove func(content.Note) error) error {
	n := content.Note{Kind: "delete", Key: []string{strconv.Itoa(int(req.Kind)), req.Repo, req.Ref}}
	err := remove(n)
	if errors.Is(err, content.ErrTagUnknown) || errors.Is(err, content.ErrManifestUnknown) || errors.Is(err, content.ErrBlobUnknown) {
		if _, before := s.names(r).Noted(r.Context(), n); before {
			err = nil
		}
	}
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

func (s *Server) removeManifest(r *http.Request, req oci.Request, n content.Note) error {
	if oci.LooksLikeDigest(req.Ref) {
		d, err := oci.ParseDigest(req.Ref)
		if err != nil {
			return err
		}
		return s.names(r).DeleteManifest(r.Context(), req.Repo, d, n)
	}
	return s.names(r).DeleteTag(r.Context(), req.Repo, req.Ref, n)
}
