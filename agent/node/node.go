package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/ankacluster/ankacluster/agent"
	"github.com/ankacluster/ankacluster/agent/logship"
	"github.com/ankacluster/ankacluster/agent/machine"
	"github.com/ankacluster/ankacluster/agent/socket"
	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/balancer/metrics"
	"github.com/ankacluster/ankacluster/internal/access"
	"github.com/ankacluster/ankacluster/internal/buildinfo"
	"github.com/ankacluster/ankacluster/internal/serve"
	"github.com/ankacluster/ankacluster/internal/wire"
)

// Run is the life of the agent's process. It ends well when ctx ends it.
func Run(ctx context.Context, dir state.Dir) error {
	cfg, err := dir.Config()
	if err != nil {
		return err
	}
	if err := dir.Make(); err != nil {
		return err
	}
	lock, err := dir.Lock()
	if err != nil {
		return err
	}
	defer lock.Unlock()
	claim, err := state.ClaimHypervisor(cfg, dir)
	if errors.Is(err, state.ErrClaimed) {
		return err
	}
	unclaimed := err
	if claim != nil {
		defer claim.Release()
	}
	logs, err := openLogs(dir, cfg.Verbosity)
	if err != nil {
		return err
	}
	defer logs.close()
	log := logs.agent
	if unclaimed != nil {
		log.Warn("a second agent on this host would not be noticed", zap.Error(unclaimed))
	}
	undo, err := zap.RedirectStdLogAt(log.Named("std"), zap.DebugLevel)
	if err != nil {
		return err
	}
	defer undo()
	if err := UpgradeDir(dir).Started(buildinfo.Version); err != nil {
		log.Error("upgrade", zap.Error(err))
		return errors.Join(agent.ErrRestart, err)
	}
	log.Info("agent starting", zap.String("build", buildinfo.Line("ankacluster")), zap.Int("pid", os.Getpid()), zap.Strings("controllers", cfg.Controllers))
	if err := serveNode(ctx, dir, lock, cfg, logs); err != nil {
		log.Error("agent ended", zap.Error(err))
		return err
	}
	log.Info("agent stopped")
	return nil
}

// serveNode runs the agent with all that it stands on.
func serveNode(ctx context.Context, dir state.Dir, lock *state.Lock, cfg state.Config, logs *logs) error {
	id, err := dir.Identity("")
	if err != nil {
		return err
	}
	// Lines are shipped once there is an agent that knows whether the cloud
	// wants them.
	var target logTarget
	shipper := logship.New(target.send(id), target.wanted)
	log := logs.shippedTo(shipper)
	pools, err := NewPools(cfg, dir.Cluster(), log)
	if err != nil {
		return err
	}
	drains, err := pools.drains(dir)
	if err != nil {
		log.Error("servers that were drained are used again", zap.Error(err))
	}
	proxy, err := newRegistryProxy(pools)
	if err != nil {
		return err
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		metrics.Of(pools.controllers), metrics.Of(pools.registries), metrics.Of(pools.blobs), buildinfo.Info("ankacluster"))
	rt, runner := NewRuntime(dir, cfg, logs.commands, agent.ObserveCommands(reg))
	if n, err := runner.KillLeftovers(); err != nil {
		log.Warn("commands of an earlier run", zap.Error(err))
	} else if n > 0 {
		log.Info("ended commands of an earlier run", zap.Int("commands", n))
	}
	a, err := agent.New(cfg, dir, id, agent.Deps{
		Cloud: pools.Client(), Runtime: rt, Registry: proxy,
		Host:     machine.New(string(dir), func() []string { return cfg.Controllers }),
		Identity: machine.Identify(string(dir)), OnCluster: pools.learn(log), Pools: pools.numbers, Metrics: reg, Log: log, Upgrade: newUpgrader(cfg, dir, pools),
		Caffeinate: caffeinate(),
	})
	if err != nil {
		return err
	}
	target.begin(a, pools)
	metrics, err := net.Listen("tcp", cfg.MetricsAddr)
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	status := func() any {
		s := a.Status()
		s.PID = os.Getpid()
		s.MetricsURL = "http://" + metrics.Addr().String() + "/metrics"
		s.Endpoints = pools.status()
		return s
	}
	// The servers around the agent outlive it by a moment: while it finishes,
	// its commands still need the registries, and people its status.
	around, stopAround := context.WithCancel(context.WithoutCancel(ctx))
	defer stopAround()
	g, around := errgroup.WithContext(around)
	g.Go(func() error { return pools.Run(around) })
	g.Go(func() error { return proxy.serve(around) })
	g.Go(func() error { return shipper.Run(around) })
	g.Go(func() error { return serveHTTP(around, metrics, promhttp.HandlerFor(reg, promhttp.HandlerOpts{})) })
	g.Go(func() error {
		return socket.Serve(around, dir.Socket(), lock, socketRoutes(status, func() any { return pools.status() }, drains))
	})
	g.Go(func() error { confirmUpgrade(around, dir, a, log); return nil })
	g.Go(func() error {
		defer stopAround()
		// What is around the agent and fails takes it along.
		agentCtx, stop := context.WithCancel(ctx)
		defer context.AfterFunc(around, stop)()
		return a.Run(agentCtx)
	})
	return g.Wait()
}

// socketRoutes is what the agent's status socket answers.
func socketRoutes(status, endpoints func() any, drains *Drains) []wire.Route {
	return append(drains.Routes(),
		wire.Route{Pattern: "GET /status", Permission: access.Owner, Handler: socket.Answer(status)},
		wire.Route{Pattern: "GET /endpoints", Permission: access.Owner, Handler: socket.Answer(endpoints)})
}

// caffeinate is the command that keeps a Mac awake, "" on other systems.
func caffeinate() string {
	if runtime.GOOS != "darwin" {
		return ""
	}
	return "/usr/bin/caffeinate"
}

func serveHTTP(ctx context.Context, l net.Listener, h http.Handler) error {
	return serve.Run(ctx, serve.New(serve.Options{Handler: h}), l, serve.Drain{})
}
