package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ankacluster/ankacluster/registryapi/content"
)

// Damage is something that Verify found.
type Damage struct {
	Repository string        `json:"repository,omitempty"`
	Tag        string        `json:"tag,omitempty"`
	Digest     digest.Digest `json:"digest,omitempty"`
	Problem    string        `json:"problem"`
	// Outcome is "repaired", "quarantined" or "left".
	Outcome string `json:"outcome"`
}

// Verification is the result of Verify.
type Verification struct {
	Blobs  int      `json:"blobs"`
	Bytes  int64    `json:"bytes"`
	Tags   int      `json:"tags"`
	Damage []Damage `json:"damage"`
}

// VerifyOptions sets up Verify.
type VerifyOptions struct {
	// Fetch brings a blob or manifest of a repository again, for example from a
	// replica, and puts it into the store. Nil repairs nothing.
	Fetch func(ctx context.Context, repo string, d digest.Digest, manifest bool) error
	// Quarantine moves content that is wrong and was not repaired out of the
	// way, so that it counts as absent and the next push or copy brings it anew.
	Quarantine bool
	// Progress is called with bytes verified so far; it may be nil.
	Progress func(bytes int64)
}

// Verify hashes all content again and checks that every tag has all it names.
// Servers may go on serving meanwhile.
func (s *Store) Verify(ctx context.Context, opt VerifyOptions) (Verification, error) {
	v := Verification{Damage: []Damage{}}
	owners, err := s.owners()
	if err != nil {
		return v, err
	}
	err = s.eachBlob(ctx, func(d digest.Digest, info os.FileInfo) error {
		problem, read, err := s.rehash(ctx, d, opt, v.Bytes)
		if err != nil {
			return err
		}
		v.Blobs++
		v.Bytes += info.Size()
		if problem != "" {
			v.Damage = append(v.Damage, s.treat(ctx, d, owners[d], problem, read, opt))
		}
		return nil
	})
	if err != nil {
		return v, err
	}
	for _, d := range v.Damage {
		delete(owners, d.Digest) // told already, and perhaps put away
	}
	if err := s.verifyMissing(ctx, owners, opt, &v); err != nil {
		return v, err
	}
	return v, s.verifyTags(ctx, &v)
}

// owner is a repository that has content, as a blob or as a manifest.
type owner struct {
	repo     string
	manifest bool
}

func (s *Store) owners() (map[digest.Digest]owner, error) {
	repos, err := s.Repositories()
	if err != nil {
		return nil, err
	}
	all := make(map[digest.Digest]owner)
	for _, repo := range repos {
		links, err := s.BlobLinks(repo)
		if err != nil {
			return nil, err
		}
		manifests, err := s.Manifests(repo)
		if err != nil {
			return nil, err
		}
		for _, d := range links {
			all[d] = owner{repo, false}
		}
		for _, d := range manifests {
			all[d] = owner{repo, true}
		}
	}
	return all, nil
}

// rehash returns what is wrong with content, or "", and the file that it read;
// nil when that could not be opened.
func (s *Store) rehash(ctx context.Context, d digest.Digest, opt VerifyOptions, before int64) (problem string, read os.FileInfo, err error) {
	f, err := open(s.blobPath(d))
	if notExist(err) {
		return "", nil, nil // collected meanwhile
	}
	if err != nil {
		return err.Error(), nil, nil
	}
	defer f.Close()
	if read, err = f.Stat(); err != nil {
		return err.Error(), nil, nil
	}
	sum, err := newRunningHash(d.Algorithm())
	if err != nil {
		return "", nil, err
	}
	buf := getBuffer()
	defer putBuffer(buf)
	for {
		if err := ctx.Err(); err != nil {
			return "", nil, err
		}
		n, err := f.Read(*buf)
		_, _ = sum.Write((*buf)[:n])
		before += int64(n)
		if opt.Progress != nil {
			opt.Progress(before)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "cannot be read: " + err.Error(), read, nil
		}
	}
	if got := sum.digest(); got != d {
		return fmt.Sprintf("its content has %s", got), read, nil
	}
	return "", nil, nil
}

// treat repairs content or puts the file read away.
func (s *Store) treat(ctx context.Context, d digest.Digest, o owner, problem string, read os.FileInfo, opt VerifyOptions) Damage {
	dmg := Damage{Repository: o.repo, Digest: d, Problem: problem, Outcome: "left"}
	if opt.Fetch != nil && o.repo != "" {
		if err := opt.Fetch(ctx, o.repo, d, o.manifest); err == nil {
			dmg.Outcome = "repaired"
			return dmg
		} else {
			dmg.Problem += "; not repaired: " + err.Error()
		}
	}
	if opt.Quarantine && read != nil && s.quarantine(d, read) {
		dmg.Outcome = "quarantined"
	}
	return dmg
}

// quarantine moves content out of the way if it still is the file read: it may
// have been pushed again since.
func (s *Store) quarantine(d digest.Digest, read os.FileInfo) bool {
	lock, err := s.lockCommit(true)
	if err != nil {
		return false
	}
	defer lock.Close()
	now, err := os.Stat(s.blobPath(d))
	if err != nil || !os.SameFile(now, read) || !now.ModTime().Equal(read.ModTime()) {
		return false
	}
	to := filepath.Join(s.root, "quarantine", fmt.Sprintf("%s-%s-%d", d.Algorithm(), d.Encoded(), time.Now().Unix()))
	return os.Rename(s.blobPath(d), to) == nil
}

// verifyMissing finds links and manifests whose content is not there.
func (s *Store) verifyMissing(ctx context.Context, owners map[digest.Digest]owner, opt VerifyOptions, v *Verification) error {
	all := make([]digest.Digest, 0, len(owners))
	for d := range owners {
		all = append(all, d)
	}
	sort.Slice(all, func(i, j int) bool { return all[i] < all[j] })
	for _, d := range all {
		if err := ctx.Err(); err != nil {
			return err
		}
		if fileSize(s.blobPath(d)) >= 0 {
			continue
		}
		o := owners[d]
		v.Damage = append(v.Damage, s.treat(ctx, d, o, "its content is missing", nil, opt))
	}
	return nil
}

// verifyTags finds tags that cannot be pulled.
func (s *Store) verifyTags(ctx context.Context, v *Verification) error {
	repos, err := s.Repositories()
	if err != nil {
		return err
	}
	for _, repo := range repos {
		files, err := names(s.repoPath(repo, "tags"))
		if err != nil {
			return err
		}
		for _, f := range files {
			if err := ctx.Err(); err != nil {
				return err
			}
			v.Tags++
			t, err := s.readTag(s.repoPath(repo, "tags", f))
			if notExist(err) {
				continue
			}
			var m content.Manifest
			if err == nil {
				m, err = s.Manifest(repo, t.Digest)
			}
			if err == nil {
				err = content.Complete(s, repo, m)
			}
			if err != nil {
				v.Damage = append(v.Damage, Damage{Repository: repo, Tag: cmpName(t.Name, f), Digest: t.Digest, Problem: err.Error(), Outcome: "left"})
			}
		}
	}
	return nil
}

func cmpName(tag, file string) string {
	if tag != "" {
		return tag
	}
	return file
}

// Stats is what a store holds.
type Stats struct {
	Repositories int   `json:"repositories"`
	Tags         int   `json:"tags"`
	Manifests    int   `json:"manifests"`
	Blobs        int   `json:"blobs"`
	Bytes        int64 `json:"bytes"`
	// Unreferenced is what no repository refers to and the collector will
	// remove; Shared is what would be stored more without sharing.
	Unreferenced int64 `json:"unreferenced_bytes"`
	Shared       int64 `json:"shared_bytes"`
	Uploads      int   `json:"uploads"`
	UploadBytes  int64 `json:"upload_bytes"`
	Quarantined  int   `json:"quarantined"`
}

// Stats counts what is in the store.
func (s *Store) Stats(ctx context.Context) (Stats, error) {
	var st Stats
	repos, err := s.Repositories()
	if err != nil {
		return st, err
	}
	uses := make(map[digest.Digest]int64)
	for _, repo := range repos {
		tags, err := s.Tags(repo)
		if err != nil {
			return st, err
		}
		manifests, err := s.Manifests(repo)
		if err != nil {
			return st, err
		}
		links, err := s.BlobLinks(repo)
		if err != nil {
			return st, err
		}
		st.Tags += len(tags)
		st.Manifests += len(manifests)
		for _, d := range append(links, manifests...) {
			uses[d]++
		}
	}
	st.Repositories = len(repos)
	err = s.eachBlob(ctx, func(d digest.Digest, info os.FileInfo) error {
		st.Blobs++
		st.Bytes += info.Size()
		if n := uses[d]; n == 0 {
			st.Unreferenced += info.Size()
		} else {
			st.Shared += (n - 1) * info.Size()
		}
		return nil
	})
	if err != nil {
		return st, err
	}
	uploads, err := s.Uploads()
	if err != nil {
		return st, err
	}
	st.Uploads = len(uploads)
	for _, u := range uploads {
		st.UploadBytes += u.Offset
	}
	quarantined, err := names(filepath.Join(s.root, "quarantine"))
	st.Quarantined = len(quarantined)
	return st, err
}
