package server

import (
	"context"
	"net/http"
	"sync"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"github.com/ankacluster/ankacluster/controllerapi/cloudstore"
	"github.com/ankacluster/ankacluster/controllerapi/watch"
	"github.com/ankacluster/ankacluster/internal/wire"
	"go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
)

// Server is one controller. It is safe for concurrent use.
type Server struct {
	cfg     Config
	log     *zap.Logger
	etcd    *clientv3.Client
	store   *cloudstore.Store
	disp    *dispatcher
	catalog *catalog
	events  *eventLog
	changes *watch.Log
	metrics *metrics
	api     *wire.API

	claims chan struct{} // a place for each claim at a time; nil is no bound

	health health

	drainOnce sync.Once
	draining  chan struct{} // closed by Drain
}

// New returns a controller on the etcd that client reaches. It starts nothing;
// the caller closes the client after Run has returned.
func New(cfg Config, etcd *clientv3.Client, log *zap.Logger) (*Server, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	store, err := cloudstore.New(cfg.store(), etcd, log.Named("store"))
	if err != nil {
		return nil, err
	}
	catalog, err := newCatalog(cfg, log.Named("registry"))
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg: cfg, log: log, etcd: etcd, store: store,
		disp:     newDispatcher(cfg.Schedule, cfg.SchedulerInterval, store, log.Named("schedule")),
		catalog:  catalog,
		events:   newEventLog(cfg, log.Named("events")),
		api:      &wire.API{Log: log, Errors: answer, Guard: cfg.Access},
		changes:  watch.NewLog(changesKept),
		draining: make(chan struct{}),
	}
	if cfg.Claims > 0 {
		s.claims = make(chan struct{}, cfg.Claims)
	}
	store.OnChange, store.OnEvent = s.changed, s.events.system
	s.metrics = newMetrics(cfg.Metrics, s)
	store.Starts = s.metrics.starts
	return s, nil
}

// Run does what goes on behind the API until ctx ends. It returns nil then, and
// an error at once when etcd holds another cloud than the configured one.
func (s *Server) Run(ctx context.Context) error {
	s.store.Announce(s.announcement())
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.store.Run(ctx) })
	g.Go(func() error { s.disp.run(ctx); return nil })
	g.Go(func() error { s.watchRegistry(ctx); return nil })
	g.Go(func() error { return s.catalog.regs.pool.Run(ctx) })
	g.Go(func() error { s.watchHealth(ctx); return nil })
	g.Go(func() error { s.events.run(ctx); return nil })
	return g.Wait()
}

// Drain begins the end: /readyz fails, the cloud's list says draining, and long
// polls end. It returns once the list says so, or with ctx.
func (s *Server) Drain(ctx context.Context) error {
	s.drainOnce.Do(func() { close(s.draining) })
	return s.store.AnnounceNow(ctx, s.announcement())
}

// CloudID returns the id of the cloud that etcd holds, "" until it is known.
func (s *Server) CloudID() string { return s.store.CloudID() }

func (s *Server) isDraining() bool {
	select {
	case <-s.draining:
		return true
	default:
		return false
	}
}

// announcement is what this controller tells the cloud of servers: itself, the
// registry that it is configured with, and the others' registries that it reaches.
func (s *Server) announcement() []cloud.Server {
	var out []cloud.Server
	if s.cfg.URL != "" {
		state := api.ServerReady
		if s.isDraining() {
			state = api.ServerDraining
		}
		out = append(out, cloud.Server{
			Kind:   cloud.KindController,
			Server: api.Server{ID: s.cfg.ID, URL: s.cfg.URL, State: state, Version: s.cfg.Version},
			Push:   s.cfg.PushRegistries,
		})
	}
	if reg := s.catalog.announced(); reg.URL != "" {
		out = append(out, cloud.Server{Kind: cloud.KindRegistry, Server: reg})
		for _, url := range s.catalog.regs.healthy() {
			out = append(out, cloud.Server{Kind: cloud.KindRegistry, Server: api.Server{ID: url, URL: url, State: api.ServerReady}})
		}
	}
	return out
}

// fresh makes the view as new as any write acknowledged before the request.
func (s *Server) fresh(r *http.Request) error { return s.store.Fresh(r.Context()) }

// deadline for one request's dealings with the registry.
const registryTimeout = 8 * time.Second
