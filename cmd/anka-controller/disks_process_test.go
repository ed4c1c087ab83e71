package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/transfer"
)

// lists reads templates at one controller until ctx ends, and returns how many
// answers had the template. One that lacks it is an error.
func (h *clusterHost) lists(ctx context.Context, template string) (good int) {
	for ctx.Err() == nil {
		list, err := h.list(ctx)
		if err != nil {
			wait(ctx, 20*time.Millisecond) // the host is dead, or has no majority yet
			continue
		}
		if !slices.ContainsFunc(list, func(t registryapi.Template) bool { return t.ID == template }) {
			h.t.Errorf("%s: a list lacks the template: %+v", h.addr, list)
			return good
		}
		good++
		wait(ctx, 5*time.Millisecond)
	}
	return good
}

// list reads the templates at the host's controller.
func (h *clusterHost) list(ctx context.Context) ([]registryapi.Template, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+h.addr+":8090/api/v1/registry/vm", http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := (&http.Client{Timeout: 20 * time.Second}).Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var answer struct {
		Status string
		Body   []registryapi.Template
	}
	err = json.NewDecoder(resp.Body).Decode(&answer)
	if err == nil && answer.Status != "OK" {
		err = fmt.Errorf("%s: %s", resp.Status, answer.Status)
	}
	return answer.Body, err
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// startVM asks for a VM until a host answers. A host that is dead or cannot reach
// etcd's majority is passed over; any other word than yes is a refusal.
func startVM(ctx context.Context, hosts []*clusterHost, n int, template string) error {
	for i := n; ctx.Err() == nil; i++ {
		client := controllerapi.NewClient("http://"+hosts[i%len(hosts)].addr+":8090", &http.Client{Timeout: 20 * time.Second})
		_, err := client.Start(ctx, controllerapi.StartRequest{VMID: controllerapi.TemplateID(template), Tag: "v1"})
		if fail, ok := controllerapi.Answered(err); err == nil || ok && fail.Status < http.StatusInternalServerError {
			return err
		}
		wait(ctx, 10*time.Millisecond)
	}
	return nil
}

// A template outlives every host with its disk: no list lacks it, no start of it is
// refused, and each host that comes back with an empty disk has it again.
func TestDisksLostOneAfterAnother(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs addresses of loopback that only Linux has without being told")
	}
	hosts := startHosts(t, t.TempDir())
	pool := &http.Client{Transport: &anyHost{hosts: hosts[:1]}}
	client, err := transfer.New(transfer.Config{Base: "http://pool", HTTP: pool, Attempts: 40, MaxBackoff: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	d, err := pushOnce(t.Context(), pool, client, "demo", "v1", rand.New(rand.NewPCG(1, 2)))
	if err != nil {
		t.Fatal(err)
	}
	list, err := registryapi.NewClient(hosts[0].registry(), http.DefaultClient).Templates(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatalf("templates: %+v, %v", list, err)
	}
	template := list[0].ID
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var work sync.WaitGroup
	var read, started atomic.Int64
	for _, h := range hosts {
		work.Go(func() { read.Add(int64(h.lists(ctx, template))) })
	}
	work.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			if err := startVM(ctx, hosts, n, template); err != nil {
				t.Errorf("start refused: %v", err)
				return
			}
			started.Add(1)
			wait(ctx, 100*time.Millisecond)
		}
	})
	for i, h := range hosts {
		before := started.Load()
		h.kill()
		if err := os.RemoveAll(h.dir); err != nil {
			t.Fatal(err)
		}
		await(t, "starts go on without "+h.addr, func() error {
			if n := started.Load() - before; n < 3 {
				return fmt.Errorf("%d starts", n)
			}
			return nil
		})
		h.start()
		h.answers()
		other := registryapi.NewClient(hosts[(i+1)%3].registry(), http.DefaultClient)
		await(t, "all copies are back at "+h.addr, func() error {
			tags, err := other.Copies(ctx)
			if err == nil && (len(tags) != 1 || len(tags[0].Hosts) != len(hosts)) {
				err = fmt.Errorf("%+v", tags)
			}
			return err
		})
		if err := pullWhole(h.registry(), "demo", "v1", d); err != nil {
			t.Errorf("%s: %v", h.addr, err)
		}
	}
	stop()
	work.Wait()
	t.Logf("%d lists had the template, %d starts were accepted", read.Load(), started.Load())
	if read.Load() < 30 {
		t.Error("too few lists were read: this proves little")
	}
}

// await waits until ok returns nil.
func await(t *testing.T, what string, ok func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(deadline); time.Now().Before(end); <-time.After(50 * time.Millisecond) {
		if err = ok(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}
