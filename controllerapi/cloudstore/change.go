package cloudstore

import (
	api "github.com/ankacluster/ankacluster/controllerapi"
)

// Table names a kind of records.
type Table string

// The tables. Those of the first group hold one record, without an id.
const (
	metaTable    Table = "meta"
	clockTable   Table = "clock"
	clusterTable Table = "cluster"
	macPoolTable Table = "macpool"

	instanceTable Table = "instance"
	nodeTable     Table = "node"
	stateTable    Table = "state"
	liveTable     Table = "live"
	ledgerTable   Table = "ledger"
	groupTable    Table = "group"
	memberTable   Table = "member"
	imageTable    Table = "image"
	jobTable      Table = "job"
	jobNodeTable  Table = "jobnode" // the id is <job>/<node>
	serverTable   Table = "server"  // the id is <announcer>/<kind>/<id>
	batchTable    Table = "batch"
	loadTable     Table = "load"
	leaderTable   Table = "leader"
	macTable      Table = "mac"
	sizeTable     Table = "size"

	// These are not in the view; they are read when they are needed.
	requestTable Table = "request"
	outputTable  Table = "output" // the id is <instance or image>/<stdout or stderr>
)

// Ref names a record.
type Ref struct {
	Table Table
	ID    string
}

func instanceRef(id api.InstanceID) Ref { return Ref{instanceTable, string(id)} }
func nodeRef(id api.NodeID) Ref         { return Ref{nodeTable, string(id)} }
func stateRef(id api.NodeID) Ref        { return Ref{stateTable, string(id)} }
func liveRef(id api.NodeID) Ref         { return Ref{liveTable, string(id)} }
func ledgerRef(id api.NodeID) Ref       { return Ref{ledgerTable, string(id)} }
func groupRef(id api.GroupID) Ref       { return Ref{groupTable, string(id)} }
func memberRef(id api.GroupID) Ref      { return Ref{memberTable, string(id)} }
func imageRef(id string) Ref            { return Ref{imageTable, id} }
func jobRef(id string) Ref              { return Ref{jobTable, id} }
func serverRef(id string) Ref           { return Ref{serverTable, id} }
func batchRef(id string) Ref            { return Ref{batchTable, id} }
func requestRef(id string) Ref          { return Ref{requestTable, id} }
func leaderRef(duty string) Ref         { return Ref{leaderTable, duty} }
func loadRef(store string) Ref          { return Ref{loadTable, store} }
func macRef(addr string) Ref            { return Ref{macTable, addr} }
func sizeRef(id api.TemplateID) Ref     { return Ref{sizeTable, string(id)} }
func outputRef(id, which string) Ref    { return Ref{outputTable, id + "/" + which} }

func jobNodeRef(job string, node api.NodeID) Ref {
	return Ref{jobNodeTable, job + "/" + string(node)}
}

// The records that are alone in their table.
var (
	metaRef    = Ref{Table: metaTable}
	clockRef   = Ref{Table: clockTable}
	clusterRef = Ref{Table: clusterTable}
	macPoolRef = Ref{Table: macPoolTable}
)

// maxOps is how many records a Change may write, and compare.
const maxOps = 120

// Change is what a decision wants written, all of it or nothing.
type Change struct {
	Musts   []Must
	Settled []Settled
	Ops     []Op
	// Answer is what the caller will be told; it is kept under the request's
	// idempotency key in the same transaction.
	Answer any

	members map[api.GroupID][]api.NodeID // see seal
}

// Must requires that a record is still as it was at Rev; 0 means absent.
type Must struct {
	Ref
	Rev int64
}

// Settled requires that no record of a table was written after Rev.
type Settled struct {
	Table Table
	Rev   int64
}

// Op writes a record, or deletes it when Record is nil.
type Op struct {
	Ref
	Record any
	Lease  int64 // with which the record ends, 0 for none
}

// must requires that a record is still as it was at rev; 0 means absent.
func (c *Change) must(ref Ref, rev int64) { c.Musts = append(c.Musts, Must{ref, rev}) }

// settled requires that no record of the table was written after rev.
func (c *Change) settled(table Table, rev int64) { c.Settled = append(c.Settled, Settled{table, rev}) }

// put writes a record.
func (c *Change) put(ref Ref, record any) { c.Ops = append(c.Ops, Op{Ref: ref, Record: record}) }

// putLeased writes a record that ends with a lease.
func (c *Change) putLeased(ref Ref, record any, lease int64) {
	c.Ops = append(c.Ops, Op{Ref: ref, Record: record, Lease: lease})
}

func (c *Change) delete(ref Ref) { c.Ops = append(c.Ops, Op{Ref: ref}) }

// tooLarge reports whether the change does not fit into one transaction.
func (c *Change) tooLarge() bool {
	return len(c.Ops) > maxOps || len(c.Musts)+len(c.Settled) > maxOps
}
