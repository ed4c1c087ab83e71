// Package replication keeps a registry's store equal to one or several others.
//
//	r, err := replication.New(replication.Config{Sources: []string{"http://push:8089"}}, store, log)
//	err = r.Run(ctx)
//
// It follows each source's change feed by long poll. A change names a
// repository; the repository's whole state is then read and compared, so that a
// change told twice, late or not at all does no harm.
//
// # What it guarantees
//
//   - Blobs come before the manifest that names them, and tags come last: the
//     store never lists a tag that it cannot serve.
//   - Every blob is verified before it can be seen.
//   - A copy that was cut or killed goes on where it stopped: blobs grow in
//     ordinary upload sessions of the store, which remember their offset and
//     their hash.
//   - Deletes and reverts are followed at once, also while large blobs of the
//     same repository are being copied. Only what was copied here is deleted; a
//     tag that was never seen at a source stays.
//   - The id of a template, the order of its tags and the times of their pushes
//     are those of the source.
//
// # Several sources
//
// The wanted state is a pure function of what the sources hold at present, so
// that replicas agree whatever they heard first: a tag exists while any source
// has it; of two with one name the later push counts (the higher order), and of
// equal orders the greater digest. A source that cannot be reached counts with
// what it had when it last could.
//
// A source that lost its whole store is not followed into that: while it lists
// no repository at all, nothing is deleted on its account, and the state tells.
// Nor is one followed that has another store than before, unless that has every
// tag that was copied: it was started on the wrong disk, or on none.
// Nor is anything deleted in a repository of which a source cannot read all.
//
// # Not guaranteed
//
// A registry that replicates takes no pushes from others (see ReadOnly): what
// two registries copy from each other could never be deleted.
//
// # Goroutines
//
// Run has one goroutine for each source, one that reconciles, and one for each
// copy, at most Config.Parallel large and as many small ones at a time. It
// returns when all have ended. Of several servers on one directory one
// replicates; the others wait for its lock.
package replication
