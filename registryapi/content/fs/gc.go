package fs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/registryapi/content"
)

// Collect implements content.Care. Whoever relies on content that has no reference
// yet has asked for it (StatBlob), which renews its time; and both the last check of
// that time and the removal happen under a lock that excludes the moment at which a
// push gives content its first reference.
func (s *Store) Collect(ctx context.Context, opt content.CollectOptions) (content.Collected, error) {
	var done content.Collected
	holder, err := tryLock(filepath.Join(s.root, "locks", "gc"), os.O_CREATE)
	if err != nil {
		return done, err
	}
	if holder == nil {
		return done, content.ErrCollecting
	}
	defer holder.Close()
	now := time.Now()
	repos, err := s.Repositories()
	if err != nil {
		return done, err
	}
	var errs []error
	for _, repo := range repos {
		if err := ctx.Err(); err != nil {
			return done, err
		}
		if err := s.collectRepository(repo, opt, now, &done); err != nil {
			errs = append(errs, fmt.Errorf("collect %s: %w", repo, err))
		}
	}
	if err := s.collectBlobs(ctx, opt, now, &done); err != nil {
		errs = append(errs, err)
	}
	s.sweepTemporary(now.Add(-24 * time.Hour))
	return done, errors.Join(errs...)
}

func (s *Store) collectRepository(repo string, opt content.CollectOptions, now time.Time, done *content.Collected) error {
	if opt.KeepUntagged > 0 {
		n, err := s.dropUntagged(repo, now.Add(-opt.KeepUntagged), opt.DryRun)
		done.Manifests += n
		if err != nil {
			return err
		}
	}
	used, err := s.needed(repo)
	if err != nil {
		return err
	}
	links, err := s.BlobLinks(repo)
	if err != nil {
		return err
	}
	for _, d := range links {
		path := s.linkPath(repo, d)
		if _, ok := used[d]; ok || !expired(path, now, opt.Grace) || opt.Keep != nil && opt.Keep(repo, d) {
			continue
		}
		removed, err := s.collectLink(repo, d, path, now, opt)
		if err != nil {
			return err
		}
		if removed {
			done.Links++
		}
	}
	return s.removeIfEmpty(repo, opt)
}

// collectLink removes a link if it still is old and unused, checked again under
// the lock: a push may have come since.
func (s *Store) collectLink(repo string, d digest.Digest, path string, now time.Time, opt content.CollectOptions) (bool, error) {
	lock, err := s.lockCommit(true)
	if err != nil {
		return false, err
	}
	defer lock.Close()
	if !expired(path, now, opt.Grace) {
		return false, nil
	}
	used, err := s.needed(repo)
	if err != nil {
		return false, err
	}
	if _, ok := used[d]; ok {
		return false, nil
	}
	if opt.DryRun {
		return true, nil
	}
	return remove(path)
}

// needed is references for whoever removes what is not among them.
func (s *Store) needed(repo string) (map[digest.Digest]digest.Digest, error) {
	used, damaged, err := s.references(repo)
	if err == nil && damaged > 0 {
		err = fmt.Errorf("%d manifests are damaged, and nobody can tell which content they keep: repair them with verify, push them again, or delete them", damaged)
	}
	return used, err
}

// expired reports whether a file exists and was not touched within grace.
func expired(path string, now time.Time, grace time.Duration) bool {
	t := fileTime(path)
	return !t.IsZero() && now.Sub(t) >= grace
}

// collectBlobs removes content without a link in any repository.
func (s *Store) collectBlobs(ctx context.Context, opt content.CollectOptions, now time.Time, done *content.Collected) error {
	referenced, err := s.referenced(ctx)
	if err != nil {
		return err
	}
	return s.eachBlob(ctx, func(d digest.Digest, info os.FileInfo) error {
		if referenced[d] || now.Sub(info.ModTime()) < opt.Grace {
			return nil
		}
		removed, err := s.collectBlob(d, now, opt)
		if err != nil {
			return err
		}
		if removed {
			done.Blobs++
			done.Bytes += info.Size()
			if !opt.DryRun {
				s.usage.add(-info.Size())
			}
		}
		return nil
	})
}

func (s *Store) collectBlob(d digest.Digest, now time.Time, opt content.CollectOptions) (bool, error) {
	lock, err := s.lockCommit(true)
	if err != nil {
		return false, err
	}
	defer lock.Close()
	path := s.blobPath(d)
	if !expired(path, now, opt.Grace) {
		return false, nil
	}
	// A mount may have linked it since the links were read.
	repos, err := s.Repositories()
	if err != nil {
		return false, err
	}
	for _, repo := range repos {
		for _, p := range []string{s.linkPath(repo, d), s.manifestPath(repo, d)} {
			f, err := open(p)
			if err == nil {
				_ = f.Close()
			}
			if !notExist(err) { // there, or not to be seen at present
				return false, err
			}
		}
	}
	if opt.DryRun {
		return true, nil
	}
	return remove(path)
}

// referenced is all content that some repository has a link or record of.
func (s *Store) referenced(ctx context.Context) (map[digest.Digest]bool, error) {
	repos, err := s.Repositories()
	if err != nil {
		return nil, err
	}
	all := make(map[digest.Digest]bool)
	for _, repo := range repos {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for _, list := range []func(string) ([]digest.Digest, error){s.BlobLinks, s.Manifests} {
			digests, err := list(repo)
			if err != nil {
				return nil, err
			}
			for _, d := range digests {
				all[d] = true
			}
		}
	}
	return all, nil
}

// eachBlob calls f for all content.
func (s *Store) eachBlob(ctx context.Context, f func(digest.Digest, os.FileInfo) error) error {
	root := filepath.Join(s.root, "blobs")
	algs, err := names(root)
	if err != nil {
		return err
	}
	for _, alg := range algs {
		prefixes, err := names(filepath.Join(root, alg))
		if err != nil {
			return err
		}
		for _, prefix := range prefixes {
			if err := ctx.Err(); err != nil {
				return err
			}
			hexes, err := names(filepath.Join(root, alg, prefix))
			if err != nil {
				return err
			}
			for _, hex := range hexes {
				d, err := oci.ParseDigest(alg + ":" + hex)
				if err != nil {
					continue // not ours
				}
				info, err := os.Stat(filepath.Join(root, alg, prefix, hex))
				if err != nil {
					continue // removed meanwhile
				}
				if err := f(d, info); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// dropUntagged removes manifests that no tag, no index and no kept subject
// needs and that were pushed before the time given, and returns how many.
func (s *Store) dropUntagged(repo string, before time.Time, dryRun bool) (int, error) {
	total := 0
	for {
		candidates, err := s.untagged(repo, before)
		if err != nil {
			return total, err
		}
		dropped := 0
		for _, m := range candidates {
			if dryRun {
				total++
				continue
			}
			err := s.dropManifest(repo, m)
			if errors.Is(err, content.ErrInUse) {
				continue // tagged or indexed meanwhile
			}
			if err != nil {
				return total, err
			}
			dropped++
		}
		total += dropped
		// Without an index, what it named may be untagged too.
		if dropped == 0 {
			return total, nil
		}
	}
}

func (s *Store) untagged(repo string, before time.Time) ([]content.Manifest, error) {
	tags, damaged, err := s.ReadTags(repo)
	if err != nil {
		return nil, err
	}
	if len(damaged) > 0 {
		return nil, fmt.Errorf("%d tags are damaged, and nobody can tell which manifests they keep: see verify", len(damaged))
	}
	tagged := make(map[digest.Digest]bool)
	for _, t := range tags {
		tagged[t.Digest] = true
	}
	used, err := s.needed(repo)
	if err != nil {
		return nil, err
	}
	all, err := s.Manifests(repo)
	if err != nil {
		return nil, err
	}
	var out []content.Manifest
	for _, d := range all {
		m, err := s.Manifest(repo, d)
		if err != nil && !errors.Is(err, content.ErrManifestUnknown) {
			return nil, err
		}
		if err != nil || tagged[d] || !fileTime(s.manifestPath(repo, d)).Before(before) {
			continue
		}
		if _, ok := used[d]; ok {
			continue
		}
		// A signature lives as long as what it signs.
		if c, err := content.ParseManifest(m.MediaType, m.Raw); err == nil && c.Subject != nil && s.manifestKnown(repo, c.Subject.Digest) {
			continue
		}
		out = append(out, m)
	}
	return out, nil
}

// removeIfEmpty removes the directories of a repository that has nothing left.
func (s *Store) removeIfEmpty(repo string, opt content.CollectOptions) error {
	if opt.DryRun {
		return nil
	}
	if empty, err := s.empty(repo); !empty {
		return err
	}
	lock, err := s.lockRepo(repo)
	if err != nil {
		return err
	}
	defer lock.unlock()
	commit, err := s.lockCommit(true)
	if err != nil {
		return err
	}
	defer commit.Close()
	if empty, err := s.empty(repo); !empty { // a push came first
		return err
	}
	return os.RemoveAll(s.repoPath(repo))
}

// empty reports whether a repository has neither tag nor manifest nor blob.
func (s *Store) empty(repo string) (bool, error) {
	for _, kind := range []string{"tags", "manifests", "blobs"} {
		err := filepath.WalkDir(s.repoPath(repo, kind), func(_ string, e os.DirEntry, err error) error {
			if err == nil && !e.IsDir() {
				return errNotEmpty
			}
			if notExist(err) { // never made, or removed meanwhile
				return nil
			}
			return err
		})
		if errors.Is(err, errNotEmpty) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	return true, nil
}

var errNotEmpty = errors.New("there is a file")

// sweepTemporary removes what a crash left in tmp. Intents are Settle's.
func (s *Store) sweepTemporary(before time.Time) {
	files, err := names(filepath.Join(s.root, "tmp"))
	if err != nil {
		return
	}
	for _, f := range files {
		path := filepath.Join(s.root, "tmp", f)
		if t := fileTime(path); !strings.HasPrefix(f, "intent-") && !t.IsZero() && t.Before(before) {
			_ = os.Remove(path)
		}
	}
}

// CountUsage implements content.Care.
func (s *Store) CountUsage() (int64, error) {
	var sum int64
	err := s.eachBlob(context.Background(), func(_ digest.Digest, info os.FileInfo) error {
		sum += info.Size()
		return nil
	})
	if err != nil {
		return 0, err
	}
	s.usage.bytes.Store(sum)
	s.usage.counted.Store(true)
	return sum, nil
}
