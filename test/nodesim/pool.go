package main

import (
	"context"
	"fmt"
	"time"

	"github.com/ankacluster/ankacluster/balancer"
	"github.com/ankacluster/ankacluster/controllerapi"
)

// pool is what all simulated nodes and clients share of the way to the
// controllers. Real nodes have one each; a thousand of them in one process would
// measure this machine's probing, not the cloud.
type pool struct {
	api *controllerapi.Client
	run func(context.Context) error
}

func connect(urls []string) (pool, error) {
	cfg := balancer.DefaultConfig()
	cfg.Name = "controllers"
	// Every node has a long poll open, and a sync now and then on a connection
	// that another has left: more would only fill this process's table of files.
	cfg.MaxIdleConns = 2000
	cfg.IdleTimeout = 5 * time.Minute
	// Hedges and retries of ten thousand nodes in one budget: as much as they
	// would have on their own.
	cfg.Retry.Reserve = 1000
	// And one judgement for all of them: what five of ten thousand requests say
	// of a controller must not take it from the others, and a machine that runs
	// both sides is slow to connect by itself.
	cfg.Breaker.Consecutive, cfg.Slow.Late = 500, 500
	cfg.ConnectTimeout, cfg.ConnectRace = 5*time.Second, 2*time.Second
	cfg.Probe.Timeout = 5 * time.Second
	// A second copy of what is late would come from the same machine.
	cfg.Hedge.Enabled = false
	b, err := balancer.New(cfg, nil)
	if err != nil {
		return pool{}, err
	}
	if err := b.SetMembers(balancer.OriginJoin, urls); err != nil {
		return pool{}, fmt.Errorf("--controllers: %w", err)
	}
	return pool{controllerapi.NewClient("http://controllers", b.Client()), b.Run}, nil
}
