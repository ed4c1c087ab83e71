package cluster

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/content"
)

// view is the catalogue as of one revision of etcd. Records in it are never
// changed, only replaced.
type view struct {
	id    string
	etcd  uint64                // etcd's own id of its cluster
	hosts map[string]hostRecord // by store
	live  map[string]bool       // by store
	repos map[string]*repository
}

// repository is what the catalogue has of a repository.
type repository struct {
	rec    repoRecord
	rev    int64 // of rec; 0 without one
	tags   map[string]tagRecord
	images map[digest.Digest]*imageRecord
	pulls  map[string]int64                  // by tag, Unix seconds
	copies map[digest.Digest]map[string]bool // stores that have all of a manifest
}

func newView() *view {
	return &view{hosts: make(map[string]hostRecord), live: make(map[string]bool), repos: make(map[string]*repository)}
}

func (v *view) repo(name string) *repository {
	r := v.repos[name]
	if r == nil {
		r = &repository{tags: make(map[string]tagRecord), images: make(map[digest.Digest]*imageRecord),
			pulls: make(map[string]int64), copies: make(map[digest.Digest]map[string]bool)}
		v.repos[name] = r
	}
	return r
}

// clone copies a repository so far that the copy does not change any more.
func (r *repository) clone() *repository {
	if r == nil {
		return newView().repo("")
	}
	c := *r
	c.tags, c.images, c.pulls = maps.Clone(r.tags), maps.Clone(r.images), maps.Clone(r.pulls)
	c.copies = make(map[digest.Digest]map[string]bool, len(r.copies))
	for d, stores := range r.copies {
		c.copies[d] = maps.Clone(stores)
	}
	return &c
}

// touched says what an event was about.
type touched struct {
	repo   string // a change of the repository
	copies bool   // only of where it is, or of its pulls
	hosts  bool
}

// apply takes in one key. A record that does not decode changes nothing.
func (v *view) apply(kv *mvccpb.KeyValue, deleted bool) (touched, error) {
	key := string(kv.Key)
	rest, ok := strings.CutPrefix(key, Prefix)
	if !ok {
		return touched{}, nil
	}
	kind, name, _ := strings.Cut(rest, "/")
	first, second, _ := strings.Cut(name, "/")
	decode := func(into any) error {
		if err := json.Unmarshal(kv.Value, into); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		return nil
	}
	switch kind + "/" {
	case "id/":
		v.id = string(kv.Value)
		if deleted {
			v.id = ""
		}
		return touched{}, nil
	case "host/":
		var h hostRecord
		if !deleted {
			if err := decode(&h); err != nil {
				return touched{}, err
			}
			v.hosts[name] = h
		} else {
			delete(v.hosts, name)
		}
		return touched{hosts: true}, nil
	case "live/":
		if deleted {
			delete(v.live, name)
		} else {
			v.live[name] = true
		}
		return touched{hosts: true}, nil
	}
	repo := decodeRepo(first)
	if oci.CheckRepository(repo) != nil {
		return touched{}, fmt.Errorf("%s: no repository", key)
	}
	r := v.repo(repo)
	switch kind + "/" {
	case "repo/":
		r.rec, r.rev = repoRecord{}, 0
		if deleted {
			break
		}
		if err := decode(&r.rec); err != nil {
			return touched{}, err
		}
		r.rev = kv.ModRevision
	case "tag/":
		delete(r.tags, second)
		if deleted {
			break
		}
		var t tagRecord
		if err := decode(&t); err != nil {
			return touched{repo: repo}, err
		}
		r.tags[second] = t
	case "man/":
		d := digest.Digest(second)
		delete(r.images, d)
		if deleted {
			break
		}
		if _, err := oci.ParseDigest(second); err != nil {
			return touched{repo: repo}, fmt.Errorf("%s: %w", key, err)
		}
		rec := new(imageRecord)
		if err := decode(rec); err != nil {
			return touched{repo: repo}, err
		}
		r.images[d] = rec
	case "copy/":
		d, store, _ := strings.Cut(second, "/")
		of := digest.Digest(d)
		if deleted {
			delete(r.copies[of], store)
			if len(r.copies[of]) == 0 {
				delete(r.copies, of)
			}
			return touched{repo: repo, copies: true}, nil
		}
		if r.copies[of] == nil {
			r.copies[of] = make(map[string]bool)
		}
		r.copies[of][store] = true
		return touched{repo: repo, copies: true}, nil
	case "pull/":
		delete(r.pulls, second)
		if n, err := strconv.ParseInt(string(kv.Value), 10, 64); err == nil && !deleted {
			r.pulls[second] = n
		}
		return touched{repo: repo, copies: true}, nil
	}
	return touched{repo: repo}, nil
}

// there reports whether the repository exists for clients.
func (r *repository) there() bool { return r != nil && (len(r.tags) > 0 || len(r.images) > 0) }

// sorted returns the tags in the order they were pushed.
func (r *repository) sorted() []content.Tag {
	if r == nil {
		return nil
	}
	all := make([]content.Tag, 0, len(r.tags))
	for name, t := range r.tags {
		tag := content.Tag{Name: name, Digest: t.Digest, Order: t.Order, Pushed: t.Pushed}
		if m := r.images[t.Digest]; m != nil {
			tag.MediaType, tag.Size = m.MediaType, m.Size
		}
		all = append(all, tag)
	}
	slices.SortFunc(all, content.Tag.Compare)
	return all
}

// needs returns all content of a manifest: itself, its blobs, and those of the
// manifests that it names.
func (r *repository) needs(d digest.Digest) []blobRef {
	seen := make(map[digest.Digest]bool)
	var refs []blobRef
	var add func(digest.Digest)
	add = func(d digest.Digest) {
		m := r.images[d]
		if m == nil || seen[d] {
			return
		}
		seen[d] = true
		refs = append(refs, blobRef{d, m.Size})
		for _, b := range m.Blobs {
			if !seen[b.Digest] {
				seen[b.Digest] = true
				refs = append(refs, b)
			}
		}
		for _, child := range m.Manifests {
			add(child)
		}
	}
	add(d)
	return refs
}

// blob returns the size of content that a manifest of the repository names.
func (r *repository) blob(d digest.Digest) (int64, bool) {
	if r == nil {
		return 0, false
	}
	if m := r.images[d]; m != nil {
		return m.Size, true
	}
	for _, m := range r.images {
		for _, b := range m.Blobs {
			if b.Digest == d {
				return b.Size, true
			}
		}
	}
	return 0, false
}

// template makes a template of the repository; false means that it has no tag to
// show.
func (r *repository) template(name string) (registryapi.Template, bool) {
	t := registryapi.Template{ID: r.rec.ID, Repository: name, Name: path.Base(name), Arch: r.rec.Arch}
	if t.ID == "" {
		t.ID = content.RepositoryID(name)
	}
	tags := r.sorted()
	files := make(map[digest.Digest]int64)
	for _, tag := range tags {
		m := r.images[tag.Digest]
		if m == nil || tag.Name == content.LatestTag && repeated(tags, tag) {
			continue
		}
		v := m.Version
		v.Tag, v.Digest, v.Number = tag.Name, string(tag.Digest), len(t.Versions)
		v.CreationDate, v.LastPush, v.LastPull = tag.Pushed.Unix(), tag.Pushed.Unix(), r.pulls[tag.Name]
		v.Size = 0
		for _, b := range r.needs(tag.Digest)[1:] { // without itself
			v.Size += uint64(b.Size)
			files[b.Digest] = b.Size
		}
		t.Versions = append(t.Versions, v)
		if m.Name != "" {
			t.Name = m.Name
		}
		t.Arch = cmp.Or(t.Arch, v.Arch)
		t.LastPush, t.LastPull = max(t.LastPush, v.LastPush), max(t.LastPull, v.LastPull)
	}
	for _, size := range files {
		t.Size += uint64(size)
	}
	return t, len(t.Versions) > 0
}

// repeated reports whether another tag has the same manifest.
func repeated(tags []content.Tag, t content.Tag) bool {
	return slices.ContainsFunc(tags, func(o content.Tag) bool { return o.Name != t.Name && o.Digest == t.Digest })
}
