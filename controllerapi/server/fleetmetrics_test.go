package server

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	api "github.com/ankacluster/ankacluster/controllerapi"
)

// TestFiguresOfTheFleet looks at the metrics that an operator of Macs asks for
// first: slots, how starts go, and what nodes tell with their heartbeats.
func TestFiguresOfTheFleet(t *testing.T) {
	t.Parallel()
	var pages []*prometheus.Registry
	c := startCloud(t, 2, func(cfg *Config) {
		reg := prometheus.NewRegistry()
		pages, cfg.Metrics = append(pages, reg), reg
	})
	a := c.controllers[0].client()
	n := newNode(t, "n1", c.controllers...)
	n.facts.AgentVersion, n.facts.AnkaVersion = "v0.2.0", api.AnkaVersion{Product: "Anka", Version: "3.9.1"}
	n.load = api.NodeLoad{FreeDiskSpace: 100 << 30, Numbers: &api.NodeNumbers{
		Controllers: 2, ControllersUsable: 1, Registries: 1, RegistriesUsable: 1, FailedOpen: true, Retries: 7, Pulls: 3, PullsFailed: 1}}
	n.register()
	newNode(t, "n2", c.controllers...).register()
	if _, answer := do(t, http.MethodPost, c.controllers[0].URL+"/api/v1/group", `{"name":"ios"}`); !strings.Contains(answer, "OK") {
		t.Fatal(answer)
	}

	// One start that succeeds, and one that its node refuses.
	for _, fails := range []bool{false, true} {
		if _, err := a.Start(t.Context(), api.StartRequest{VMID: "tpl-1"}); err != nil {
			t.Fatal(err)
		}
		task := n.reserve(api.TaskStart)
		if fails {
			n.report(api.ReportRequest{TaskID: task.ID, Seq: 1, Phase: api.PhaseFailed, Message: "no"})
			continue
		}
		n.report(api.ReportRequest{TaskID: task.ID, Seq: 1, Phase: api.PhaseProgress, Stage: api.StagePulling})
		n.report(api.ReportRequest{TaskID: task.ID, Seq: 2, Phase: api.PhaseProgress, Stage: api.StageCloning})
		vm := vmInfo(n.id, string(task.InstanceID))
		n.vms[task.InstanceID] = &api.VMReport{InstanceID: task.InstanceID, Attempt: 1, Managed: true, Info: vm}
		n.report(api.ReportRequest{TaskID: task.ID, Seq: 3, Phase: api.PhaseDone, VM: &vm})
	}

	// What is counted is counted at one controller, whichever took the report.
	counted := make(map[string]float64)
	for _, reg := range pages {
		for key, value := range values(t, reg) {
			counted[key] += value
		}
	}
	for _, key := range []string{
		"start_seconds queued macos", "start_seconds pulling macos", "start_seconds starting macos", "start_seconds total macos",
		"start_failures_total node macos",
	} {
		if counted[key] != 1 {
			t.Errorf("%s is %v, want 1", key, counted[key])
		}
	}

	// What is known of the cloud and its nodes is the same at both.
	want := map[string]float64{
		"vm_slots free": 3, "vm_slots used": 1, "vm_slots unavailable": 0,
		"group_vm_slots ios free": 0, "nodes_by_version v0.2.0": 1, "nodes_by_version ": 1,
		"node_info v0.2.0 arm64 Anka 3.9.1 n1 n1 Active": 1, "node_vm_slots n1 n1 used": 1, "node_vm_slots n2 n2 free": 2,
		"node_disk_bytes n1 n1": 1 << 40, "node_disk_free_bytes n1 n1": 100 << 30,
		"node_endpoints n1 n1 controllers usable": 1, "node_endpoints n1 n1 controllers unusable": 1, "node_endpoints n1 n1 registries usable": 1,
		"node_failed_open n1 n1": 1, "node_retries_total n1 n1": 7, "node_pulls_total n1 n1 ok": 2, "node_pulls_total n1 n1 error": 1,
	}
	n.sync()
	missing := ""
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(missing)
		}
	})
	for _, reg := range pages {
		eventually(t, "both controllers show the fleet", func() bool {
			got := values(t, reg)
			for key, value := range want {
				if v, ok := got[key]; !ok || v != value {
					missing = fmt.Sprintf("%s is %v (there: %t), want %v", key, v, ok, value)
					return false
				}
			}
			return true
		})
	}
}

// values returns the controller's metrics by name without its prefix and label
// values, in the order of the labels' names; of histograms how many were observed.
func values(t *testing.T, reg prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.Metric {
			key := strings.TrimPrefix(f.GetName(), "anka_controller_")
			for _, l := range m.Label {
				key += " " + l.GetValue()
			}
			switch {
			case m.Histogram != nil:
				out[key] = float64(m.Histogram.GetSampleCount())
			case m.Counter != nil:
				out[key] = m.Counter.GetValue()
			case m.Gauge != nil:
				out[key] = m.Gauge.GetValue()
			}
		}
	}
	return out
}
