package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	api "github.com/ankacluster/ankacluster/controllerapi"
)

var update = flag.Bool("update", false, "write the golden files anew")

var (
	uuids   = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	times   = regexp.MustCompile(`"20[2-9][0-9]-[0-9T:.-]+Z"`)
	stamps  = regexp.MustCompile(`("timestamp":)[0-9]+`)
	ports   = regexp.MustCompile(`127\.0\.0\.1:[0-9]+`)
	seconds = regexp.MustCompile(`("(average_queue_time|tasks_per_second)":)[0-9.e-]+`)
)

// golden compares an answer with its file: the code, then the body to the letter,
// with ids, times and ports replaced by words, ids in order of appearance.
type golden struct {
	t   testing.TB
	ids map[string]string
}

func (g *golden) check(name string, code int, body string) {
	g.t.Helper()
	body = uuids.ReplaceAllStringFunc(body, func(id string) string {
		if g.ids[id] == "" {
			g.ids[id] = "ID-" + string(rune('A'+len(g.ids)))
		}
		return g.ids[id]
	})
	body = times.ReplaceAllString(body, `"TIME"`)
	body = stamps.ReplaceAllString(body, "${1}0")
	body = ports.ReplaceAllString(body, "HOST")
	body = seconds.ReplaceAllString(body, "${1}0")
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, []byte(strings.TrimSuffix(body, "\n")), "", "  "); err != nil {
		g.t.Fatalf("%s: not JSON: %q", name, body)
	}
	got := "HTTP " + itoa(code) + "\n" + pretty.String() + "\n"
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			g.t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		g.t.Fatal(err)
	}
	if got != string(want) {
		g.t.Errorf("%s:\ngot  %s\nwant %s", name, got, want)
	}
}

func itoa(n int) string { data, _ := json.Marshal(n); return string(data) }

// TestF18EveryCallAnswersToTheLetter walks through the whole API on one cloud.
func TestF18EveryCallAnswersToTheLetter(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 1, func(cfg *Config) {
		cfg.ID, cfg.Version = "ctl-1", "1.2.3"
		cfg.ManageMACAddresses, cfg.MACRange = true, "02:00:00:00:00:01-02:00:00:00:00:01"
		cfg.PackageDir = t.TempDir()
	})
	url := c.controllers[0].URL
	agents := c.controllers[0].cfg.PackageDir
	if err := errors.Join(os.WriteFile(filepath.Join(agents, "AnkaAgentArm.pkg"), []byte("pkg"), 0o644),
		os.WriteFile(filepath.Join(agents, "AnkaAgentArm.pkg.minisig"), []byte("signature"), 0o644)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the registry is known to run", c.controllers[0].catalog.running)
	g := &golden{t: t, ids: map[string]string{}}
	call := func(name, method, path, body string) string {
		t.Helper()
		code, got := do(t, method, url+path, body)
		g.check(name, code, got)
		return got
	}
	bodyOf := func(answer string, into any) {
		t.Helper()
		env := struct{ Body any }{into}
		if err := json.Unmarshal([]byte(answer), &env); err != nil {
			t.Fatal(err)
		}
	}
	call("status", "GET", "/api/v1/status", "")
	call("cluster", "GET", "/api/v1/cluster", "")
	call("auth_config", "GET", "/config/v1/auth", "")
	for _, path := range []string{"vm", "node", "group", "image", "usb", "vlan", "stats", "registry/vm/distribute"} {
		call("empty_"+strings.ReplaceAll(path, "/", "_"), "GET", "/api/v1/"+path, "")
	}
	call("unknown_call", "GET", "/api/v1/nothing", "")
	call("templates", "GET", "/api/v1/registry/vm", "")
	call("templates_quick", "GET", "/api/v1/registry/vm?apiVer=v1", "")
	call("template", "GET", "/api/v1/registry/vm?id=tpl-1", "")
	call("template_unknown", "GET", "/api/v1/registry/vm?id=none", "")
	call("disk", "GET", "/api/v1/registry/disk", "")

	n := newNode(t, "n1", c.controllers...)
	n.facts.AnkaVersion = api.AnkaVersion{Product: "Anka Build", Version: "3.9.1", Build: "200", License: "com.ankacluster.enterprise", Expires: "2099-01-01"}
	n.facts.USBDevices = []api.USBDevice{{ID: "1", Name: "iPhone", Group: "phones"}, {ID: "2", Name: "iPad", Group: "phones", Busy: true}}
	n.facts.VLANs = []string{"7", "12"}
	n.images = []api.NodeImage{{UUID: "tpl-1", Name: "macos", Tag: "v2"}}
	n.register()
	call("node_list", "GET", "/api/v1/node", "")
	call("node", "GET", "/api/v1/node?id=n1", "")
	call("node_unknown", "GET", "/api/v1/node?id=none", "")
	call("usb", "GET", "/api/v1/usb", "")
	call("vlan", "GET", "/api/v1/vlan", "")
	call("node_config", "POST", "/api/v1/node/config", `{"node_id":"n1","name":"mac one","max_vm_count":2,"host":"10.0.0.9"}`)
	call("node_config_bad", "POST", "/api/v1/node/config", `{"node_id":"n1","capacity_mode":"much"}`)
	call("node_config_unknown", "POST", "/api/v1/node/config", `{"node_id":"none"}`)

	var group, fallback api.Group
	bodyOf(call("group_create", "POST", "/api/v1/group", `{"name":"fast","description":"M4"}`), &group)
	bodyOf(call("group_create_fallback", "POST", "/api/v1/group", `{"name":"slow","fallback_group_id":"`+string(group.ID)+`"}`), &fallback)
	call("group_create_again", "POST", "/api/v1/group", `{"name":"fast"}`)
	call("group_circle", "PUT", "/api/v1/group?id="+string(group.ID), `{"fallback_group_id":"`+string(fallback.ID)+`"}`)
	call("group_update", "PUT", "/api/v1/group?id="+string(group.ID), `{"description":"M5"}`)
	call("group_list", "GET", "/api/v1/group", "")
	call("group_add", "POST", "/api/v1/node/group", `{"group_ids":["`+string(group.ID)+`"],"node_ids":["n1"]}`)
	call("group_add_unknown_node", "POST", "/api/v1/node/group", `{"group_ids":["`+string(group.ID)+`"],"node_ids":["n1","none"]}`)
	call("node_in_group", "GET", "/api/v1/node?id=n1", "")
	call("group_remove", "DELETE", "/api/v1/node/group", `{"group_ids":["`+string(group.ID)+`"],"node_ids":["n1"]}`)
	call("group_delete", "DELETE", "/api/v1/group?id="+string(group.ID), "")
	call("group_delete_unknown", "DELETE", "/api/v1/group?id=none", "")

	var ids []string
	bodyOf(call("start", "POST", "/api/v1/vm", `{"vmid":"tpl-1","tag":"v2","name":"job","external_id":"x-1","metadata":{"a":1,"b":true,"c":"d"},"vlan_tag":"7",
		"startup_script":"ZWNobw==","script_monitoring":true,"port_forwarding_override":[{"name":"ssh","guest_port":22,"host_port":"10022"}],"usb_device":"phones"}`), &ids)
	id := ids[0]
	call("start_no_mac_left", "POST", "/api/v1/vm", `{"vmid":"tpl-1"}`)
	call("start_unknown_template", "POST", "/api/v1/vm", `{"vmid":"none"}`)
	call("start_unknown_tag", "POST", "/api/v1/vm", `{"vmid":"tpl-1","tag":"a+b"}`)
	call("start_malformed", "POST", "/api/v1/vm", `{"vmid":`)
	call("start_wrong_type", "POST", "/api/v1/vm", `{"vmid":7}`)
	call("start_bad_priority", "POST", "/api/v1/vm", `{"vmid":"tpl-1","priority":10001}`)
	call("start_no_vmid", "POST", "/api/v1/vm", `{}`)
	call("start_too_long", "POST", "/api/v1/vm", `{"vmid":"`+strings.Repeat("x", 1<<20)+`"}`)
	call("instance_scheduling", "GET", "/api/v1/vm?id="+id, "")
	call("instance_unknown", "GET", "/api/v1/vm?id=none", "")
	call("macaddr_count", "GET", "/api/v1/macaddr?count=true", "")
	call("macaddr_in_use", "GET", "/api/v1/macaddr?in_use=true", "")
	call("macaddr_list", "GET", "/api/v1/macaddr?limit=5", "")
	call("macaddr_neither", "GET", "/api/v1/macaddr", "")
	call("macaddr_purge", "DELETE", "/api/v1/macaddr", "")
	call("macaddr_fill", "PUT", "/api/v1/macaddr", "")
	task := n.reserve(api.TaskStart)
	n.report(api.ReportRequest{TaskID: task.ID, Seq: 1, Phase: api.PhaseProgress, Stage: api.StagePulling, Progress: 0.5})
	call("instance_pulling", "GET", "/api/v1/vm?id="+id, "")
	info := vmInfo("n1", id)
	n.vms[task.InstanceID] = &api.VMReport{InstanceID: task.InstanceID, Attempt: 1, Managed: true, VCPU: 4, RAM: 4096, Info: info}
	n.report(api.ReportRequest{TaskID: task.ID, Seq: 2, Phase: api.PhaseDone, VM: &info, Script: &api.ScriptResult{Stdout: "hi"}})
	n.sync()
	call("instance_started", "GET", "/api/v1/vm?id="+id, "")
	call("instance_list", "GET", "/api/v1/vm", "")
	call("instance_update", "PUT", "/api/v1/vm?id="+id, `{"name":"renamed","metadata":{"k":"v"}}`)
	call("instance_update_unknown", "PUT", "/api/v1/vm?id=none", `{}`)
	call("restart", "POST", "/api/v1/rpc/vm/restart", `{"instance_id":"`+id+`"}`)
	restart := n.reserve(api.TaskRestart)
	n.report(api.ReportRequest{TaskID: restart.ID, Seq: 1, Phase: api.PhaseDone, VM: &info})
	call("restart_unknown", "POST", "/api/v1/rpc/vm/restart", `{"instance_id":"none"}`)
	call("stats", "GET", "/api/v1/stats", "")

	call("image_unknown_target", "POST", "/api/v1/image", `{"id":"`+id+`","tag":"v3","target_vm_id":"none"}`)
	call("image_no_target", "POST", "/api/v1/image", `{"id":"`+id+`","tag":"v3"}`)
	var saved struct {
		RequestID string `json:"request_id"`
	}
	bodyOf(call("image_save", "POST", "/api/v1/image", `{"id":"`+id+`","tag":"v3","target_vm_id":"tpl-1","description":"d"}`), &saved)
	call("image_again", "POST", "/api/v1/image", `{"id":"`+id+`","tag":"v4","target_vm_id":"tpl-1"}`)
	call("instance_pushing", "GET", "/api/v1/vm?id="+id, "")
	call("image_pending", "GET", "/api/v1/image?id="+saved.RequestID, "")
	save := n.reserve(api.TaskSaveImage)
	n.report(api.ReportRequest{TaskID: save.ID, Seq: 1, Phase: api.PhaseFailed, Message: "disk full", Script: &api.ScriptResult{ReturnCode: 1}})
	call("image_failed", "GET", "/api/v1/image?id="+saved.RequestID, "")
	call("image_list", "GET", "/api/v1/image", "")
	call("image_unknown", "GET", "/api/v1/image?id=none", "")

	var dist struct {
		RequestID string `json:"request_id"`
	}
	bodyOf(call("distribute", "POST", "/api/v1/registry/vm/distribute", `{"template_id":"tpl-1","tag":"v1"}`), &dist)
	call("distribute_unknown_node", "POST", "/api/v1/registry/vm/distribute", `{"template_id":"tpl-1","node_ids":["none"]}`)
	call("distribution_begun", "GET", "/api/v1/registry/vm/distribute?id="+dist.RequestID, "")
	dt := n.reserve(api.TaskDistribute)
	n.report(api.ReportRequest{TaskID: dt.ID, Seq: 1, Phase: api.PhaseProgress, Progress: 1})
	call("distribution_almost", "GET", "/api/v1/registry/vm/distribute?id="+dist.RequestID, "")
	n.report(api.ReportRequest{TaskID: dt.ID, Seq: 2, Phase: api.PhaseDone})
	call("distribution_list", "GET", "/api/v1/registry/vm/distribute", "")
	bodyOf(call("distribute_second", "POST", "/api/v1/registry/vm/distribute", `{"template_id":"tpl-1","node_ids":["n1"]}`), &dist)
	call("distribution_cancel", "DELETE", "/api/v1/registry/vm/distribute?id="+dist.RequestID, "")
	call("distribution_canceled", "GET", "/api/v1/registry/vm/distribute?id="+dist.RequestID, "")
	call("distribution_unknown", "GET", "/api/v1/registry/vm/distribute?id=none", "")
	call("remove_from_nodes", "DELETE", "/api/v1/registry/vm/remove?id=tpl-1", "")
	call("upgrade", "PUT", "/api/v1/node/update", "")
	if task := n.reserve(api.TaskUpgrade); task.Upgrade.Version != "1.2.3" || task.Upgrade.Path != "/pkg/AnkaAgentArm.pkg" || len(task.Upgrade.SHA256) != 64 {
		t.Errorf("upgrade task %+v", task.Upgrade)
	}
	if code, body := do(t, "GET", url+"/pkg/AnkaAgentArm.pkg.minisig", ""); code != 200 || body != "signature" {
		t.Errorf("GET of the signature: %d %s", code, body)
	}
	if code, body := do(t, "GET", url+"/pkg/AnkaAgentArm.pkg", ""); code != 200 || body != "pkg" {
		t.Errorf("package: %d %q", code, body)
	}

	call("revert", "DELETE", "/api/v1/registry/revert?id=tpl-1", `{"number":1}`)
	call("revert_unknown_tag", "DELETE", "/api/v1/registry/revert?id=tpl-1&tag=none", "")
	call("template_delete", "DELETE", "/api/v1/registry/vm?id=tpl-1", "")
	call("terminate", "DELETE", "/api/v1/vm", `{"id":"`+id+`"}`)
	call("instance_terminating", "GET", "/api/v1/vm?id="+id, "")
	call("terminate_again", "DELETE", "/api/v1/vm", `{"id":"`+id+`"}`)
	call("terminate_unknown", "DELETE", "/api/v1/vm", `{"id":"none"}`)
	n.terminate(n.reserve(api.TaskTerminate))
	call("instance_terminated", "GET", "/api/v1/vm?id="+id, "")
	call("node_delete", "DELETE", "/api/v1/node", `{"node_id":"n1"}`)
	call("node_delete_unknown", "DELETE", "/api/v1/node", `{"node_id":"n1"}`)
}
