package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/ankacluster/ankacluster/internal/serve"
	"github.com/ankacluster/ankacluster/internal/wire"
	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/content"
)

// Server is a registry on one store.
type Server struct {
	cfg     Config
	log     *zap.Logger
	store   content.Store
	catalog *catalog
	api     *wire.API
	drain   sync.Once
	drained chan struct{} // closed when the server begins to drain
	handler http.Handler
	logs    *logStore
	empty   emptyUploads
	metrics *metrics
	addr    atomic.Pointer[net.Addr]
	extras
	// replication tells of copying from other registries; nil on a registry that
	// copies from none.
	replication func() registryapi.Replication
	shared      Shared // nil on a registry that is one directory
}

// extras are what Use was given.
type extras struct {
	around []func(http.Handler) http.Handler
	beside []wire.Route
}

// New makes a server of a store and starts nothing. A nil log is silent.
func New(cfg Config, store content.Store, log *zap.Logger) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	if log == nil {
		log = zap.NewNop()
	}
	root, err := filepath.Abs(cfg.Root)
	if err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	s := &Server{cfg: cfg, log: log, store: store, drained: make(chan struct{}), api: &wire.API{Log: log, EmptyBody: wire.NullBody, Guard: cfg.Access}}
	s.catalog = newCatalog(store, log.Named("index"), cfg.ListConcurrency)
	s.logs = &logStore{
		dir: filepath.Join(root, path.Clean("/"+cfg.FilesDir)), logs: path.Clean("/" + cfg.LogsDir), keep: cfg.KeepLogsFor, maxSize: cfg.MaxLogSize,
		keepOld: cfg.RotateLogFilesAtMaxSize, daily: cfg.RotateLogFilesEndOfDay, log: log.Named("logs"),
	}
	s.metrics = newMetrics(cfg.Metrics, s)
	s.handler = s.router(s.routes(), s.ociRoutes())
	return s, nil
}

// Use puts h around every request but the health checks, behind the check of who
// calls, and adds routes to the server's. It is for what stands beside the server,
// such as replication, and is called before Handler and Run.
func (s *Server) Use(h func(next http.Handler) http.Handler, routes ...wire.Route) {
	s.around = append(s.around, h)
	s.beside = append(s.beside, routes...)
	s.handler = s.router(s.routes(), s.ociRoutes())
}

// TellReplication makes the server's status tell what state returns. It is
// called before Run.
func (s *Server) TellReplication(state func() registryapi.Replication) { s.replication = state }

// Handler serves all of the registry's APIs.
func (s *Server) Handler() http.Handler { return s.handler }

// Addr is where Run listens, or nil before it does.
func (s *Server) Addr() net.Addr {
	if a := s.addr.Load(); a != nil {
		return *a
	}
	return nil
}

// Run serves on ListenAddr, if there is one, and cares for the store, until ctx
// ends. Then /readyz fails, and requests in flight have
// GracefulShutdownTimeout to end. Nil means stopped as asked.
func (s *Server) Run(ctx context.Context) error {
	listen := func(ctx context.Context) error { <-ctx.Done(); s.Drain(); return nil }
	if s.cfg.ListenAddr != "" {
		ln, err := net.Listen("tcp", s.cfg.ListenAddr)
		if err != nil {
			return wire.ListenError("registry", s.cfg.ListenAddr, err)
		}
		addr := ln.Addr()
		s.addr.Store(&addr)
		listen = func(ctx context.Context) error { return s.serve(ctx, ln) }
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.care(ctx) })
	g.Go(func() error { return listen(ctx) })
	return g.Wait()
}

// Drain makes /readyz fail, so that balancers send their requests elsewhere,
// and ends long polls.
func (s *Server) Drain() { s.drain.Do(func() { close(s.drained) }) }

func (s *Server) draining() bool {
	select {
	case <-s.drained:
		return true
	default:
		return false
	}
}

func (s *Server) serve(ctx context.Context, ln net.Listener) error {
	srv := serve.New(serve.Options{
		Handler: wire.CloseWhen(s.draining, s.handler), TLS: s.cfg.TLS, HeaderTime: 20 * time.Second,
		ErrorLog: zap.NewStdLog(s.log.Named("http")), Warn: func(text string) { s.log.Warn(text) },
	})
	s.log.Info("registry listens", zap.Stringer("addr", ln.Addr()), zap.String("root", s.store.Place()), zap.Bool("tls", s.cfg.TLS != nil))
	err := serve.Run(ctx, srv, ln, serve.Drain{
		Begin: func() {
			s.Drain()
			s.log.Info("registry drains", zap.Duration("timeout", s.cfg.GracefulShutdownTimeout))
		},
		Delay: s.cfg.DrainDelay, Grace: s.cfg.GracefulShutdownTimeout,
	})
	if ctx.Err() == nil {
		return fmt.Errorf("registry: serve: %w", err)
	}
	if errors.Is(err, serve.ErrCut) {
		s.log.Warn("requests were cut at the end of the drain")
		err = nil
	}
	s.log.Info("registry stopped")
	return err
}
