package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/urfave/cli/v2"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/ankacluster/ankacluster/agent/node"
	"github.com/ankacluster/ankacluster/agent/socket"
	"github.com/ankacluster/ankacluster/balancer"
	"github.com/ankacluster/ankacluster/balancer/metrics"
	"github.com/ankacluster/ankacluster/balancer/proxy"
	"github.com/ankacluster/ankacluster/internal/access"
	"github.com/ankacluster/ankacluster/internal/logging"
	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/internal/ownaddr"
	"github.com/ankacluster/ankacluster/internal/ownership"
	"github.com/ankacluster/ankacluster/internal/termstyle"
	"github.com/ankacluster/ankacluster/internal/wire"
)

// proxyCommand runs the loopback proxy alone, on any machine, joined or not.
func proxyCommand() *cli.Command {
	return &cli.Command{
		Name:  "proxy",
		Usage: "balance controllers and registries for programs on this machine that take one URL",
		UsageText: `ankacluster proxy --controllers URL,URL --controller-listen ADDRESS [options]

Listens on this machine and passes each request to a server that works. Needs
no agent: a Jenkins or GitLab host gets the balancing of a node. Any HTTP server
that answers GET /readyz can be behind it.

Example: ankacluster proxy --controllers http://10.0.1.4:8090,http://10.0.1.5:8090 --controller-listen 127.0.0.1:8090`,
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "controllers", Usage: "`URL`s of the controllers, with commas or repeated"},
			&cli.StringFlag{Name: "controller-listen", Usage: "`ADDRESS` to serve the controllers on, such as 127.0.0.1:8090"},
			&cli.StringSliceFlag{Name: "registries", Usage: "`URL`s of the registries, with commas or repeated"},
			&cli.StringFlag{Name: "registry-listen", Usage: "`ADDRESS` to serve the registries on, such as 127.0.0.1:8089"},
			verifyDigestsFlag(),
			&cli.StringFlag{Name: "metrics-listen", Usage: "`ADDRESS` for Prometheus metrics under /metrics (default: none)"},
			&cli.StringFlag{Name: "status-socket", Usage: "`PATH` for 'ankacluster endpoints' to ask (default: one per process in a private directory)"},
			&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, Usage: "log each request that is repeated", DisableDefaultText: true},
		},
		Action: runProxy,
	}
}

func runProxy(c *cli.Context) error {
	if c.NArg() > 0 {
		return usagef("unexpected argument %q; servers are named with --controllers and --registries", c.Args().First())
	}
	if os.Getenv("GOGC") == "" {
		// What lives is a few megabytes: collecting it each time it has doubled is
		// a tenth of what a small request costs.
		debug.SetGCPercent(400)
	}
	log := logging.New(termstyle.Raw(c.App.ErrWriter), c.Bool("verbose"))
	pr := &proxyProcess{log: log, pools: make(map[string]*balancer.Balancer), verify: verifyDigests(c),
		listens: map[string]string{"--controller-listen": c.String("controller-listen"), "--registry-listen": c.String("registry-listen"), "--metrics-listen": c.String("metrics-listen")}}
	defer pr.close()
	if err := pr.controllers(c.StringSlice("controllers"), c.String("controller-listen")); err != nil {
		return err
	}
	if err := pr.registries(c.StringSlice("registries"), c.String("registry-listen")); err != nil {
		return err
	}
	if len(pr.servers) == 0 {
		return usagef("nothing to balance: give --controllers with --controller-listen, --registries with --registry-listen, or both")
	}
	if err := pr.metrics(c.String("metrics-listen")); err != nil {
		return err
	}
	path := c.String("status-socket")
	if path == "" {
		dir := proxySocketDirs()[0]
		if err := ownership.MakePrivateDir(dir); err != nil {
			return hintf(fmt.Errorf("no place for the status socket: %w", err), "or name another one with --status-socket PATH")
		}
		path = filepath.Join(dir, strconv.Itoa(os.Getpid())+".sock")
	}
	return pr.run(c.Context, path)
}

// verifyDigests is what the flag says, nil if it is not given.
func verifyDigests(c *cli.Context) *bool {
	if !c.IsSet("verify-digests") {
		return nil
	}
	all := c.Bool("verify-digests")
	return &all
}

// verifyDigestsFlag is of balancer.Config.Verified.
func verifyDigestsFlag() *cli.BoolFlag {
	return &cli.BoolFlag{Name: "verify-digests", DefaultText: "on, but for what the kernel of Linux moves",
		Usage: "hash each download, and break it off before its end if it is not what its digest names"}
}

// proxySocketDirs hold the status sockets of this user's proxies: new ones are made in
// the first. In the last, which others could have made, are those of older versions.
func proxySocketDirs() []string {
	shared := filepath.Join(os.TempDir(), "ankacluster-proxy-"+strconv.Itoa(os.Getuid()))
	own := os.Getenv("XDG_RUNTIME_DIR")
	if os.Geteuid() == 0 {
		own = "/var/run"
	}
	if own == "" || ownership.Folder(own) != nil {
		return []string{shared}
	}
	return []string{filepath.Join(own, "ankacluster-proxy"), shared}
}

// proxyProcess is what one `ankacluster proxy` runs.
type proxyProcess struct {
	log     *zap.Logger
	pools   map[string]*balancer.Balancer
	servers []*proxy.Server
	verify  *bool             // all downloads against their digests, or none; nil is the default
	listens map[string]string // addresses of this proxy, by flag
}

func (p *proxyProcess) controllers(urls []string, listen string) error {
	if len(urls) == 0 && listen == "" {
		return nil
	}
	ctl, err := p.pool("controllers", balancer.DefaultConfig(), "--controllers", urls, "--controller-listen", listen)
	if err != nil {
		return err
	}
	return p.serve("--controller-listen", listen, proxy.Config{Control: ctl, Fail: failEnvelope})
}

func (p *proxyProcess) registries(urls []string, listen string) error {
	if len(urls) == 0 && listen == "" {
		return nil
	}
	ctl, err := p.pool("registries", node.RegistryCalls(), "--registries", urls, "--registry-listen", listen)
	if err != nil {
		return err
	}
	transfers := balancer.BlobConfig()
	if p.verify != nil {
		transfers = transfers.Verified(*p.verify)
	}
	blob, err := p.pool("blobs", transfers, "--registries", urls, "--registry-listen", listen)
	if err != nil {
		return err
	}
	return p.serve("--registry-listen", listen, proxy.Config{Control: ctl, Blob: blob, Step: oci.Step, Fail: failRegistry})
}

func (p *proxyProcess) pool(name string, cfg balancer.Config, flag string, urls []string, listenFlag, listen string) (*balancer.Balancer, error) {
	if len(urls) == 0 {
		return nil, usagef("%s needs %s with the servers to balance", listenFlag, flag)
	}
	if listen == "" {
		return nil, usagef("%s needs %s with the address to listen on", flag, listenFlag)
	}
	for _, u := range urls {
		if _, err := balancer.ParseEndpoint(u); err != nil {
			return nil, usagef("%s: %w", flag, err)
		}
		for own, at := range p.listens {
			if ownaddr.Reaches(u, at) {
				return nil, usagef("%s: %s is this proxy itself (%s %s), which would be a loop; name the servers behind it", flag, u, own, at)
			}
		}
	}
	cfg.Name = name
	b, err := balancer.New(cfg, p.log)
	if err != nil {
		return nil, err
	}
	p.pools[name] = b
	return b, b.SetMembers(balancer.OriginJoin, urls)
}

// listenError names the address that is meant where only a port was given.
func listenError(flag, listen string, err error) error {
	if _, portErr := strconv.Atoi(listen); portErr == nil {
		return usagef("%s %s must be HOST:PORT, e.g. 127.0.0.1:%s", flag, listen, listen)
	}
	return wire.ListenError(flag, listen, err)
}

func (p *proxyProcess) serve(flag, listen string, cfg proxy.Config) error {
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return listenError(flag, listen, err)
	}
	p.servers = append(p.servers, &proxy.Server{Listener: ln, Handler: wire.Browsers{Passing: true}.Guard(proxy.New(cfg, p.log)), Log: p.log})
	p.log.Info("proxy listens", zap.String("address", "http://"+ln.Addr().String()), zap.String("pool", strings.TrimSuffix(strings.TrimPrefix(flag, "--"), "-listen")))
	return nil
}

func (p *proxyProcess) metrics(listen string) error {
	if listen == "" {
		return nil
	}
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return listenError("--metrics-listen", listen, err)
	}
	reg := prometheus.NewRegistry()
	for _, b := range p.pools {
		reg.MustRegister(metrics.Of(b))
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	p.servers = append(p.servers, &proxy.Server{Listener: ln, Handler: mux, Log: p.log})
	return nil
}

// close frees the addresses of a proxy that did not get to run.
func (p *proxyProcess) close() {
	for _, s := range p.servers {
		s.Listener.Close()
	}
}

// run serves until ctx ends; running requests then have a moment to finish.
func (p *proxyProcess) run(ctx context.Context, path string) error {
	// The pools outlive the listeners, for the requests that are finishing.
	poolCtx, stopPools := context.WithCancel(context.WithoutCancel(ctx))
	defer stopPools()
	var pools errgroup.Group
	for _, b := range p.pools {
		pools.Go(func() error { return b.Run(poolCtx) })
	}
	g, serveCtx := errgroup.WithContext(ctx)
	for _, s := range p.servers {
		g.Go(func() error { return s.Run(serveCtx) })
	}
	g.Go(func() error {
		defer os.Remove(path)
		err := socket.Serve(serveCtx, path, nil, append(node.NewDrains(p.pools, nil).Routes(),
			wire.Route{Pattern: "GET /endpoints", Permission: access.Owner, Handler: socket.Answer(func() any { return p.status() })}))
		if err != nil {
			// Requests matter more than being looked at.
			p.log.Warn("status not served", zap.Error(err))
		}
		return nil
	})
	err := g.Wait()
	stopPools()
	return errors.Join(err, pools.Wait())
}

func (p *proxyProcess) status() map[string]balancer.Status {
	all := make(map[string]balancer.Status, len(p.pools))
	for name, b := range p.pools {
		all[name] = b.Status()
	}
	return all
}

// failEnvelope answers in the words of the controller's API.
func failEnvelope(w http.ResponseWriter, _ *http.Request, status int, reason string) {
	wire.WriteFailure(w, &wire.Error{Status: status, Message: reason}, nil)
}

// failRegistry answers in the words of the distribution API.
func failRegistry(w http.ResponseWriter, r *http.Request, status int, reason string) {
	if !strings.HasPrefix(r.URL.Path, "/v2/") {
		failEnvelope(w, r, status, reason)
		return
	}
	oci.NewError(status, oci.CodeUnavailable, reason).Write(w)
}
