package cloudstore

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/client/v3"
)

// refOf returns the record that is kept at a watched key; false for a key of a
// newer version of ours.
func refOf(key string) (cloud.Ref, bool) {
	rest := key[len(watched):]
	if slash := strings.IndexByte(rest, '/'); slash >= 0 {
		table, ok := tables[key[:len(watched)+slash+1]]
		return cloud.Ref{Table: table, ID: rest[slash+1:]}, ok
	}
	table, ok := tables[key]
	return cloud.Ref{Table: table}, ok
}

// tables are the tables by their directories.
var tables = func() map[string]cloud.Table {
	m := make(map[string]cloud.Table, len(dirs))
	for table, dir := range dirs {
		m[dir] = table
	}
	return m
}()

// apply brings one event into the view. It returns an error for a record that
// does not decode; the view is then as before.
func apply(v *cloud.View, ev *clientv3.Event, ch *cloud.Changes) error {
	ref, ok := refOf(string(ev.Kv.Key))
	if !ok {
		return nil
	}
	if ev.Type == mvccpb.DELETE {
		v.Apply(ref, nil, cloud.Version{Rev: ev.Kv.ModRevision}, ch)
		return nil
	}
	record := ref.Table.New()
	if err := json.Unmarshal(ev.Kv.Value, record); err != nil {
		if ref.Table != cloud.FenceTable { // of an older version, a stamp
			return fmt.Errorf("%s: %w", ref.Table, err)
		}
		record = (*cloud.FenceRecord)(nil)
	}
	v.Apply(ref, record, cloud.Version{Created: ev.Kv.CreateRevision, Rev: ev.Kv.ModRevision, Lease: ev.Kv.Lease}, ch)
	return nil
}
