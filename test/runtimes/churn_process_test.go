package runtimes

import (
	"bufio"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/controllerapi"
)

// The agent's process, with its pools, proxy and logs, holds as many goroutines
// and open files after an hour's VMs as after the first ones, and stays under
// 40 MB. The short form is TestChurnLeavesNothingBehind of package agent.
func TestProcessDoesNotGrowWithVMs(t *testing.T) {
	if os.Getenv("ANKA_LONG") == "" {
		t.Skip("takes minutes: asked for with ANKA_LONG=1")
	}
	ctx := t.Context()
	dir := t.TempDir()
	addr, registry := freeAddr(t), freeAddr(t)
	controller := begin(t, nil, "anka-controller", "--standalone", "--data-dir", filepath.Join(dir, "controller"), "--listen-addr", addr,
		"--registry-listen-address", registry, "--etcd-listen-client", freeAddr(t), "--etcd-listen-peer", freeAddr(t))
	cloud := controllerapi.NewClient("http://"+addr, http.DefaultClient)
	await(t, controller, "the controller is ready", func() bool {
		s, err := cloud.Status(ctx)
		return err == nil && s.RegistryStatus == "Running"
	})
	m := newAnka(t)
	m.run("create", "sonoma", "--size", "64K", "-t", "v1")
	m.run("registry", "-o2", "-r", "http://"+registry, "push", "sonoma", "-t", "v1")
	m.run("delete", "--yes", "sonoma")
	template, _ := templateOf(t, "http://"+addr)
	env := append(m.env, "ANKA_STATE_DIR="+filepath.Join(dir, "node"), "ANKA_PATH="+m.fake, "FAKEANKA_MAX_RUNNING=8")
	agent := begin(t, env, "ankacluster", "join", "http://"+addr, "-f", "--foreground", "--runtime", "anka", "--name", "mac1",
		"--host", "127.0.0.1", "--max-vm-count", "8", "--ignore-arm-vm-limit", "--reserve-space", "0%")
	var status struct {
		MetricsURL string `json:"metrics_url"`
		Tasks      []any
		VMs        []any
	}
	ask := func() bool {
		out, err := output(env, "ankacluster", "status", "-f", "--json")
		return err == nil && json.Unmarshal([]byte(out), &status) == nil
	}
	await(t, agent, "the agent answers", ask)

	const atOnce, warm, vms = 6, 100, 720
	live := func(vms int) {
		var left atomic.Int32
		left.Store(int32(vms))
		var clients sync.WaitGroup
		for range atOnce {
			clients.Go(func() {
				for left.Add(-1) >= 0 {
					ids, err := cloud.Start(ctx, controllerapi.StartRequest{VMID: template, Tag: "v1"})
					if err != nil {
						t.Error("start:", err)
						return
					}
					for end := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
						i, err := cloud.Instance(ctx, ids[0])
						if err == nil && i.InstanceState == controllerapi.Started {
							break
						}
						if time.Now().After(end) || err == nil && i.InstanceState == controllerapi.Error {
							t.Errorf("instance %s: %+v, %v", ids[0], i, err)
							return
						}
					}
					if err := cloud.Terminate(ctx, ids[0]); err != nil {
						t.Error("terminate:", err)
						return
					}
				}
			})
		}
		clients.Wait()
		await(t, agent, "the node has nothing to do", func() bool { return ask() && len(status.VMs) == 0 && len(status.Tasks) == 0 })
	}
	hold := func() (goroutines, files, megabytes float64) {
		t.Helper()
		v := scrape(t, status.MetricsURL)
		return v["go_goroutines"], v["process_open_fds"], v["process_resident_memory_bytes"] / 1e6
	}

	live(warm)
	goroutines, files, megabytes := hold()
	t.Logf("after %d VMs: %.0f goroutines, %.0f files, %.1f MB", warm, goroutines, files, megabytes)
	began := time.Now()
	live(vms)
	took := time.Since(began)
	// Connections that the last VMs needed may still be idle.
	var g, f, mb float64
	await(t, agent, "goroutines and files are no more than before", func() bool {
		g, f, mb = hold()
		return g <= goroutines && f <= files
	})
	t.Logf("after %d more in %s: %.0f goroutines, %.0f files, %.1f MB", vms, took.Round(time.Second), g, f, mb)
	if mb > 40 {
		t.Errorf("%.1f MB of memory, want under 40", mb)
	}
}

// scrape reads the metrics that have no labels.
func scrape(t *testing.T, url string) map[string]float64 {
	t.Helper()
	resp, err := http.Get(url)
	check(t, "metrics", err)
	defer resp.Body.Close()
	values := make(map[string]float64)
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			values[name] = v
		}
	}
	return values
}
