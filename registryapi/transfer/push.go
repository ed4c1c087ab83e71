package transfer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/registryapi"
)

// File is one file to push.
type File struct {
	// Name becomes the title in the manifest. See the package comment of
	// registryapi for what the endings mean.
	Name string
	Path string
	// Digest, if known, saves reading the file once. A wrong one fails the push.
	Digest digest.Digest
}

// Image is what Push makes a manifest of.
type Image struct {
	// Config is the VM's configuration, JSON with at least name and uuid.
	Config []byte
	// Files in the order of the manifest, newest layer first.
	Files []File
	// Description is the tag's description; may be empty.
	Description string
	// Annotations are added to the manifest; may be nil.
	Annotations map[string]string
}

// PushOptions changes how Push works; the zero value is good.
type PushOptions struct {
	// Report is as in PullOptions.
	Report func(Progress)
	// Aliases are further tags that get the same manifest, after the main one.
	Aliases []string
}

// Pushed is what Push did.
type Pushed struct {
	Digest digest.Digest // of the manifest
	Size   int64         // of all files and the configuration
	Sent   int64         // bytes of blobs that went over the network
}

// Push stores the files and the configuration of img as one image and gives it
// the tag. Blobs that the registry has are not sent; a blob whose upload breaks
// goes on from the offset that the registry names. The tag is visible only when
// everything else is stored.
func (c *Client) Push(ctx context.Context, repo, tag string, img Image, opts PushOptions) (Pushed, error) {
	if err := checkPush(repo, tag, img, opts); err != nil {
		return Pushed{}, err
	}
	total := int64(len(img.Config))
	for _, f := range img.Files {
		info, err := os.Stat(f.Path)
		if err != nil {
			return Pushed{}, err
		}
		if !info.Mode().IsRegular() {
			return Pushed{}, fmt.Errorf("%s is not a regular file", f.Path)
		}
		total += info.Size()
	}
	meter := newMeter(total, opts.Report)
	layers := make([]ocispec.Descriptor, len(img.Files))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(c.cfg.Parallel)
	for i, f := range img.Files {
		g.Go(func() error {
			var err error
			if layers[i], err = c.pushFile(gctx, repo, f, meter); err != nil {
				return fmt.Errorf("file %s: %w", f.Name, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return Pushed{}, err
	}
	config := configOf(img)
	if err := c.pushBlob(ctx, repo, config, bytesAt(img.Config), "configuration", meter); err != nil {
		return Pushed{}, err
	}
	raw, err := makeManifest(config, layers, img)
	if err != nil {
		return Pushed{}, err
	}
	for _, t := range append([]string{tag}, opts.Aliases...) {
		if err := c.PutManifest(ctx, repo, t, ocispec.MediaTypeImageManifest, raw); err != nil {
			return Pushed{}, err
		}
	}
	return Pushed{Digest: digest.FromBytes(raw), Size: total, Sent: meter.snapshot().Moved}, nil
}

// DigestOf returns the digest that the manifest of img has once it is pushed. It
// reads all files and sends nothing.
func DigestOf(ctx context.Context, img Image) (digest.Digest, error) {
	layers := make([]ocispec.Descriptor, len(img.Files))
	for i, f := range img.Files {
		file, desc, err := openFile(ctx, f)
		if err != nil {
			return "", fmt.Errorf("file %s: %w", f.Name, err)
		}
		_ = file.Close()
		layers[i] = desc
	}
	raw, err := makeManifest(configOf(img), layers, img)
	return digest.FromBytes(raw), err
}

func configOf(img Image) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: registryapi.MediaTypeVMConfig, Digest: digest.FromBytes(img.Config), Size: int64(len(img.Config))}
}

func checkPush(repo, tag string, img Image, opts PushOptions) error {
	errs := []error{oci.CheckRepository(repo), oci.CheckReference(tag)}
	for _, t := range opts.Aliases {
		errs = append(errs, oci.CheckReference(t))
	}
	if !json.Valid(img.Config) {
		errs = append(errs, errors.New("the VM configuration is not JSON"))
	}
	titles := make(map[string]bool)
	for _, f := range img.Files {
		if !plainName(f.Name) {
			errs = append(errs, fmt.Errorf("file name %q: must be a plain file name", f.Name))
		}
		if titles[f.Name] {
			errs = append(errs, fmt.Errorf("file name %q: used twice", f.Name))
		}
		titles[f.Name] = true
	}
	return errors.Join(errs...)
}

func makeManifest(config ocispec.Descriptor, layers []ocispec.Descriptor, img Image) ([]byte, error) {
	annotations := make(map[string]string)
	for k, v := range img.Annotations {
		annotations[k] = v
	}
	if img.Description != "" {
		annotations[ocispec.AnnotationDescription] = img.Description
	}
	if len(annotations) == 0 {
		annotations = nil
	}
	return json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: config, Layers: layers, Annotations: annotations,
	})
}

func (c *Client) pushFile(ctx context.Context, repo string, f File, meter *meter) (ocispec.Descriptor, error) {
	file, desc, err := openFile(ctx, f)
	if err != nil {
		return desc, err
	}
	defer file.Close()
	return desc, c.pushBlob(ctx, repo, desc, file, f.Name, meter)
}

// openFile opens a file and describes it.
func openFile(ctx context.Context, f File) (*os.File, ocispec.Descriptor, error) {
	desc := ocispec.Descriptor{
		MediaType: registryapi.MediaTypeVMFile, Digest: f.Digest, Annotations: map[string]string{ocispec.AnnotationTitle: f.Name},
	}
	file, err := os.Open(f.Path)
	if err != nil {
		return nil, desc, err
	}
	info, err := file.Stat()
	if err == nil && desc.Digest == "" {
		desc.Digest, err = digestFile(ctx, file)
	}
	if err != nil {
		_ = file.Close()
		return nil, desc, err
	}
	desc.Size = info.Size()
	return file, desc, nil
}

// digestFile reads f once. The context is asked between reads: 60 GB take a
// while.
func digestFile(ctx context.Context, f *os.File) (digest.Digest, error) {
	d := digest.Canonical.Digester()
	src := readerFunc(func(b []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return f.Read(b)
	})
	if _, err := io.CopyBuffer(writerOnly{d.Hash()}, src, make([]byte, 1<<20)); err != nil {
		return "", err
	}
	return d.Digest(), nil
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// bytesAt is an io.ReaderAt over memory.
type bytesAt []byte

func (b bytesAt) ReadAt(p []byte, off int64) (int, error) {
	if off >= int64(len(b)) {
		return 0, io.EOF
	}
	n := copy(p, b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
