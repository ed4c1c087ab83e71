package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/test/simnode"
)

// driver is one run.
type driver struct {
	o      options
	api    *controllerapi.Client // of the clients
	ledger *simnode.Ledger
	say    func(format string, args ...any)

	nodeAPI *controllerapi.Client // of the nodes

	joining, syncs, creates, started, terminates, lists, nodeLists simnode.Histogram

	joined atomic.Bool                     // every node is Active: from then on syncs counts, before it joining
	http   *http.Client                    // the clients'
	others map[controllerapi.NodeState]int // nodes that were there before

	synced atomic.Int64 // nodes that have had an answer to a sync

	joiningErrors, syncErrors, createErrors, terminateErrors, listErrors, nodeListErrors atomic.Int64

	maxOffline, maxListed, keys atomic.Int64

	root  context.Context // of the run: it ends with an interrupt
	ends  chan struct{}   // a token for each terminate in flight; as many as clients
	lives sync.WaitGroup  // one for each instance until it is terminated
	alive atomic.Int64
}

// Limits of waiting. They are for a cloud that is broken, not for a slow one.
const (
	registerLimit = 3 * time.Minute
	startLimit    = time.Minute
	drainLimit    = 2 * time.Minute
	callLimit     = 30 * time.Second
)

// pool is where requests go to any controller.
const pool = "http://controllers"

// drive runs the nodes and clients that o asks for.
func drive(ctx context.Context, o options, say func(string, ...any)) (Report, error) {
	clients, runClients, err := connect(o.controllers)
	if err != nil {
		return Report{}, err
	}
	wire, err := newWire(o.controllers)
	if err != nil {
		return Report{}, err
	}
	defer wire.close()
	clientsCtx, endClients := context.WithCancel(context.WithoutCancel(ctx))
	var background errgroup.Group
	background.Go(func() error { return runClients(clientsCtx) })
	defer func() { endClients(); _ = background.Wait() }()

	d := &driver{o: o, http: clients, api: controllerapi.NewClient(pool, clients), nodeAPI: controllerapi.NewClient(pool, &http.Client{Transport: wire}),
		others: make(map[controllerapi.NodeState]int), ledger: simnode.NewLedger(), say: say, root: ctx, ends: make(chan struct{}, o.clients)}
	nodesCtx, endNodes := context.WithCancel(context.WithoutCancel(ctx))
	var nodes errgroup.Group
	defer func() { endNodes(); _ = nodes.Wait() }()
	report := Report{Nodes: o.nodes, Duration: o.duration.Seconds(), Burst: o.burst}

	if o.usage == nil {
		o.usage = func() usage { return usage{} }
	}
	for _, state := range []controllerapi.NodeState{controllerapi.NodeActive, controllerapi.NodeOffline} {
		if d.others[state], err = d.countNodes(ctx, state); err != nil {
			return report, err
		}
	}
	idle := o.usage()
	began := time.Now()
	d.startNodes(nodesCtx, &nodes)
	if err := d.awaitNodes(ctx); err != nil {
		return report, err
	}
	report.RegisterAll = time.Since(began).Seconds()
	d.joined.Store(true)
	joined := o.usage()
	report.ProcessorsJoining = shares(idle, joined, time.Since(began))
	say("%d nodes are registered", o.nodes)

	if o.burst > 0 {
		if report.BurstStarted, err = d.burst(ctx); err != nil {
			return report, err
		}
	}
	before, err := etcdFigures(ctx, o.etcd)
	if err != nil {
		return report, err
	}
	began, joined = time.Now(), o.usage()
	report.CreatesPerSecond = d.steady(ctx)
	steady := o.usage()
	report.Processors = shares(joined, steady, time.Since(began))
	report.MemoryIdle, report.MemorySteady, report.MemoryMost = idle.resident, steady.resident, steady.most
	after, err := etcdFigures(context.WithoutCancel(ctx), o.etcd)
	if err != nil {
		return report, err
	}
	if o.etcd != "" && o.duration > 0 {
		report.EtcdWritesPerSecond = (after.writes - before.writes) / o.duration.Seconds()
		report.EtcdSizeBefore, report.EtcdSizeAfter = int64(before.size), int64(after.size)
	}
	say("the load is over; %d instances are left to end", d.alive.Load())
	report.Drained = d.drain(ctx)
	if ctx.Err() != nil {
		return report, errors.New("interrupted")
	}
	d.fill(&report)
	return report, nil
}

func (d *driver) fill(r *Report) {
	r.Sync = latency(&d.syncs, d.syncErrors.Load())
	r.Joining = latency(&d.joining, d.joiningErrors.Load())
	r.MaxOffline = int(d.maxOffline.Load())
	r.NodeList = latency(&d.nodeLists, d.nodeListErrors.Load())
	r.List = latency(&d.lists, d.listErrors.Load())
	r.ListLength = int(d.maxListed.Load())
	r.Creates = latency(&d.creates, d.createErrors.Load())
	r.CreateToStarted = latency(&d.started, 0)
	r.Terminates = latency(&d.terminates, d.terminateErrors.Load())
	r.Violations = d.ledger.Violations()
}

func (d *driver) startNodes(ctx context.Context, nodes *errgroup.Group) {
	for i := range d.o.nodes {
		n := simnode.New(simnode.Config{ID: nodeID(i), Capacity: d.o.capacity, Heartbeat: d.o.heartbeat, StartTime: d.o.startTime,
			Images: []controllerapi.NodeImage{{UUID: controllerapi.TemplateID(d.o.template), Name: d.o.template, Tag: "v1"}}}, d.nodeAPI, d.ledger, d.hooks())
		wait := time.Duration(float64(i) / d.o.joinRate * float64(time.Second))
		nodes.Go(func() error {
			if !sleep(ctx, wait) {
				return nil
			}
			return n.Run(ctx)
		})
	}
}

// hooks are those of one node.
func (d *driver) hooks() simnode.Hooks {
	var once sync.Once
	return simnode.Hooks{Synced: func(took time.Duration, err error) {
		times, errs := &d.joining, &d.joiningErrors
		if d.joined.Load() {
			times, errs = &d.syncs, &d.syncErrors
		}
		if err != nil {
			errs.Add(1)
			return
		}
		times.Add(took)
		once.Do(func() { d.synced.Add(1) })
	}}
}

// awaitNodes waits until every node has synced, and then until the cloud lists
// every one as Active.
func (d *driver) awaitNodes(ctx context.Context) error {
	deadline := time.Now().Add(registerLimit)
	for d.synced.Load() < int64(d.o.nodes) && time.Now().Before(deadline) {
		if !sleep(ctx, 50*time.Millisecond) {
			return ctx.Err()
		}
	}
	for {
		began := time.Now()
		active, err := d.countNodes(ctx, controllerapi.NodeActive)
		took := time.Since(began)
		if err == nil && active >= d.o.nodes {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d of %d nodes are Active after %s (last error: %w)", active, d.o.nodes, registerLimit, err)
		}
		// A list of ten thousand nodes is megabytes: asking for it without pause
		// would be most of what is measured.
		if !sleep(ctx, min(max(200*time.Millisecond, 10*took), 2*time.Second)) {
			return ctx.Err()
		}
	}
}

// countNodes returns how many nodes of ours have the state. It reads the list of nodes as it comes and does not decode it: with ten
// thousand nodes that would take this process half a second, in which no node of
// its own gets an answer, and a real exporter does it on another machine.
func (d *driver) countNodes(ctx context.Context, state controllerapi.NodeState) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, pool+"/api/v1/node", nil)
	if err != nil {
		return 0, err
	}
	resp, err := d.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("list nodes: %s", resp.Status)
	}
	all, err := count(resp.Body, fmt.Sprintf(`"state":%q`, state))
	return all - d.others[state], err
}

// count returns how often word is in what r reads.
func count(r io.Reader, word string) (n int, err error) {
	buf := make([]byte, 64<<10)
	kept := 0 // bytes at the begin of buf that may be the begin of word
	for {
		read, err := r.Read(buf[kept:])
		seen := buf[:kept+read]
		n += bytes.Count(seen, []byte(word))
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		kept = copy(buf, seen[max(0, len(seen)-len(word)+1):])
	}
}

// burst creates many instances with one request and waits until all run.
func (d *driver) burst(ctx context.Context) (seconds float64, err error) {
	began := time.Now()
	ids, err := d.api.Start(ctx, controllerapi.StartRequest{VMID: controllerapi.TemplateID(d.o.template), Count: &d.o.burst})
	if err != nil {
		return 0, fmt.Errorf("create %d instances: %w", d.o.burst, err)
	}
	limit := time.NewTimer(startLimit)
	defer limit.Stop()
	for _, id := range ids {
		select {
		case <-d.ledger.Started(id):
		case <-limit.C:
			return 0, fmt.Errorf("instance %s is not Started after %s", id, startLimit)
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	seconds = time.Since(began).Seconds()
	for _, id := range ids {
		d.lives.Go(func() { d.terminate(d.root, id) })
	}
	d.alive.Add(int64(len(ids)))
	return seconds, nil
}

// steady creates, lists and terminates for the duration of the load and returns
// the creates per second.
func (d *driver) steady(ctx context.Context) float64 {
	ctx, cancel := context.WithTimeout(ctx, d.o.duration)
	defer cancel()
	began := time.Now()
	var wg sync.WaitGroup
	wg.Go(func() { d.watch(ctx) })
	if d.o.rate > 0 {
		turns := d.turns(ctx, &wg)
		for range d.o.clients {
			wg.Go(func() {
				for range turns {
					d.create(ctx)
				}
			})
		}
	}
	wg.Wait()
	return float64(d.creates.Count()) / time.Since(began).Seconds()
}

// turns yields a value each time a client may create. A turn that no client is
// free for is dropped: what is measured then is what the clients could do.
func (d *driver) turns(ctx context.Context, wg *sync.WaitGroup) <-chan struct{} {
	turns := make(chan struct{}, d.o.clients)
	wg.Go(func() {
		defer close(turns)
		began, given := time.Now(), 0.0
		for sleep(ctx, time.Millisecond) {
			due := time.Since(began).Seconds() * d.o.rate
			for ; given < due; given++ {
				select {
				case turns <- struct{}{}:
				default:
				}
			}
		}
	})
	return turns
}

// markMost is small: what is measured is the cloud, not the size of its records.
const markMost = 256

func (d *driver) create(ctx context.Context) {
	if ctx.Err() != nil {
		return
	}
	call, cancel := context.WithTimeout(context.WithoutCancel(ctx), callLimit)
	defer cancel()
	began := time.Now()
	key := fmt.Sprintf("nodesim-%d", d.keys.Add(1))
	ids, err := d.api.Start(call, controllerapi.StartRequest{VMID: controllerapi.TemplateID(d.o.template), ExternalID: key, Metadata: simnode.Mark(key, markMost)})
	if err != nil {
		if d.createErrors.Add(1) == 1 {
			d.say("create: %v", err)
		}
		return
	}
	d.creates.Add(time.Since(began))
	d.alive.Add(int64(len(ids)))
	for _, id := range ids {
		d.lives.Go(func() { d.live(d.root, id, began) })
	}
}

// live follows one instance from its creation to its end.
func (d *driver) live(ctx context.Context, id controllerapi.InstanceID, began time.Time) {
	limit := time.NewTimer(startLimit)
	defer limit.Stop()
	if d.o.nodes == 0 {
		limit.Reset(0) // nothing will start it
	}
	select {
	case <-d.ledger.Started(id):
		at, _ := d.ledger.StartedAt(id)
		d.started.Add(at.Sub(began))
	case <-limit.C:
		if d.o.nodes > 0 && d.alive.Load() <= int64(d.o.nodes*d.o.capacity) {
			d.ledger.Break(simnode.Stuck, id, fmt.Sprintf("not Started after %s, though nodes had room", startLimit))
		}
	case <-ctx.Done():
		return
	}
	sleep(ctx, d.o.lifetime)
	d.terminate(ctx, id)
}

func (d *driver) terminate(ctx context.Context, id controllerapi.InstanceID) {
	defer d.alive.Add(-1)
	d.ends <- struct{}{}
	defer func() { <-d.ends }()
	ctx, cancel := context.WithTimeout(ctx, drainLimit)
	defer cancel()
	for {
		began := time.Now()
		err := d.api.Terminate(ctx, id)
		switch {
		case err == nil:
			d.terminates.Add(time.Since(began))
			return
		case errors.Is(err, controllerapi.ErrNotFound):
			d.ledger.Break(simnode.Lost, id, "the cloud does not know it, though nobody has terminated it")
			return
		case d.root.Err() != nil:
			return // interrupted: nobody asks for the result
		case ctx.Err() != nil:
			d.ledger.Break(simnode.Stuck, id, "cannot be terminated: "+err.Error())
			return
		}
		if d.terminateErrors.Add(1) == 1 {
			d.say("terminate: %v", err)
		}
		sleep(ctx, 500*time.Millisecond)
	}
}

// nodesEvery is how often the nodes are listed: an exporter asks every ten
// seconds or less often.
const nodesEvery = 5 * time.Second

// watch lists nodes and instances, as an exporter and a CI system do.
func (d *driver) watch(ctx context.Context) {
	var listed time.Time
	for sleep(ctx, time.Second) {
		began := time.Now()
		if began.Sub(listed) >= nodesEvery {
			listed = began
			offline, err := d.countNodes(ctx, controllerapi.NodeOffline)
			d.note(ctx, &d.nodeLists, &d.nodeListErrors, began, err)
			raise(&d.maxOffline, int64(offline))
		}

		began = time.Now()
		list, err := d.api.Instances(ctx)
		d.note(ctx, &d.lists, &d.listErrors, began, err)
		d.compare(list)
		raise(&d.maxListed, int64(len(list)))
	}
}

// compare notes what a list shows otherwise than it was stored.
func (d *driver) compare(list []controllerapi.ListedInstance) {
	for _, i := range list {
		if why := simnode.Damage(i.VM); why != "" {
			d.ledger.Break(simnode.Damaged, i.InstanceID, why)
		}
	}
}

func (d *driver) note(ctx context.Context, h *simnode.Histogram, errs *atomic.Int64, began time.Time, err error) {
	switch {
	case err == nil:
		h.Add(time.Since(began))
	case ctx.Err() == nil:
		errs.Add(1)
	}
}

// drain waits for every instance's end and looks for what is left behind.
func (d *driver) drain(ctx context.Context) float64 {
	began := time.Now()
	d.lives.Wait()
	for ctx.Err() == nil && time.Since(began) < drainLimit && (len(d.ledger.Running()) > 0 || d.unfinished(ctx) != 0) {
		sleep(ctx, 50*time.Millisecond)
	}
	took := time.Since(began).Seconds()
	for _, id := range d.ledger.Running() {
		d.ledger.Break(simnode.Orphan, id, "still runs on "+d.ledger.Where(id))
	}
	if n := d.unfinished(ctx); n != 0 {
		d.ledger.Break(simnode.Stuck, "", fmt.Sprintf("%d instances are neither gone nor Terminated %s after they were told to (-1: no answer)", n, drainLimit))
	}
	return took
}

// unfinished counts the instances that are not over, -1 when nobody says.
func (d *driver) unfinished(ctx context.Context) int {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	list, err := d.api.Instances(ctx)
	if err != nil {
		return -1
	}
	count := 0
	for _, i := range list {
		if i.VM.VMID == controllerapi.TemplateID(d.o.template) && i.VM.InstanceState != controllerapi.Terminated {
			count++
		}
	}
	return count
}

func raise(max *atomic.Int64, v int64) {
	for {
		old := max.Load()
		if v <= old || max.CompareAndSwap(old, v) {
			return
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
