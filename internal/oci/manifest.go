package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ankacluster/ankacluster/internal/wire"
)

// Media types of manifests beside those of image-spec that clients still push.
const (
	MediaTypeDockerManifest   = "application/vnd.docker.distribution.manifest.v2+json"
	MediaTypeDockerList       = "application/vnd.docker.distribution.manifest.list.v2+json"
	MediaTypeArtifactManifest = "application/vnd.oci.artifact.manifest.v1+json" // of image-spec 1.1's candidates
	mediaTypeSchema1          = "application/vnd.docker.distribution.manifest.v1+json"
	mediaTypeSchema1Signed    = "application/vnd.docker.distribution.manifest.v1+prettyjws"
)

// What a manifest may refer to: each of it is looked for when the manifest is asked
// for. A template of 100 GB has some hundreds of layers.
const (
	mostDescriptors = 4096
	mostValues      = 100_000
)

// ErrManifest: a manifest is not what its media type says, or names content by
// something that is no digest.
var ErrManifest = errors.New("manifest is invalid")

// Content is what a manifest says. Fields that a media type does not have stay
// empty. What the manifest refers to is told by Blobs, Manifests, Optional and
// Subject, and by nothing else: the collector, the check that a push is complete,
// replication, export and sizes go by these.
type Content struct {
	MediaType    string
	ArtifactType string
	Config       *ispec.Descriptor
	Layers       []ispec.Descriptor
	// Manifests must be in the repository, too.
	Manifests []ispec.Descriptor
	// Subject is what the manifest is about, for example what it signs. It need
	// not exist, and is not kept by the reference.
	Subject     *ispec.Descriptor
	Annotations map[string]string
	// Optional is content that may be absent, and is kept and copied where it is
	// there: layers that are fetched from elsewhere, and whatever looks like a
	// digest in a place that this package does not know. Size is -1 where the
	// manifest does not tell it. It may be a blob or a manifest.
	Optional []ispec.Descriptor

	blobs []ispec.Descriptor
}

// Blobs returns the blobs that must be in the repository: config, layers and the
// like. Size is -1 where the manifest does not tell it.
func (c Content) Blobs() []ispec.Descriptor { return slices.Clone(c.blobs) }

// References returns the digest of everything that the manifest refers to, except
// its subject.
func (c Content) References() []digest.Digest {
	var all []digest.Digest
	for _, list := range [][]ispec.Descriptor{c.blobs, c.Manifests, c.Optional} {
		for _, d := range list {
			all = append(all, d.Digest)
		}
	}
	return all
}

// document is a manifest of any kind.
type document struct {
	MediaType    string             `json:"mediaType"`
	ArtifactType string             `json:"artifactType"`
	Config       *ispec.Descriptor  `json:"config"`
	Layers       []ispec.Descriptor `json:"layers"`
	Manifests    []ispec.Descriptor `json:"manifests"`
	Subject      *ispec.Descriptor  `json:"subject"`
	Annotations  map[string]string  `json:"annotations"`
	Blobs        []ispec.Descriptor `json:"blobs"`    // artifact manifests
	FSLayers     []fsLayer          `json:"fsLayers"` // schema 1
}

type fsLayer struct {
	BlobSum digest.Digest `json:"blobSum"`
}

// known are the fields that ReadManifest reads of every type, and listed those
// that images and indexes do not have. What else a manifest has is searched for
// digests.
var (
	known  = []string{"schemaversion", "mediatype", "artifacttype", "config", "layers", "manifests", "subject", "annotations"}
	listed = []string{"blobs", "fslayers", "history", "signatures", "name", "tag", "architecture"}
)

// ReadManifest reads a manifest that was pushed with a media type ("" means that
// of the manifest itself). It returns an error that wraps ErrManifest where type
// and content do not fit. A manifest of an unknown type is read as far as it is
// like the known ones; its other digests are Optional, so that its content is
// kept though its meaning is not known.
func ReadManifest(mediaType string, raw []byte) (Content, error) {
	if err := wire.Measure(raw, mostValues); err != nil {
		return Content{}, invalid("%v", err)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return Content{}, invalid("%v", err)
	}
	var w document
	err := json.Unmarshal(raw, &w)
	if w.MediaType != "" && mediaType != "" && w.MediaType != mediaType {
		return Content{}, invalid("mediaType %.100q does not match Content-Type %.100q", w.MediaType, mediaType)
	}
	if mediaType == "" {
		mediaType = w.MediaType
	}
	if err == nil {
		err = w.check()
	}
	if err != nil {
		if understood(mediaType) {
			return Content{}, invalid("%v", err)
		}
		c := Content{MediaType: mediaType}
		return c, c.search(fields, nil)
	}
	if err := w.fits(mediaType); err != nil {
		return Content{}, err
	}
	c := Content{MediaType: w.MediaType, ArtifactType: w.ArtifactType, Config: w.Config, Layers: w.Layers,
		Manifests: w.Manifests, Subject: w.Subject, Annotations: w.Annotations}
	if w.Config != nil {
		c.add(*w.Config)
	}
	for _, d := range w.Layers {
		c.add(d)
	}
	if ofImages(mediaType) {
		return c, c.search(fields, known)
	}
	for _, d := range w.Blobs {
		c.add(d)
	}
	for _, l := range w.FSLayers {
		c.add(ispec.Descriptor{Digest: l.BlobSum, Size: -1})
	}
	return c, c.search(fields, slices.Concat(known, listed))
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrManifest, fmt.Sprintf(format, args...))
}

// ofImages reports whether a media type is that of images and their indexes.
func ofImages(mediaType string) bool {
	switch mediaType {
	case ispec.MediaTypeImageManifest, ispec.MediaTypeImageIndex, MediaTypeDockerManifest, MediaTypeDockerList:
		return true
	}
	return false
}

func understood(mediaType string) bool {
	switch mediaType {
	case MediaTypeArtifactManifest, mediaTypeSchema1, mediaTypeSchema1Signed:
		return true
	}
	return ofImages(mediaType)
}

// fits reports a manifest whose fields are not those of its type: read by its
// type, it would seem to name nothing.
func (w document) fits(mediaType string) error {
	switch mediaType {
	case ispec.MediaTypeImageManifest, MediaTypeDockerManifest:
		if w.Config == nil || w.Manifests != nil {
			return invalid("an image manifest has a config and no manifests")
		}
	case ispec.MediaTypeImageIndex, MediaTypeDockerList:
		if w.Config != nil || w.Layers != nil {
			return invalid("an index has manifests, and neither config nor layers")
		}
	}
	return nil
}

func (w document) check() error {
	if n := len(w.Layers) + len(w.Blobs) + len(w.Manifests) + len(w.FSLayers); n > mostDescriptors {
		return fmt.Errorf("it refers to %d blobs and manifests: at most %d are possible", n, mostDescriptors)
	}
	for _, d := range slices.Concat(w.Layers, w.Blobs, w.Manifests) {
		if err := CheckDescriptor(d); err != nil {
			return err
		}
	}
	for _, l := range w.FSLayers {
		if err := CheckDigest(l.BlobSum); err != nil {
			return err
		}
	}
	if w.Config != nil {
		if err := CheckDescriptor(*w.Config); err != nil {
			return fmt.Errorf("config: %w", err)
		}
	}
	if w.Subject != nil {
		if err := CheckDescriptor(*w.Subject); err != nil {
			return fmt.Errorf("subject: %w", err)
		}
	}
	return nil
}

// CheckDescriptor returns an error unless a descriptor can be looked up.
func CheckDescriptor(d ispec.Descriptor) error {
	if err := CheckDigest(d.Digest); err != nil {
		return fmt.Errorf("descriptor: %w", err)
	}
	if d.Size < 0 {
		return fmt.Errorf("descriptor %s has size %d", d.Digest, d.Size)
	}
	return nil
}

// CheckDigest returns an error unless d is a digest of sha256 or sha512.
func CheckDigest(d digest.Digest) error {
	_, err := ParseDigest(d.String())
	return err
}

// add takes a blob in, once: as optional if clients need not push it.
func (c *Content) add(d ispec.Descriptor) {
	list := &c.blobs
	if foreign(d) {
		list = &c.Optional
	}
	if !slices.ContainsFunc(*list, func(have ispec.Descriptor) bool { return have.Digest == d.Digest && have.Size == d.Size }) {
		*list = append(*list, d)
	}
}

// foreign reports whether a layer may be fetched from elsewhere and then is not
// pushed.
func foreign(d ispec.Descriptor) bool {
	switch d.MediaType {
	// The first three are deprecated in image-spec, and still pushed.
	case "application/vnd.oci.image.layer.nondistributable.v1.tar", "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
		"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip":
		return true
	}
	return len(d.URLs) > 0
}

// search adds what looks like a digest in the fields that are not in skip.
func (c *Content) search(fields map[string]json.RawMessage, skip []string) error {
	seen := make(map[digest.Digest]bool)
	for _, d := range c.References() {
		seen[d] = true
	}
	if c.Subject != nil {
		seen[c.Subject.Digest] = true
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for _, e := range v {
				walk(e)
			}
		case []any:
			for _, e := range v {
				walk(e)
			}
		case string:
			if d := digest.Digest(v); !seen[d] && CheckDigest(d) == nil {
				seen[d] = true
				c.Optional = append(c.Optional, ispec.Descriptor{Digest: d, Size: -1})
			}
		}
	}
	for name, data := range fields {
		if slices.Contains(skip, strings.ToLower(name)) || strings.EqualFold(name, "subject") {
			continue
		}
		var v any
		if json.Unmarshal(data, &v) == nil {
			walk(v)
		}
	}
	if len(c.Optional) > mostDescriptors {
		return invalid("it has %d digests: at most %d are possible", len(c.Optional), mostDescriptors)
	}
	slices.SortStableFunc(c.Optional, func(a, b ispec.Descriptor) int { return strings.Compare(a.Digest.String(), b.Digest.String()) })
	return nil
}
