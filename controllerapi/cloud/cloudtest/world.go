// Package cloudtest has a cloud in memory, for tests of the domain: it commits the
// changes that decisions return as etcd would.
package cloudtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
)

// ErrConflict: what a change was decided on is no longer so.
var ErrConflict = errors.New("state changed meanwhile")

// World is a view with the revisions of its records, and a time that passes when
// Pass is called. Records that are not in views, such as start requests, are
// counted in Beside.
type World struct {
	View   *cloud.View
	Now    time.Time
	Beside map[cloud.Ref]bool

	rev     int64
	created map[cloud.Ref]int64
	revs    map[cloud.Ref]int64
}

// New returns an empty cloud that has a keeper.
func New() *World {
	w := &World{
		View: cloud.NewView(), Now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Beside: make(map[cloud.Ref]bool),
		created: make(map[cloud.Ref]int64), revs: make(map[cloud.Ref]int64),
	}
	w.View.Sort()
	w.Put(cloud.MetaRef, cloud.Meta{CloudID: "cloud"})
	w.MoveFence()
	return w
}

// Pass lets time pass.
func (w *World) Pass(d time.Duration) { w.Now = w.Now.Add(d) }

// MoveFence does what the keeper does every cloud.FenceTick.
func (w *World) MoveFence() { w.Put(cloud.FenceRef, w.View.Ages.Record(w.Now)) }

// Put writes a record.
func (w *World) Put(ref cloud.Ref, record any) {
	w.rev++
	w.write(cloud.Op{Ref: ref, Record: record})
	w.advance()
}

// Delete deletes a record.
func (w *World) Delete(ref cloud.Ref) { w.Put(ref, nil) }

// Commit applies a change, or returns ErrConflict.
func (w *World) Commit(c *cloud.Change) error {
	for _, m := range c.Musts {
		if w.revs[m.Ref] != m.Rev {
			return fmt.Errorf("%v is at revision %d, not %d: %w", m.Ref, w.revs[m.Ref], m.Rev, ErrConflict)
		}
	}
	for _, s := range c.Settled {
		for ref, rev := range w.revs {
			if ref.Table == s.Table && rev > s.Rev {
				return fmt.Errorf("%v was written since: %w", ref, ErrConflict)
			}
		}
	}
	w.rev++
	written := make(map[cloud.Ref]bool)
	for _, op := range c.Ops {
		if written[op.Ref] {
			return fmt.Errorf("%v is written twice in a change", op.Ref) // etcd refuses it
		}
		written[op.Ref] = true
		w.write(op)
	}
	w.advance()
	return nil
}

// write brings one record into the view as it comes back from etcd: by its JSON.
func (w *World) write(op cloud.Op) {
	record := op.Table.New()
	if record == nil {
		w.Beside[op.Ref] = op.Record != nil
	}
	if op.Record == nil {
		delete(w.revs, op.Ref)
		delete(w.created, op.Ref)
		record = nil
	} else {
		w.revs[op.Ref] = w.rev
		if w.created[op.Ref] == 0 {
			w.created[op.Ref] = w.rev
		}
	}
	if record != nil {
		data, err := json.Marshal(op.Record)
		if err == nil {
			err = json.Unmarshal(data, record)
		}
		if err != nil {
			panic(fmt.Sprintf("record %v: %v", op.Ref, err))
		}
	}
	w.View.Apply(op.Ref, record, cloud.Version{Created: w.created[op.Ref], Rev: w.rev, Lease: op.Lease}, new(cloud.Changes))
}

func (w *World) advance() {
	w.View.Rev = w.rev
	w.View.Ages.Note(w.rev, w.Now)
}

// Do makes a decision and commits its change. It returns the decision's error.
func (w *World) Do(t testing.TB, decide func(v *cloud.View, now time.Time) (*cloud.Change, bool, error)) error {
	t.Helper()
	c, _, err := decide(w.View, w.Now)
	if err != nil {
		return err
	}
	if c.TooLarge() {
		t.Fatalf("a change of %d records", len(c.Ops))
	}
	if err := w.Commit(c); err != nil {
		t.Fatal(err)
	}
	return nil
}

// Update changes an instance as Store does.
func (w *World) Update(t testing.TB, id api.InstanceID, f func(i *cloud.Instance) error) error {
	t.Helper()
	return w.Do(t, func(v *cloud.View, _ time.Time) (*cloud.Change, bool, error) {
		c, _, err := v.UpdateInstance(id, f)
		return c, false, err
	})
}

// AddNode adds a node that is alive, with room for vms VMs.
func (w *World) AddNode(id api.NodeID, vms int) {
	facts := api.NodeFacts{HostArch: "amd64", CPUCount: 8, RAM: 32, LicenseValid: true}
	w.Put(cloud.NodeRef(id), cloud.Node{ID: id, Session: "s", Registered: w.Now, Facts: facts, FactsHash: "facts",
		Settings: api.NodeSettings{Name: string(id), MaxVMCount: vms, CapacityMode: "number"}})
	w.rev++
	w.write(cloud.Op{Ref: cloud.NodeLeaseRef(id), Record: cloud.NodeLease{Session: "s"}, Lease: 1})
	w.advance()
}

// Start adds n instances of one start request, named id, or id-1 and so on.
func (w *World) Start(t testing.TB, id api.InstanceID, n int, macs cloud.MACSource) []api.InstanceID {
	t.Helper()
	var list []*cloud.Instance
	var ids []api.InstanceID
	for k := range n {
		one := id
		if n > 1 {
			one = api.InstanceID(fmt.Sprintf("%s-%d", id, k+1))
		}
		ids = append(ids, one)
		list = append(list, &cloud.Instance{
			Public:  api.Instance{InstanceID: one, InstanceState: api.Scheduling, CRTime: w.Now},
			Request: string(id), Attempt: 1, Template: api.TemplateRef{ID: "template"},
		})
	}
	err := w.Do(t, func(v *cloud.View, _ time.Time) (*cloud.Change, bool, error) {
		return v.CreateInstances(cloud.StartRequestRecord{ID: string(id)}, list, nil, macs)
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}
