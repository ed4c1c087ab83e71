package server

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/image-spec/specs-go"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/registryapi/content"
)

func (s *Server) ociTags(w http.ResponseWriter, r *http.Request, req oci.Request) error {
	all, err := s.names(r).Tags(r.Context(), req.Repo)
	if errors.Is(err, content.ErrRepositoryUnknown) {
		return fmt.Errorf("%w: %s", content.ErrRepositoryUnknown, req.Repo)
	}
	if err != nil {
		return err
	}
	list := make([]string, 0, len(all))
	for _, t := range all {
		list = append(list, t.Name)
	}
	slices.SortFunc(list, lexically)
	page, err := paginate(w, r, list, lexically)
	if err != nil {
		return err
	}
	return writeOCIJSON(w, "application/json", struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{req.Repo, page})
}

func (s *Server) ociCatalog(w http.ResponseWriter, r *http.Request, _ oci.Request) error {
	repos, err := s.names(r).Repositories(r.Context())
	if err != nil {
		return err
	}
	page, err := paginate(w, r, repos, strings.Compare)
	if err != nil {
		return err
	}
	return writeOCIJSON(w, "application/json", struct {
		Repositories []string `json:"repositories"`
	}{page})
}

// lexically is the order that the specification wants of tags: alphanumeric,
// whatever the case. Tags that differ in case alone are ordered by their bytes.
func lexically(a, b string) int {
	return cmp.Or(strings.Compare(strings.ToLower(a), strings.ToLower(b)), strings.Compare(a, b))
}

// paginate cuts a sorted list by the query's n and last, and links to the rest.
func paginate(w http.ResponseWriter, r *http.Request, list []string, order func(a, b string) int) ([]string, error) {
	q := r.URL.Query()
	if last := q.Get("last"); last != "" {
		i, found := slices.BinarySearchFunc(list, last, order)
		if found {
			i++
		}
		list = list[i:]
	}
	if !q.Has("n") {
		return list, nil
	}
	n, err := strconv.Atoi(q.Get("n"))
	if err != nil || n < 0 {
		return nil, oci.NewError(http.StatusBadRequest, oci.CodePaginationInvalid, fmt.Sprintf("n=%.50q is not a number from 0", q.Get("n")))
	}
	if n < len(list) {
		list = list[:n]
		if n > 0 {
			next := url.Values{"n": {strconv.Itoa(n)}, "last": {list[n-1]}}
			w.Header().Set("Link", fmt.Sprintf("<%s?%s>; rel=\"next\"", r.URL.Path, next.Encode()))
		}
	}
	return list, nil
}

func (s *Server) ociReferrers(w http.ResponseWriter, r *http.Request, req oci.Request) error {
	d, err := oci.ParseDigest(req.Ref)
	if err != nil {
		return err
	}
	artifactType := r.URL.Query().Get("artifactType")
	found, err := s.names(r).Referrers(r.Context(), req.Repo, d, artifactType)
	if err != nil {
		return err
	}
	if artifactType != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	return writeOCIJSON(w, ispec.MediaTypeImageIndex, ispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ispec.MediaTypeImageIndex, Manifests: found,
	})
}

func writeOCIJSON(w http.ResponseWriter, contentType string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	_, _ = w.Write(data)
	return nil
}
