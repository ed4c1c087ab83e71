package server

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// hosts counts the loopback addresses that were given away.
var hosts atomic.Int32

// freeURL returns an address that is nobody else's: the members of a cluster must
// know each other's addresses before they start, and keep them over a restart. On
// Linux any 127.x.y.z is loopback, and this process has a range of its own;
// elsewhere it is a port that was free a moment ago.
func freeURL(t testing.TB) url.URL {
	t.Helper()
	if n := int(hosts.Add(1)); runtime.GOOS == "linux" && n < 256 {
		return url.URL{Scheme: "http", Host: fmt.Sprintf("127.%d.%d.%d:2379", 1+os.Getpid()>>8%254, os.Getpid()&255, n)}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return url.URL{Scheme: "http", Host: ln.Addr().String()}
}

// startMembers runs a cluster of three members in this process.
func startMembers(t testing.TB) []member {
	t.Helper()
	var cfgs []*embed.Config
	var initial []string
	for k := range 3 {
		cfg := embed.NewConfig()
		cfg.Name, cfg.Dir = fmt.Sprintf("m%d", k), t.TempDir()
		cfg.LogLevel, cfg.LogOutputs, cfg.UnsafeNoFsync = "fatal", []string{os.DevNull}, true
		peer, client := freeURL(t), freeURL(t)
		cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
		cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
		initial = append(initial, cfg.Name+"="+peer.String())
		cfgs = append(cfgs, cfg)
	}
	members := make([]member, 3)
	for k, cfg := range cfgs {
		cfg.InitialCluster = strings.Join(initial, ",")
		e, err := embed.StartEtcd(cfg)
		if err != nil {
			t.Fatal(err)
		}
		members[k] = member{e, sync.OnceFunc(e.Close)}
		t.Cleanup(members[k].end)
	}
	for _, e := range members {
		select {
		case <-e.Server.ReadyNotify():
		case <-time.After(patience):
			t.Fatalf("etcd is not ready after %s", patience)
		}
	}
	return members
}

func TestF1F11AMemberOfEtcdDiesAndNothingIsLost(t *testing.T) {
	t.Parallel()
	members := startMembers(t)
	var endpoints []string
	for _, e := range members {
		endpoints = append(endpoints, e.Clients[0].Addr().String())
	}
	registry := startRegistry(t)
	var ctls []*controller
	for range 2 {
		etcd, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = etcd.Close() })
		ctls = append(ctls, startController(t, etcd, registry.URL, nil))
	}
	leader := members[0]
	for _, e := range members {
		if e.Server.Leader() == e.Server.MemberID() {
			leader = e
		}
	}
	want := map[api.InstanceID]bool{}
	failed := 0
	for k := range 60 {
		if k == 20 {
			leader.end()
		}
		ids, err := ctls[k%2].client().Start(context.Background(), api.StartRequest{VMID: "tpl-1"})
		if err != nil {
			failed++
			t.Logf("start %d: %v", k, err)
			continue
		}
		want[ids[0]] = true
	}
	if failed > 0 {
		t.Errorf("%d of 60 starts failed", failed)
	}
	for _, ctl := range ctls {
		list, err := ctl.client().Instances(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got := map[api.InstanceID]bool{}
		for _, i := range list {
			got[i.InstanceID] = true
		}
		if len(got) != len(want) || len(list) != len(want) {
			t.Errorf("%d instances listed, %d acknowledged", len(list), len(want))
		}
		if code, body := do(t, "GET", ctl.URL+"/livez", ""); code != http.StatusOK {
			t.Errorf("livez %d %s", code, body)
		}
	}
}
