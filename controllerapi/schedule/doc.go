// Package schedule decides which waiting task goes to which node. It is pure: it
// takes the state of the cloud and the time and returns decisions; it neither
// locks, logs, nor reads a clock.
//
// Nodes pull: only a node that waits for work is given any. The order of tasks is
// total: by creation time plus a penalty for a less urgent priority, so that a
// task that is passed over moves up as time goes by and none starves.
package schedule
