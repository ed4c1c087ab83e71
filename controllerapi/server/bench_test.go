package server

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"go.etcd.io/etcd/server/v3/embed"
)

// benchCloud is one controller on one member of etcd that syncs its disk.
func benchCloud(b *testing.B) *controller {
	e := startEtcd(b, func(cfg *embed.Config) { cfg.UnsafeNoFsync = false })
	return startController(b, dialEtcd(b, e), startRegistry(b).URL, nil)
}

// load sends requests from 16 clients and reports rate and latencies.
func load(b *testing.B, method, url, body string) {
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	defer hc.CloseIdleConnections()
	var mu sync.Mutex
	var took []time.Duration
	var wg sync.WaitGroup
	begun := time.Now()
	work := make(chan struct{}) // unbuffered: a client takes one when it is free
	for range 16 {
		wg.Go(func() {
			for range work {
				req, _ := http.NewRequest(method, url, strings.NewReader(body))
				t0 := time.Now()
				resp, err := hc.Do(req)
				if err != nil {
					b.Error(err)
					continue
				}
				err = whole(resp)
				resp.Body.Close()
				if err != nil {
					b.Error(err)
				}
				mu.Lock()
				took = append(took, time.Since(t0))
				mu.Unlock()
			}
		})
	}
	for b.Loop() {
		work <- struct{}{}
	}
	close(work)
	wg.Wait()
	slices.Sort(took)
	b.ReportMetric(float64(len(took))/time.Since(begun).Seconds(), "req/s")
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}

// whole reads an answer and says what is wrong with it.
func whole(resp *http.Response) error {
	data, err := io.ReadAll(resp.Body)
	var answer struct{ Status string }
	if err == nil {
		err = json.Unmarshal(data, &answer)
	}
	if err == nil && (resp.StatusCode != http.StatusOK || answer.Status != "OK") {
		err = fmt.Errorf("%s: %.200s", resp.Status, data)
	}
	return err
}

func BenchmarkCreate(b *testing.B) {
	c := benchCloud(b)
	load(b, "POST", c.URL+"/api/v1/vm", `{"vmid":"tpl-1"}`)
}

func BenchmarkList1000(b *testing.B) {
	c := benchCloud(b)
	if _, err := c.client().Start(b.Context(), api.StartRequest{VMID: "tpl-1", Count: new(1000)}); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		list, err := c.client().Instances(b.Context())
		if err != nil || len(list) != 1000 {
			b.Fatalf("got %d instances, %v", len(list), err)
		}
	}
}

func BenchmarkSync(b *testing.B) {
	c := benchCloud(b)
	n := newNode(&testing.T{}, "n1", c)
	if _, err := n.call().Register(b.Context(), api.RegisterRequest{NodeID: "n1", Session: n.session, SessionStarted: time.Now(), Facts: n.facts}); err != nil {
		b.Fatal(err)
	}
	if _, err := n.trySync(b.Context(), true); err != nil {
		b.Fatal(err)
	}
	n.mu.Lock()
	body := fmt.Sprintf(`{"node_id":"n1","session":%q,"seq":2,"token":%q,"hashes":{"facts":%q,"vms":%q,"images":%q,"tasks":%q},"load":{}}`,
		n.session, n.token, n.sent.Facts, n.sent.VMs, n.sent.Images, n.sent.Tasks)
	n.mu.Unlock()
	load(b, "POST", c.URL+api.PathAgentSync, body)
}
