// Package cluster makes the registries of several hosts one registry.
//
//	c, err := cluster.New(cfg, srv.Store(), etcd, log)
//	srv.Share(c)                     // who decides about names
//	srv.Use(c.Around, c.Routes()...) // what comes before the directory, and what hosts ask of each other
//	err = c.Run(ctx)
//
// The catalogue (repositories, manifests with what they refer to, tags with their
// order and time of push, deletes) is in etcd. Every change of a repository is
// one transaction, which demands that the repository is as it was when the change
// was decided on; etcd orders them, and no clocks are compared. Every host has a
// copy, fed by a watch. The content is on the hosts' disks, in the stores that
// registries of one directory have too, whose own tags follow the catalogue.
//
// # What it guarantees
//
//   - A push that was acknowledged is on the disks of Config.Copies hosts, each of
//     which has all of it; or it counts as having few copies, where fewer hosts
//     could take it, until they can. Strict refuses it then.
//   - Changes of tags are linearizable over all hosts. A list or a look-up by tag
//     knows every change that was acknowledged before it was asked, because it
//     proves the copy against etcd's revision first.
//   - Without a majority of etcd changes, lists and look-ups by tag are answered
//     with content.ErrUnavailable after Config.Wait. Content by its digest is
//     served all the same.
//   - What the catalogue has is never unknown to a host: what is not on its disk
//     comes from another, and is stored while it streams.
//   - The collector removes nothing that the catalogue refers to, and nothing of
//     a repository that is being pushed to at any host.
//   - A directory that belonged to no catalogue is taken in with all it has. In
//     one that belongs to this, tags follow the catalogue.
//
// # How copies are made
//
// An upload is copied to another host while it grows (tail.go). The hosts that
// take the first copies of a repository are the same wherever its pushes arrive
// (homes), so that the blobs of one push come together even when its requests went
// to several hosts. The answer to the manifest waits until enough hosts have all
// (hold.go). The other hosts copy after it (apply.go): in the end every host has
// everything.
//
// # Goroutines
//
// Run has one goroutine each for the watch, the reads of etcd's revision, the
// copies that clients wait for, this host's announcement, the pulls that are noted
// and the comparison of the directory with the catalogue; and one for each upload
// that is copied and each image on its way. It returns when all have ended.
package cluster
