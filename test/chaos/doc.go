// Package chaos runs clients and simulated nodes against three controllers and
// three etcd members, all real processes, while these are killed, stopped and
// cut off, and then asks whether anybody could have noticed.
//
//	result, err := chaos.Run(ctx, chaos.DefaultConfig(), bin, dir, t.Logf)
//
// The faults are planned from a seed before anything starts, so that a failure
// can be run again: the same faults hit the same servers at the same times. What
// the processes were doing at that moment is not the same, which is why a soak
// is long.
//
// # What is checked
//
// Package history checks every answer that clients and nodes got. Package
// simnode's ledger checks the virtual machines themselves. At the end everything
// is healed and terminated, and then no VM, no instance and no task may be left.
// Every request that carries an idempotency key has to succeed, since one
// controller and two etcd members are always well.
//
// # What a cut is
//
// Every server is reached through a proxy of the test's own. A cut one's proxy
// stops to forward, in both directions, and takes new connections without
// answering, as a firewall that drops packets does. An etcd member that is cut
// off still reaches the others: it hears its peers and cannot answer them, which
// is worse for them than silence.
package chaos
