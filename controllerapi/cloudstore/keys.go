package cloudstore

import (
	"strings"

	"github.com/ankacluster/ankacluster/controllerapi"
)

// Prefix is above all keys of a cloud.
const Prefix = "/ankacluster/"

// Watched state, each a JSON record.
const (
	watched = Prefix + "s/"

	keyMeta    = watched + "meta"    // the cloud's identity, written once
	keyClock   = watched + "clock"   // moves on every clockTick; see keeper.go
	keyCluster = watched + "cluster" // the announced lists with their generation

	dirInstance = watched + "instance/"
	dirNode     = watched + "node/"   // facts, settings, session
	dirState    = watched + "state/"  // what the node's last changed sync said
	dirLive     = watched + "live/"   // on the node's lease
	dirLedger   = watched + "ledger/" // tasks handed to the node
	dirGroup    = watched + "group/"
	dirMember   = watched + "member/"  // nodes of a group
	dirImage    = watched + "image/"   // save-image requests
	dirJob      = watched + "job/"     // one task for each of several nodes
	dirJobNode  = watched + "jobnode/" // how it stands at a node: <job>/<node>
	dirServer   = watched + "server/"  // announcements, on the controllers' leases
	dirBatch    = watched + "batch/"   // start requests that take several transactions
	dirLoad     = watched + "load/"    // nodes' load, broadcast by controllers
	dirLeader   = watched + "leader/"
	dirMAC      = watched + "mac/"  // addresses in use
	dirSize     = watched + "size/" // what VMs of a template take, by template

	keyMACPool = watched + "macpool"
)

// State that is read when it is needed.
const (
	unwatched  = Prefix + "u/"
	dirRequest = unwatched + "request/" // start requests by batch
	dirIdem    = unwatched + "idem/"
	dirOutput  = unwatched + "output/" // scripts' long outputs by instance
)

// key is where a record is kept.
func (r Ref) key() string { return dirs[r.Table] + r.ID }

// dirs are the keys of the tables, less the records' ids.
var dirs = map[Table]string{
	metaTable: keyMeta, clockTable: keyClock, clusterTable: keyCluster, macPoolTable: keyMACPool,
	instanceTable: dirInstance, nodeTable: dirNode, stateTable: dirState, liveTable: dirLive, ledgerTable: dirLedger,
	groupTable: dirGroup, memberTable: dirMember, imageTable: dirImage, jobTable: dirJob, jobNodeTable: dirJobNode,
	serverTable: dirServer, batchTable: dirBatch, loadTable: dirLoad, leaderTable: dirLeader, macTable: dirMAC,
	sizeTable: dirSize, requestTable: dirRequest, outputTable: dirOutput,
}

// Task ids carry what they are about, so that a report finds its record without
// an index: kind letter, record, and what tells repeats apart. Node ids come
// last, because they may hold dots.
const (
	taskStart     = "s" // s.<instance>.<attempt>
	taskTerminate = "t" // t.<instance>
	taskRestart   = "r" // r.<instance>.<restart>
	taskImage     = "i" // i.<image request>
	taskJob       = "j" // j.<job>.<node>
)

// splitTask returns the kind letter and the rest's first part and remainder.
func splitTask(id controllerapi.TaskID) (kind, ref, rest string) {
	kind, tail, _ := strings.Cut(string(id), ".")
	ref, rest, _ = strings.Cut(tail, ".")
	return kind, ref, rest
}
