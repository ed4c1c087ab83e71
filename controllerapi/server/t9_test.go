package server

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"

	api "github.com/ankacluster/ankacluster/controllerapi"
)

// T9: a heartbeat that arrives twice has one effect, wherever and however late
// its second copy arrives: at once, as that of a hedge does, or after later
// heartbeats, as one that a stopped controller finds when it goes on.
func TestT9HeartbeatDeliveredTwiceIsOneEffect(t *testing.T) {
	t.Parallel()
	const threshold = 4
	c := startCloud(t, 3, func(cfg *Config) { cfg.UnknownVMThreshold = threshold })
	n := newNode(t, "n1", c.controllers...)
	wire := &tap{}
	n.call = func() *api.Client { return api.NewClient(c.controllers[0].URL, &http.Client{Transport: wire}) }
	n.register()
	id := mustStart(t, c.controllers[0], api.StartRequest{})
	task := n.reserve(api.TaskStart)
	n.sync() // a heartbeat without the VM
	if n.start(task) {
		t.Fatal("start was abandoned")
	}

	again := func(body []byte) {
		t.Helper()
		var all sync.WaitGroup
		for _, to := range c.controllers {
			for range 2 {
				all.Go(func() {
					if code, answer := do(t, "POST", to.URL+api.PathAgentSync, string(body)); code != http.StatusOK {
						t.Errorf("a copy of a heartbeat: %d %s", code, answer)
					}
				})
			}
		}
		all.Wait()
	}
	written := func() (revisions []int64) {
		t.Helper()
		for _, k := range []string{"node/n1", "state/n1", "ledger/n1", "instance/" + string(id)} {
			resp, err := c.etcd.Get(t.Context(), "/ankacluster/s/"+k)
			if err != nil {
				t.Fatal(err)
			}
			for _, kv := range resp.Kvs {
				revisions = append(revisions, kv.ModRevision)
			}
		}
		return revisions
	}
	addresses := []string{"192.168.64.5", "192.168.64.6", "192.168.64.7"}
	n.vms["stray"] = &api.VMReport{Managed: true, Info: vmInfo("n1", "stray")}
	for k, address := range addresses {
		n.vms[id].Info.IP = address
		if n.sync(); len(n.remove) > 0 {
			t.Fatalf("after %d heartbeats, each delivered often, %v are to be removed; want none before the %dth", k+1, n.remove, threshold)
		}
		before := written()
		for _, body := range wire.heartbeats() {
			again(body)
		}
		if after := written(); !slices.Equal(before, after) {
			t.Errorf("copies of old heartbeats wrote: revisions %v, were %v", after, before)
		}
		if got := state(t, c.controllers[1], id); got.InstanceState != api.Started || got.VMInfo == nil || got.VMInfo.IP != address {
			t.Errorf("after copies of old heartbeats the instance is %s with %+v; want Started at %s", got.InstanceState, got.VMInfo, address)
		}
	}
	if n.sync(); !slices.Equal(n.remove, []string{"vm-stray"}) {
		t.Errorf("after %d heartbeats %v are to be removed, want the stray VM", threshold, n.remove)
	}
}

// tap keeps what passes of heartbeats.
type tap struct {
	mu     sync.Mutex
	bodies [][]byte // guarded by mu
}

func (w *tap) heartbeats() [][]byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.bodies)
}

func (w *tap) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path == api.PathAgentSync {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(body))
		w.mu.Lock()
		w.bodies = append(w.bodies, body)
		w.mu.Unlock()
	}
	return http.DefaultTransport.RoundTrip(r)
}
