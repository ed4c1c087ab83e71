package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/ankacluster/ankacluster/internal/atomicfile"
)

// PullOptions changes how Pull works; the zero value is good.
type PullOptions struct {
	// Report is called now and then while bytes move, never by two goroutines at
	// once. It must not block.
	Report func(Progress)
	// Have returns the path of a file that the caller already holds and knows to
	// be that layer, or "". Pull leaves such files where they are.
	Have func(ocispec.Descriptor) string
	// Stripe names further registries with the same content. Blobs of more than
	// one piece are then read from all of them at once. A registry that fails or
	// lacks a blob only makes it slower.
	Stripe []*Client
}

// PulledFile is one file of an image.
type PulledFile struct {
	Name       string // the title in the manifest
	Path       string // where it is
	Descriptor ocispec.Descriptor
}

// Pulled is an image on this machine.
type Pulled struct {
	Digest   digest.Digest // of the manifest
	Manifest ocispec.Manifest
	Config   []byte
	Files    []PulledFile
	Fetched  int64 // bytes of blobs that went over the network
}

// Pull fetches the image that ref, a tag or a digest, names and puts its files
// into dir under the titles of the manifest. Files that are there with the right
// content are kept. When it fails, what it has is kept for the next Pull, and no
// incomplete file has its final name.
//
// It returns ErrNotFound when the registry has no such image, and ErrDigest when
// it persists in sending bytes that are not the image's.
func (c *Client) Pull(ctx context.Context, repo, ref, dir string, opts PullOptions) (Pulled, error) {
	m, err := c.Manifest(ctx, repo, ref)
	if err != nil {
		return Pulled{}, err
	}
	im, err := m.image()
	if err != nil {
		return Pulled{}, err
	}
	plan, err := planPull(im, dir, opts.Have)
	if err != nil {
		return Pulled{}, fmt.Errorf("%s:%s: %w", repo, ref, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Pulled{}, err
	}
	meter := newMeter(plan.total(), opts.Report)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(c.cfg.Parallel)
	for _, b := range plan.blobs {
		g.Go(func() error { return c.pullBlob(gctx, repo, b, dir, opts.Stripe, meter) })
	}
	if err := g.Wait(); err != nil {
		return Pulled{}, err
	}
	config, err := c.smallBlob(ctx, repo, im.Config)
	if err != nil {
		return Pulled{}, err
	}
	// Gone if empty; another image's remains may be in it.
	_ = os.Remove(filepath.Join(dir, partialDir))
	return Pulled{Digest: m.Digest, Manifest: im, Config: config, Files: plan.files, Fetched: meter.snapshot().Moved}, nil
}

// blobPlan is one blob to fetch and the files that have its content.
type blobPlan struct {
	desc  ocispec.Descriptor
	name  string // the title of the first file, for progress
	paths []string
}

type pullPlan struct {
	files []PulledFile
	blobs []*blobPlan
}

func (p pullPlan) total() int64 {
	var n int64
	for _, b := range p.blobs {
		n += b.desc.Size
	}
	return n
}

// planPull says which file goes where. A title comes from outside and must be a
// plain file name, or it could name any file of this machine.
func planPull(im ocispec.Manifest, dir string, have func(ocispec.Descriptor) string) (pullPlan, error) {
	var plan pullPlan
	byDigest := make(map[digest.Digest]*blobPlan)
	titles := make(map[string]digest.Digest)
	for _, d := range im.Layers {
		title := d.Annotations[ocispec.AnnotationTitle]
		if title == "" {
			title = d.Digest.Encoded() // a layer without a name is kept by its content
		}
		if !plainName(title) {
			return plan, fmt.Errorf("the manifest names a file %q, which is no plain file name", title)
		}
		if other, ok := titles[title]; ok {
			if other != d.Digest {
				return plan, fmt.Errorf("the manifest names two different files %q", title)
			}
			continue
		}
		titles[title] = d.Digest
		path := filepath.Join(dir, title)
		if have != nil {
			if p := have(d); p != "" {
				plan.files = append(plan.files, PulledFile{title, p, d})
				continue
			}
		}
		plan.files = append(plan.files, PulledFile{title, path, d})
		b := byDigest[d.Digest]
		if b == nil {
			b = &blobPlan{desc: d, name: title}
			byDigest[d.Digest] = b
			plan.blobs = append(plan.blobs, b)
		}
		b.paths = append(b.paths, path)
	}
	return plan, nil
}

func plainName(name string) bool {
	return name != "" && name != "." && name != ".." && name != partialDir && len(name) <= 255 &&
		!strings.ContainsAny(name, "/\\\x00") && filepath.Base(name) == name
}

// pullBlob makes sure that every path of b has b's content.
func (c *Client) pullBlob(ctx context.Context, repo string, b *blobPlan, dir string, stripe []*Client, meter *meter) error {
	if ok, err := fileIs(b.paths[0], b.desc); err != nil {
		return err
	} else if ok {
		meter.add(b.name, b.desc.Size, 0)
	} else if err := c.fetchTo(ctx, repo, b, dir, stripe, meter); err != nil {
		return fmt.Errorf("file %s: %w", b.name, err)
	}
	for _, path := range b.paths[1:] {
		if err := linkOrCopy(b.paths[0], path); err != nil {
			return err
		}
	}
	return nil
}

// wrongDigests is how often a blob that came wrong is fetched anew: a pool may
// hold one bad copy beside good ones.
const wrongDigests = 2

func (c *Client) fetchTo(ctx context.Context, repo string, b *blobPlan, dir string, stripe []*Client, meter *meter) error {
	p, err := openPartial(dir, b.desc)
	if err != nil {
		return err
	}
	meter.add(b.name, p.have(), 0)
	sources := append([]*Client{c}, stripe...)
	for bad := 0; ; {
		resumed := p.resumed
		// After wrong bytes of several, each is asked alone: one is bad.
		alone := bad > 0 || len(sources) == 1 || p.desc.Size <= c.cfg.Piece
		var err error
		if alone {
			err = sources[bad%len(sources)].fill(ctx, repo, p, b.name, meter)
		} else {
			err = fillStriped(ctx, sources, repo, p, b.name, meter)
		}
		if err == nil {
			err = p.verify()
		}
		if err == nil {
			return p.commit(b.paths[0])
		}
		if !errors.Is(err, ErrDigest) {
			return errors.Join(err, p.close())
		}
		meter.add(b.name, -p.have(), 0)
		if rerr := p.restart(); rerr != nil {
			return errors.Join(err, rerr, p.close())
		}
		if !resumed { // what an earlier run left may be to blame, and counts for nothing
			bad++
		}
		if bad > max(wrongDigests, len(sources)) {
			return errors.Join(err, p.close())
		}
	}
}

// fill fetches what p lacks, in order.
func (c *Client) fill(ctx context.Context, repo string, p *partial, name string, meter *meter) error {
	// Islands that an earlier striped pull left are fetched again, which costs
	// less than a second way to fetch.
	if err := p.straighten(); err != nil {
		return err
	}
	return c.Blob(ctx, repo, p.desc, p.next(), meteredWriter{p, name, meter})
}

type meteredWriter struct {
	w     io.Writer
	name  string
	meter *meter
}

func (m meteredWriter) Write(b []byte) (int, error) {
	n, err := m.w.Write(b)
	m.meter.add(m.name, int64(n), int64(n))
	return n, err
}

// smallBlob fetches a blob into memory.
func (c *Client) smallBlob(ctx context.Context, repo string, desc ocispec.Descriptor) ([]byte, error) {
	if desc.Size > maxManifest {
		return nil, fmt.Errorf("configuration %s of %d bytes is too large", desc.Digest, desc.Size)
	}
	for bad := 0; ; bad++ {
		var buf strings.Builder
		if err := c.Blob(ctx, repo, desc, 0, &buf); err != nil {
			return nil, err
		}
		data := []byte(buf.String())
		got := desc.Digest.Algorithm().FromBytes(data)
		if got == desc.Digest {
			return data, nil
		}
		if bad == wrongDigests {
			return nil, fmt.Errorf("configuration %s: got %s: %w", desc.Digest, got, ErrDigest)
		}
	}
}

// fileIs reports whether path is a file with desc's content.
func fileIs(path string, desc ocispec.Descriptor) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	if !info.Mode().IsRegular() {
		return false, fmt.Errorf("%s is in the way: not a regular file", path)
	}
	if info.Size() != desc.Size {
		return false, nil
	}
	got, err := desc.Digest.Algorithm().FromReader(f)
	return got == desc.Digest, err
}

func linkOrCopy(from, to string) error {
	if err := os.Remove(to); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if os.Link(from, to) == nil {
		return nil
	}
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := atomicfile.Options{Temp: ".copy-*"}.Create(to)
	if err != nil {
		return err
	}
	defer dst.Close()
	if _, err := io.Copy(dst, src); err != nil {
		return err
	}
	return dst.Commit()
}
