// Package etcdkit holds what every user of etcd here needs and etcd's client does
// not have. It knows no keys and no records.
//
//   - Hedged sends a call again, to another member, when the first is late, and
//     Permanent sorts errors into those that pass and those that do not (retry.go).
//   - Client and Txn make single calls and transactions; an Idem keeps the answer of
//     a request in the transaction that is its effect (client.go, txn.go, idem.go).
//   - Cache is a copy of a part of etcd in memory, fed by one watch. Fresh proves that
//     it is as new as any write that was acknowledged, by any client, before the
//     call: it asks etcd for its revision with a linearizable read, which concurrent
//     callers share, and waits until the watch has caught up. A watch that does not
//     is replaced by one at another member (cache.go, watch.go, fresh.go).
//   - Renewer renews many leases over one stream (renew.go).
//
// Nothing is taken as absent because a read failed. A goroutine runs only in Run of
// a Cache and of a Renewer, and for the time of a call.
package etcdkit
