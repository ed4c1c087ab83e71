package listing

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"github.com/ankacluster/ankacluster/controllerapi/cloud/cloudtest"
	"github.com/ankacluster/ankacluster/controllerapi/query"
	"github.com/ankacluster/ankacluster/internal/wire"
	"github.com/ankacluster/ankacluster/registryapi"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// check asks for parts of a list, and compares the ids of what comes.
func check[T any](t *testing.T, s *query.Schema[T], rows []T, want map[string]string) {
	t.Helper()
	asked := make(map[string]bool)
	for values, want := range want {
		parsed, err := url.ParseQuery(values)
		if err != nil {
			t.Fatal(err)
		}
		ask, _, err := s.Read(parsed)
		if err != nil {
			t.Errorf("%s: %v", values, err)
			continue
		}
		var ids []string
		for _, row := range ask.Page(rows, now).Rows {
			ids = append(ids, s.ID(row))
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("%s: got %q, want %q", values, got, want)
		}
		for _, f := range s.Fields {
			asked[f.Name] = asked[f.Name] || strings.Contains(values, f.Name)
		}
	}
	for name, was := range asked {
		if !was {
			t.Errorf("no case asks for %s", name)
		}
	}
}

func TestInstances(t *testing.T) {
	t.Parallel()
	w := cloudtest.New()
	w.Put(cloud.NodeRef("n1"), cloud.Node{ID: "n1", Settings: api.NodeSettings{Name: "mac-01"}})
	w.Put(cloud.GroupRef("g1"), api.Group{ID: "g1", Name: "ios"})
	add := func(i *cloud.Instance) {
		i.Public.CRTime = now.Add(-time.Duration(i.Priority) * time.Minute)
		w.Put(cloud.InstanceRef(i.Public.InstanceID), i)
	}
	add(&cloud.Instance{Priority: 7, Template: api.TemplateRef{Name: "xcode"}, Public: api.Instance{
		InstanceID: "b", InstanceState: api.Started, Name: "nightly", ExternalID: "ci/1", NodeID: "n1", GroupID: "g1", VMID: "tpl-1", Tag: "v9",
		Arch: "arm64", USBDevice: "iphone", Metadata: api.Metadata{"job": json.Number("812"), "main": true, "branch": "x"}}})
	add(&cloud.Instance{Priority: 3, Public: api.Instance{InstanceID: "a", InstanceState: api.Scheduling, VMID: "tpl-2"}})
	add(&cloud.Instance{Priority: 1, Deleted: &now, Public: api.Instance{InstanceID: "gone", InstanceState: api.Terminated}})
	check(t, &Instances, InstancesOf(w.View), map[string]string{
		"q=": "b a", "sort=id": "a b", "q=state:started": "b", "q=-state:Scheduling,Error": "b", "q=NIGHT": "b", "q=mac-0": "b", "q=xcode": "b",
		"q=name:night*": "b", "q=ext:ci/1": "b", "q=node:mac-01": "b", "q=node:n1": "b", "q=group:ios,other": "b", "q=group:g1": "b",
		"q=template:xcode": "b", "q=template:tpl-*": "b a", "q=tag:v9": "b", "q=arch:arm64": "b", "q=usb:iphone": "b", "q=-usb:*": "a",
		"q=age<5m": "a", "q=priority>=7": "b", "sort=priority": "a b", "q=meta.job:812": "b", "q=meta.main:true": "b", "q=meta.branch:x": "b",
		"q=-meta.job:*": "a",
	})
	ask, _, err := Instances.Read(url.Values{"q": {"state:started"}})
	if err != nil {
		t.Fatal(err)
	}
	part := PartOfInstances(ask, InstancesOf(w.View), now)
	want := string(Encode([]*cloud.Instance{w.View.Instances["b"]}))
	if part.Total != 1 || string(part.Body.(wire.Encoded)) != want {
		t.Errorf("got %s, %d; want %s", part.Body, part.Total, want)
	}
}

func TestNodes(t *testing.T) {
	t.Parallel()
	rows := []api.Node{
		{NodeID: "n2", NodeName: "mac-02", State: api.NodeDrain, HostArch: "amd64", RAM: 8, CPUCount: 4, LastUpdated: now.Add(-time.Hour)},
		{NodeID: "n1", NodeName: "mac-01", State: api.NodeActive, HostArch: "arm64", RAM: 32, CPUCount: 8, VMCount: 2, IPAddress: "10.0.0.1",
			DiskSize: 500 << 30, FreeDiskSpace: 50 << 30, AgentVersion: "0.2.0", AnkaVersion: api.AnkaVersion{Version: "3.9.1"}, LastUpdated: now,
			Groups: []api.Group{{ID: "g1", Name: "ios"}}, USBDevices: []api.USBDevice{{Group: "iphone"}},
			Templates: []api.NodeImage{{UUID: "tpl-1", Name: "xcode", Tag: "v9"}}},
		{NodeID: "n3", NodeName: "mac-03", State: api.NodeInactive, LastUpdated: now},
	}
	check(t, &Nodes, rows, map[string]string{
		"q=": "n1 n2 n3", "sort=-name": "n3 n2 n1", "q=mac-01": "n1", "q=ios": "n1", "q=10.0.0.1": "n1",
		"q=state:drain": "n2", "q=state:inactive,active": "n1 n3", "q=name:mac-02": "n2", "q=id:n2": "n2", "q=host:10.0.0.*": "n1",
		"q=group:ios": "n1", "q=group:g1": "n1", "q=-group:*": "n2 n3", `q=template:xcode`: "n1", `q=template:"xcode:v9"`: "n1", "q=template:tpl-1": "n1",
		"q=usb:iphone": "n1", "q=arch:arm64": "n1", "q=agent:0.2.*": "n1", "q=anka:3.9.1": "n1", "q=ram>16G": "n1", "q=disk>=500G": "n1",
		"q=free<50G": "n2 n3", "q=cpu:4,8": "n1 n2", "q=vms:2": "n1", "q=age<5m": "n1 n3", "sort=-age": "n2 n1 n3",
	})
}

func TestTemplates(t *testing.T) {
	t.Parallel()
	rows := []registryapi.Template{
		{ID: "t2", Name: "xcode", Size: 40 << 30, Arch: "arm64", LastPush: now.Add(-48 * time.Hour).Unix(), LastPull: now.Unix()},
		{ID: "t1", Name: "Sonoma", Size: 20 << 30, LastPush: now.Unix()},
	}
	check(t, &Templates, rows, map[string]string{
		"q=": "t1 t2", "sort=-size": "t2 t1", "q=xco": "t2", "q=name:sonoma": "t1", "q=id:t2": "t2", "q=arch:arm64": "t2", "q=size>30G": "t2",
		"q=age<1d": "t1", "q=-pulled<1d": "t1",
	})
	ask, _, err := Templates.Read(url.Values{"q": {"nothing"}})
	if err != nil {
		t.Fatal(err)
	}
	if part, total, next := PartOfTemplates(ask, rows, now); part == nil || len(part) != 0 || total != 0 || next != "" {
		t.Errorf("got %v, %d, %q", part, total, next)
	}
}

// A word of a state is enough for a query; each state has another.
func TestEachStateHasItsWord(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for _, s := range []api.NodeState{api.NodeActive, api.NodeOffline, api.NodeInactive, api.NodeUpdating, api.NodeUnhealthy, api.NodeDrain} {
		if seen[firstWord(s)] {
			t.Errorf("two states begin with %q", firstWord(s))
		}
		seen[firstWord(s)] = true
	}
}
