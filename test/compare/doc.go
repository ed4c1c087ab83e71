// Command compare holds the same drills through haproxy, nginx and caddy, a
// rotating Go client and package balancer, and writes one table of what the
// callers saw, with the loopback proxy's throughput beside HAProxy's.
//
//	go run ./test/compare -program bin/ankacluster -out docs/balancing-comparison.md
//
// With -results the rows are kept in a file, and a later run adds to it, so that
// the comparison can be made in pieces on a machine that has other work too;
// -render only writes the table from them.
package main
