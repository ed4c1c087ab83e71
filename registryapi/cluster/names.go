package cluster

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/content"
	"github.com/ankacluster/ankacluster/registryapi/transfer"
)

// Templates returns all templates with their versions, by name. The result is
// shared: callers do not change it.
func (c *Cluster) Templates(ctx context.Context) ([]registryapi.Template, error) {
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	return c.Known(), nil
}

// Known is Templates as of now, without the proof.
func (c *Cluster) Known() []registryapi.Template {
	c.listMu.Lock()
	defer c.listMu.Unlock()
	c.cat.takeNews(func(v *view, news map[string]bool) {
		for repo := range news {
			delete(c.entries, repo)
			c.list = nil
			if r := v.repos[repo]; r != nil {
				if t, ok := r.template(repo); ok {
					c.entries[repo], c.created[repo] = t, r.rec.Created
				}
			}
		}
	})
	if c.list != nil {
		return c.list
	}
	created := c.created
	// Of two templates with one id the older keeps it.
	repos := slices.SortedFunc(maps.Keys(c.entries), func(a, b string) int {
		return cmp.Or(created[a].Compare(created[b]), cmp.Compare(a, b))
	})
	taken := make(map[string]bool)
	list := make([]registryapi.Template, 0, len(repos))
	for _, repo := range repos {
		t := c.entries[repo]
		if taken[t.ID] {
			t.ID = content.RepositoryID(repo)
		}
		taken[t.ID] = true
		list = append(list, t)
	}
	slices.SortFunc(list, func(a, b registryapi.Template) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Repository, b.Repository))
	})
	c.list = list
	return list
}

// Repositories returns the names of all repositories, sorted.
func (c *Cluster) Repositories(ctx context.Context) ([]string, error) {
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	list := []string{}
	c.cat.read(func(v *view) {
		for name, r := range v.repos {
			if r.there() {
				list = append(list, name)
			}
		}
	})
	slices.Sort(list)
	return list, nil
}

// proven returns a repository as the catalogue has it now; nil if it has none.
func (c *Cluster) proven(ctx context.Context, repo string) (*repository, error) {
	if err := oci.CheckRepository(repo); err != nil {
		return nil, err
	}
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	return c.cat.repository(repo), nil
}

// Tags returns the tags of a repository in the order they were pushed.
func (c *Cluster) Tags(ctx context.Context, repo string) ([]content.Tag, error) {
	r, err := c.proven(ctx, repo)
	if err != nil {
		return nil, err
	}
	if !r.there() {
		return nil, content.ErrRepositoryUnknown
	}
	return r.sorted(), nil
}

// Resolve returns a tag, or the newest one for "latest" where there is no tag of
// that name.
func (c *Cluster) Resolve(ctx context.Context, repo, name string) (content.Tag, error) {
	if err := oci.CheckTag(name); err != nil {
		return content.Tag{}, err
	}
	r, err := c.proven(ctx, repo)
	if err != nil {
		return content.Tag{}, err
	}
	tags := r.sorted()
	for _, t := range tags {
		if t.Name == name {
			return t, nil
		}
	}
	if name == content.LatestTag && len(tags) > 0 {
		return tags[len(tags)-1], nil
	}
	return content.Tag{}, fmt.Errorf("%w: %s", content.ErrTagUnknown, name)
}

// Manifest returns a manifest from this directory or from another host's. What
// the catalogue has and no host that is up can give is unavailable, not unknown.
func (c *Cluster) Manifest(ctx context.Context, repo string, d digest.Digest) (content.Manifest, error) {
	if err := oci.CheckRepository(repo); err != nil {
		return content.Manifest{}, err
	}
	find := func() (rec *imageRecord) {
		c.cat.read(func(v *view) {
			if r := v.repos[repo]; r != nil {
				rec = r.images[d]
			}
		})
		return rec
	}
	rec := find()
	if rec == nil { // pushed since, perhaps
		if err := c.ready(ctx); err != nil {
			if m, lerr := c.store.Manifest(repo, d); lerr == nil {
				return m, nil // content by its digest is what it is
			}
			return content.Manifest{}, err
		}
		if rec = find(); rec == nil {
			return content.Manifest{}, fmt.Errorf("%w: %s", content.ErrManifestUnknown, d)
		}
	}
	raw, err := c.raw(ctx, repo, d, rec.Size)
	if err != nil {
		return content.Manifest{}, err
	}
	return content.Manifest{Digest: d, MediaType: rec.MediaType, Raw: raw, Pushed: rec.Pushed}, nil
}

// raw returns a manifest's bytes, and keeps them here.
func (c *Cluster) raw(ctx context.Context, repo string, d digest.Digest, size int64) ([]byte, error) {
	if m, err := c.store.Manifest(repo, d); err == nil {
		return m.Raw, nil
	}
	if size > content.MaxManifest {
		return nil, fmt.Errorf("%w: %s has %d bytes", content.ErrManifestInvalid, d, size)
	}
	// This directory follows the catalogue a moment later: what was fetched can go
	// again with a deletion that came before the push.
	var gone error
	for range 3 {
		if err := c.fetch(ctx, repo, blobRef{d, size}); err != nil {
			return nil, err
		}
		raw, err := content.ReadBlob(c.store, repo, d)
		if err == nil {
			return raw, nil
		}
		gone = err
	}
	return nil, fmt.Errorf("%w: %s went while it was read: %v", content.ErrUnavailable, d, gone)
}

// fetch makes sure that small content is here. All other hosts are asked at once:
// one that hangs is not waited for.
func (c *Cluster) fetch(ctx context.Context, repo string, b blobRef) error {
	if size, err := c.store.StatBlob(repo, b.Digest); err == nil && size == b.Size {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*c.cfg.Wait)
	defer cancel()
	others := c.others()
	type answer struct {
		data []byte
		err  error
	}
	answers := make(chan answer, len(others)) // every asker can end, also unheard
	for _, p := range others {
		go func() { // ends with its call, which ctx bounds
			var buf bytes.Buffer
			err := p.blobs.Blob(ctx, repo, b.descriptor(), 0, &buf)
			if err == nil && b.Digest.Algorithm().FromBytes(buf.Bytes()) != b.Digest {
				err = fmt.Errorf("%s gives other content", p.url)
			}
			answers <- answer{buf.Bytes(), err}
		}()
	}
	err := errNoPeers
	for range others {
		a := <-answers
		if a.err == nil {
			return content.PutBlob(c.store, repo, b.Digest, a.data)
		}
		err = a.err
	}
	return fmt.Errorf("%w: no host that is up gives %s: %v", content.ErrUnavailable, b.Digest, err)
}

// Config returns the VM's configuration of a manifest.
func (c *Cluster) Config(ctx context.Context, repo string, says content.Content) (content.VMConfig, error) {
	if d := says.Config; d != nil && d.Size <= content.MaxManifest {
		if err := c.fetch(ctx, repo, blobRef{d.Digest, d.Size}); err != nil {
			return content.VMConfig{}, err
		}
	}
	cfg, err := content.ReadConfig(c.store, repo, says)
	if err != nil && !errors.Is(err, content.ErrManifestInvalid) {
		// What is not here at this moment must not pass for what says nothing.
		err = fmt.Errorf("%w: configuration: %v", content.ErrUnavailable, err)
	}
	return cfg, err
}

// Referrers returns descriptors of the manifests whose subject is d.
func (c *Cluster) Referrers(ctx context.Context, repo string, d digest.Digest, artifactType string) ([]ispec.Descriptor, error) {
	r, err := c.proven(ctx, repo)
	if err != nil {
		return nil, err
	}
	found := []ispec.Descriptor{}
	if r == nil {
		return found, nil
	}
	for _, of := range slices.Sorted(maps.Keys(r.images)) {
		m := r.images[of]
		if m.Subject == d && (artifactType == "" || artifactType == m.ArtifactType) {
			found = append(found, ispec.Descriptor{MediaType: m.MediaType, Digest: of, Size: m.Size,
				ArtifactType: m.ArtifactType, Annotations: m.Annotations})
		}
	}
	return found, nil
}

// PutManifest adds a manifest, and points tags at it. When it returns, as many
// hosts as asked for have all of it on their disks, or it is known to have few
// copies.
func (c *Cluster) PutManifest(ctx context.Context, repo string, m content.Manifest, tags ...string) error {
	says, err := content.CheckPut(repo, m, tags)
	if err != nil {
		return err
	}
	// Nothing is copied for a push that cannot be decided about.
	if err := c.ready(ctx); err != nil {
		return err
	}
	if err := content.PutBlob(c.store, repo, m.Digest, m.Raw); err != nil {
		return err
	}
	blobs, manifests, err := c.contentOf(ctx, repo, says)
	if err != nil {
		return err
	}
	holders, err := c.secure(ctx, repo, m, blobs, manifests)
	if err != nil {
		return err
	}
	cfg, err := c.Config(ctx, repo, says)
	if errors.Is(err, content.ErrUnavailable) {
		return err // it says which template this is
	}
	rec := describe(m, says, cfg, err == nil, blobs, manifests)
	if size := len(encode(rec)); size > maxRecord {
		return fmt.Errorf("%w: it names so much content that its record has %d bytes; at most %d fit", content.ErrManifestInvalid, size, maxRecord)
	}
	if err := c.cat.change(ctx, repo, putImage(repo, m.Digest, rec, tags, holders)); err != nil {
		return err
	}
	return nil
}

// DeleteTag removes a tag. The manifest stays.
func (c *Cluster) DeleteTag(ctx context.Context, repo, name string, n content.Note) error {
	return c.changeNoted(ctx, repo, n, deleteTag(repo, name))
}

// DeleteManifest removes a manifest and every tag that points to it.
func (c *Cluster) DeleteManifest(ctx context.Context, repo string, d digest.Digest, n content.Note) error {
	return c.changeNoted(ctx, repo, n, deleteImage(repo, d))
}

// DeleteRepository removes a template.
func (c *Cluster) DeleteRepository(ctx context.Context, repo string, n content.Note) error {
	return c.changeNoted(ctx, repo, n, deleteRepository(repo))
}

// Revert removes a tag and every tag pushed after it.
func (c *Cluster) Revert(ctx context.Context, repo, from string, n content.Note) error {
	return c.changeNoted(ctx, repo, n, revert(repo, from))
}

// SetArch sets the template's architecture by hand.
func (c *Cluster) SetArch(ctx context.Context, repo, arch string) error {
	return c.change(ctx, repo, setArch(repo, arch))
}

func (c *Cluster) change(ctx context.Context, repo string, d decision) error {
	if err := oci.CheckRepository(repo); err != nil {
		return err
	}
	if err := c.ready(ctx); err != nil {
		return err
	}
	return c.cat.change(ctx, repo, d)
}

// Mount makes a blob of one repository available in another, here or on the
// first other host that has it.
func (c *Cluster) Mount(ctx context.Context, repo, from string, d digest.Digest) error {
	_, err := c.store.Mount(repo, from, d)
	if err == nil || !errors.Is(err, content.ErrBlobUnknown) {
		return err
	}
	for _, p := range live(c.others()) {
		if c.peers.suspected(p.store) {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		got, perr := call[mounted](ctx, p, http.MethodPost, pathMount, mount{repo, from, d})
		cancel()
		if perr == nil && got.OK {
			return nil
		}
	}
	return err
}

// DeleteBlob removes a blob from a repository, on every host that answers.
func (c *Cluster) DeleteBlob(ctx context.Context, repo string, d digest.Digest, n content.Note) error {
	r, err := c.proven(ctx, repo)
	if err != nil {
		return err
	}
	if _, used := r.blob(d); used {
		return fmt.Errorf("%w: blob %s", content.ErrInUse, d)
	}
	err = c.store.DeleteBlob(repo, d)
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, p := range live(c.others()) {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, askTimeout)
			defer cancel()
			req, rerr := http.NewRequestWithContext(ctx, http.MethodDelete, p.url+oci.BlobPath(repo, d), nil)
			if rerr != nil {
				return
			}
			req.Header.Set(registryapi.HeaderPeer, registryapi.PeerCopy)
			resp, rerr := p.http.Do(req)
			if rerr != nil {
				return
			}
			resp.Body.Close()
			mu.Lock()
			defer mu.Unlock()
			if resp.StatusCode == http.StatusAccepted && errors.Is(err, content.ErrBlobUnknown) {
				err = nil
			}
		})
	}
	wg.Wait()
	if err == nil {
		c.notes.put(ctx, n)
	}
	return err
}

// pull is one to be noted.
type pull struct {
	repo, tag string
	at        time.Time
}

// Pulled notes a pull for the lists. One that finds no room is not noted.
func (c *Cluster) Pulled(repo, tag string, d digest.Digest) {
	if tag == "" {
		r := c.cat.repository(repo)
		for _, t := range r.sorted() {
			if t.Digest == d {
				tag = t.Name
			}
		}
	}
	if tag == "" {
		return
	}
	select {
	case c.pulls <- pull{repo, tag, time.Now()}:
	default:
	}
}

// notePulls writes pulls down, each tag's at most once a minute, until ctx ends.
func (c *Cluster) notePulls(ctx context.Context) {
	last := make(map[string]time.Time)
	for {
		select {
		case <-ctx.Done():
			return
		case p := <-c.pulls:
			key := pullKey(p.repo, p.tag)
			if p.at.Sub(last[key]) < time.Minute {
				continue
			}
			c.store.RecordPull(p.repo, p.tag, p.at)
			// Not for a tag that went meanwhile.
			resp, err := c.cat.etcd.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(tagKey(p.repo, p.tag)), ">", 0)).
				Then(clientv3.OpPut(key, encodeTime(p.at))).Commit()
			if err == nil && resp.Succeeded {
				last[key] = p.at
			}
			if len(last) > 10000 {
				clear(last)
			}
		}
	}
}

// UploadName is what clients call an upload of this host: it names the host, so
// that any other can hand its requests on.
func (c *Cluster) UploadName(id string) string { return c.self + "." + id }

// splitUpload takes an upload's name apart.
func splitUpload(name string) (store, id string, ok bool) { return strings.Cut(name, ".") }

var errNoPeers = errors.New("no other host is up")

// fromPeers returns clients of the other hosts, those that are up first.
func (c *Cluster) fromPeers() []*transfer.Client { return clientsOf(c.others()) }
