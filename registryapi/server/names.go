package server

import (
	"context"
	"net/http"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/content"
)

// Names decides which repositories, tags and manifests there are. A registry of
// one directory is asked by directory; Shared is for several that are one.
// Errors are those of content.
type Names interface {
	// Templates returns all templates with their versions, by name. Callers do
	// not change the result.
	Templates(ctx context.Context) ([]registryapi.Template, error)
	Repositories(ctx context.Context) ([]string, error)
	Tags(ctx context.Context, repo string) ([]content.Tag, error)
	Resolve(ctx context.Context, repo, tag string) (content.Tag, error)
	// Manifest returns a manifest whose content can be served.
	Manifest(ctx context.Context, repo string, d digest.Digest) (content.Manifest, error)
	Referrers(ctx context.Context, repo string, d digest.Digest, artifactType string) ([]ispec.Descriptor, error)
	Config(ctx context.Context, repo string, c content.Content) (content.VMConfig, error)

	PutManifest(ctx context.Context, repo string, m content.Manifest, tags ...string) error
	// What removes is noted with it: a repeat whose first answer was lost finds the
	// note, at any server of the registry.
	DeleteTag(ctx context.Context, repo, tag string, n content.Note) error
	DeleteManifest(ctx context.Context, repo string, d digest.Digest, n content.Note) error
	DeleteRepository(ctx context.Context, repo string, n content.Note) error
	Revert(ctx context.Context, repo, from string, n content.Note) error
	// Noted returns the word of a note, and whether there is one.
	Noted(ctx context.Context, n content.Note) (what string, ok bool)
	Forget(ctx context.Context, n content.Note)
	SetArch(ctx context.Context, repo, arch string) error

	Mount(ctx context.Context, repo, from string, d digest.Digest) error
	DeleteBlob(ctx context.Context, repo string, d digest.Digest, n content.Note) error
	// Pulled notes a pull of the tag; "" means the newest that points to d.
	Pulled(repo, tag string, d digest.Digest)
}

// Shared is what makes a server one of several that are one registry.
type Shared interface {
	Names
	// Known is Templates as of now, nil before the first answer.
	Known() []registryapi.Template
	// UploadName is what clients call an upload of this server.
	UploadName(id string) string
	// Receiving is called when an upload is about to grow. relay means that its
	// copy is to be copied on; copy that it is not to be copied.
	Receiving(repo, id string, peer string)
	// Received is called when the upload has become a blob of this server; it
	// may wait for copies.
	Received(ctx context.Context, repo, id string, d digest.Digest, peer string)
	// Collect prepares a run of the collector. An error means that none may run
	// now.
	Collect(ctx context.Context, opt content.CollectOptions) (content.CollectOptions, error)
	State(ctx context.Context) registryapi.Cluster
	Copies(ctx context.Context) ([]registryapi.TagCopies, error)
}

// Share makes the server one of several. It is called before Handler and Run.
func (s *Server) Share(sh Shared) { s.shared = sh }

// names returns who decides for a request. Other servers of the registry ask
// for what is in this directory.
func (s *Server) names(r *http.Request) Names {
	if s.shared == nil || r.Header.Get(registryapi.HeaderPeer) != "" {
		return directory{s}
	}
	return s.shared
}

// directory is the Names of a registry that is one directory.
type directory struct{ *Server }

func (d directory) Templates(ctx context.Context) ([]registryapi.Template, error) {
	return d.catalog.templates(ctx)
}

func (d directory) Repositories(context.Context) ([]string, error) { return d.store.Repositories() }

func (d directory) Tags(_ context.Context, repo string) ([]content.Tag, error) {
	if !d.store.RepositoryExists(repo) {
		return nil, content.ErrRepositoryUnknown
	}
	return d.store.Tags(repo)
}

func (d directory) Resolve(_ context.Context, repo, tag string) (content.Tag, error) {
	return content.Resolve(d.store, repo, tag)
}

// Manifest leaves out what cannot be served in full: a copy that is still under
// way, or damage, must send the client on.
func (d directory) Manifest(_ context.Context, repo string, of digest.Digest) (content.Manifest, error) {
	m, err := d.store.Manifest(repo, of)
	if err == nil {
		err = content.Complete(d.store, repo, m)
	}
	return m, err
}

func (d directory) Referrers(_ context.Context, repo string, of digest.Digest, artifactType string) ([]ispec.Descriptor, error) {
	return d.store.Referrers(repo, of, artifactType)
}

func (d directory) Config(_ context.Context, repo string, c content.Content) (content.VMConfig, error) {
	return content.ReadConfig(d.store, repo, c)
}

func (d directory) PutManifest(_ context.Context, repo string, m content.Manifest, tags ...string) error {
	return d.store.PutManifest(repo, m, tags...)
}

func (d directory) DeleteTag(_ context.Context, repo, tag string, n content.Note) error {
	return d.noted(n, d.store.DeleteTag(repo, tag))
}

func (d directory) DeleteManifest(_ context.Context, repo string, of digest.Digest, n content.Note) error {
	return d.noted(n, d.store.DeleteManifest(repo, of))
}

func (d directory) DeleteRepository(_ context.Context, repo string, n content.Note) error {
	return d.noted(n, d.store.DeleteRepository(repo))
}

// Revert is noted before it begins: "the latest" is another tag when it has ended.
func (d directory) Revert(_ context.Context, repo, from string, n content.Note) error {
	d.store.NoteDone(n)
	return d.store.Revert(repo, from)
}

// noted remembers what ended well.
func (d directory) noted(n content.Note, err error) error {
	if err == nil {
		d.store.NoteDone(n)
	}
	return err
}

func (d directory) Noted(_ context.Context, n content.Note) (what string, ok bool) {
	return d.store.Done(n)
}

func (d directory) Forget(_ context.Context, n content.Note) { d.store.ForgetDone(n) }

func (d directory) SetArch(_ context.Context, repo, arch string) error {
	meta := d.store.Meta(repo)
	meta.Arch = arch
	return d.store.SetMeta(repo, meta)
}

func (d directory) Mount(_ context.Context, repo, from string, of digest.Digest) error {
	_, err := d.store.Mount(repo, from, of)
	return err
}

func (d directory) DeleteBlob(_ context.Context, repo string, of digest.Digest, n content.Note) error {
	return d.noted(n, d.store.DeleteBlob(repo, of))
}

func (d directory) Pulled(repo, tag string, of digest.Digest) { d.recordPull(repo, tag, of) }
