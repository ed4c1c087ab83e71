package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/ankacluster/ankacluster/balancer"
)

// connect returns the clients' way to the controllers: through the balancer, as a
// CI system or an exporter on a node has it. run works for it in the background.
func connect(urls []string) (client *http.Client, run func(context.Context) error, err error) {
	cfg := balancer.DefaultConfig()
	cfg.Name = "controllers"
	// A machine that runs both sides is slow to connect by itself, and a second
	// copy of what is late would come from the same machine.
	cfg.ConnectTimeout, cfg.ConnectRace = 5*time.Second, 2*time.Second
	cfg.Probe.Timeout = 5 * time.Second
	cfg.Hedge.Enabled = false
	b, err := balancer.New(cfg, nil)
	if err != nil {
		return nil, nil, err
	}
	if err := b.SetMembers(balancer.OriginJoin, urls); err != nil {
		return nil, nil, fmt.Errorf("--controllers: %w", err)
	}
	return b.Client(), b.Run, nil
}
