// Package etcdkit holds what every user of etcd here needs and etcd's client
// does not have: calls that are sent again to another member when the first is
// late, and the sorting of errors into those that pass and those that do not.
//
// It knows no keys and no records.
package etcdkit
