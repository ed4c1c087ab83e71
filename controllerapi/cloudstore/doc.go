// Package cloudstore keeps the cloud's state in etcd. It holds nothing that etcd
// does not: any number of Stores on one etcd are one cloud, and killing a Store
// loses nothing that it acknowledged.
//
// # Guarantees
//
// Writes. Every change of state is one etcd transaction that compares what the
// decision was made on. A transaction may be sent several times (a member may be
// paused with it in its buffers), so every change is built to be applied at most
// once: by a compare of revisions, by an id chosen beforehand, and for creations
// by a compare with a clock key that moves on before anything deleted could be
// created anew by a request that arrives late.
//
// Reads. A Store follows all state by one watch and answers from memory. Fresh
// proves that memory is as new as any write acknowledged, by any Store, before
// Fresh was called: it asks etcd for its revision with a linearizable read, which
// concurrent callers share, and waits until the watch has caught up. A watch that
// does not catch up is replaced by one at another member. Nothing is taken as
// absent because a read failed.
//
// Time. Claims and liveness hang on leases, kept by etcd, not on clocks of ours.
//
// # Keys
//
// Below Prefix, state that is watched is under s/, the rest (requests, outputs,
// idempotency keys) under u/. See keys.go.
//
// # Goroutines
//
// Run owns all: the watch, the revision reader, the announcer with its lease, the
// broadcast of nodes' load, and the keeper, which one Store of the cloud at a time
// does (see keeper.go).
package cloudstore
