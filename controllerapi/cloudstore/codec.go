package cloudstore

import (
	"encoding/json"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// refOf returns the record that is kept at a watched key; false for a key of a
// newer version of ours.
func refOf(key string) (Ref, bool) {
	rest := key[len(watched):]
	if slash := strings.IndexByte(rest, '/'); slash >= 0 {
		table, ok := tables[key[:len(watched)+slash+1]]
		return Ref{table, rest[slash+1:]}, ok
	}
	table, ok := tables[key]
	return Ref{Table: table}, ok
}

// tables are the tables by their directories.
var tables = func() map[string]Table {
	m := make(map[string]Table, len(dirs))
	for table, dir := range dirs {
		m[dir] = table
	}
	return m
}()

// apply brings one event into the view. It returns an error for a record that
// does not decode; the view is then as before.
func apply(v *View, ev *clientv3.Event, ch *Changes) error {
	ref, ok := refOf(string(ev.Kv.Key))
	if !ok {
		return nil
	}
	if ev.Type == mvccpb.DELETE {
		v.Apply(ref, nil, Version{}, ch)
		return nil
	}
	record := ref.Table.New()
	if err := json.Unmarshal(ev.Kv.Value, record); err != nil {
		if ref.Table != FenceTable { // of an older version, a stamp
			return fmt.Errorf("%s: %w", ref.Table, err)
		}
		record = (*FenceRecord)(nil)
	}
	v.Apply(ref, record, Version{Created: ev.Kv.CreateRevision, Rev: ev.Kv.ModRevision, Lease: ev.Kv.Lease}, ch)
	return nil
}
