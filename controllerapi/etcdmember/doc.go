// Package etcdmember runs an etcd member inside the controller's process, and
// connects controllers to etcd, their own or somebody else's.
//
//	cfg := etcdmember.DefaultConfig()
//	cfg.DataDir = "/var/lib/anka-controller/etcd"
//	m, err := etcdmember.New(cfg, log)
//	...
//	go m.Run(ctx)
//	<-m.Ready()
//	client, err := etcdmember.Connect(etcdmember.ClientConfig{Endpoints: m.Endpoints()}, log)
//
// # Forming a cluster
//
// etcd has to be told, once and never again, that a cluster is new. Here the
// same configuration on each host is enough: before its etcd starts, a member
// looks at its own data and asks every other host, over the peer address, what
// it has (Decide is the whole table). Exactly one host, the first of the list in
// sorted order, may begin a cluster, and only once every other host has said
// that it is empty; it begins alone. Every other empty host joins what it finds,
// as a learner that is promoted when it has caught up. A host that lost its disk
// is therefore nothing special: it finds a cluster that knows its address,
// removes that old entry and joins as a new member. A host that cannot tell
// (somebody does not answer, the lists differ) waits and says for whom. A host
// whose data belong to another cluster refuses to start and says what to do.
//
// A cluster is Ready only when a majority of the listed hosts votes in it, so a
// write that was acknowledged is on a majority from the first write on.
//
// # Guarantees and limits
//
//   - Two hosts never begin two clusters from the same list of hosts.
//   - A member never starts with an empty log under an identity that has voted.
//   - When a majority of the disks is lost nothing is invented: the hosts wait,
//     and the message names restore.
//   - The peer and client addresses are plain HTTP unless Config.TLS is set; they
//     belong on a network that only the hosts of the cloud reach. A member
//     without Cluster listens on loopback only.
//
// # Goroutines
//
// New starts none. Run owns all of them: the answerer before the start, the
// embedded server, promotion and defragmentation; it returns when all have ended.
package etcdmember
