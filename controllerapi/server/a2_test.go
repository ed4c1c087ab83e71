package server

import (
	"strings"
	"testing"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/google/uuid"
)

// A2: what the cloud set outlives kill -9, reboot and upgrade of the node, on
// every controller; join's flags are the first values, and those of a re-join
// overwrite once.
func TestA2NodeKeepsWhatTheCloudSet(t *testing.T) {
	c := startCloud(t, 2, nil)
	n := newNode(t, "n1", c.controllers...)
	group := func(name string) (id string) {
		t.Helper()
		_, body := do(t, "POST", c.controllers[0].URL+"/api/v1/group", `{"name":"`+name+`"}`)
		_, rest, ok := strings.Cut(body, `"id":"`)
		if !ok {
			t.Fatal(body)
		}
		id, _, _ = strings.Cut(rest, `"`)
		return id
	}
	seeded, chosen := group("seeded"), group("chosen")
	set := func(name string, vms, drain string) {
		t.Helper()
		if _, body := do(t, "POST", c.controllers[0].URL+"/api/v1/node/config",
			`{"node_id":"n1","name":"`+name+`","max_vm_count":`+vms+`,"drain_mode":`+drain+`}`); !strings.Contains(body, `"OK"`) {
			t.Fatal(body)
		}
	}
	begin := func(what, name string, vms int, drain bool, groups ...string) {
		t.Helper()
		n.session, n.seq = uuid.NewString(), 0
		s := n.register().Settings
		var in []string
		for _, g := range s.GroupIDs {
			in = append(in, string(g))
		}
		if s.Name != name || s.MaxVMCount != vms || s.DrainMode != drain || strings.Join(in, ",") != strings.Join(groups, ",") {
			t.Errorf("%s: %q, %d VMs, drain %v, groups %v; want %q, %d, %v, %v", what, s.Name, s.MaxVMCount, s.DrainMode, in, name, vms, drain, groups)
		}
	}
	name, vms := "mac", 3
	n.seed = api.SeedSettings{Name: &name, MaxVMCount: &vms, Groups: []string{"seeded"}, Join: "first"}
	begin("first join", "mac", 3, false, seeded)

	set("chosen-name", "1", "true")
	do(t, "DELETE", c.controllers[0].URL+"/api/v1/node/group", `{"group_ids":["`+seeded+`"],"node_ids":["n1"]}`)
	do(t, "POST", c.controllers[0].URL+"/api/v1/node/group", `{"group_ids":["`+chosen+`"],"node_ids":["n1"]}`)
	begin("kill -9", "chosen-name", 1, true, chosen)
	n.facts.CPUCount++ // another kernel counts otherwise
	begin("reboot", "chosen-name", 1, true, chosen)
	n.facts.AgentVersion = "next"
	begin("upgrade", "chosen-name", 1, true, chosen)

	vms = 5
	n.seed = api.SeedSettings{MaxVMCount: &vms, Groups: []string{"seeded"}, Overwrite: true, Join: "second"}
	begin("re-join", "chosen-name", 5, true, seeded)
	set("chosen-name", "2", "false")
	begin("kill -9 before the agent noted that its wish was heard", "chosen-name", 2, false, seeded)
	n.seed.Join = "third"
	begin("another re-join", "chosen-name", 5, false, seeded)
}
