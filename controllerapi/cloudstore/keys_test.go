package cloudstore

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"github.com/google/go-cmp/cmp"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/client/v3"
)

var update = flag.Bool("update", false, "write testdata anew")

// fill sets everything in v that JSON shows.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("x")
	case reflect.Int, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint, reflect.Uint64, reflect.Uint8, reflect.Uint16, reflect.Uint32:
		v.SetUint(1)
	case reflect.Float64:
		v.SetFloat(0.5)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Map:
		key, val := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key)
		fill(val)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, val)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)))
			return
		}
		for k := range v.NumField() {
			if field := v.Type().Field(k); field.IsExported() && field.Tag.Get("json") != "-" {
				fill(v.Field(k))
			}
		}
	}
}

// What is in etcd is read by controllers of the version before and after: keys and
// JSON are kept.
func TestKeysAndRecordsStayAsTheyAre(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	for _, table := range slices.Sorted(maps.Keys(dirs)) {
		ref := cloud.Ref{Table: table, ID: "id"}
		if !strings.HasSuffix(dirs[table], "/") {
			ref.ID = ""
		}
		record := table.New()
		if record == nil {
			fmt.Fprintf(&out, "%s\n\n", key(ref))
			continue
		}
		fill(reflect.ValueOf(record).Elem())
		data, err := json.Marshal(record)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "%s\n%s\n\n", key(ref), data)

		// It comes back as it was written.
		if got, ok := refOf(key(ref)); !ok || got != ref {
			t.Errorf("%s is read as %v, want %v", key(ref), got, ref)
		}
		v := cloud.NewView()
		ev := &clientv3.Event{Type: clientv3.EventTypePut, Kv: &mvccpb.KeyValue{Key: []byte(key(ref)), Value: data, ModRevision: 2, CreateRevision: 1}}
		if err := apply(v, ev, new(cloud.Changes)); err != nil {
			t.Errorf("%s: %v", key(ref), err)
		}
	}
	const golden = "testdata/records.golden"
	if *update {
		if err := os.WriteFile(golden, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(out.String(), "\n")); diff != "" {
		t.Errorf("keys or records have changed (-want +got):\n%s", diff)
	}
}

func TestKeysOfANewerVersionAreLeft(t *testing.T) {
	t.Parallel()
	v := cloud.NewView()
	for _, name := range []string{"new", "new/id", "meta/id"} {
		ev := &clientv3.Event{Type: clientv3.EventTypePut, Kv: &mvccpb.KeyValue{Key: []byte(watched + name), Value: []byte("?")}}
		if err := apply(v, ev, new(cloud.Changes)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	ev := &clientv3.Event{Type: clientv3.EventTypePut, Kv: &mvccpb.KeyValue{Key: []byte(dirNode + "n"), Value: []byte("?")}}
	if err := apply(v, ev, new(cloud.Changes)); err == nil || len(v.Nodes) != 0 {
		t.Errorf("a record that does not decode: %v, %d nodes", err, len(v.Nodes))
	}
	// The fence of a version before was a stamp: it moves, and tells no ages.
	var ch cloud.Changes
	ev = &clientv3.Event{Type: clientv3.EventTypePut, Kv: &mvccpb.KeyValue{Key: []byte(keyFence), Value: []byte(`"2026-01-02T03:04:05Z"`), ModRevision: 7}}
	if err := apply(v, ev, &ch); err != nil || v.FenceRev != 7 || ch.Fence != nil {
		t.Errorf("a fence of before: %v, at %d, %v", err, v.FenceRev, ch.Fence)
	}
}
