package content

import (
	"context"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Store is where a registry keeps its content. See the package comment for what
// holds for all methods.
type Store interface {
	Blobs
	Uploads
	Manifests
	Tags
	Repositories
	Journal
	Notes
	Care

	// ID tells this store from any other, also from one that is made at the same
	// place while this one cannot be reached. It never changes. "" means that it is not
	// known: an old store that cannot be written.
	ID() string
	// Place says where the store is, for people.
	Place() string
	// Documents returns those of a folder; without a name, of the store itself.
	Documents(folder ...string) Documents
}

// Blobs are content by digest. A repository has those that were pushed or mounted to it.
type Blobs interface {
	// OpenBlob opens a blob that the repository has, for reading, and returns its
	// size. It returns ErrBlobUnknown also when the content is missing or has another
	// size than was pushed. What is open stays readable when it is deleted.
	OpenBlob(repo string, d digest.Digest) (Blob, int64, error)
	// StatBlob returns the size of a blob that OpenBlob would open, and keeps it from the
	// collector for another grace period: whoever asks may be about to push a
	// manifest that relies on it.
	StatBlob(repo string, d digest.Digest) (int64, error)
	// BlobSize returns the size that a blob of the repository was pushed with, or
	// ErrBlobUnknown. It does not look at the content, nor keep it.
	BlobSize(repo string, d digest.Digest) (int64, error)
	// Mount makes a blob of one repository available in another, and returns its
	// size. An empty from means any repository. ErrBlobUnknown: from does not have it.
	Mount(repo, from string, d digest.Digest) (int64, error)
	// DeleteBlob removes a blob from a repository. ErrBlobUnknown: it was not there;
	// ErrInUse: a manifest of the repository names it. The content goes when no
	// repository has it and the collector runs.
	DeleteBlob(repo string, d digest.Digest) error
}

// Blob is a blob that is open. Where it is a file its type is *os.File, so that it
// can be sent without a copy through this process.
type Blob interface {
	io.ReadSeekCloser
	io.ReaderAt
}

// Uploads are blobs on their way. Any server of the store may go on with one.
type Uploads interface {
	// NewUpload begins an upload to repo. alg is the hash that its digest is
	// expected in; "" means sha256, and a closing digest of another algorithm costs
	// reading the data once more. ErrDigestInvalid: there is no such algorithm;
	// ErrNoSpace: CheckSpace refuses.
	NewUpload(repo string, alg digest.Algorithm) (Upload, error)
	// OpenUpload goes on with an upload that any server of the store began. It
	// asks a request of this process that still writes to it to stop, and waits until
	// that one has closed it or ctx ends; then it returns ErrUploadBusy.
	// ErrUploadUnknown: never begun, finished, cancelled, or of another repository.
	OpenUpload(ctx context.Context, repo, id string) (Upload, error)
	// Uploads lists the unfinished uploads, with what other servers wrote as of when
	// they last made it durable.
	Uploads() ([]UploadInfo, error)
	// PurgeUploads removes uploads that got no data since before and that no server
	// holds. It returns how many.
	PurgeUploads(before time.Time) (int, error)
	// Growing opens an upload of this store for reading. The error is fs.ErrNotExist
	// when it is a blob already, or there is none.
	Growing(upload string) (Growing, error)
	// CheckSpace returns ErrNoSpace when a push of n more bytes is to be refused. A
	// negative n is not known.
	CheckSpace(n int64) error
	// Disk returns the free and total bytes of what the store is kept on.
	Disk() (free, total uint64, err error)
}

// Upload is an unfinished blob. Whoever has an Upload holds it: no one else writes to
// it until Commit, Close or Cancel. It is not safe for concurrent use.
type Upload interface {
	// ID names the upload in OpenUpload. It is a UUID.
	ID() string
	// Offset is the number of bytes received.
	Offset() int64
	// Overtook reports whether another request was writing when this one came. Which
	// of the two was sent first nobody knows: a request that was cut may arrive after
	// the one that goes on where it ended.
	Overtook() bool
	// OnInterrupt sets what makes the current writer stop soon, for example by
	// ending its connection's reads. It is called from another goroutine.
	OnInterrupt(f func())
	// Append reads r to its end and adds it to the upload. On an error what was
	// read before it is kept.
	Append(r io.Reader) (int64, error)
	// Commit verifies the upload against d, makes it durable under that digest and
	// adds it to the repository's blobs. ErrDigestMismatch leaves the upload as it is;
	// the caller decides between Cancel and another try. After success the upload is
	// gone. Content that is there already is no error.
	Commit(d digest.Digest) error
	// Close makes what was received durable and keeps the upload for later. After
	// Commit or Cancel it does nothing.
	Close() error
	// Cancel removes the upload.
	Cancel() error
}

// Growing is the content of an upload, read while it grows. It stays readable when the
// upload has become a blob or is gone. It is safe for concurrent use.
type Growing interface {
	io.ReaderAt
	io.Closer
	// Size is how many bytes there are by now, 0 when that cannot be told.
	Size() int64
	// Ended reports whether the upload has become a blob, or is gone.
	Ended() bool
}

// Manifests are those of a repository, served byte for byte.
type Manifests interface {
	// PutManifest stores a manifest under m.Digest, which must be that of m.Raw,
	// and then, in this order, under each tag. Everything it names must be in the
	// repository, except its subject and what is optional. A zero m.Pushed means now;
	// a copy between stores keeps the original's. It returns the errors of CheckPut,
	// and ErrBlobMissing.
	PutManifest(repo string, m Manifest, tags ...string) error
	// Manifest returns a manifest of the repository. It returns ErrManifestUnknown
	// also when the content is missing or damaged.
	Manifest(repo string, d digest.Digest) (Manifest, error)
	// Manifests returns the digests of all manifests of a repository, in no order, damaged
	// ones too.
	Manifests(repo string) ([]digest.Digest, error)
	// DeleteManifest removes a manifest and every tag that points to it. ErrInUse
	// means that an index of the repository names it. Its blobs stay for the
	// collector's grace period, so that a pull in progress can end. A damaged
	// manifest can be deleted too: the collector waits for that.
	DeleteManifest(repo string, d digest.Digest) error
	// Referrers returns descriptors of the manifests whose subject is d, sorted by
	// digest. artifactType "" means all of them. The subject itself need not exist.
	Referrers(repo string, d digest.Digest, artifactType string) ([]ispec.Descriptor, error)
}

// Tags are names of manifests. No method knows the alias "latest"; see Resolve.
type Tags interface {
	// PutTag points a tag at a manifest of the repository, which must be there
	// (else ErrManifestUnknown). Putting what is there already changes nothing, so that
	// a push whose answer was lost may be repeated.
	PutTag(repo string, t Tag) error
	// Tag returns a tag, or ErrTagUnknown.
	Tag(repo, name string) (Tag, error)
	// Tags returns the tags of a repository in the order they were pushed, without
	// those that are damaged. A repository that does not exist has none.
	Tags(repo string) ([]Tag, error)
	// ReadTags is Tags that says, for people, which ones are damaged too. Whoever takes a
	// tag that is not there for deleted looks at them.
	ReadTags(repo string) (tags []Tag, damaged []string, err error)
	// DeleteTag removes a tag, or returns ErrTagUnknown. The manifest stays; see
	// DeleteManifest.
	DeleteTag(repo, name string) error
	// TagsChanged is when a tag of the repository last came, moved or went, and may
	// change without that. It is compared with what it was before, and tells of
	// changes that were made by other means than a Store.
	TagsChanged(repo string) time.Time
	// RecordPull notes that a tag was pulled now, as far as the store can be written.
	RecordPull(repo, tag string, now time.Time)
	// LastPull is when a tag was last pulled at any server; zero means never.
	LastPull(repo, tag string) time.Time
}

// Repositories are templates with all of their tags.
type Repositories interface {
	// Repositories returns the names of all repositories, sorted. A place that
	// cannot be reached is an error and no empty store.
	Repositories() ([]string, error)
	// RepositoryExists reports whether anything was pushed to the repository.
	RepositoryExists(repo string) bool
	// Meta returns what is kept of the repository's template; where there is nothing,
	// the id of the name.
	Meta(repo string) Meta
	// SetMeta replaces the repository's Meta. Copies between stores use it to
	// keep the id.
	SetMeta(repo string, m Meta) error
	// DeleteRepository removes a template: its tags, its manifests, and then what
	// is left of it. A push in progress at the same time either finds its content or is
	// told that a blob is missing. It returns ErrRepositoryUnknown when there was
	// nothing.
	DeleteRepository(repo string) error
	// Revert removes a tag and those that Reverted tells, then the manifests that
	// lost their last tag. A repository without tags left is deleted.
	Revert(repo, from string) error
}

// Journal is the list of changes, in their order, shared by all servers.
type Journal interface {
	// Changes returns up to limit changes after the cursor and the cursor after
	// them. reset means that the cursor is no longer known, or none: the caller compares
	// everything and goes on from next, which is the present end. Before the first
	// change of a store there is nothing to compare, and no reset.
	Changes(after Cursor, limit int) (changes []Change, next Cursor, reset bool, err error)
	// Changed returns a channel that is closed at the next change made by this
	// process. Changes by other servers are found by asking Changes again.
	Changed() <-chan struct{}
	// Settle tells of changes that a process began and did not live to tell of. It
	// returns how many.
	Settle() (int, error)
}

// Notes are of what was done, for requests that are repeated because their answer was
// lost: any server of the store then gives the first one's answer. A note lasts for
// hours; one that is lost makes a repeat hear less.
type Notes interface {
	// NoteDone remembers that something was done.
	NoteDone(n Note)
	// Done returns the word about what was done.
	Done(n Note) (what string, ok bool)
	// ForgetDone removes a note.
	ForgetDone(n Note)
}

// Care keeps a store in order.
type Care interface {
	// Collect removes what nothing refers to, while servers go on pushing and
	// pulling. One process at a time does it; others get ErrCollecting. What cannot be
	// read at present, or is damaged, is not taken for gone: its repository is left as
	// it is, and named in the error, while the others are collected.
	Collect(ctx context.Context, opt CollectOptions) (Collected, error)
	// CountUsage counts all blobs anew and returns their bytes.
	CountUsage() (int64, error)
}

// Documents are small files that the users of a store keep beside its content: an
// index, where copying stands. Names are file names. All servers of the store see the
// same ones.
type Documents interface {
	// Place says where they are, for people.
	Place() string
	// Make shows whether the folder can be used, and makes it.
	Make() error
	// Read returns a document. The error is fs.ErrNotExist when there is none.
	Read(name string) ([]byte, error)
	// Write replaces a document as one step that survives a crash.
	Write(name string, data []byte) error
	// WriteSoon is Write that may return before the document is durable: after a crash
	// it may be an older one, none, or torn.
	WriteSoon(name string, data []byte) error
	// Remove removes a document. It is no error when there is none.
	Remove(name string) error
	// Names lists the documents, none when there is no folder.
	Names() ([]string, error)
	// Lock waits until no other server of the store holds the lock of that name, and
	// looks each pause. The lock ends with release, or with the process. The error is
	// ctx's when ctx ends first.
	Lock(ctx context.Context, name string, pause time.Duration) (release func(), err error)
}
