package cluster

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/opencontainers/go-digest"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ankacluster/ankacluster/registryapi/content"
)

// change is what a decision wants written, in one transaction.
type change struct {
	rec repoRecord
	ops []clientv3.Op
	// more means that this is a part, and the rest is to be decided after it.
	more bool
}

// decision looks at a repository, which it does not change, and returns what is
// to be written; nil when all is as wanted. It may be asked again, on a later
// state, when another write came first.
type decision func(r *repository, now time.Time) (*change, error)

// maxOps keeps a transaction below etcd's limit of 128 operations.
const maxOps = 100

// putImage adds a manifest, and points tags at it in the order given. holders
// are the stores that have all of it.
func putImage(repo string, d digest.Digest, rec imageRecord, tags, holders []string) decision {
	return func(r *repository, now time.Time) (*change, error) {
		for _, child := range rec.Manifests {
			if r.images[child] == nil {
				return nil, fmt.Errorf("%w: manifest %s", content.ErrBlobMissing, child)
			}
		}
		ch := &change{rec: r.rec}
		if r.images[d] == nil {
			put := rec
			if put.Pushed.IsZero() {
				put.Pushed = now
			}
			ch.ops = append(ch.ops, clientv3.OpPut(imageKey(repo, d), encode(put)))
		}
		order := nextOrder(r, now)
		put := make(map[string]bool)
		for _, tag := range tags {
			if old, ok := r.tags[tag]; put[tag] || ok && old.Digest == d {
				continue // a push whose answer was lost is repeated
			}
			put[tag] = true
			ch.ops = append(ch.ops, clientv3.OpPut(tagKey(repo, tag), encode(tagRecord{Digest: d, Order: order, Pushed: now})))
			order++
			identify(&ch.rec, repo, rec, now)
		}
		if len(ch.ops) == 0 {
			return nil, nil
		}
		ch.rec.Gone = false
		for _, store := range holders {
			if !r.copies[d][store] {
				ch.ops = append(ch.ops, clientv3.OpPut(copyKey(repo, d, store), ""))
			}
		}
		return ch, nil
	}
}

// identify gives a template its id with its first tag: the VM's, where the
// pushed configuration has one.
func identify(rec *repoRecord, repo string, image imageRecord, now time.Time) {
	if rec.ID != "" {
		return
	}
	rec.ID, rec.Created = content.RepositoryID(repo), now
	if id, err := uuid.Parse(image.UUID); err == nil {
		rec.ID = id.String()
	}
}

// nextOrder is above all orders of the repository. The clock only makes it
// comparable with those of other registries.
func nextOrder(r *repository, now time.Time) int64 {
	order := now.UnixNano()
	for _, t := range r.tags {
		order = max(order, t.Order+1)
	}
	return order
}

// removal collects what goes, and ends the template with its last piece.
type removal struct {
	repo   string
	r      *repository
	ch     *change
	tags   map[string]bool
	images map[digest.Digest]bool
}

func newRemoval(repo string, r *repository) *removal {
	return &removal{repo: repo, r: r, ch: &change{rec: r.rec}, tags: make(map[string]bool), images: make(map[digest.Digest]bool)}
}

func (m *removal) tag(name string) {
	m.tags[name] = true
	m.ch.ops = append(m.ch.ops, clientv3.OpDelete(tagKey(m.repo, name)))
	if _, ok := m.r.pulls[name]; ok {
		m.ch.ops = append(m.ch.ops, clientv3.OpDelete(pullKey(m.repo, name)))
	}
}

func (m *removal) image(d digest.Digest) {
	m.images[d] = true
	m.ch.ops = append(m.ch.ops, clientv3.OpDelete(imageKey(m.repo, d)),
		clientv3.OpDelete(below(dirCopy, m.repo)+string(d)+"/", clientv3.WithPrefix()))
}

func (m *removal) done() *change {
	if len(m.ch.ops) == 0 {
		return nil
	}
	if len(m.tags) == len(m.r.tags) && len(m.images) == len(m.r.images) {
		m.ch.rec = repoRecord{Gone: true, Done: m.r.rec.Done}
	}
	return m.ch
}

func deleteTag(repo, name string) decision {
	return func(r *repository, _ time.Time) (*change, error) {
		if _, ok := r.tags[name]; !ok {
			return nil, fmt.Errorf("%w: %s", content.ErrTagUnknown, name)
		}
		m := newRemoval(repo, r)
		m.tag(name)
		return m.done(), nil
	}
}

// deleteImage removes a manifest and the tags that point to it.
func deleteImage(repo string, d digest.Digest) decision {
	return func(r *repository, _ time.Time) (*change, error) {
		if r.images[d] == nil {
			return nil, fmt.Errorf("%w: %s", content.ErrManifestUnknown, d)
		}
		if by := r.indexOf(d, nil); by != "" {
			return nil, fmt.Errorf("%w: manifest %s by index %s", content.ErrInUse, d, by)
		}
		m := newRemoval(repo, r)
		for _, name := range slices.Sorted(maps.Keys(r.tags)) {
			if r.tags[name].Digest != d {
				continue
			}
			m.tag(name)
			if len(m.ch.ops) > maxOps-10 {
				m.ch.more = true
				return m.done(), nil
			}
		}
		m.image(d)
		return m.done(), nil
	}
}

// indexOf returns an index that names the manifest and is not among gone.
func (r *repository) indexOf(d digest.Digest, gone map[digest.Digest]bool) digest.Digest {
	for by, m := range r.images {
		if by != d && !gone[by] && slices.Contains(m.Manifests, d) {
			return by
		}
	}
	return ""
}

func deleteRepository(repo string) decision {
	return func(r *repository, _ time.Time) (*change, error) {
		if !r.there() {
			return nil, content.ErrRepositoryUnknown
		}
		ch := &change{rec: repoRecord{Gone: true, Done: r.rec.Done}}
		for _, dir := range []string{dirTag, dirImage, dirCopy, dirPull} {
			ch.ops = append(ch.ops, clientv3.OpDelete(below(dir, repo), clientv3.WithPrefix()))
		}
		return ch, nil
	}
}

// revert removes the tags that content.Reverted tells, then the manifests that lost
// their last one. A repository without tags left is deleted.
func revert(repo, from string) decision {
	return func(r *repository, now time.Time) (*change, error) {
		tags := r.sorted()
		gone, err := content.Reverted(tags, from)
		if err != nil {
			return nil, err
		}
		if len(gone) == len(tags) {
			return deleteRepository(repo)(r, now)
		}
		m := newRemoval(repo, r)
		var dropped []digest.Digest
		for _, t := range gone {
			if len(m.ch.ops) > maxOps/2 { // the tag itself stays for the next part
				m.ch.more = true
				break
			}
			m.tag(t.Name)
			if !slices.Contains(dropped, t.Digest) {
				dropped = append(dropped, t.Digest)
			}
		}
		for _, d := range dropped {
			tagged := slices.ContainsFunc(tags, func(t content.Tag) bool { return t.Digest == d && !m.tags[t.Name] })
			if r.images[d] != nil && !tagged && r.indexOf(d, m.images) == "" {
				m.image(d)
			}
		}
		return m.done(), nil
	}
}

func setArch(repo, arch string) decision {
	return func(r *repository, _ time.Time) (*change, error) {
		if !r.there() {
			return nil, content.ErrRepositoryUnknown
		}
		if r.rec.Arch == arch {
			return nil, nil
		}
		ch := &change{rec: r.rec}
		ch.rec.Arch = arch
		return ch, nil
	}
}

// untagged returns the manifests that no tag, no index and no kept subject
// needs, sorted.
func (r *repository) untagged() []digest.Digest {
	tagged := make(map[digest.Digest]bool)
	for _, t := range r.tags {
		tagged[t.Digest] = true
	}
	var out []digest.Digest
	for _, d := range slices.Sorted(maps.Keys(r.images)) {
		m := r.images[d]
		if tagged[d] || r.indexOf(d, nil) != "" || m.Subject != "" && r.images[m.Subject] != nil {
			continue
		}
		out = append(out, d)
	}
	return out
}

// dropUntagged removes those of the manifests that are not needed still.
func dropUntagged(repo string, old map[digest.Digest]bool) decision {
	return func(r *repository, _ time.Time) (*change, error) {
		m := newRemoval(repo, r)
		for _, d := range r.untagged() {
			if !old[d] {
				continue
			}
			if len(m.ch.ops) > maxOps-10 {
				m.ch.more = true
				break
			}
			m.image(d)
		}
		return m.done(), nil
	}
}

// island is a repository of a directory that belonged to no catalogue yet.
type island struct {
	meta   content.Meta
	tags   []content.Tag
	images map[digest.Digest]imageRecord
}

// importIsland adds what an island has. Of two tags with one name the later push
// counts, and the greater digest if both have the same time; the older template
// gives the id. The result does not depend on which island comes first.
func importIsland(repo string, is island) decision {
	return func(r *repository, now time.Time) (*change, error) {
		ch := &change{rec: r.rec}
		for _, d := range slices.Sorted(maps.Keys(is.images)) {
			if r.images[d] != nil {
				continue
			}
			if len(ch.ops) > maxOps-10 {
				ch.more = true
				break
			}
			ch.ops = append(ch.ops, clientv3.OpPut(imageKey(repo, d), encode(is.images[d])))
		}
		for _, t := range is.tags {
			if ch.more {
				break
			}
			if len(ch.ops) > maxOps-10 {
				ch.more = true
				break
			}
			if old, ok := r.tags[t.Name]; ok && (old.Digest == t.Digest || cmp.Or(old.Pushed.Compare(t.Pushed), cmp.Compare(old.Digest, t.Digest)) > 0) {
				continue
			}
			ch.ops = append(ch.ops, clientv3.OpPut(tagKey(repo, t.Name), encode(tagRecord{Digest: t.Digest, Order: t.Order, Pushed: t.Pushed})))
		}
		if len(is.tags) > 0 && (ch.rec.ID == "" || is.meta.Created.Before(ch.rec.Created) ||
			is.meta.Created.Equal(ch.rec.Created) && is.meta.ID < ch.rec.ID) {
			ch.rec.ID, ch.rec.Created = is.meta.ID, is.meta.Created
			ch.rec.Arch = cmp.Or(is.meta.Arch, ch.rec.Arch)
		} else if len(ch.ops) == 0 {
			return nil, nil
		}
		ch.rec.Gone = false
		return ch, nil
	}
}
