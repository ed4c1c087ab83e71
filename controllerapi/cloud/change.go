package cloud

import (
	"errors"

	api "github.com/ankacluster/ankacluster/controllerapi"
)

// Table names a kind of records.
type Table string

// The tables. Those of the first group hold one record, without an id.
const (
	MetaTable    Table = "meta"
	FenceTable   Table = "clock"
	ClusterTable Table = "cluster"
	MACPoolTable Table = "macpool"

	InstanceTable    Table = "instance"
	NodeTable        Table = "node"
	NodeReportTable  Table = "state"
	NodeLeaseTable   Table = "live"
	HandoutLogTable  Table = "ledger"
	GroupTable       Table = "group"
	MemberTable      Table = "member"
	SaveTable        Table = "image"
	RolloutTable     Table = "job"
	RolloutNodeTable Table = "jobnode" // the id is <job>/<node>
	ServerTable      Table = "server"  // the id is <announcer>/<kind>/<id>
	LargeStartTable  Table = "batch"
	LoadTable        Table = "load"
	LeaderTable      Table = "leader"
	MACTable         Table = "mac"
	SizeTable        Table = "size"

	// These are not in the view; they are read when they are needed.
	RequestTable Table = "request"
	OutputTable  Table = "output" // the id is <instance or image>/<stdout or stderr>
)

// Ref names a record. For each table there is a function that makes it of an id.
type Ref struct {
	Table Table
	ID    string
}

func InstanceRef(id api.InstanceID) Ref { return Ref{InstanceTable, string(id)} }
func NodeRef(id api.NodeID) Ref         { return Ref{NodeTable, string(id)} }
func NodeReportRef(id api.NodeID) Ref   { return Ref{NodeReportTable, string(id)} }
func NodeLeaseRef(id api.NodeID) Ref    { return Ref{NodeLeaseTable, string(id)} }
func HandoutLogRef(id api.NodeID) Ref   { return Ref{HandoutLogTable, string(id)} }
func GroupRef(id api.GroupID) Ref       { return Ref{GroupTable, string(id)} }
func MemberRef(id api.GroupID) Ref      { return Ref{MemberTable, string(id)} }
func SaveRef(id string) Ref             { return Ref{SaveTable, id} }
func RolloutRef(id string) Ref          { return Ref{RolloutTable, id} }
func ServerRef(id string) Ref           { return Ref{ServerTable, id} }
func LargeStartRef(id string) Ref       { return Ref{LargeStartTable, id} }
func RequestRef(id string) Ref          { return Ref{RequestTable, id} }
func LeaderRef(duty string) Ref         { return Ref{LeaderTable, duty} }
func LoadRef(store string) Ref          { return Ref{LoadTable, store} }
func MACRef(addr string) Ref            { return Ref{MACTable, addr} }
func SizeRef(id api.TemplateID) Ref     { return Ref{SizeTable, string(id)} }
func OutputRef(id, which string) Ref    { return Ref{OutputTable, id + "/" + which} }

func RolloutNodeRef(job string, node api.NodeID) Ref {
	return Ref{RolloutNodeTable, job + "/" + string(node)}
}

// The records that are alone in their table.
var (
	MetaRef    = Ref{Table: MetaTable}
	FenceRef   = Ref{Table: FenceTable}
	ClusterRef = Ref{Table: ClusterTable}
	MACPoolRef = Ref{Table: MACPoolTable}
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

// Must requires that a record is still as it was at rev; 0 means absent.
func (c *Change) Must(ref Ref, rev int64) { c.Musts = append(c.Musts, Must{ref, rev}) }

// Settle requires that no record of the table was written after rev.
func (c *Change) Settle(table Table, rev int64) { c.Settled = append(c.Settled, Settled{table, rev}) }

// Put writes a record.
func (c *Change) Put(ref Ref, record any) { c.Ops = append(c.Ops, Op{Ref: ref, Record: record}) }

// PutLeased writes a record that ends with a lease.
func (c *Change) PutLeased(ref Ref, record any, lease int64) {
	c.Ops = append(c.Ops, Op{Ref: ref, Record: record, Lease: lease})
}

// Delete deletes a record. It need not be there.
func (c *Change) Delete(ref Ref) { c.Ops = append(c.Ops, Op{Ref: ref}) }

// TooLarge reports whether the change does not fit into one transaction.
func (c *Change) TooLarge() bool {
	return len(c.Ops) > maxOps || len(c.Musts)+len(c.Settled) > maxOps
}

// ErrNoChange is returned by a decision that finds nothing to do.
var ErrNoChange = errors.New("nothing to change")

// IgnoreNoChange returns err, or nil for ErrNoChange.
func IgnoreNoChange(err error) error {
	if errors.Is(err, ErrNoChange) {
		return nil
	}
	return err
}
