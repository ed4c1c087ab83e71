// Package runtimes holds every hypervisor.Runtime to the same promises, each over
// its fake command and a real registry, and starts VMs of a whole cloud on a node
// that has tart.
package runtimes
