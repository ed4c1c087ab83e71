// Package fs is a content.Store on a directory that several servers may share
// with nothing else in common.
//
//	blobs/<alg>/<2 hex>/<hex>             content; manifests are content too
//	repos/<repo>/blobs/<alg>/<hex>        "this repository may serve this blob"; holds its size
//	repos/<repo>/manifests/<alg>/<hex>    media type, size, time of push
//	repos/<repo>/tags/<tag>               one small file a tag
//	repos/<repo>/referrers/<subject>/...  manifests that name a subject
//	repos/<repo>/pulls/<tag>              its mtime is the tag's last pull
//	repos/<repo>/meta                     the template's id and architecture
//	uploads/<id>/{data,state,lock}        an unfinished upload, with its hash state
//	journal/<epoch>/<segment>             what changed, in order
//	locks/, tmp/, quarantine/
//
// Guarantees:
//   - Nothing is remembered in memory only. Every process on the directory sees
//     what another has acknowledged, and goes on with an upload it began.
//   - A blob appears under its digest when all its bytes were hashed and are on
//     stable storage. A tag appears when everything it names has appeared. The
//     order is: verify, fsync, rename, fsync the directory, link, manifest, tag.
//   - kill -9 at any moment leaves only what nobody can see: files in tmp/ and
//     uploads/, and unreferenced blobs. Collect removes them.
//   - A link, manifest or tag whose content is missing or has another size than
//     recorded counts as absent.
//
// What looks after its files, and means nothing elsewhere, is on Store beside the
// interface: Verify, Stats, and the limits of space that Open is given.
//
// Locks are flock(2) on files below locks/ and in upload directories; network
// file systems pass them to their server. Files that are served are never
// changed in place, only replaced by rename.
//
// A Store is safe for concurrent use and has no goroutines.
package fs
