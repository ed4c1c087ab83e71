// Package cloudstore keeps the cloud's state in etcd: package cloud on package
// etcdkit. It gives records their keys and their JSON, runs the decisions of cloud
// and the duties of keeper, and has no rule of its own. It holds nothing that etcd
// does not: any number of Stores on one etcd are one cloud, and killing a Store
// loses nothing that it acknowledged.
//
// # Guarantees
//
// Writes. Every change of state is one etcd transaction that compares what the
// decision was made on. A transaction may be sent several times (a member may be
// paused with it in its buffers), so every change is built to be applied at most
// once: by a compare of revisions, by an id chosen beforehand, and for creations
// by a compare with the fence, a key that moves on before anything deleted could
// be created anew by a request that arrives late.
//
// Reads. A Store follows all state by one watch and answers from memory. Fresh
// proves that memory is as new as any write acknowledged, by any Store, before
// Fresh was called; see etcdkit.Cache.
//
// Time. Whether a node is alive hangs on a lease, which etcd keeps, not on clocks of
// ours; claims of a node whose lease has ended are settled by the keeper.
//
// # Keys
//
// Below Prefix, state that is watched is under s/, the rest (requests, outputs,
// idempotency keys) under u/. See keys.go.
//
// # Goroutines
//
// Run owns all: the cache's, the announcer with its lease, the renewal of nodes'
// leases, the broadcast of nodes' load, and the keeper, which one Store of the
// cloud at a time does (see keeper.go).
package cloudstore
