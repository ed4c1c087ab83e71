package cloudstore

import (
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
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
	dirSave        = watched + "image/"   // save-image requests
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
func key(r cloud.Ref) string { return dirs[r.Table] + r.ID }

// dirs are the keys of the tables, less the records' ids.
var dirs = map[cloud.Table]string{
	cloud.MetaTable: keyMeta, cloud.FenceTable: keyFence, cloud.ClusterTable: keyCluster, cloud.MACPoolTable: keyMACPool,
	cloud.InstanceTable: dirInstance, cloud.NodeTable: dirNode, cloud.NodeReportTable: dirNodeReport, cloud.NodeLeaseTable: dirNodeLease, cloud.HandoutLogTable: dirHandoutLog,
	cloud.GroupTable: dirGroup, cloud.MemberTable: dirMember, cloud.SaveTable: dirSave, cloud.RolloutTable: dirRollout, cloud.RolloutNodeTable: dirRolloutNode,
	cloud.ServerTable: dirServer, cloud.LargeStartTable: dirLargeStart, cloud.LoadTable: dirLoad, cloud.LeaderTable: dirLeader, cloud.MACTable: dirMAC,
	cloud.SizeTable: dirSize, cloud.RequestTable: dirRequest, cloud.OutputTable: dirOutput,
}
