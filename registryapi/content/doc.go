// Package content is what a registry needs of the place where its content is: a
// Store of blobs, unfinished uploads, manifests, tags, the journal of what changed,
// and the few things that servers note beside them. Server, replication and cluster
// are written against Store; only the programs choose an implementation:
//
//	fs      a directory that several servers may share
//	memory  the memory of one process, for tests
//
// Another backend, such as object storage, is one more package beside these. It
// implements Store and passes contenttest.Run.
//
// What follows from a Store's own methods is a function here (Resolve, Complete,
// Sizes, ReadConfig, Export, …), so that a backend has only what depends on it. What
// looks after one kind of place, and means nothing elsewhere, is its package's own:
// fs.Store verifies its files against their digests and counts them.
//
// # What every Store guarantees
//
//   - What a method has acknowledged is seen by all servers of the store, and stays
//     when they die. Nothing else is seen: content appears under its digest when it is
//     whole and verified, a tag when all that its manifest names is there.
//   - Each method is one step, or several of which any may be the last: a process may
//     die between them, and the request is repeated.
//   - Names are checked by every method that stores something, and digests by their
//     callers (oci.ParseDigest). Names that are none have nothing.
//   - Errors that a caller acts on wrap one of this package's. Any other error means
//     that the place could not be read or written just now: nothing is known of what
//     was asked for, in particular not that it is absent.
//
// A Store is safe for concurrent use and has no goroutines. An Upload belongs to one
// request at a time.
package content
