package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/urfave/cli/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sync/errgroup"

	"github.com/ankacluster/ankacluster/internal/servertls"
	"github.com/ankacluster/ankacluster/registryapi/server"
)

var timeEncoder = zapcore.ISO8601TimeEncoder

func serve(c *cli.Context) error {
	cfg, err := serverConfig(c)
	role, rerr := roleOf(c)
	if err := errors.Join(err, rerr); err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	log, err := newLogger(c.Bool("verbose"))
	if err != nil {
		return err
	}
	defer func() { _ = log.Sync() }()
	for _, name := range []string{"vm-dir-path", "image-dir-path", "state-file-dir-path"} {
		if c.IsSet(name) {
			log.Warn("setting has no effect: content is stored by digest below the base path", zap.String("setting", name))
		}
	}
	g, ctx := errgroup.WithContext(c.Context)
	if c.Bool("enable-metrics") {
		reg := prometheus.NewRegistry()
		reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
		cfg.Metrics = reg
		addr := net.JoinHostPort("", strconv.Itoa(c.Int("metrics-port")))
		mux := http.NewServeMux()
		mux.Handle("GET "+c.String("metrics-path"), promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
		g.Go(func() error { return serveMetrics(ctx, addr, mux) })
	}
	srv, err := server.New(cfg, log)
	if err != nil {
		return err
	}
	rep, err := role.take(srv, cfg, log)
	if err != nil {
		return err
	}
	if rep != nil {
		g.Go(func() error { return rep.Run(ctx) })
	}
	g.Go(func() error { return srv.Run(ctx) })
	return g.Wait()
}

func serveMetrics(ctx context.Context, addr string, h http.Handler) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("metrics: listen on %s (ANKA_METRICS_PORT): %w", addr, err)
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}

// serverConfig fills the server's configuration and refuses what this program
// cannot keep, with one line for each.
func serverConfig(c *cli.Context) (server.Config, error) {
	cfg := server.DefaultConfig()
	cfg.Root, cfg.ListenAddr = c.String("base-path"), c.String("listen-addr")
	cfg.FilesDir, cfg.LogsDir = c.String("files-dir"), c.String("logs-dir")
	cfg.GracefulShutdownTimeout = c.Duration("graceful-shutdown-timeout")
	cfg.DrainDelay = min(c.Duration("drain-delay"), cfg.GracefulShutdownTimeout)
	cfg.ListCacheTTL, cfg.ListConcurrency = c.Duration("vm-list-cache-ttl"), c.Int("vm-list-concurrency")
	cfg.UploadInactivity, cfg.DownloadInactivity = c.Duration("upload-inactivity"), c.Duration("download-inactivity")
	cfg.GCInterval, cfg.GCGrace = c.Duration("gc-interval"), c.Duration("gc-grace")
	cfg.KeepUntagged, cfg.UploadExpiry = c.Duration("keep-untagged"), c.Duration("upload-expiry")
	cfg.KeepLogsFor = time.Duration(c.Int("keep-logs-for")) * 24 * time.Hour
	cfg.MaxLogSize = c.Int64("max-log-size") << 20
	cfg.RotateLogFilesAtMaxSize, cfg.RotateLogFilesEndOfDay = c.Bool("rotate-log-files-at-max-file-size"), c.Bool("rotate-log-files-end-of-day")
	cfg.AccessLog = c.Bool("access-logs")
	var errs []error
	if cfg.ListenAddr == "" {
		errs = append(errs, errors.New("ANKA_LISTEN_ADDR (--listen-addr) is not set; the usual one is :8089"))
	}
	var err error
	if cfg.Quota, err = parseBytes(c.String("quota")); err != nil {
		errs = append(errs, fmt.Errorf("ANKA_QUOTA (--quota): %w", err))
	}
	if cfg.MinFree, err = parseBytes(c.String("min-free")); err != nil {
		errs = append(errs, fmt.Errorf("ANKA_MIN_FREE (--min-free): %w", err))
	}
	if c.Bool("use-https") {
		cfg.TLS, err = servertls.Config(servertls.Options{
			Cert: c.String("server-cert"), Key: c.String("server-key"),
			Min: c.String("min-tls-version"), Max: c.String("max-tls-version"), Suites: splitList(c.String("cipher-suites")),
		})
		if err != nil {
			errs = append(errs, fmt.Errorf("ANKA_USE_HTTPS (ANKA_SERVER_CERT, ANKA_SERVER_KEY): %w", err))
		}
	}
	errs = append(errs, unsupported(c)...)
	if err := cfg.Validate(); err != nil {
		errs = append(errs, err)
	}
	return cfg, errors.Join(errs...)
}

// unsupported refuses settings that promise more than this program does: to
// ignore one that protects would be worse than not to start.
func unsupported(c *cli.Context) []error {
	var errs []error
	for _, name := range []string{"backend-type", "log-server-backend-type"} {
		if v := c.String(name); v != "disk" {
			errs = append(errs, fmt.Errorf("%s=%s is not supported; the only backend is disk", envOf(name), v))
		}
	}
	for _, name := range []string{"enable-auth", "enable-api-keys", "enable-authorization", "enable-resource-management", "enable-ingress-nginx"} {
		if c.Bool(name) {
			errs = append(errs, fmt.Errorf("%s is set, but this registry cannot authenticate its clients; unset it and restrict access to the network", envOf(name)))
		}
	}
	return errs
}
