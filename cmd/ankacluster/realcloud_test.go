package main

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/controllerapi"
	controller "github.com/ankacluster/ankacluster/controllerapi/server"
	"github.com/ankacluster/ankacluster/internal/wire"
	"github.com/ankacluster/ankacluster/registryapi/content/memory"
	registry "github.com/ankacluster/ankacluster/registryapi/server"
	"github.com/ankacluster/ankacluster/test/simnode"
)

// scriptControllers serves a whole cloud whose nodes are simulated: mac-1, which has
// room for one VM and is in the group ios, and mac-2.
func scriptControllers(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: controllers VAR")
	}
	etcd := scriptEtcd(ts)
	cfg := registry.DefaultConfig()
	cfg.Root = ts.MkAbs("registry")
	reg, err := registry.New(cfg, memory.New(), nil)
	ts.Check(err)
	templates := httptest.NewServer(reg.Handler())
	ts.Defer(templates.Close)
	ts.Check(os.MkdirAll(ts.MkAbs("sonoma"), 0o755))
	ts.Check(os.WriteFile(filepath.Join(ts.MkAbs("sonoma"), "aa.ank"), []byte("layer"), 0o644))
	ts.Check(ts.Exec("ankacluster", "template", "push", ts.MkAbs("sonoma"), "sonoma:v1", "--url", templates.URL))

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	conf := controller.DefaultConfig()
	conf.ID, conf.URL, conf.RegistryURL = "c1", "http://"+ln.Addr().String(), templates.URL
	conf.EtcdTimeout, conf.QueryTaskTimeout = 3*time.Minute, 3*time.Minute // this machine may stand still
	srv, err := controller.New(conf, etcd, zap.NewNop())
	ts.Check(err)
	lot := wire.NewLot(ln.Addr(), time.Minute, func() bool { return false })
	web := &http.Server{Handler: srv.Handler(), ConnContext: lot.ConnContext}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = web.Serve(ln) })
	wg.Go(func() { _ = web.Serve(lot) })
	wg.Go(func() { _ = srv.Run(ctx) })
	ts.Defer(func() {
		cancel()
		_ = web.Close()
		lot.Drain(ctx)
		wg.Wait()
	})
	ledger := simnode.NewLedger()
	client := controllerapi.NewClient(conf.URL, http.DefaultClient)
	for _, err = client.Groups(ctx); err != nil; _, err = client.Groups(ctx) {
		<-time.After(10 * time.Millisecond)
	}
	_, err = client.CreateGroup(ctx, "ios", "Macs for iOS", "")
	ts.Check(err)
	for _, n := range []simnode.Config{{ID: "mac-1", Capacity: 1, Groups: []string{"ios"}}, {ID: "mac-2", Capacity: 2}} {
		synced := make(chan struct{}, 1)
		node := simnode.New(n, client, ledger, simnode.Hooks{Synced: func(_ time.Duration, err error) {
			if err == nil {
				select {
				case synced <- struct{}{}:
				default:
				}
			}
		}})
		wg.Go(func() { _ = node.Run(ctx) })
		<-synced
	}
	scriptClosed(ts, false, []string{"CLOSED"})
	ts.Setenv(args[0], ts.Getenv("CLOSED")+","+conf.URL)
}

// scriptEtcd runs an etcd member in this process, on a free port.
func scriptEtcd(ts *testscript.TestScript) *clientv3.Client {
	cfg := embed.NewConfig()
	cfg.Dir = ts.MkAbs("etcd")
	cfg.LogLevel, cfg.LogOutputs = "fatal", []string{os.DevNull}
	cfg.UnsafeNoFsync = true // the machine does not crash in these tests
	free := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	cfg.ListenClientUrls, cfg.ListenPeerUrls = free, free
	e, err := embed.StartEtcd(cfg)
	ts.Check(err)
	ts.Defer(e.Close)
	<-e.Server.ReadyNotify()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{strings.TrimPrefix(e.Clients[0].Addr().String(), "http://")}, Logger: zap.NewNop()})
	ts.Check(err)
	ts.Defer(func() { _ = c.Close() })
	return c
}
