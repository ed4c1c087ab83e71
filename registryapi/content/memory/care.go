package memory

import (
	"context"
	"io/fs"
	"maps"
	"path"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ankacluster/ankacluster/registryapi/content"
)

// Collect implements content.Care.
func (s *Store) Collect(ctx context.Context, opt content.CollectOptions) (done content.Collected, err error) {
	s.change.Lock()
	defer s.change.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	referenced := make(map[digest.Digest]bool)
	for repo, r := range s.repos {
		if err := ctx.Err(); err != nil {
			return done, err
		}
		if opt.KeepUntagged > 0 {
			done.Manifests += s.dropUntagged(repo, r, now.Add(-opt.KeepUntagged), opt.DryRun)
		}
		for d, used := range r.blobs {
			if r.needs(d) != "" || now.Sub(used) < opt.Grace || opt.Keep != nil && opt.Keep(repo, d) {
				continue
			}
			done.Links++
			if !opt.DryRun {
				delete(r.blobs, d)
			}
		}
		for d := range r.blobs {
			referenced[d] = true
		}
		for d := range r.manifests {
			referenced[d] = true
		}
		if len(r.blobs)+len(r.manifests)+len(r.tags) == 0 && !opt.DryRun {
			delete(s.repos, repo)
		}
	}
	for d, b := range s.blobs {
		if referenced[d] || now.Sub(b.used) < opt.Grace {
			continue
		}
		done.Blobs++
		done.Bytes += int64(len(b.data))
		if !opt.DryRun {
			delete(s.blobs, d)
		}
	}
	return done, nil
}

// dropUntagged removes manifests that no tag, no index and no kept subject needs and
// that were stored before the time given, and returns how many. The caller holds mu.
func (s *Store) dropUntagged(repo string, r *repository, before time.Time, dryRun bool) (total int) {
	for {
		dropped := 0
		for d, m := range r.manifests {
			subject := m.says.Subject
			if subject != nil {
				if _, kept := r.manifests[subject.Digest]; kept {
					continue // a signature lives as long as what it signs
				}
			}
			if !m.stored.Before(before) || r.tagOf(d) != "" || r.needs(d) != "" {
				continue
			}
			total++
			if !dryRun && s.dropManifest(repo, r, d) == nil {
				dropped++
			}
		}
		if dropped == 0 { // else what an index named may be untagged too
			return total
		}
	}
}

// CountUsage implements content.Care.
func (s *Store) CountUsage() (sum int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.blobs {
		sum += int64(len(b.data))
	}
	return sum, nil
}

// documents are those of a folder.
type documents struct {
	s      *Store
	folder string
}

// Documents implements content.Store.
func (s *Store) Documents(folder ...string) content.Documents {
	return documents{s, path.Join(folder...)}
}

// Place implements content.Documents.
func (d documents) Place() string { return path.Join(d.s.Place(), d.folder) }

// Make implements content.Documents.
func (d documents) Make() error { return nil }

// Read implements content.Documents.
func (d documents) Read(name string) ([]byte, error) {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	data, ok := d.s.documents[d.folder][name]
	if !ok {
		return nil, &fs.PathError{Op: "read", Path: path.Join(d.Place(), name), Err: fs.ErrNotExist}
	}
	return slices.Clone(data), nil
}

// Write implements content.Documents.
func (d documents) Write(name string, data []byte) error {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	if d.s.documents[d.folder] == nil {
		d.s.documents[d.folder] = make(map[string][]byte)
	}
	d.s.documents[d.folder][name] = slices.Clone(data)
	return nil
}

// WriteSoon implements content.Documents.
func (d documents) WriteSoon(name string, data []byte) error { return d.Write(name, data) }

// Remove implements content.Documents.
func (d documents) Remove(name string) error {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	delete(d.s.documents[d.folder], name)
	return nil
}

// Names implements content.Documents.
func (d documents) Names() ([]string, error) {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	return slices.Collect(maps.Keys(d.s.documents[d.folder])), nil
}

// Lock implements content.Documents.
func (d documents) Lock(ctx context.Context, name string, _ time.Duration) (release func(), err error) {
	d.s.mu.Lock()
	at := path.Join(d.folder, name)
	if d.s.locks[at] == nil {
		d.s.locks[at] = make(chan struct{}, 1)
	}
	lock := d.s.locks[at]
	d.s.mu.Unlock()
	select {
	case lock <- struct{}{}:
		return func() { <-lock }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
