package main

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/ankacluster/ankacluster/controllerapi/etcdmember"
	"github.com/ankacluster/ankacluster/internal/wire"
	"github.com/ankacluster/ankacluster/registryapi/cluster"
	"github.com/ankacluster/ankacluster/registryapi/content"
	registry "github.com/ankacluster/ankacluster/registryapi/server"
)

// joinRegistries makes the built-in registry one with those of the other hosts
// of --cluster.
func (c *config) joinRegistries(srv *registry.Server, store content.Store, etcd *clientv3.Client, log *zap.Logger, metrics prometheus.Registerer) (registryServer, error) {
	hosts, err := etcdmember.ParseHosts(c.Cluster)
	if err != nil {
		return nil, err
	}
	cfg := cluster.DefaultConfig()
	self := c.outwardHost()
	cfg.Name = self.String()
	cfg.URL = c.advertised(self.Name, c.RegistryListenAddr)
	for _, h := range hosts {
		cfg.Hosts = append(cfg.Hosts, h.String())
	}
	cfg.Copies, cfg.Strict = c.RegistryCopies, c.StrictCopies
	cfg.HTTP = c.peerClient()
	cfg.Metrics = metrics
	cl, err := cluster.New(cfg, store, etcd, log)
	if err != nil {
		return nil, err
	}
	srv.Share(cl)
	srv.Use(cl.Around, cl.Routes()...)
	return clusteredRegistry{srv, cl}, nil
}

// peerClient carries what the built-in registries of a cluster ask of each
// other. It has no limit in time: blobs take as long as they take.
func (c *config) peerClient() *http.Client {
	return &http.Client{CheckRedirect: wire.NoRedirect, Transport: c.trust.Transport(cluster.DefaultTransport())}
}

// clusteredRegistry is a built-in registry that is one with others.
type clusteredRegistry struct {
	*registry.Server
	cluster *cluster.Cluster
}

// Run serves until ctx ends and both parts have ended.
func (r clusteredRegistry) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.cluster.Run(ctx) })
	g.Go(func() error { return r.Server.Run(ctx) })
	return g.Wait()
}

// copies reads how many hosts must have a push.
func copies(p *int) func(string) error {
	return func(s string) error {
		if s == "all" {
			*p = cluster.All
			return nil
		}
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return errors.New("must be a number from 1, or all")
		}
		*p = n
		return nil
	}
}
