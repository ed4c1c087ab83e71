package deploy

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"sigs.k8s.io/yaml"
)

const monitoring = "../../deploy/monitoring/"

var promParser = parser.NewParser(parser.Options{})

func alertRules(t *testing.T) []rulefmt.Rule {
	t.Helper()
	groups, errs := rulefmt.ParseFile(monitoring+"alerts.yml", false, model.LegacyValidation, promParser, slog.New(slog.DiscardHandler))
	for _, err := range errs {
		t.Error(err)
	}
	if len(errs) > 0 {
		t.FailNow()
	}
	var rules []rulefmt.Rule
	for _, g := range groups.Groups {
		rules = append(rules, g.Rules...)
	}
	return rules
}

// alertCases are, for each alert, series in the notation of promtool's own unit
// tests, one value a minute: some under which it is to fire, some under which not.
var alertCases = map[string]struct{ fires, quiet string }{
	"AnkaControllerDown":    {`up{job="anka-controller",instance="a"} 0x30`, `up{job="anka-controller",instance="a"} 1x30`},
	"AnkaNoControllerReady": {`anka_controller_ready{instance="a"} 0x30`, `anka_controller_ready{instance="a"} 0x30` + "\n" + `anka_controller_ready{instance="b"} 1x30`},
	"AnkaControllerNotReady": {`anka_controller_ready{instance="a"} 0x30` + "\n" + `anka_controller_ready{instance="b"} 1x30`,
		`anka_controller_ready{instance="a"} 1x30`},
	"AnkaEtcdAlarm":  {`anka_controller_etcd_alarm{alarm="nospace"} 1x30`, `anka_controller_etcd_alarm{alarm="nospace"} 0x30`},
	"AnkaQueueStuck": {`anka_controller_queue_oldest_seconds 1000+60x30`, `anka_controller_queue_oldest_seconds 20x30`},
	"AnkaRegistriesApart": {`anka_controller_registry_stores_apart{instance="a"} 2x30` + "\n" + `anka_controller_registry_stores_apart{instance="b"} 0x30`,
		`anka_controller_registry_stores_apart{instance="a"} 0x30`},
	"AnkaRegistryUnreachable": {`anka_controller_registry_up{instance="a",registry="http://r:8089"} 0x30`,
		`anka_controller_registry_up{instance="a",registry="http://r:8089"} 0x30` + "\n" + `anka_controller_registry_up{instance="b",registry="http://r:8089"} 1x30`},
	"AnkaNodesOffline": {`anka_controller_nodes{state="Offline"} 1x30`, `anka_controller_nodes{state="Active"} 9x30` + "\n" + `anka_controller_nodes{state="Offline"} 0x30`},
	"AnkaInstancesInError": {`anka_controller_instances{state="Error"} 6x30`,
		`anka_controller_instances{state="Error"} 5x30` + "\n" + `anka_controller_instances{state="Started"} 50x30`},
	"AnkaControllerErrors": {`anka_controller_request_seconds_count{code="503",instance="a"} 0+12x30`,
		`anka_controller_request_seconds_count{code="200",instance="a"} 0+600x30` + "\n" + `anka_controller_request_seconds_count{code="500",instance="a"} 0+1x30`},
	"AnkaControllerSlow": {`anka_controller_request_seconds_bucket{instance="a",call="POST /api/v1/vm",le="0.5"} 0+10x60` + "\n" +
		`anka_controller_request_seconds_bucket{instance="a",call="POST /api/v1/vm",le="1"} 0+100x60` + "\n" + `anka_controller_request_seconds_bucket{instance="a",call="POST /api/v1/vm",le="+Inf"} 0+100x60`,
		`anka_controller_request_seconds_bucket{instance="a",call="POST /api/v1/agent/reserve",le="0.5"} 0x60` + "\n" + `anka_controller_request_seconds_bucket{instance="a",call="POST /api/v1/agent/reserve",le="+Inf"} 0+100x60`},
	"AnkaNoFreeSlots": {`anka_controller_vm_slots{state="free"} 0x60` + "\n" + `anka_controller_queue_length 3x60`,
		`anka_controller_vm_slots{state="free"} 0x60` + "\n" + `anka_controller_queue_length 0x60`},
	"AnkaStartsFail": {`anka_controller_start_failures_total{template="ios",reason="node"} 0+1x60`, `anka_controller_start_failures_total{template="ios",reason="node"} 7x60`},
	"AnkaNodeDiskAlmostFull": {`anka_controller_node_disk_free_bytes{node="n",node_id="1"} 4x60` + "\n" + `anka_controller_node_disk_bytes{node="n",node_id="1"} 100x60`,
		`anka_controller_node_disk_free_bytes{node="n",node_id="1"} 40x60` + "\n" + `anka_controller_node_disk_bytes{node="n",node_id="1"} 100x60`},
	"AnkaNodesFindNoServers": {`anka_controller_node_failed_open{node_id="1"} 1x60`, `anka_controller_node_failed_open{node_id="1"} 0x60`},
	"AnkaVersionsDiffer": {`anka_build_info{program="anka-controller",version="1",instance="a"} 1x200` + "\n" + `anka_build_info{program="anka-controller",version="2",instance="b"} 1x200`,
		`anka_build_info{program="anka-controller",version="2",instance="a"} 1x200` + "\n" + `anka_build_info{program="anka-controller",version="2",instance="b"} 1x200`},
	"AnkaEtcdLateDisk": {`etcd_disk_wal_fsync_duration_seconds_bucket{instance="a",le="0.008"} 0+50x100` + "\n" +
		`etcd_disk_wal_fsync_duration_seconds_bucket{instance="a",le="0.016"} 0+100x100` + "\n" + `etcd_disk_wal_fsync_duration_seconds_bucket{instance="a",le="+Inf"} 0+100x100`,
		`etcd_disk_wal_fsync_duration_seconds_bucket{instance="a",le="0.008"} 0+100x100` + "\n" + `etcd_disk_wal_fsync_duration_seconds_bucket{instance="a",le="+Inf"} 0+100x100`},
	"AnkaEventsDropped": {`anka_controller_events_dropped_total 0+1x30`, `anka_controller_events_dropped_total 7x30`},
	"AnkaEtcdNoLeader":  {`etcd_server_has_leader{instance="a"} 0x30`, `etcd_server_has_leader{instance="a"} 1x30`},
	"AnkaEtcdAlmostFull": {`etcd_mvcc_db_total_size_in_bytes{instance="a"} 3600x30` + "\n" + `etcd_server_quota_backend_bytes{instance="a"} 4000x30`,
		`etcd_mvcc_db_total_size_in_bytes{instance="a"} 100x30` + "\n" + `etcd_server_quota_backend_bytes{instance="a"} 4000x30`},
	"AnkaEtcdSlowDisk": {`etcd_disk_wal_fsync_duration_seconds_bucket{instance="a",le="0.5"} 0+50x30` + "\n" +
		`etcd_disk_wal_fsync_duration_seconds_bucket{instance="a",le="1"} 0+100x30` + "\n" + `etcd_disk_wal_fsync_duration_seconds_bucket{instance="a",le="+Inf"} 0+100x30`,
		`etcd_disk_wal_fsync_duration_seconds_bucket{instance="a",le="0.5"} 0+100x30` + "\n" + `etcd_disk_wal_fsync_duration_seconds_bucket{instance="a",le="+Inf"} 0+100x30`},
	"AnkaRegistryDown": {`up{job="anka-registry",instance="a"} 0x30`, `up{job="anka-registry",instance="a"} 1x30`},
	"AnkaRegistryAlmostFull": {`anka_registry_disk_free_space{instance="a"} 5x30` + "\n" + `anka_registry_disk_total_space{instance="a"} 100x30`,
		`anka_registry_disk_free_space{instance="a"} 50x30` + "\n" + `anka_registry_disk_total_space{instance="a"} 100x30`},
	"AnkaRegistryErrors": {`anka_registry_requests_total{code="500",instance="a"} 0+12x30`,
		`anka_registry_requests_total{code="404",instance="a"} 0+600x30`},
	"AnkaRegistryTemplatesSkipped": {`anka_registry_templates_skipped 1x30`, `anka_registry_templates_skipped 0x30`},
	"AnkaTemplatesWithFewCopies":   {`anka_registry_cluster_tags_with_few_copies 1x30`, `anka_registry_cluster_tags_with_few_copies 0x30`},
	"AnkaRegistryHostDown": {`anka_registry_cluster_hosts_live{instance="a"} 2x30` + "\n" + `anka_registry_cluster_hosts{instance="a"} 3x30`,
		`anka_registry_cluster_hosts_live{instance="a"} 3x30` + "\n" + `anka_registry_cluster_hosts{instance="a"} 3x30`},
	"AnkaReplicaLags":   {`anka_registry_replication_lag_seconds 1000+60x30`, `anka_registry_replication_lag_seconds 30x30`},
	"AnkaReplicaCutOff": {`anka_registry_replication_connected 0x30`, `anka_registry_replication_connected 1x30`},
	"AnkaAgentHeartbeatsFail": {`anka_agent_heartbeats_total{result="error"} 0+12x30`,
		`anka_agent_heartbeats_total{result="ok"} 0+12x30` + "\n" + `anka_agent_heartbeats_total{result="error"} 0x30`},
	"AnkaBalancerFailsOpen": {`anka_balancer_failed_open{instance="a",pool="controllers"} 1x30`, `anka_balancer_failed_open{instance="a",pool="controllers"} 0x30`},
}

// TestEveryAlertFiresWhenItShallAndOnlyThen runs each rule in Prometheus's own
// engine, at every minute for as long as the rule wants it to hold.
func TestEveryAlertFiresWhenItShallAndOnlyThen(t *testing.T) {
	engine := promqltest.NewTestEngine(t, false, 5*time.Minute, 100_000)
	holds := func(rule rulefmt.Rule, series string) bool {
		var load strings.Builder
		load.WriteString("load 1m\n")
		for line := range strings.Lines(series) {
			load.WriteString("  " + strings.TrimSuffix(line, "\n") + "\n")
		}
		storage := promqltest.LoadedStorage(t, load.String())
		defer storage.Close()
		// From the tenth minute on, so that ranges of time are filled.
		began := time.Unix(0, 0).Add(10 * time.Minute)
		for at := began; !at.After(began.Add(time.Duration(rule.For))); at = at.Add(time.Minute) {
			query, err := engine.NewInstantQuery(t.Context(), storage, nil, rule.Expr, at)
			if err != nil {
				t.Fatalf("%s: %v", rule.Alert, err)
			}
			result := query.Exec(t.Context())
			vector, err := result.Vector()
			query.Close()
			if err != nil {
				t.Fatalf("%s: %v", rule.Alert, err)
			}
			if len(vector) == 0 {
				return false
			}
		}
		return true
	}
	for _, rule := range alertRules(t) {
		c, ok := alertCases[rule.Alert]
		if !ok {
			t.Errorf("%s: no case shows that it fires", rule.Alert)
			continue
		}
		if !holds(rule, c.fires) {
			t.Errorf("%s does not fire with\n%s", rule.Alert, c.fires)
		}
		if holds(rule, c.quiet) {
			t.Errorf("%s fires with\n%s", rule.Alert, c.quiet)
		}
		for _, field := range []string{"summary", "description"} {
			if rule.Annotations[field] == "" {
				t.Errorf("%s has no %s", rule.Alert, field)
			}
		}
		if s := rule.Labels["severity"]; !slices.Contains([]string{"info", "warning", "critical"}, s) {
			t.Errorf("%s: severity %q", rule.Alert, s)
		}
	}
}

// scrapeConfig is as much of Prometheus's configuration as ours uses.
type scrapeConfig struct {
	Global struct {
		ScrapeInterval     model.Duration `json:"scrape_interval"`
		EvaluationInterval model.Duration `json:"evaluation_interval"`
	} `json:"global"`
	RuleFiles     []string `json:"rule_files"`
	ScrapeConfigs []struct {
		JobName       string `json:"job_name"`
		StaticConfigs []struct {
			Targets []string `json:"targets"`
		} `json:"static_configs"`
	} `json:"scrape_configs"`
}

var jobName = regexp.MustCompile(`job="([^"]+)"`)

func TestScrapedJobsAreThoseThatAlertsName(t *testing.T) {
	text, err := os.ReadFile(monitoring + "prometheus.yml")
	if err != nil {
		t.Fatal(err)
	}
	var c scrapeConfig
	if err := yaml.UnmarshalStrict(text, &c); err != nil {
		t.Fatal(err)
	}
	if len(c.RuleFiles) != 1 || c.RuleFiles[0] != "alerts.yml" {
		t.Errorf("rule files %v", c.RuleFiles)
	}
	jobs := make(map[string]bool)
	for _, s := range c.ScrapeConfigs {
		jobs[s.JobName] = true
	}
	for _, rule := range alertRules(t) {
		for _, m := range jobName.FindAllStringSubmatch(rule.Expr, -1) {
			if !jobs[m[1]] {
				t.Errorf("%s asks for the job %q, which is not scraped", rule.Alert, m[1])
			}
		}
	}
}

// dashboard is as much of Grafana's model as ours uses; an unknown field is a
// typing error.
type dashboard struct {
	Title, UID, Refresh    string
	SchemaVersion, Version int
	Editable               bool
	Time                   struct{ From, To string }
	Tags                   []string
	Templating             struct {
		List []struct {
			Name, Type, Query, Label, AllValue string
			Datasource                         *struct{ Type, UID string }
			Refresh                            int
			IncludeAll, Multi                  bool
			Current                            struct{ Text, Value string }
		}
	}
	Panels []panel
}

type panel struct {
	ID          int
	Type        string
	Title       string
	Collapsed   bool
	Panels      []json.RawMessage
	Datasource  *struct{ Type, UID string }
	GridPos     struct{ H, W, X, Y int }
	Description string
	Targets     []struct {
		RefID, Expr, LegendFormat, Format string
		Instant                           bool
	}

	FieldConfig, Options, Transformations json.RawMessage
}

func readDashboard(t *testing.T) dashboard {
	t.Helper()
	text, err := os.ReadFile(monitoring + "grafana-dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDashboardIsWhatGrafanaReads(t *testing.T) {
	d := readDashboard(t)
	if len(d.Templating.List) != 2 || d.Templating.List[0].Name != "datasource" || d.UID == "" {
		t.Errorf("templating %+v, uid %q", d.Templating, d.UID)
	}
	ids, taken := make(map[int]string), make(map[[2]int]string)
	for _, p := range d.Panels {
		if other, ok := ids[p.ID]; ok || p.ID == 0 {
			t.Errorf("%s and %q have the id %d", p.Title, other, p.ID)
		}
		ids[p.ID] = p.Title
		if p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("%s is beyond the right edge", p.Title)
		}
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other, ok := taken[at]; ok {
					t.Fatalf("%s lies on %s", p.Title, other)
				}
				taken[at] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Datasource == nil || p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
			t.Errorf("%s asks nobody for nothing", p.Title)
		}
		refs := make(map[string]bool)
		for _, target := range p.Targets {
			if _, err := promParser.ParseExpr(target.Expr); err != nil {
				t.Errorf("%s: %v", p.Title, err)
			}
			if refs[target.RefID] || target.RefID == "" {
				t.Errorf("%s: refId %q", p.Title, target.RefID)
			}
			refs[target.RefID] = true
		}
	}
}
