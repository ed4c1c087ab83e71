package deploy

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/promqltest"
)

// quietPanels draw nothing in a cloud that is small and well, with the reason.
var quietPanels = map[string]string{
	"Slowest templates, 95 %":                   "topk of quantiles that are not a number yet",
	"Failed starts by reason":                   "no start failed",
	"Templates that fail most":                  "no start failed",
	"Macs that repeat most":                     "nothing was sent again",
	"Macs whose starts fail":                    "no start failed",
	"How far replicas are behind":               "there is no replica",
	"Repositories not copied yet":               "there is no replica",
	"Copied":                                    "there is no replica",
	"Failed copies per minute":                  "there is no replica",
	"Errors per second":                         "no call failed",
	"What agents believe of endpoints":          "each may be healthy",
	"VM starts per minute":                      "of an agent that is scraped itself: its counters are born with the first start",
	"Starts per minute":                         "no start failed",
	"Heartbeats per second":                     "no heartbeat failed",
	"Pulls and starts that failed, of all Macs": "the heartbeat's numbers come with the next broadcast",
}

// TestEveryPanelDrawsARunningCloud asks each panel's queries of what a real
// controller, registry and agent serve, in Prometheus's own engine.
func TestEveryPanelDrawsARunningCloud(t *testing.T) {
	dir := t.TempDir()
	build := exec.Command("go", "-C", "../..", "build", "-trimpath", "-o", dir+"/", "./cmd/anka-controller", "./cmd/anka-registry", "./cmd/ankacluster", "./test/fakeanka")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	addr := freeAddresses(t, 7)
	_, controllerMetrics, _ := net.SplitHostPort(addr[4])
	_, registryMetrics, _ := net.SplitHostPort(addr[5])
	controller, registry := "http://"+addr[0], "http://"+addr[1]
	env := append(os.Environ(), "ANKA_STATE_DIR="+dir+"/node", "ANKA_PATH="+dir+"/fakeanka", "FAKEANKA_DIR="+dir+"/anka")
	start := func(name string, args ...string) {
		t.Helper()
		cmd := exec.Command(filepath.Join(dir, name), args...)
		log, err := os.Create(filepath.Join(dir, name+".log"))
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stdout, cmd.Stderr = log, log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Signal(syscall.SIGTERM)
			_ = cmd.Wait()
			if text, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
				t.Logf("%s:\n%s", name, text[max(0, len(text)-2000):])
			}
		})
	}
	run := func(name string, args ...string) {
		t.Helper()
		cmd := exec.Command(filepath.Join(dir, name), args...)
		cmd.Env = env
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
	}
	start("anka-registry", "--listen-addr", addr[1], "--base-path", dir+"/registry", "--enable-metrics", "--metrics-port", registryMetrics)
	start("anka-controller", "--standalone", "--listen-addr", addr[0], "--data-dir", dir+"/data", "--anka-registry", registry,
		"--etcd-listen-client", addr[2], "--etcd-listen-peer", addr[3], "--enable-metrics", "--metrics-port", controllerMetrics)
	ready := func(url string) {
		waitFor(t, url+" is ready", func() error { return do(httpClient, http.MethodGet, url+"/readyz", "", nil, http.StatusOK) })
	}
	ready(registry)
	run("fakeanka", "create", "sonoma", "--size", "1M", "-t", "v1")
	run("fakeanka", "registry", "-o2", "-r", registry, "push", "sonoma", "-t", "v1")
	ready(controller)
	run("ankacluster", "join", "--force-no-sudo", "--name", "mac-1", "--host", "127.0.0.1", "--metrics-addr", addr[6], controller)
	t.Cleanup(func() { run("ankacluster", "disjoin", "--force-no-sudo") })
	mustDo(t, http.MethodPost, controller+"/api/v1/group", `{"name":"ios"}`, http.StatusOK)

	pages := map[string]string{"anka-controller": "http://127.0.0.1:" + controllerMetrics, "anka-registry": "http://127.0.0.1:" + registryMetrics, "anka-agent": "http://" + addr[6]}
	before := scrape(t, pages)
	list, err := get(httpClient, controller+"/api/v1/registry/vm")
	if err != nil {
		t.Fatal(err)
	}
	var templates struct{ Body []struct{ ID string } }
	if err := json.Unmarshal([]byte(list), &templates); err != nil || len(templates.Body) != 1 {
		t.Fatalf("templates: %v %s", err, list)
	}
	mustDo(t, http.MethodPost, controller+"/api/v1/vm", fmt.Sprintf(`{"vmid":%q}`, templates.Body[0].ID), http.StatusOK)
	waitFor(t, "the VM is started and the node has told its numbers", func() error {
		page, err := get(httpClient, pages["anka-controller"]+"/metrics")
		for _, name := range []string{`anka_controller_start_seconds_count{stage="total"`, "anka_controller_node_vm_starts_total"} {
			if err == nil && !strings.Contains(page, name) {
				err = fmt.Errorf("no %s yet", name)
			}
		}
		return err
	})
	after := scrape(t, pages)

	// A quarter of an hour before the start, and one after it, one value a minute.
	var load strings.Builder
	load.WriteString("load 1m\n")
	for _, series := range slices.Sorted(maps.Keys(after)) {
		was, known := before[series]
		if !known {
			was = "_"
		}
		fmt.Fprintf(&load, "  %s %sx15 %sx15\n", series, was, after[series])
	}
	storage := promqltest.LoadedStorage(t, load.String())
	defer storage.Close()
	engine := promqltest.NewTestEngine(t, false, 5*time.Minute, 1_000_000)
	at := time.Unix(0, 0).Add(20 * time.Minute)
	for _, p := range readDashboard(t).Panels {
		for _, target := range p.Targets {
			expr := strings.ReplaceAll(target.Expr, "$group", ".*")
			query, err := engine.NewInstantQuery(t.Context(), storage, nil, expr, at)
			if err != nil {
				t.Fatalf("%s: %s: %v", p.Title, expr, err)
			}
			result := query.Exec(t.Context())
			vector, err := result.Vector()
			if err != nil {
				t.Errorf("%s: %s: %v", p.Title, expr, err)
			} else if _, quiet := quietPanels[p.Title]; len(vector) == 0 && !quiet {
				t.Errorf("%s draws nothing: %s", p.Title, expr)
			}
			query.Close()
		}
	}
	for title := range quietPanels {
		if !slices.ContainsFunc(readDashboard(t).Panels, func(p panel) bool { return p.Title == title }) {
			t.Errorf("quietPanels names %q, which is no panel", title)
		}
	}
}

// freeAddresses returns addresses of loopback that are different and free.
func freeAddresses(t *testing.T, n int) []string {
	t.Helper()
	var out []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		out = append(out, l.Addr().String())
	}
	return out
}

// scrape reads all pages as Prometheus would, as series in its test notation.
func scrape(t *testing.T, pages map[string]string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	for job, url := range pages {
		var page string
		waitFor(t, job+" serves metrics", func() (err error) { page, err = get(httpClient, url+"/metrics"); return err })
		target := fmt.Sprintf("instance=%q,job=%q", strings.TrimPrefix(url, "http://"), job)
		out["up{"+target+"}"] = "1"
		parser := expfmt.NewTextParser(model.LegacyValidation)
		families, err := parser.TextToMetricFamilies(strings.NewReader(page))
		if err != nil {
			t.Fatalf("%s: %v", job, err)
		}
		for name, f := range families {
			for _, m := range f.Metric {
				for suffix, value := range samples(m) {
					labels := target
					for _, l := range m.Label {
						labels += fmt.Sprintf(",%s=%q", l.GetName(), l.GetValue())
					}
					if bucket, ok := strings.CutPrefix(suffix, "_bucket "); ok {
						suffix, labels = "_bucket", labels+fmt.Sprintf(",le=%q", bucket)
					}
					out[name+suffix+"{"+labels+"}"] = fmt.Sprintf("%g", value)
				}
			}
		}
	}
	return out
}

// samples returns the values of a metric by what follows its name; a bucket's
// bound follows a blank.
func samples(m *dto.Metric) map[string]float64 {
	switch {
	case m.Gauge != nil:
		return map[string]float64{"": m.Gauge.GetValue()}
	case m.Counter != nil:
		return map[string]float64{"": m.Counter.GetValue()}
	case m.Untyped != nil:
		return map[string]float64{"": m.Untyped.GetValue()}
	case m.Histogram != nil:
		out := map[string]float64{"_count": float64(m.Histogram.GetSampleCount()), "_sum": m.Histogram.GetSampleSum(), "_bucket +Inf": float64(m.Histogram.GetSampleCount())}
		for _, b := range m.Histogram.Bucket {
			out[fmt.Sprintf("_bucket %g", b.GetUpperBound())] = float64(b.GetCumulativeCount())
		}
		return out
	}
	return nil
}
