package topologies

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ankacluster/ankacluster/balancer"
	"github.com/ankacluster/ankacluster/balancer/drill/stall"
	"github.com/ankacluster/ankacluster/controllerapi"
)

// driverVar makes this test's executable a CI system that starts and ends VMs
// through a balancer until SIGTERM; it runs on a host of the test's network.
// The variable holds the controllers' URLs, and driverTemplate the template.
const (
	driverVar      = "ANKA_TEST_DRIVE"
	driverTemplate = "ANKA_TEST_TEMPLATE"
)

// event is what the driver saw, one JSON line each.
type event struct {
	Kind string        `json:"kind"` // start, started, ended
	ID   string        `json:"id"`
	At   time.Time     `json:"at"`
	Took time.Duration `json:"took"` // while the machine ran
	Err  string        `json:"err,omitempty"`
}

const (
	startEvery   = 250 * time.Millisecond
	atATime      = 12               // instances that the driver has at once
	callPatience = 30 * time.Second // a CI system's, for one call
)

func drive() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	b, err := balancer.New(balancer.DefaultConfig(), nil)
	if err == nil {
		err = b.SetMembers(balancer.OriginJoin, strings.Split(os.Getenv(driverVar), ","))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	running, stopBalancer := context.WithCancel(context.Background())
	var wg, background sync.WaitGroup
	background.Go(func() { _ = b.Run(running) })
	d := &driver{client: controllerapi.NewClient("http://controllers", b.Client()), out: json.NewEncoder(os.Stdout)}
	d.stalls = stall.Start()
	defer d.stalls.Stop()
	slots := make(chan struct{}, atATime)
	tick := time.NewTicker(startEvery)
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			continue
		case <-tick.C:
		}
		select {
		case slots <- struct{}{}:
			wg.Go(func() { d.life(); <-slots })
		default: // the nodes are full; a start that waits for a slot says nothing about the controllers
		}
	}
	wg.Wait()
	stopBalancer()
	background.Wait()
	return 0
}

type driver struct {
	client *controllerapi.Client
	stalls *stall.Watch
	mu     sync.Mutex
	out    *json.Encoder // guarded by mu
}

func (d *driver) tell(e event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	_ = d.out.Encode(e) // stdout is the test's pipe
}

// life is one VM from its start to its end.
func (d *driver) life() {
	began := time.Now()
	var ids []controllerapi.InstanceID
	err := d.call(func(ctx context.Context) (err error) {
		ids, err = d.client.Start(ctx, controllerapi.StartRequest{VMID: controllerapi.TemplateID(os.Getenv(driverTemplate))})
		return err
	})
	e := event{Kind: "start", At: time.Now(), Took: d.stalls.Seen().Ran(began, time.Now())}
	if err != nil {
		e.Err = err.Error()
		d.tell(e)
		return
	}
	e.ID = string(ids[0])
	d.tell(e)
	d.await("started", ids[0], began, controllerapi.Started)
	_ = d.call(func(ctx context.Context) error { return d.client.Terminate(ctx, ids[0]) }) // await sees whether it ended
	d.await("ended", ids[0], began, controllerapi.Terminated)
}

// await polls until the instance is in state; one that is gone has ended.
func (d *driver) await(kind string, id controllerapi.InstanceID, began time.Time, state controllerapi.InstanceState) {
	e := event{Kind: kind, ID: string(id)}
	for e.At.IsZero() {
		var in controllerapi.Instance
		err := d.call(func(ctx context.Context) (err error) { in, err = d.client.Instance(ctx, id); return err })
		switch {
		case err == nil && in.InstanceState == state:
			e.At = time.Now()
		case err == nil && in.InstanceState == controllerapi.Error:
			e.At, e.Err = time.Now(), "Error: "+in.Message
		case err != nil && kind == "ended" && strings.Contains(err.Error(), "Not found"):
			e.At = time.Now()
		case err != nil:
			e.At, e.Err = time.Now(), err.Error()
		case time.Since(began) > deadline-10*time.Second: // before the test gives the driver up
			e.At, e.Err = time.Now(), "still "+string(in.InstanceState)
		default:
			time.Sleep(100 * time.Millisecond)
		}
	}
	e.Took = d.stalls.Seen().Ran(began, e.At)
	d.tell(e)
}

func (d *driver) call(do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), callPatience)
	defer cancel()
	return do(ctx)
}
