package cluster

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/opencontainers/go-digest"

	"github.com/ankacluster/ankacluster/internal/access"
	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/internal/wire"
	"github.com/ankacluster/ankacluster/registryapi"
)

// What hosts ask of each other, beside the distribution API.
const (
	pathHold    = "/registry/v1/peer/hold"
	pathMount   = "/registry/v1/peer/mount"
	pathUploads = "/registry/v1/peer/uploads"
)

// Routes returns what the other hosts of the registry call.
func (c *Cluster) Routes() []wire.Route {
	return []wire.Route{
		{Pattern: "POST " + pathHold, Permission: access.Registry, Handler: peerCall(c.serveHold)},
		{Pattern: "POST " + pathMount, Permission: access.Registry, Handler: peerCall(c.serveMount)},
		{Pattern: "GET " + pathUploads, Permission: access.Registry, Handler: peerCall(c.serveUploads)},
	}
}

type mount struct {
	Repository string        `json:"repository"`
	From       string        `json:"from"`
	Digest     digest.Digest `json:"digest"`
}

type mounted struct {
	OK bool `json:"ok"`
}

// peerCall answers another host with plain JSON.
func peerCall(h func(r *http.Request) (any, *oci.Error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(registryapi.HeaderPeer) == "" {
			deny(w, http.StatusForbidden, oci.CodeDenied, "this is for the other hosts of the registry")
			return
		}
		answer, refused := h(r)
		if refused != nil {
			deny(w, refused.Status, refused.Code, refused.Message)
			return
		}
		data, err := json.Marshal(answer)
		if err != nil {
			deny(w, http.StatusInternalServerError, oci.CodeUnknown, "internal error")
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(data) // the other host went away
	})
}

func (c *Cluster) serveHold(r *http.Request) (any, *oci.Error) {
	h, refused := readJSON[hold](r)
	if refused != nil {
		return nil, refused
	}
	if err := h.check(); err != nil {
		return nil, oci.NewError(http.StatusBadRequest, oci.CodeUnsupported, err.Error())
	}
	return c.hold(r.Context(), h), nil
}

func (c *Cluster) serveMount(r *http.Request) (any, *oci.Error) {
	m, refused := readJSON[mount](r)
	if refused != nil {
		return nil, refused
	}
	if _, err := oci.ParseDigest(string(m.Digest)); err != nil {
		return nil, oci.NewError(http.StatusBadRequest, oci.CodeDigestInvalid, err.Error())
	}
	_, err := c.store.Mount(m.Repository, m.From, m.Digest)
	return mounted{OK: err == nil}, nil
}

func (c *Cluster) serveUploads(*http.Request) (any, *oci.Error) {
	repos, err := c.uploading()
	if err != nil {
		return nil, oci.NewError(http.StatusServiceUnavailable, oci.CodeUnavailable, "the storage cannot be read")
	}
	return repos, nil
}

func (h hold) check() error {
	if err := oci.CheckRepository(h.Repository); err != nil {
		return err
	}
	for _, b := range h.Refs {
		if _, err := oci.ParseDigest(string(b.Digest)); err != nil {
			return err
		}
	}
	return nil
}

func readJSON[T any](r *http.Request) (T, *oci.Error) {
	v, err := wire.DecodeMax[T](r, peerBody)
	if err != nil {
		return v, oci.NewError(http.StatusBadRequest, oci.CodeUnsupported, "the body is not what it should be: "+err.Error())
	}
	return v, nil
}

// peerBody bounds what hosts send each other in JSON: the references of a
// repository, each of which has a digest.
var peerBody = wire.Limits{Bytes: 32 << 20, Values: 32 << 20 / 40}

// uploading returns the repositories that are being pushed to here.
func (c *Cluster) uploading() ([]string, error) {
	uploads, err := c.store.Uploads()
	repos := []string{}
	for _, u := range uploads {
		repos = append(repos, u.Repository)
	}
	return repos, err
}

// busy returns the repositories that are being pushed to at any host, and whether
// every host said so.
func (c *Cluster) busy(ctx context.Context) (repos map[string]bool, all bool, err error) {
	repos, all = make(map[string]bool), true
	own, err := c.uploading()
	if err != nil {
		return nil, false, err
	}
	for _, repo := range own {
		repos[repo] = true
	}
	for _, p := range c.others() {
		ask, cancel := context.WithTimeout(ctx, askTimeout)
		theirs, err := call[[]string](ask, p, http.MethodGet, pathUploads, nil)
		cancel()
		if err != nil {
			all = false
			continue
		}
		for _, repo := range theirs {
			repos[repo] = true
		}
	}
	return repos, all, nil
}
