package content

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/opencontainers/go-digest"

	"github.com/ankacluster/ankacluster/registryapi"
)

// Manifest is a manifest as pushed: Raw is served byte for byte.
type Manifest struct {
	Digest    digest.Digest
	MediaType string
	Raw       []byte
	Pushed    time.Time
}

// Tag is a name of a manifest.
type Tag struct {
	Name      string        `json:"tag"`
	Digest    digest.Digest `json:"digest"`
	MediaType string        `json:"media_type"`
	Size      int64         `json:"size"` // of the manifest
	// Order grows with every push to the repository, whichever server took it.
	// 0 in PutTag means "the next"; a copy between stores keeps the original's.
	Order  int64     `json:"order"`
	Pushed time.Time `json:"pushed"`
}

// Compare orders tags as they were pushed.
func (t Tag) Compare(o Tag) int {
	return cmp.Or(cmp.Compare(t.Order, o.Order), cmp.Compare(t.Name, o.Name))
}

// LatestTag is an alias of the newest push unless it was pushed itself.
const LatestTag = "latest"

// Resolve returns a tag, or the newest one for LatestTag where there is no tag
// of that name. The result keeps the name of the tag it stands for.
func Resolve(s Tags, repo, name string) (Tag, error) {
	t, err := s.Tag(repo, name)
	if err == nil || name != LatestTag {
		return t, err
	}
	tags, lerr := s.Tags(repo)
	if lerr != nil || len(tags) == 0 {
		return t, err
	}
	return tags[len(tags)-1], nil
}

// Reverted returns those of tags, which are in their order, that go with a revert of
// from: it and every tag pushed after it, newest first. The alias "latest" goes with
// the tag it repeats. ErrTagUnknown: from is none of them.
func Reverted(tags []Tag, from string) ([]Tag, error) {
	start := slices.IndexFunc(tags, func(t Tag) bool { return t.Name == from })
	if start < 0 {
		return nil, fmt.Errorf("%w: %s", ErrTagUnknown, from)
	}
	kept := make(map[digest.Digest]bool)
	for _, t := range tags[:start] {
		if t.Name != LatestTag {
			kept[t.Digest] = true
		}
	}
	var gone []Tag
	for i, t := range slices.Backward(tags) {
		if i >= start || t.Name == LatestTag && !kept[t.Digest] {
			gone = append(gone, t)
		}
	}
	return gone, nil
}

// Meta is what a repository's template keeps besides its tags.
type Meta struct {
	// ID is the template's id: the VM's UUID when the first push showed one,
	// else derived from the repository's name. It stays when tags come and go.
	ID      string    `json:"id"`
	Created time.Time `json:"created"`
	Arch    string    `json:"arch,omitempty"` // as set by hand; "" is as pushed
}

// NewMeta is what a repository gets with its first tag, of a manifest that it has.
func NewMeta(s Blobs, repo string, m Manifest, now time.Time) Meta {
	meta := Meta{ID: RepositoryID(repo), Created: now}
	if c, err := ParseManifest(m.MediaType, m.Raw); err == nil && c.Config != nil {
		if cfg, err := ReadConfig(s, repo, c); err == nil {
			if id, err := uuid.Parse(cfg.UUID); err == nil {
				meta.ID = id.String()
			}
		}
	}
	return meta
}

// idNamespace makes ids of repository names: the same name has the same id on
// every server, now and after a reinstallation.
var idNamespace = uuid.MustParse("3f0d5f6e-53b0-5f0d-9a41-0c6b0d1d7c55")

// RepositoryID is the id of a repository whose content shows none.
func RepositoryID(repo string) string {
	return uuid.NewSHA1(idNamespace, []byte(repo)).String()
}

// UploadInfo tells of an unfinished upload.
type UploadInfo struct {
	ID         string
	Repository string
	Offset     int64
	Started    time.Time
	Updated    time.Time
}

// Change says that something in a repository may be different now.
type Change = registryapi.Change

// Cursor is a place in a store's journal. Its text is the store's; any other text is
// an unknown place.
type Cursor string

// CollectOptions says what the collector may remove.
type CollectOptions struct {
	// Grace keeps unreferenced content that was pushed, or asked for by a push,
	// so recently.
	Grace time.Duration
	// KeepUntagged keeps manifests without a tag so long; 0 is for ever.
	KeepUntagged time.Duration
	// Keep, when set, names content of a repository that others refer to or copy.
	Keep func(repo string, d digest.Digest) bool
	// DryRun only counts.
	DryRun bool
}

// Collected is what a run removed.
type Collected struct {
	Manifests int   `json:"manifests"`
	Links     int   `json:"links"`
	Blobs     int   `json:"blobs"`
	Bytes     int64 `json:"bytes"`
}
