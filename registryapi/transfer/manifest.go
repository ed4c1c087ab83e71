package transfer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/internal/wire"
)

// maxManifest is the largest manifest read; the specification asks registries
// for at least 4 MiB.
const maxManifest = 16 << 20

var manifestTypes = strings.Join([]string{
	ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex,
	oci.MediaTypeDockerManifest, oci.MediaTypeDockerList,
	"*/*",
}, ", ")

// Manifest is a manifest as the registry stores it, byte for byte.
type Manifest struct {
	MediaType string
	Digest    digest.Digest
	Raw       []byte
}

// Manifest returns the manifest that ref, a tag or a digest, names. It returns
// ErrNotFound when there is none.
func (c *Client) Manifest(ctx context.Context, repo, ref string) (Manifest, error) {
	var m Manifest
	if err := errors.Join(oci.CheckRepository(repo), oci.CheckReference(ref)); err != nil {
		return m, err
	}
	err := c.persist(ctx, fmt.Sprintf("get %s:%s", repo, ref), func() (bool, error) {
		var err error
		m, err = c.manifestOnce(ctx, repo, ref)
		return false, err
	})
	return m, err
}

func (c *Client) manifestOnce(ctx context.Context, repo, ref string) (Manifest, error) {
	w := watch(ctx, c.cfg.Idle)
	defer w.stop()
	req, err := c.request(w.ctx, http.MethodGet, oci.ManifestPath(repo, ref), nil)
	if err != nil {
		return Manifest{}, err
	}
	req.Header.Set("Accept", manifestTypes)
	resp, err := c.send(w, req, http.StatusOK)
	if err != nil {
		return Manifest{}, err
	}
	data, err := wire.ReadAnswer(resp, maxManifest)
	if errors.Is(err, wire.ErrLongAnswer) {
		return Manifest{}, final(fmt.Errorf("manifest: %w", err))
	}
	if err != nil {
		return Manifest{}, err
	}
	// The digest asked for counts most, then the one that the server names.
	want := digest.Digest(ref)
	if want.Validate() != nil {
		want = digest.Digest(resp.Header.Get("Docker-Content-Digest"))
	}
	if want.Validate() != nil {
		want = digest.FromBytes(data)
	}
	if got := want.Algorithm().FromBytes(data); got != want {
		return Manifest{}, fmt.Errorf("manifest: %w: want %s, got %s", ErrDigest, want, got)
	}
	return Manifest{MediaType: resp.Header.Get("Content-Type"), Digest: want, Raw: data}, nil
}

// image decodes m as the manifest of one image.
func (m Manifest) image() (ocispec.Manifest, error) {
	var im ocispec.Manifest
	if err := json.Unmarshal(m.Raw, &im); err != nil {
		return im, fmt.Errorf("manifest %s: %w", m.Digest, err)
	}
	if im.Config.Digest == "" {
		return im, fmt.Errorf("manifest %s of type %q is not that of an image", m.Digest, m.MediaType)
	}
	for _, d := range append([]ocispec.Descriptor{im.Config}, im.Layers...) {
		if err := oci.CheckDescriptor(d); err != nil {
			return im, fmt.Errorf("manifest %s: %w", m.Digest, err)
		}
	}
	return im, nil
}

// PutManifest stores raw under ref, a tag or its digest. Repeating it is no
// error.
func (c *Client) PutManifest(ctx context.Context, repo, ref, mediaType string, raw []byte) error {
	if err := errors.Join(oci.CheckRepository(repo), oci.CheckReference(ref)); err != nil {
		return err
	}
	return c.persist(ctx, fmt.Sprintf("put %s:%s", repo, ref), func() (bool, error) {
		w := watch(ctx, c.cfg.Commit)
		defer w.stop()
		req, err := c.request(w.ctx, http.MethodPut, oci.ManifestPath(repo, ref), bytes.NewReader(raw))
		if err != nil {
			return false, err
		}
		req.Header.Set("Content-Type", mediaType)
		resp, err := c.send(w, req, http.StatusCreated)
		if err != nil {
			return false, err
		}
		drain(resp)
		return false, nil
	})
}

// DeleteManifest removes a tag, or with a digest the manifest and all its tags.
// It returns ErrNotFound when there is none.
func (c *Client) DeleteManifest(ctx context.Context, repo, ref string) error {
	if err := errors.Join(oci.CheckRepository(repo), oci.CheckReference(ref)); err != nil {
		return err
	}
	sent := false
	return c.persist(ctx, fmt.Sprintf("delete %s:%s", repo, ref), func() (bool, error) {
		w := watch(ctx, c.cfg.Commit)
		defer w.stop()
		req, err := c.request(w.ctx, http.MethodDelete, oci.ManifestPath(repo, ref), nil)
		if err != nil {
			return false, err
		}
		resp, err := c.send(w, req, http.StatusAccepted, http.StatusOK, http.StatusNoContent)
		if sent && errors.Is(err, ErrNotFound) {
			return false, nil // an earlier attempt did it and its answer was lost
		}
		sent = true
		if err != nil {
			return false, err
		}
		drain(resp)
		return false, nil
	})
}
