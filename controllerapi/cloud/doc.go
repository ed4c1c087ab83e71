// Package cloud is what the cloud is: instances, nodes, groups, roll-outs, saved
// images and MAC addresses, and the rules by which they change. It knows neither
// etcd nor HTTP, does not wait, and starts no goroutine.
//
// # State
//
// A View is all state at one revision, with its indices. Records that are in a
// View are immutable: change a copy, and replace what pointers point to instead
// of writing through them. View.Apply takes a record in.
//
// # Decisions
//
// What may happen is decided by methods of View and Instance, from the view and
// what is asked for, at the time that is passed. Most return a Change: the records
// to be written, all or none, and those that must still be as the view has them.
// Next to it they report whether their word counts even if the view is old; if
// not, an error is only true of a view that is proven fresh. ErrNoChange is a
// decision that finds nothing to do. A decision may be made again after a change
// of its own went through, so it must recognize its own work.
//
// # Time
//
// No decision compares the clocks of two machines. Revisions order what happens,
// and Ages tells how long ago a revision was, as far as this process saw it.
// Stamps in records are for people.
package cloud
