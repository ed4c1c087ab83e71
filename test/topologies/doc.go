// Package topologies holds the proofs of the topologies that deploy and the
// documentation describe, with real processes: one machine with a service
// manager, three hosts with addresses of their own that are killed and cut off.
//
//	make test-topologies
//
// A proof that needs root, systemd or network namespaces and does not find them
// is skipped with a line that says so.
package topologies
