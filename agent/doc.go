// Package agent is the node's part of the cloud: it keeps a session with the
// controllers, takes tasks, and makes the VMs on the node those that the cloud
// wants.
//
//	a, err := agent.New(cfg, dir, id, agent.Deps{Cloud: client, Runtime: anka, ...})
//	err = a.Run(ctx)
//
// # Guarantees
//
//   - A task that was claimed is finished, handed back, or reported as failed,
//     also when the agent is killed in its middle: the journal is written before
//     each step that leaves something behind.
//   - A VM that is not the cloud's, by its name's prefix, is never touched. One
//     that is, is removed only when its instance was ended, when its start
//     failed, or when the cloud lists it as unknown.
//   - Heartbeats wait for nothing but controllers: no hypervisor, registry or
//     disk can delay them.
//   - When another process acts for this node, Run ends.
//
// # Not guaranteed
//
// A start-up script may run again when the agent is killed before the instance
// was reported as started; the VM is then a new one.
//
// # Goroutines
//
// Run owns one each for the session (heartbeats), the inventory of VMs, the node's
// address, the reconciler, the two long polls that ask for tasks (starts, everything
// else), and the VM monitor; and one for each record that is worked on, with
// one beside it that reports progress. All have ended when Run returns.
//
// # Owners
//
// Agent connects owners that have one job each, with their own fields, their own lock
// and, where they go on by themselves, their own run:
//
//	session      registers the node and sends heartbeats (statement is what they say)
//	membership   where the node stands with its cloud: settings, servers, last answer
//	assignments  what the cloud wants of the node
//	taskPoll     asks for tasks; headroom knows how much more the node may take
//	claims       takes tasks in and gives them up, in the journal
//	reconciler   compares assignments, journal and VMs (Plan), and acts
//	workers      the goroutines that work on records, one a record
//	tasks        the owner of each kind: starter, instances, saver, imageTasks, upgrade
//	outcomes     ends tasks and reports them
//	inventory    the VMs as the hypervisor lists them; vms is what is done to one
//	images       package images: pulls, ledger, eviction
//	monitor      finds VMs that do not answer
//	fitness      whether the node takes starts; address, awake, errorLog, statusPage
//
// They wake one another by wakeups, and hold no lock while they call one another,
// except that a pull is begun under the lock of its cache.
//
// # Locks
//
// Each owner's mu guards its own fields. No lock is held while a command, a request
// or (but for journal.writing and the image ledger, which order writes) a file is
// waited for.
//
// # Rooms beside this one
//
// Package node wires an agent into a process; state, socket and machine are what needs
// no agent: the state directory, the status socket, and what a host says of itself.
//
// # Metrics
//
// anka_agent_heartbeats_total, _heartbeat_seconds, _tasks_started_total,
// _tasks_total, _task_seconds, _pulls_total, _pull_seconds, _vm_starts_total,
// _vm_start_seconds.
package agent
