package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloudstore"
	"github.com/ankacluster/ankacluster/test/history"
	"github.com/ankacluster/ankacluster/test/simnode"
)

// Config of a run.
type Config struct {
	Seed     uint64
	Duration time.Duration // of the faults
	Every    time.Duration // mean time between two faults

	Nodes, Capacity int
	Creators        int
	Alive           int // instances at once
}

// DefaultConfig is a short run. There is a little less room on the nodes than
// there are instances, so that some always wait.
func DefaultConfig() Config {
	return Config{Seed: 1, Duration: 30 * time.Second, Every: 2 * time.Second, Nodes: 8, Capacity: 2, Creators: 3, Alive: 20}
}

// Result is what a run found.
type Result struct {
	Faults     int
	Created    int64
	Failures   int64         // keyed requests that failed
	Longest    time.Duration // keyed request
	P99        time.Duration
	Checked    history.Stats
	Problems   []history.Problem
	Violations []simnode.Violation
	Left       []string // keys that should be gone
}

// Limits of the end. They are for a loaded machine.
const (
	settleLimit = 2 * time.Minute
	checkLimit  = 2 * time.Minute // of one instance
)

// long is from when on a run waits until etcd has forgotten everything, which
// takes a minute more.
const long = time.Minute

// Run runs one chaos. bin holds the executables; dir takes the logs and data.
func Run(ctx context.Context, cfg Config, bin, dir string, say func(string, ...any)) (result Result, err error) {
	cl, err := newCluster(bin, dir)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, cl.close()) }()
	if err := cl.start(ctx); err != nil {
		return result, err
	}
	api, runBalancer, err := balanced(cl.urls())
	if err != nil {
		return result, err
	}
	background, endBackground := context.WithCancel(ctx)
	var group errgroup.Group
	defer func() { endBackground(); err = errors.Join(err, group.Wait()) }()
	group.Go(func() error { return runBalancer(background) })

	ledger, rec := simnode.NewLedger(), history.NewRecorder()
	for i := range cfg.Nodes {
		id := controllerapi.NodeID(fmt.Sprintf("node-%d", i+1))
		n := simnode.New(simnode.Config{ID: id, Capacity: cfg.Capacity, StartTime: time.Duration(20*i) * time.Millisecond, Heartbeat: time.Second, Wait: 10 * time.Second},
			api, ledger, simnode.Hooks{History: rec})
		group.Go(func() error { return n.Run(background) })
	}
	began := time.Now()
	say("all servers are ready; faults begin")
	c := &clients{api: api, rec: rec, ledger: ledger, say: say, room: make(chan struct{}, cfg.Alive)}
	result.Faults, err = c.load(ctx, cfg, cl)
	if err != nil {
		return result, err
	}

	say("%7.2fs healed; waiting until everything has ended", time.Since(began).Seconds())
	if err := cl.awaitAll(ctx); err != nil {
		return result, err
	}
	c.lives.Wait()
	result.Left, err = settle(ctx, cl, ledger, cfg.Duration >= long)
	if err != nil {
		return result, err
	}
	say("%7.2fs all has ended; checking", time.Since(began).Seconds())
	result.Created, result.Failures = c.created.Load(), c.failures.Load()
	result.Longest, result.P99 = c.keyed.Max(), c.keyed.Quantile(0.99)
	result.Violations = ledger.Violations()
	result.Problems, result.Checked = rec.Check(checkLimit)
	return result, nil
}

// load runs the clients and the faults until all faults are over.
func (c *clients) load(ctx context.Context, cfg Config, cl *cluster) (faults int, err error) {
	rng := rand.New(rand.NewPCG(cfg.Seed, 1))
	own := func() *rand.Rand { return rand.New(rand.NewPCG(rng.Uint64(), rng.Uint64())) }
	loadCtx, endLoad := context.WithCancel(ctx)
	defer endLoad()
	var load sync.WaitGroup
	for i, url := range cl.urls() {
		api, tr := direct(url)
		defer tr.CloseIdleConnections()
		c.direct = append(c.direct, api)
		readerRNG := own()
		load.Go(func() { c.read(loadCtx, readerRNG, fmt.Sprintf("controller-%d", i+1), api) })
	}
	readerRNG := own()
	load.Go(func() { c.read(loadCtx, readerRNG, "balancer", c.api) })
	for i := range cfg.Creators {
		creatorRNG := own()
		load.Go(func() { c.create(loadCtx, creatorRNG, i) })
	}

	began := time.Now()
	faultsCtx, endFaults := context.WithCancel(ctx)
	defer endFaults()
	var harms errgroup.Group
	planned := plan(cfg.Seed, cfg.Duration, cfg.Every)
	for _, f := range planned {
		if !sleep(ctx, f.at-time.Since(began)) {
			break
		}
		c.say("%s", f)
		harms.Go(func() error { return cl.harm(faultsCtx, f) })
	}
	sleep(ctx, cfg.Duration-time.Since(began))
	err = harms.Wait()
	endLoad()
	load.Wait()
	return len(planned), errors.Join(err, ctx.Err())
}

// settle waits until the cloud is empty, and returns what is left if it does
// not become so.
func settle(ctx context.Context, cl *cluster, ledger *simnode.Ledger, patient bool) ([]string, error) {
	etcd, err := clientv3.New(clientv3.Config{Endpoints: fronts(cl.servers[member]), DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		return nil, err
	}
	defer func() { _ = etcd.Close() }()
	deadline := time.Now().Add(settleLimit)
	for {
		left, err := leftOver(ctx, etcd, patient)
		for _, id := range ledger.Running() {
			left = append(left, fmt.Sprintf("VM of %s on %s", id, ledger.Where(id)))
		}
		if err == nil && len(left) == 0 {
			return nil, nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return left, err
		}
		sleep(ctx, 200*time.Millisecond)
	}
}

// bookkeeping are the folders of etcd whose records all end in an idle cloud.
// The nodes' ledgers are none: they remember the last few tasks until the next
// one is handed out, so that a repeated reservation gets the same one.
var bookkeeping = []string{cloudstore.Prefix + "s/instance/", cloudstore.Prefix + "s/task/"}

// leftOver lists the instances and tasks that etcd still holds. A buried
// instance is none: it is in no list, and only waits to be forgotten, which a
// patient caller also waits for.
func leftOver(ctx context.Context, etcd *clientv3.Client, patient bool) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var left []string
	for _, prefix := range bookkeeping {
		resp, err := etcd.Get(ctx, prefix, clientv3.WithPrefix())
		if err != nil {
			return nil, err
		}
		for _, kv := range resp.Kvs {
			var record struct {
				Buried *time.Time `json:"buried"`
			}
			if err := json.Unmarshal(kv.Value, &record); err != nil {
				return nil, fmt.Errorf("%s: %w", kv.Key, err)
			}
			if record.Buried != nil && !patient {
				continue
			}
			left = append(left, fmt.Sprintf("%s = %.300s", kv.Key, kv.Value))
		}
	}
	return left, nil
}

// Draw writes a picture of each of the first problems below dir.
func (r Result) Draw(dir string, say func(string, ...any)) {
	if err := os.MkdirAll(filepath.Join(dir, "history"), 0o755); err != nil {
		say("no pictures: %v", err)
		return
	}
	for i, p := range r.Problems {
		if i == 5 {
			return
		}
		if path, err := p.Draw(filepath.Join(dir, "history")); err != nil {
			say("no picture of %s: %v", p.Instance, err)
		} else if path != "" {
			say("picture: %s", path)
		}
	}
}
