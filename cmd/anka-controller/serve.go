package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ankacluster/ankacluster/controllerapi/etcdmember"
	"github.com/ankacluster/ankacluster/internal/atomicfile"
	"github.com/ankacluster/ankacluster/internal/buildinfo"
	"github.com/ankacluster/ankacluster/internal/settings"
	"github.com/ankacluster/ankacluster/internal/termstyle"
	"github.com/ankacluster/ankacluster/internal/wire"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
)

// controllerServer is what a controller does for its process.
type controllerServer interface {
	Handler() http.Handler
	// NodesHandler serves what agents ask for, and no more.
	NodesHandler() http.Handler
	// Run works in the background until ctx ends.
	Run(ctx context.Context) error
	// Drain fails /readyz, leaves the cloud's list of controllers and ends long
	// polls. Requests are still served.
	Drain(ctx context.Context) error
	// CloudID is "" until the cloud is known.
	CloudID() string
}

// registryServer is the built-in registry.
type registryServer interface {
	Handler() http.Handler
	Run(ctx context.Context) error
	// Drain fails /readyz. Requests are still served.
	Drain()
}

// process is one anka-controller with all that runs in it.
type process struct {
	cfg *config
	log *zap.Logger

	api, queue, registry, metrics *listener // nil when not wanted
	inside                        *listener // of the built-in registry, for this process alone; nil without one
	member                        *etcdmember.Member
	drainRegistry                 func()
	gathered                      *prometheus.Registry
}

// serve runs until ctx ends and everything has been finished, or something
// cannot go on.
func (c *config) serve(ctx context.Context, log *zap.Logger) error {
	p := &process{cfg: c, log: log, drainRegistry: func() {}, gathered: prometheus.NewRegistry()}
	p.gathered.MustRegister(buildinfo.Info("anka-controller"))
	if c.Standalone || c.RunRegistry && !c.isGiven("ANKA_REGISTRY_BASE_PATH") {
		unlock, err := c.lockDataDir()
		if err != nil {
			return err
		}
		defer unlock()
	}
	if err := p.listen(); err != nil {
		return err
	}
	c.noteAddress()
	log.Info("anka-controller starts", zap.String("version", buildinfo.Version), zap.String("commit", buildinfo.Commit()),
		zap.String("address", p.api.net.Addr().String()), zap.String("url", c.AdvertiseURL), zap.Bool("standalone", c.Standalone))

	for _, line := range settings.Ineffective(c.given, noEffect) {
		log.Warn(line)
	}

	// Two lives: requests end first, what they need ends after them.
	front, closeFront := context.WithCancel(context.WithoutCancel(ctx))
	defer closeFront()
	back, closeBack := context.WithCancel(context.WithoutCancel(ctx))
	defer closeBack()

	g, failed := errgroup.WithContext(front)
	for _, l := range []*listener{p.api, p.queue, p.registry, p.inside, p.metrics} {
		if l != nil {
			g.Go(l.serve)
		}
	}
	c.warnOfOwnName(log)
	if err := c.checkRegistries(ctx, log); err != nil {
		return err
	}
	var etcdGroup errgroup.Group
	client, err := p.connectEtcd(ctx, back, &etcdGroup, closeFront)
	var controller controllerServer
	if err == nil && client != nil {
		controller, err = p.start(g, failed, client)
	}
	if err == nil {
		select {
		case <-ctx.Done():
		case <-failed.Done():
		}
	}
	p.stop(ctx, controller, closeFront)
	err = errors.Join(err, g.Wait())
	if client != nil {
		_ = client.Close()
	}
	closeBack()
	err = errors.Join(err, etcdGroup.Wait())
	if err == nil {
		log.Info("anka-controller ended")
	}
	return err
}

// listen takes all addresses before anything else happens: a taken port is the
// commonest mistake and must not leave anything half started.
func (p *process) listen() error {
	c := p.cfg
	var errs []error
	open := func(env, addr string, https bool, cert, key, ca string, demand bool) *listener {
		var err error
		var l *listener
		if !https {
			l, err = newListener(c.both(env), addr, nil, p.log)
		} else if tc, tlsErr := c.serverTLS(cert, key, ca, demand); tlsErr != nil {
			err = tlsErr
		} else {
			l, err = newListener(c.both(env), addr, tc, p.log)
		}
		if err != nil {
			errs = append(errs, err)
		}
		return l
	}
	p.api = open("ANKA_LISTEN_ADDR", c.ListenAddr, c.HTTPS, c.ServerCert, c.ServerKey, c.CACert, false)
	if c.QueueAddr != "" {
		p.queue = open("ANKA_QUEUE_ADDR", c.QueueAddr, c.QueueTLS, c.QueueCert, c.QueueKey, c.QueueCA, c.QueueAuth)
	}
	if c.RunRegistry {
		p.registry = open("ANKA_REGISTRY_LISTEN_ADDRESS", c.RegistryListenAddr, c.HTTPS, c.ServerCert, c.ServerKey, c.CACert, false)
	}
	if c.RunRegistry {
		p.inside = listenOn(builtInRegistry, c.inside, p.log)
	}
	if c.EnableMetrics {
		l, err := c.metricsListener(p.gathered, p.log)
		if err != nil {
			errs = append(errs, err)
		}
		p.metrics = l
	}
	if err := errors.Join(errs...); err != nil {
		for _, l := range []*listener{p.api, p.queue, p.registry, p.inside, p.metrics} {
			if l != nil {
				l.net.Close()
			}
		}
		return err
	}
	return nil
}

// metricsListener serves what is gathered, beside what etcd and the Go runtime
// register by themselves.
func (c *config) metricsListener(gathered prometheus.Gatherer, log *zap.Logger) (*listener, error) {
	l, err := newListener(c.both("ANKA_METRICS_PORT"), net.JoinHostPort(wire.LoopbackHost(c.ListenAddr), strconv.Itoa(c.MetricsPort)), nil, log)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET "+c.MetricsPath, promhttp.HandlerFor(prometheus.Gatherers{prometheus.DefaultGatherer, gathered}, promhttp.HandlerOpts{}))
	l.set(mux)
	return l, nil
}

// connectEtcd starts the embedded member, if there is one, and returns a client.
// Both live until back ends. It returns nil, nil when ctx ends meanwhile.
func (p *process) connectEtcd(ctx, back context.Context, g *errgroup.Group, fail func()) (*etcdmember.Client, error) {
	cc := etcdmember.ClientConfig{}
	if p.cfg.Standalone {
		mc, err := p.cfg.memberConfig()
		if err != nil {
			return nil, err
		}
		if p.member, err = etcdmember.New(mc, p.log); err != nil {
			return nil, err
		}
		starting, giveUp := context.WithCancelCause(ctx)
		g.Go(func() error {
			defer fail() // a controller without its etcd member ends, and its service manager starts both
			err := p.member.Run(back)
			giveUp(err)
			return err
		})
		select {
		case <-p.member.Ready():
		case <-starting.Done():
			return nil, nil // the reason comes from g.Wait, or there is none
		}
		if cc.TLS, err = mc.TLS.ClientConfig(); err != nil {
			return nil, err
		}
		cc.Endpoints, cc.Follow = p.member.Endpoints(), len(mc.Cluster) > 0
	} else {
		var err error
		if cc.TLS, err = p.cfg.etcdTLSConfig(); err != nil {
			return nil, err
		}
		cc.Endpoints = withScheme(p.cfg.EtcdEndpoints, p.cfg.EtcdTLS)
		if p.cfg.EtcdLogin {
			cc.Username, cc.Password = p.cfg.EtcdUser, p.cfg.EtcdPassword
		}
	}
	client, err := etcdmember.Connect(cc, p.log)
	if err != nil {
		return nil, err
	}
	g.Go(func() error { return client.Run(back) })
	return client, nil
}

// start puts the servers behind the listeners.
func (p *process) start(g *errgroup.Group, ctx context.Context, client *etcdmember.Client) (controllerServer, error) {
	if p.registry != nil {
		reg, err := p.cfg.newRegistry(client.Client, p.log, p.gathered)
		if err != nil {
			return nil, fmt.Errorf("built-in registry: %w", err)
		}
		p.registry.set(reg.Handler())
		p.inside.set(reg.Handler())
		p.drainRegistry = reg.Drain
		g.Go(func() error { return reg.Run(ctx) })
	}
	ctrl, err := p.cfg.newController(client, p.log, p.gathered)
	if err != nil {
		return nil, err
	}
	g.Go(func() error { return ctrl.Run(ctx) })
	if p.cfg.Standalone {
		g.Go(func() error { p.rememberCloud(ctx, ctrl); return nil })
	}
	g.Go(func() error { p.welcome(ctx, ctrl); return nil })
	p.api.set(ctrl.Handler())
	if p.queue != nil {
		p.queue.set(ctrl.NodesHandler())
	}
	return ctrl, nil
}

// welcome says, once the cloud is known, how to go on and who may do so.
func (p *process) welcome(ctx context.Context, ctrl controllerServer) {
	if !awaitCloud(ctx, ctrl) {
		return
	}
	if termstyle.Of(os.Stderr).Terminal {
		p.log.Info("up; join a Mac with: sudo ankacluster join " + p.cfg.AdvertiseURL)
	}
	addresses := []string{p.cfg.ListenAddr}
	if p.cfg.RunRegistry {
		addresses = append(addresses, p.cfg.RegistryListenAddr)
	}
	p.log.Warn("no authentication: everybody who reaches these addresses may start and end VMs, push and delete templates", zap.Strings("addresses", addresses))
}

// awaitCloud waits until the cloud is known; it is false when ctx ends before.
func awaitCloud(ctx context.Context, ctrl controllerServer) bool {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for ctrl.CloudID() == "" {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}

// stop leaves politely: out of the list, then out of the requests, then out.
func (p *process) stop(ctx context.Context, ctrl controllerServer, closeFront func()) {
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.cfg.GracefulShutdown)
	defer cancel()
	// Before the drain, because it answers the long polls: who comes again takes a
	// new connection.
	for _, l := range []*listener{p.api, p.queue, p.registry, p.inside} {
		if l != nil {
			l.leaving.Store(true)
		}
	}
	if ctrl != nil {
		p.log.Info("draining", zap.Duration("at_most", p.cfg.GracefulShutdown))
		if err := ctrl.Drain(grace); err != nil {
			p.log.Warn("could not leave the list of controllers; it forgets this one by itself", zap.Error(err))
		}
	}
	p.drainRegistry()
	if ctx.Err() != nil { // as asked; after a failure nobody needs to be told gently
		wait := time.NewTimer(p.cfg.DrainDelay)
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-grace.Done():
		}
	}
	var g errgroup.Group
	for _, l := range []*listener{p.api, p.queue, p.registry, p.inside} {
		if l != nil {
			g.Go(func() error { l.shutdown(grace); return nil })
		}
	}
	_ = g.Wait()
	if p.metrics != nil {
		p.metrics.shutdown(grace)
	}
	closeFront()
}

// cloudIDFile remembers which cloud this data directory belongs to, apart from
// etcd's data: if those are lost, somebody must notice (F28).
func (c *config) cloudIDFile() string { return filepath.Join(c.DataDir, "cloud-id") }

// rememberCloud writes the cloud's id down as soon as it is known.
func (p *process) rememberCloud(ctx context.Context, ctrl controllerServer) {
	if !awaitCloud(ctx, ctrl) {
		return
	}
	id := ctrl.CloudID()
	if old, err := os.ReadFile(p.cfg.cloudIDFile()); err == nil && strings.TrimSpace(string(old)) == id {
		return
	}
	if err := (atomicfile.Options{}).Write(p.cfg.cloudIDFile(), []byte(id+"\n")); err != nil {
		p.log.Warn("the cloud's id could not be written down; a loss of etcd's data would go unnoticed", zap.Error(err))
	}
}

// knownCloudID returns the remembered id, or "".
func (c *config) knownCloudID() string {
	data, err := os.ReadFile(c.cloudIDFile())
	if err != nil || !c.Standalone || c.AllowEmptyEtcd {
		return ""
	}
	return strings.TrimSpace(string(data))
}
