package cluster

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/content"
)

// Prefix is above all keys of the catalogue.
const Prefix = "/ankacluster/r/"

// Keys. A repository's name has '~' for '/', which its grammar does not have; a
// digest and a tag have no '/'.
const (
	keyID    = Prefix + "id"    // the catalogue's identity, written once
	dirHost  = Prefix + "host/" // <store>: where a host is
	dirLive  = Prefix + "live/" // <store>: on the host's lease
	dirRepo  = Prefix + "repo/" // <repo>: identity of the template; changes with every write to the repository
	dirTag   = Prefix + "tag/"  // <repo>/<tag>
	dirImage = Prefix + "man/"  // <repo>/<digest>: a manifest
	dirCopy  = Prefix + "copy/" // <repo>/<digest>/<store>: that host has all of it
	dirPull  = Prefix + "pull/" // <repo>/<tag>: last pull
)

func encodeRepo(repo string) string { return strings.ReplaceAll(repo, "/", "~") }
func decodeRepo(enc string) string  { return strings.ReplaceAll(enc, "~", "/") }

func repoKey(repo string) string      { return dirRepo + encodeRepo(repo) }
func tagKey(repo, tag string) string  { return dirTag + encodeRepo(repo) + "/" + tag }
func pullKey(repo, tag string) string { return dirPull + encodeRepo(repo) + "/" + tag }
func hostKey(store string) string     { return dirHost + store }
func liveKey(store string) string     { return dirLive + store }
func below(dir, repo string) string   { return dir + encodeRepo(repo) + "/" }
func imageKey(repo string, d digest.Digest) string {
	return dirImage + encodeRepo(repo) + "/" + string(d)
}
func copyKey(repo string, d digest.Digest, store string) string {
	return dirCopy + encodeRepo(repo) + "/" + string(d) + "/" + store
}

// hostRecord is where a host of the registry is.
type hostRecord struct {
	Name string `json:"name"`
	URL  string `json:"url"`
}

// repoRecord is the identity of a repository. It is written with every change
// of the repository, and every change demands that it is as it was read: changes
// of one repository happen one after another.
type repoRecord struct {
	ID      string    `json:"id"`
	Created time.Time `json:"created"`
	Arch    string    `json:"arch,omitempty"` // as set by hand
	// Gone means that the template was deleted. The record stays for Done.
	Gone bool `json:"gone,omitempty"`
	// Done are the last changes. A change whose answer was lost finds itself
	// here and is not made a second time, whatever followed it.
	Done []string `json:"done,omitempty"`
}

// keepDone is how many changes of a repository can follow one whose answer was
// lost within the time in which it is tried again.
const keepDone = 64

// tagRecord is a tag.
type tagRecord struct {
	Digest digest.Digest `json:"digest"`
	// Order grows with every push to the repository.
	Order  int64     `json:"order"`
	Pushed time.Time `json:"pushed"`
}

// imageRecord is a manifest: all that lists show of it and all that it refers
// to, so that both are known without its content.
type imageRecord struct {
	MediaType string    `json:"media_type"`
	Size      int64     `json:"size"`
	Pushed    time.Time `json:"pushed"`
	// Blobs are those that the manifest refers to and were pushed, each once.
	Blobs []blobRef `json:"blobs,omitempty"`
	// Manifests are those that it refers to, as an index does.
	Manifests []digest.Digest `json:"manifests,omitempty"`
	// Subject, ArtifactType and Annotations are for the list of referrers.
	Subject      digest.Digest     `json:"subject,omitempty"`
	ArtifactType string            `json:"artifact_type,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`

	Version registryapi.Version `json:"version"` // without what belongs to the tag
	Name    string              `json:"name,omitempty"`
	UUID    string              `json:"uuid,omitempty"`
}

type blobRef struct {
	Digest digest.Digest `json:"d"`
	Size   int64         `json:"s"`
}

func (b blobRef) descriptor() ispec.Descriptor {
	return ispec.Descriptor{Digest: b.Digest, Size: b.Size}
}

// maxRecord bounds the record of a manifest. etcd takes requests of 1.5 MiB.
const maxRecord = 1 << 20

// describe makes the record of a manifest that refers to these blobs and
// manifests.
func describe(m content.Manifest, c content.Content, cfg content.VMConfig, configured bool, blobs []blobRef, manifests []digest.Digest) imageRecord {
	rec := imageRecord{MediaType: m.MediaType, Size: int64(len(m.Raw)), Pushed: m.Pushed, Blobs: blobs, Manifests: manifests}
	rec.Name = content.Describe(&rec.Version, c, cfg, configured)
	if configured {
		rec.UUID = cfg.UUID
	}
	if c.Subject != nil {
		rec.Subject, rec.Annotations, rec.ArtifactType = c.Subject.Digest, c.Annotations, c.ArtifactType
		if rec.ArtifactType == "" && c.Config != nil {
			rec.ArtifactType = c.Config.MediaType
		}
	}
	return rec
}

// encode encodes a record; a value that does not encode is a bug here.
func encode(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("cluster: record does not encode: %v", err))
	}
	return string(data)
}

func encodeTime(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }
