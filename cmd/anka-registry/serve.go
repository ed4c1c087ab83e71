package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/urfave/cli/v2"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/ankacluster/ankacluster/internal/buildinfo"
	"github.com/ankacluster/ankacluster/internal/logging"
	httpserve "github.com/ankacluster/ankacluster/internal/serve"
	"github.com/ankacluster/ankacluster/internal/settings"
	"github.com/ankacluster/ankacluster/internal/wire"
	"github.com/ankacluster/ankacluster/registryapi/content/fs"
	"github.com/ankacluster/ankacluster/registryapi/server"
)

func serve(cc *cli.Context) error {
	c, err := load(cc)
	if err != nil {
		return err
	}
	err = c.complete()
	strange, misspelt := settings.CheckNames(os.Environ(), c.table())
	if misspelt != nil {
		misspelt = fmt.Errorf("%w: %w", errUsage, misspelt)
	}
	if err := errors.Join(err, misspelt); err != nil {
		return err
	}
	log := logging.New(cc.App.ErrWriter, c.Verbose || c.Verbosity > 0)
	defer func() { _ = log.Sync() }()
	if len(strange) > 0 {
		log.Warn("these variables are no settings of this program", zap.Strings("variables", strange))
	}
	for _, line := range settings.Ineffective(c.given, noEffect) {
		log.Warn(line)
	}
	g, ctx := errgroup.WithContext(cc.Context)
	if c.EnableMetrics {
		reg := prometheus.NewRegistry()
		reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), buildinfo.Info("anka-registry"))
		c.server.Metrics = reg
		addr := net.JoinHostPort(wire.LoopbackHost(c.server.ListenAddr), strconv.Itoa(c.MetricsPort))
		mux := http.NewServeMux()
		mux.Handle("GET "+c.MetricsPath, promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
		g.Go(func() error { return serveMetrics(ctx, addr, mux) })
	}
	store, err := fs.Open(c.server.Root, c.limits)
	if err != nil {
		return fmt.Errorf("registry: %w", err)
	}
	srv, err := server.New(c.server, store, log)
	if err != nil {
		return err
	}
	rep, err := c.role.take(srv, store, c.server, log)
	if err != nil {
		return err
	}
	if rep != nil {
		g.Go(func() error { return rep.Run(ctx) })
	}
	log.Warn("no authentication: everybody who reaches this address may push and delete templates", zap.String("address", c.server.ListenAddr))
	g.Go(func() error { return srv.Run(ctx) })
	return g.Wait()
}

func serveMetrics(ctx context.Context, addr string, h http.Handler) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("metrics: %w; a controller on this host may have the port: choose another one with --metrics-port", wire.ListenError("ANKA_METRICS_PORT (--metrics-port)", addr, err))
	}
	if err := httpserve.Run(ctx, httpserve.New(httpserve.Options{Handler: h}), ln, httpserve.Drain{}); err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}
