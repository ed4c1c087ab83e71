// Package simnode simulates nodes: agents that speak the real agent wire and
// start virtual machines that are only entries in a Ledger. Thousands fit into
// one process.
//
//	ledger := simnode.NewLedger()
//	n := simnode.New(simnode.Config{ID: "node-1", Capacity: 2}, client, ledger)
//	err := n.Run(ctx)
//
// A Node keeps what a real agent keeps on disk (its VMs and the tasks it holds)
// over several Runs, so that ending a Run and beginning another is a crash and a
// restart of the agent.
//
// The Ledger sees every VM of every node at the moment it begins and ends, which
// no controller can, and so knows what was doubled, lost or put onto a full node.
//
// Goroutines: Run owns one for the heartbeat, one for the long poll and one for
// each task in hand, and waits for all of them.
package simnode
