// Package topologies holds the proofs of the topologies that deploy and the
// documentation describe, with real processes: one machine with a service
// manager; three hosts with addresses of their own that are killed, cut off and
// upgraded; nginx and HAProxy in front; the compose files with a Docker engine;
// registries that share a directory or copy from one another. The Helm chart has
// its proofs in test/deploy.
//
//	make test-topologies
//	make test-topologies TOPOLOGIES=TestRollingUpgrade
//
// A proof that needs root, systemd, network namespaces or Docker and does not
// find them is skipped with a line that says so. Few of them run in `make test`.
package topologies
