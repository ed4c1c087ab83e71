package content

import (
	"errors"

	"github.com/ankacluster/ankacluster/internal/oci"
)

// What a store refuses. Errors returned wrap one of these with the details.
var (
	ErrNameInvalid       = oci.ErrName
	ErrTagInvalid        = oci.ErrTag
	ErrDigestInvalid     = oci.ErrDigest
	ErrRepositoryUnknown = errors.New("repository is unknown")
	ErrBlobUnknown       = errors.New("blob is unknown")
	ErrManifestUnknown   = errors.New("manifest is unknown")
	ErrTagUnknown        = errors.New("tag is unknown")
	ErrUploadUnknown     = errors.New("upload is unknown")
	// ErrUploadBusy: another request is writing to the upload.
	ErrUploadBusy = errors.New("upload is in use by another request")
	// ErrDigestMismatch: the content is not what the digest says.
	ErrDigestMismatch  = errors.New("content does not match the digest")
	ErrManifestInvalid = oci.ErrManifest
	// ErrBlobMissing: a manifest names content that the repository lacks.
	ErrBlobMissing = errors.New("manifest names content that is not in the repository")
	// ErrInUse: a manifest still needs what was to be deleted.
	ErrInUse = errors.New("content is in use")
	// ErrNoSpace: the disk is full, or nearer to full than the floor or quota allows.
	ErrNoSpace = errors.New("not enough space in the registry's storage")
	// ErrUnavailable: what decides about tags cannot be asked at present.
	ErrUnavailable = errors.New("the catalogue of the cluster cannot be read or changed at present")
	// ErrReadOnly: the store cannot be written.
	ErrReadOnly = errors.New("the registry's storage is read-only")
	// ErrCollecting: another process is collecting this store.
	ErrCollecting = errors.New("another process is collecting this store")
)
