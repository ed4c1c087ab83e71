package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/ankacluster/ankacluster/balancer/drill"
	"github.com/ankacluster/ankacluster/balancer/drill/door"
)

// speed is one measurement of one door.
type speed struct {
	Through string
	What    string // "download" or "requests"
	drill.Speed
}

const (
	speedRounds = 5
	connections = 16
	largeBlob   = 2 << 30
)

// measureSpeed alternates between the doors, so that what else the machine does
// meets all of them alike.
func measureSpeed(ctx context.Context, o options) (all []speed, err error) {
	cfg := o.drill
	cfg.BlobSize = largeBlob
	bench, err := drill.NewBench(cfg)
	if err != nil {
		return nil, err
	}
	defer bench.Close()
	for range speedRounds {
		for _, name := range []string{"haproxy", "nginx", "caddy", "balancer"} {
			if !slices.Contains(o.doors, name) {
				continue
			}
			download, err := bench.Download(ctx, o.proxy(name, "registries"))
			if err != nil {
				return nil, fmt.Errorf("download through %s: %w", name, err)
			}
			requests, err := bench.Requests(ctx, o.proxy(name, "controllers"), connections, 3*time.Second)
			if err != nil {
				return nil, fmt.Errorf("small requests through %s: %w", name, err)
			}
			fmt.Fprintf(os.Stderr, "%-10s %6.0f MiB/s %.2f s CPU/GiB  %7.0f requests/s\n",
				name, download.MiBPerSecond(), download.CPUPerGiB(), requests.PerSecond())
			all = append(all, speed{name, "download", download}, speed{name, "requests", requests})
		}
	}
	return all, nil
}

// proxy is a door that is a process of its own for both roles.
func (o options) proxy(name, role string) door.Usage {
	if name == "balancer" {
		return door.Proxy([]string{o.program}, map[string]string{"controllers": "controller", "registries": "registry"}[role])
	}
	return o.door(name, role).(door.Usage)
}

// median of one figure over all rounds of one door.
func median(all []speed, name, what string, of func(drill.Speed) float64) (float64, bool) {
	var values []float64
	for _, s := range all {
		if s.Through == name && s.What == what {
			values = append(values, of(s.Speed))
		}
	}
	if len(values) == 0 {
		return 0, false
	}
	slices.Sort(values)
	return values[len(values)/2], true
}
