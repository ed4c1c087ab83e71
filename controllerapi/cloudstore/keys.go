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
	keyFence   = watched + "clock"   // moves on every FenceTick
	keyCluster = watched + "cluster" // the announced lists with their generation

	dirInstance    = watched + "instance/"
	dirNode        = watched + "node/"   // facts, settings, session
	dirNodeReport  = watched + "state/"  // what the node's last changed sync said
	dirNodeLease   = watched + "live/"   // on the node's lease
	dirHandoutLog  = watched + "ledger/" // tasks handed to the node
	dirGroup       = watched + "group/"
	dirMember      = watched + "member/"  // nodes of a group
	dirImage       = watched + "image/"   // save-image requests
	dirRollout     = watched + "job/"     // one task for each of several nodes
	dirRolloutNode = watched + "jobnode/" // how it stands at a node: <job>/<node>
	dirServer      = watched + "server/"  // announcements, on the controllers' leases
	dirLargeStart  = watched + "batch/"   // start requests that take several transactions
	dirLoad        = watched + "load/"    // nodes' load, broadcast by controllers
	dirLeader      = watched + "leader/"
	dirMAC         = watched + "mac/"  // addresses in use
	dirSize        = watched + "size/" // what VMs of a template take, by template

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
	MetaTable: keyMeta, FenceTable: keyFence, ClusterTable: keyCluster, MACPoolTable: keyMACPool,
	InstanceTable: dirInstance, NodeTable: dirNode, NodeReportTable: dirNodeReport, NodeLeaseTable: dirNodeLease, HandoutLogTable: dirHandoutLog,
	GroupTable: dirGroup, MemberTable: dirMember, ImageTable: dirImage, RolloutTable: dirRollout, RolloutNodeTable: dirRolloutNode,
	ServerTable: dirServer, LargeStartTable: dirLargeStart, LoadTable: dirLoad, LeaderTable: dirLeader, MACTable: dirMAC,
	SizeTable: dirSize, RequestTable: dirRequest, OutputTable: dirOutput,
}

// Task ids carry what they are about, so that a report finds its record without
// an index: kind letter, record, and what tells repeats apart. Node ids come
// last, because they may hold dots.
const (
	KindStart     = "s" // s.<instance>.<attempt>
	KindTerminate = "t" // t.<instance>
	KindRestart   = "r" // r.<instance>.<restart>
	KindImage     = "i" // i.<image request>
	KindRollout   = "j" // j.<job>.<node>
)

// SplitTask returns the kind letter and the rest's first part and remainder.
func SplitTask(id controllerapi.TaskID) (kind, ref, rest string) {
	kind, tail, _ := strings.Cut(string(id), ".")
	ref, rest, _ = strings.Cut(tail, ".")
	return kind, ref, rest
}
