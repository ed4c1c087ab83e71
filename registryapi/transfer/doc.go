// Package transfer moves VM templates between a machine and a registry over the
// OCI distribution API, and does not give up when connections do.
//
//	c, err := transfer.New(transfer.Config{Base: "http://10.0.1.4:8089", HTTP: hc})
//	pulled, err := c.Pull(ctx, "team/sonoma", "v1", dir, transfer.PullOptions{})
//	digest, err := c.Push(ctx, "team/sonoma", "v2", image, transfer.PushOptions{})
//
// # What it guarantees
//
//   - A file appears under its name only complete, with the digest that the
//     manifest says, and flushed to disk. Until then it is a partial file in the
//     directory ".partial".
//   - A pull that was cut, killed or cancelled goes on where it stopped: the
//     partial file is kept together with the state of its hash, so that neither
//     the network nor the processor does the work twice.
//   - A push asks the server how far it got and sends the rest. Blobs that the
//     registry has are not sent. The manifest, and with it the tag, comes last.
//   - Nothing has a total time limit, because a template of 60 GB over a slow
//     line is no error. A transfer ends when no byte moved for Config.Idle,
//     Config.Attempts times in a row.
//   - The registry may be a pool: every request may be answered by another
//     server, also in the middle of a blob. An upload session that the answering
//     server does not know is begun anew.
//
// # What it does not
//
// It does not choose among registries; that is the transport's work (package
// balancer). The exception is a striped pull, which reads one blob from several
// registries at once because one alone is too slow.
//
// A Client is safe for concurrent use. Two pulls into one directory at once are
// not; callers hold a lock.
//
// # Goroutines
//
// Push and Pull start at most Config.Parallel goroutines (a striped pull two a
// registry) and have waited for all of them when they return.
package transfer
