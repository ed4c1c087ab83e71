package node

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/balancer"
	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/ownaddr"
	"github.com/ankacluster/ankacluster/internal/wire"
	"github.com/ankacluster/ankacluster/registryapi"
)

// poolBase is the URL that stands for a pool: the balancer replaces its host.
const (
	controllersBase = "http://controllers"
	registriesBase  = "http://registries"
)

// Pools are the node's balancers.
type Pools struct {
	controllers *balancer.Balancer
	registries  *balancer.Balancer // small requests
	blobs       *balancer.Balancer // the same registries, large transfers

	cfg    state.Config
	tls    tlsFor
	log    *zap.Logger
	calls  *callLog
	rhythm *balancer.Rhythm       // an idle node wakes once for the probes of all
	own    atomic.Pointer[string] // address of the node's own proxy, once there is one
	// toControllers and toRegistries sign what goes to each pool.
	toControllers, toRegistries http.RoundTripper
}

// NewPools builds the pools for a join list and what was announced before.
func NewPools(cfg state.Config, cached controllerapi.Cluster, log *zap.Logger) (*Pools, error) {
	p := &Pools{cfg: cfg, log: log, rhythm: new(balancer.Rhythm)}
	var err error
	if p.tls, err = clientTLS(cfg.Credentials); err != nil {
		return nil, err
	}
	if p.controllers, err = p.pool("controllers", balancer.DefaultConfig()); err != nil {
		return nil, err
	}
	if p.registries, err = p.pool("registries", RegistryCalls()); err != nil {
		return nil, err
	}
	if p.blobs, err = p.pool("blobs", p.transfers()); err != nil {
		return nil, err
	}
	every := cfg.HTTPSamples
	if !cfg.DumpNetworkMeter {
		every = 0
	}
	p.calls = newCallLog(every, log, p.controllers, p.registries, p.blobs)
	p.toControllers = signed(controllersBase, p.calls.counting(p.controllers.Client().Transport), cfg.Credentials)
	p.toRegistries = signed(registriesBase, p.calls.counting(p.registries.Client().Transport), cfg.Credentials)
	if err := p.controllers.SetMembers(balancer.OriginJoin, cfg.Controllers); err != nil {
		return nil, err
	}
	p.setCluster(balancer.OriginCached, cached, log)
	return p, nil
}

// transfers is for the large ones.
func (p *Pools) transfers() balancer.Config {
	c := balancer.BlobConfig()
	if p.cfg.VerifyDigests != nil {
		c = c.Verified(*p.cfg.VerifyDigests)
	}
	return c
}

func (p *Pools) pool(name string, c balancer.Config) (*balancer.Balancer, error) {
	c.Rhythm = p.rhythm
	return balancer.New(poolConfig(name, c, p.cfg, p.tls), p.log)
}

// poolConfig puts join's flags into a pool's configuration.
func poolConfig(name string, c balancer.Config, cfg state.Config, tls tlsFor) balancer.Config {
	c.Name, c.TLSFor = name, tls
	c.TLSHandshakeTimeout = cfg.TLSHandshakeTimeout
	if cfg.DialTimeout != state.DefaultConfig().DialTimeout {
		// The default is what a client of one server needs. A pool has others, and
		// gives a server that is gone a second; a time that was asked for is kept to.
		c.ConnectTimeout = cfg.DialTimeout
	}
	if c.Class == balancer.Control {
		c.MaxIdleConns = cfg.MaxIdlePerHost
		c.Retry.MaxElapsed = cfg.RequestTimeout
	}
	return c
}

// learn returns what takes announced servers over.
func (p *Pools) learn(log *zap.Logger) func(controllerapi.Cluster) {
	return func(c controllerapi.Cluster) { p.setCluster(balancer.OriginLearned, c, log) }
}

func (p *Pools) setCluster(origin balancer.Origin, c controllerapi.Cluster, log *zap.Logger) {
	set := func(servers []controllerapi.Server, pools ...*balancer.Balancer) {
		urls := ServerURLs(servers)
		if p.cfg.Credentials.TLS {
			urls = slices.DeleteFunc(urls, func(u string) bool {
				plain := strings.HasPrefix(u, "http://")
				if plain {
					log.Warn("an announced server is not used: --tls insists on https", zap.String("endpoint", u))
				}
				return plain
			})
		}
		if own := p.own.Load(); own != nil {
			urls = slices.DeleteFunc(urls, func(u string) bool {
				loop := ownaddr.Reaches(u, *own)
				if loop {
					log.Error("an announced server is not used: it is this node's own proxy, which would be a loop", zap.String("endpoint", u))
				}
				return loop
			})
		}
		if len(urls) == 0 {
			return // an empty list is never taken over
		}
		for _, b := range pools {
			if err := b.SetMembers(origin, urls); err != nil {
				log.Warn("announced servers not taken over", zap.Strings("urls", urls), zap.Error(err))
				return
			}
		}
	}
	set(c.Controllers, p.controllers)
	set(c.Registries, p.registries, p.blobs)
}

func ServerURLs(servers []controllerapi.Server) []string {
	urls := make([]string, 0, len(servers))
	for _, s := range servers {
		urls = append(urls, s.URL)
	}
	return urls
}

// Run keeps the pools alive until ctx ends.
func (p *Pools) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.controllers.Run(ctx) })
	g.Go(func() error { return p.registries.Run(ctx) })
	g.Go(func() error { return p.blobs.Run(ctx) })
	return g.Wait()
}

// Client calls the controllers, whichever is well.
func (p *Pools) Client() *controllerapi.Client {
	return controllerapi.NewClient(controllersBase, &http.Client{CheckRedirect: wire.NoRedirect, Transport: p.toControllers})
}

// registryClient calls the registries' REST API, whichever is well.
func (p *Pools) registryClient() *registryapi.Client {
	return registryapi.NewClient(registriesBase, &http.Client{CheckRedirect: wire.NoRedirect, Transport: p.toRegistries})
}

// status is what the pools know of their endpoints.
func (p *Pools) status() PoolStatus {
	return PoolStatus{Controllers: p.controllers.Status(), Registries: p.registries.Status(), Blobs: p.blobs.Status()}
}

// drains drains what a person had drained before, and returns what takes further
// orders. An error means that the former is not known.
func (p *Pools) drains(dir state.Dir) (*Drains, error) {
	since, err := dir.Drained()
	pools := map[string]*balancer.Balancer{"controllers": p.controllers, "registries": p.registries, "blobs": p.blobs}
	for _, b := range pools {
		b.SetDrained(since)
	}
	return NewDrains(pools, dir.SaveDrained), err
}

type PoolStatus struct {
	Controllers balancer.Status `json:"controllers"`
	Registries  balancer.Status `json:"registries"`
	Blobs       balancer.Status `json:"blobs"` // the registries, for large transfers
}

// numbers is what the heartbeat reports of the pools. Blobs come from the registries,
// which are counted once.
func (p *Pools) numbers() controllerapi.NodeNumbers {
	s := p.status()
	return controllerapi.NodeNumbers{
		Controllers: len(s.Controllers.Endpoints), ControllersUsable: s.Controllers.Usable,
		Registries: len(s.Registries.Endpoints), RegistriesUsable: s.Registries.Usable,
		FailedOpen: s.Controllers.FailedOpen || s.Registries.FailedOpen || s.Blobs.FailedOpen,
		Retries:    s.Controllers.Retries + s.Registries.Retries + s.Blobs.Retries,
		Resumes:    s.Blobs.Resumes + s.Registries.Resumes,
	}
}

// RegistryCalls is for small calls to a registry. They have their own pool,
// which a slow transfer cannot starve; what a replica that lags does not have
// yet, the next registry is asked for.
func RegistryCalls() balancer.Config {
	cfg := balancer.DefaultConfig()
	cfg.NotFoundAsksNext = true
	return cfg
}
