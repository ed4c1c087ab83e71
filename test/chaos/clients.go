package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ankacluster/ankacluster/balancer"
	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/test/history"
	"github.com/ankacluster/ankacluster/test/simnode"
)

// clients create, watch and terminate instances and record everything.
type clients struct {
	api    *controllerapi.Client   // through the balancer
	direct []*controllerapi.Client // to one controller each
	rec    *history.Recorder
	ledger *simnode.Ledger
	say    func(string, ...any)

	room  chan struct{} // a token for each instance that may be alive
	lives sync.WaitGroup

	mu    sync.Mutex
	alive []controllerapi.InstanceID // to be read one by one

	keyed    simnode.Histogram // creates and terminates through the balancer
	failures atomic.Int64
	created  atomic.Int64
}

// Limits of single calls. A keyed call has the time of a patient CI system; a
// read at one controller is given up when that one is ill.
const (
	keyedLimit = 30 * time.Second
	readLimit  = 3 * time.Second
)

// create makes instances until ctx ends, each with a key of its own.
func (c *clients) create(ctx context.Context, rng *rand.Rand, worker int) {
	for n := 0; ctx.Err() == nil; n++ {
		select {
		case c.room <- struct{}{}:
		case <-ctx.Done():
			return
		}
		key := fmt.Sprintf("chaos-%d-%d", worker, n)
		twice, elsewhere := rng.IntN(4) == 0, rng.IntN(len(c.direct))
		patience := time.Duration(rng.Int64N(int64(4 * time.Second)))
		if rng.IntN(4) == 0 {
			patience = time.Duration(rng.Int64N(int64(50 * time.Millisecond))) // terminated while it is being placed
		}
		c.lives.Go(func() {
			defer func() { <-c.room }()
			c.life(ctx, key, twice, elsewhere, patience)
		})
		sleep(ctx, time.Duration(rng.Int64N(int64(200*time.Millisecond))))
	}
}

// life creates one instance, sometimes with the same key at two controllers at
// once, waits, and terminates it.
func (c *clients) life(ctx context.Context, key string, twice bool, elsewhere int, patience time.Duration) {
	var beside sync.WaitGroup
	if twice {
		beside.Go(func() {
			call, cancel := context.WithTimeout(context.WithoutCancel(ctx), readLimit)
			defer cancel()
			_, _ = c.start(call, c.direct[elsewhere], key) // its controller may be ill: that is no failure
		})
	}
	ids, err := c.keepStarting(context.WithoutCancel(ctx), key)
	beside.Wait()
	if err != nil {
		c.failed("create "+key, err)
		return
	}
	c.created.Add(int64(len(ids)))
	c.mu.Lock()
	c.alive = append(c.alive, ids...)
	c.mu.Unlock()
	sleep(ctx, patience)
	if twice {
		// A repeat long after the answer still gets that answer.
		if _, err := c.keepStarting(context.WithoutCancel(ctx), key); err != nil {
			c.failed("repeat "+key, err)
		}
	}
	for _, id := range ids {
		c.terminate(context.WithoutCancel(ctx), id)
	}
}

func (c *clients) failed(what string, err error) {
	c.failures.Add(1)
	c.say("%s: %v", what, err)
}

// keepStarting creates through the balancer, as a node or a CI system would.
func (c *clients) keepStarting(ctx context.Context, key string) ([]controllerapi.InstanceID, error) {
	ctx, cancel := context.WithTimeout(ctx, keyedLimit)
	defer cancel()
	began := time.Now()
	ids, err := c.start(ctx, c.api, key)
	c.keyed.Add(time.Since(began))
	return ids, err
}

func (c *clients) start(ctx context.Context, api *controllerapi.Client, key string) ([]controllerapi.InstanceID, error) {
	call := c.rec.Creating(key)
	ids, err := api.Start(controllerapi.WithIdempotencyKey(ctx, key), controllerapi.StartRequest{VMID: template, ExternalID: key, Metadata: simnode.Mark(key, markMost)})
	if err == nil {
		c.rec.Created(key, call, ids)
	}
	return ids, err
}

// terminate ends an instance, and insists: nothing may be left at the end.
func (c *clients) terminate(ctx context.Context, id controllerapi.InstanceID) {
	for attempt := range 4 {
		call, began := c.rec.Now(), time.Now()
		callCtx, cancel := context.WithTimeout(ctx, keyedLimit)
		err := c.api.Terminate(callCtx, id)
		cancel()
		c.keyed.Add(time.Since(began))
		c.rec.Terminated("client", id, call, err != nil)
		if err == nil {
			break
		}
		if errors.Is(err, controllerapi.ErrNotFound) && attempt > 0 {
			break // an attempt without an answer had done it
		}
		c.failed("terminate "+string(id), err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, other := range c.alive {
		if other == id {
			c.alive = append(c.alive[:i], c.alive[i+1:]...)
			break
		}
	}
}

// markMost is how large an instance's mark is at most: lists of them are some hundred
// kB, which no single read of a connection brings.
const markMost = 16 << 10

// compare notes an instance that is not as it was stored.
func (c *clients) compare(i controllerapi.Instance) {
	if why := simnode.Damage(i); why != "" {
		c.ledger.Break(simnode.Damaged, i.InstanceID, why)
	}
}

// read asks one controller, again and again, for single instances and for all.
func (c *clients) read(ctx context.Context, rng *rand.Rand, who string, api *controllerapi.Client) {
	for sleep(ctx, time.Duration(rng.Int64N(int64(100*time.Millisecond)))) {
		callCtx, cancel := context.WithTimeout(ctx, readLimit)
		call := c.rec.Now()
		if id, ok := c.one(rng); ok && rng.IntN(3) > 0 {
			instance, err := api.Instance(callCtx, id)
			if err == nil {
				c.compare(instance)
				c.rec.Read(who, id, call, instance.InstanceState)
			} else if errors.Is(err, controllerapi.ErrNotFound) {
				c.rec.Read(who, id, call, "")
			}
		} else if list, err := api.Instances(callCtx); err == nil {
			for _, i := range list {
				c.compare(i.VM)
			}
			c.rec.Listed(who, call, list)
		}
		cancel()
	}
}

// one picks an instance that is alive, or has just been told to end.
func (c *clients) one(rng *rand.Rand) (controllerapi.InstanceID, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.alive) == 0 {
		return "", false
	}
	return c.alive[rng.IntN(len(c.alive))], true
}

// balanced returns a client whose requests go through a balancer, and the
// balancer's Run.
func balanced(urls []string) (*controllerapi.Client, func(context.Context) error, error) {
	cfg := balancer.DefaultConfig()
	cfg.Name = "controllers"
	b, err := balancer.New(cfg, nil)
	if err != nil {
		return nil, nil, err
	}
	if err := b.SetMembers(balancer.OriginJoin, urls); err != nil {
		return nil, nil, err
	}
	return controllerapi.NewClient("http://controllers", b.Client()), b.Run, nil
}

// direct returns a client of one controller.
func direct(url string) (*controllerapi.Client, *http.Transport) {
	tr := &http.Transport{MaxIdleConnsPerHost: 4}
	return controllerapi.NewClient(url, &http.Client{Transport: tr}), tr
}
