// Package node is the process of an agent: it wires the agent to all that it stands on.
//
//	err := node.Run(ctx, dir) // until ctx ends, or the agent
//
// Around the agent there are the pools of controllers and registries (Pools), the
// loopback registry that the hypervisor's command pulls from and pushes to
// (registryProxy), the logs and the way to the central ones, the hypervisor, the
// program's upgrades, the metrics and the status socket. They outlive the agent by a
// moment: while it finishes, its commands need the registries, and people its status.
//
// Commands of ankacluster that speak for the node without its agent use the same
// Pools, Plain and NewRuntime.
package node
