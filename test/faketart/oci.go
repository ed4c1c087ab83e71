package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ankacluster/ankacluster/registryapi/transfer"
)

// Media types and annotations of the real command's images.
const (
	typeConfig = "application/vnd.cirruslabs.tart.config.v1"
	typeDisk   = "application/vnd.cirruslabs.tart.disk.v2"
	typeNVRAM  = "application/vnd.cirruslabs.tart.nvram.v1"

	noteDiskSize   = "org.cirruslabs.tart.uncompressed-disk-size"
	noteUploadTime = "org.cirruslabs.tart.upload-time"
	noteSize       = "org.cirruslabs.tart.uncompressed-size"
	noteDigest     = "org.cirruslabs.tart.uncompressed-content-digest"
	labelFormat    = "org.cirruslabs.tart.disk.format"
)

// diskChunk is how much of a disk is one layer; the real command takes 512 MB.
const diskChunk = 16 << 20

func scheme(insecure bool) string {
	if insecure {
		return "http://"
	}
	return "https://"
}

func client(r remoteName, insecure bool) (*transfer.Client, error) {
	return transfer.New(transfer.Config{Base: scheme(insecure) + r.host, Authorize: func(req *http.Request) {
		if user := os.Getenv("TART_REGISTRY_USERNAME"); user != "" {
			req.SetBasicAuth(user, os.Getenv("TART_REGISTRY_PASSWORD"))
		}
	}})
}

func statusError(when string, code int) error {
	return fmt.Errorf("UnexpectedHTTPStatusCode(when: %q, code: %d, details: \"\")", when, code)
}

func pull(ctx context.Context, s *store, o options) error {
	if s.local(o.args[0]).whole() {
		fmt.Printf("%q is a local image, nothing to pull here!\n", o.args[0])
		return nil
	}
	r, ok := parseRemote(o.args[0])
	if !ok {
		return failf("failed to parse remote name: %s", o.args[0])
	}
	return s.pull(ctx, r, o.has("insecure"))
}

func (s *store) pull(ctx context.Context, r remoteName, insecure bool) error {
	fmt.Printf("pulling %s...\n", r)
	c, err := client(r, insecure)
	if err != nil {
		return err
	}
	m, err := c.Manifest(ctx, r.namespace, r.reference)
	if errors.Is(err, transfer.ErrNotFound) {
		return statusError("pulling manifest", http.StatusNotFound)
	}
	if err != nil {
		return err
	}
	var im ocispec.Manifest
	if err := json.Unmarshal(m.Raw, &im); err != nil {
		return err
	}
	byDigest := remoteName{r.host, r.namespace, m.Digest.String()}
	if err := os.MkdirAll(s.hostDir(r.host), 0o755); err != nil {
		return err
	}
	unlock, err := flock(s.hostDir(r.host)) // one pull a host at a time
	if err != nil {
		return err
	}
	defer unlock()
	if !s.image(byDigest).whole() {
		if err := s.fetch(ctx, c, byDigest, im); err != nil {
			return err
		}
	}
	if r == byDigest {
		return nil
	}
	return s.link(r, byDigest)
}

// fetch brings an image's files to their place, all or none.
func (s *store) fetch(ctx context.Context, c *transfer.Client, r remoteName, im ocispec.Manifest) error {
	var configs, disks, nvrams []ocispec.Descriptor
	for _, l := range im.Layers {
		switch l.MediaType {
		case typeConfig:
			configs = append(configs, l)
		case typeDisk:
			disks = append(disks, l)
		case typeNVRAM:
			nvrams = append(nvrams, l)
		}
	}
	if len(configs) != 1 || len(nvrams) != 1 {
		return errors.New("ShouldBeExactlyOneLayer")
	}
	if len(disks) == 0 {
		return errors.New("ShouldBeAtLeastOneLayer")
	}
	tmp, release, err := s.temporary() // a pull that was killed begins anew
	if err != nil {
		return err
	}
	defer release()
	files := filepath.Join(tmp.dir, "layers")
	last := int64(-1)
	pulled, err := c.Pull(ctx, r.namespace, r.reference, files, transfer.PullOptions{Report: func(p transfer.Progress) {
		if percent := p.Done * 100 / max(p.Total, 1); percent != last {
			last = percent
			fmt.Printf("%d%%\n", percent)
		}
	}})
	if err != nil {
		return err
	}
	paths := make(map[digest.Digest]string)
	for _, f := range pulled.Files {
		paths[f.Descriptor.Digest] = f.Path
	}
	for name, layers := range map[string][]ocispec.Descriptor{"config.json": configs, "disk.img": disks, "nvram.bin": nvrams} {
		if err := join(tmp.path(name), layers, paths); err != nil {
			return err
		}
	}
	gb, _ := strconv.ParseInt(im.Annotations[noteDiskSize], 10, 64) // absent is none
	raw, err := json.Marshal(im)
	if err != nil {
		return err
	}
	size := []byte(strconv.FormatInt(gb/1e9, 10))
	err = errors.Join(os.WriteFile(tmp.path("manifest.json"), raw, 0o644), os.WriteFile(tmp.path(sizeFile), size, 0o644),
		os.WriteFile(tmp.path(usedFile), size, 0o644), os.RemoveAll(files))
	if err != nil {
		return err
	}
	return tmp.move(s.image(r))
}

// join writes layers one after the other.
func join(to string, layers []ocispec.Descriptor, paths map[digest.Digest]string) error {
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	for _, l := range layers {
		var f *os.File
		if f, err = os.Open(paths[l.Digest]); err != nil {
			break
		}
		_, err = io.Copy(out, f)
		f.Close()
		if err != nil {
			break
		}
	}
	return errors.Join(err, out.Close())
}

func push(ctx context.Context, s *store, o options) error {
	local := o.args[0]
	v, err := s.open(local)
	if err != nil {
		return err
	}
	c, err := v.config()
	if err != nil {
		return err
	}
	held, free, err := v.take()
	if err != nil {
		return err
	}
	if !free {
		return failf("VM %q is running", local)
	}
	defer held.Close()
	labels := map[string]string{labelFormat: c.DiskFormat}
	for _, l := range o.flags["label"] {
		if k, value, _ := strings.Cut(strings.TrimSpace(l), "="); k != "" {
			labels[k] = value
		}
	}
	for _, name := range o.args[1:] {
		r, ok := parseRemote(name)
		if !ok {
			return failf("failed to parse remote name: %s", name)
		}
		fmt.Printf("pushing %s to %s...\n", local, r)
		if err := v.push(ctx, r, c, labels, o.has("insecure")); err != nil {
			return err
		}
	}
	return nil
}

func (v vm) push(ctx context.Context, r remoteName, c config, labels map[string]string, insecure bool) error {
	cl, err := client(r, insecure)
	if err != nil {
		return err
	}
	layer := func(mediaType string, src io.ReaderAt, size int64) (ocispec.Descriptor, error) {
		dg, err := digest.FromReader(io.NewSectionReader(src, 0, size))
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		d := ocispec.Descriptor{MediaType: mediaType, Digest: dg, Size: size}
		return d, cl.Upload(ctx, r.namespace, d, src)
	}
	blob := func(mediaType string, v any) (ocispec.Descriptor, error) {
		data, err := json.Marshal(v)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		return layer(mediaType, strings.NewReader(string(data)), int64(len(data)))
	}
	cfg, err := blob(typeConfig, c)
	if err != nil {
		return err
	}
	layers := []ocispec.Descriptor{cfg}
	disk, err := os.Open(v.path("disk.img"))
	if err != nil {
		return err
	}
	defer disk.Close()
	info, err := disk.Stat()
	if err != nil {
		return err
	}
	for at := int64(0); at < info.Size(); at += diskChunk {
		n := min(diskChunk, info.Size()-at)
		d, err := layer(typeDisk, io.NewSectionReader(disk, at, n), n)
		if err != nil {
			return err
		}
		d.Annotations = map[string]string{noteSize: strconv.FormatInt(n, 10), noteDigest: d.Digest.String()}
		layers = append(layers, d)
		fmt.Printf("%d%%\n", (at+n)*100/info.Size())
	}
	nvram, err := os.Open(v.path("nvram.bin"))
	if err != nil {
		return err
	}
	defer nvram.Close()
	if info, err = nvram.Stat(); err != nil {
		return err
	}
	nv, err := layer(typeNVRAM, nvram, info.Size())
	if err != nil {
		return err
	}
	image, err := blob(ocispec.MediaTypeImageConfig, map[string]any{"architecture": c.Arch, "os": c.OS, "config": map[string]any{"Labels": labels}})
	if err != nil {
		return err
	}
	raw, err := json.Marshal(ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: image, Layers: append(layers, nv), Annotations: map[string]string{
			noteDiskSize: strconv.FormatInt(int64(v.diskGB())*1e9, 10), noteUploadTime: time.Now().UTC().Format(time.RFC3339)}})
	if err != nil {
		return err
	}
	return cl.PutManifest(ctx, r.namespace, r.reference, ocispec.MediaTypeImageManifest, raw)
}
