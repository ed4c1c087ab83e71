package server

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"github.com/ankacluster/ankacluster/controllerapi/cloudstore"
	"github.com/ankacluster/ankacluster/controllerapi/schedule"
	"go.uber.org/zap"
)

const (
	// roundPause lets changes gather: a burst of creations is one round, not many.
	roundPause = 2 * time.Millisecond
	// roundShare bounds the part of a core that rounds take: the pause after one
	// is so many times what it took. With thousands of tasks that wait for a
	// free node, every change of a node would else be a look at all of them.
	roundShare = 4
	// offerLife is how long an offered instance is not offered again; the view
	// shows the claim long before that.
	offerLife = 5 * time.Second
)

// dispatcher brings waiting instances and waiting nodes together. It only
// proposes: the claim itself is the store's, and may fail when another controller
// was faster.
type dispatcher struct {
	cfg   schedule.Config
	every time.Duration // all nodes are looked at anew; an upgrade that takes too long changes one without an event
	store *cloudstore.Store
	log   *zap.Logger
	kick  chan struct{} // capacity 1: something changed

	// nodes are all nodes as placement sees them; only rounds touch them.
	nodes   map[api.NodeID]*schedule.Node
	rebuilt time.Time

	mu      sync.Mutex
	waiters map[api.NodeID][]*waiter         // guarded by mu
	offered map[api.InstanceID]offered       // guarded by mu
	charged map[api.NodeID]map[*waiter]offer // guarded by mu; offers not yet in the view
	dirty   map[api.NodeID]struct{}          // guarded by mu; nodes to look at anew
}

// offer is what a waiter was offered.
type offer struct {
	id   api.InstanceID
	need schedule.Size
}

// offered is when an instance was offered, and in which attempt: one that comes
// back to the queue has another.
type offered struct {
	at      time.Time
	attempt int
}

// waiter is one long poll.
type waiter struct {
	node   api.NodeID
	starts bool                // takes start tasks
	wake   chan struct{}       // capacity 1: the node's own tasks may have changed
	offer  chan api.InstanceID // capacity 1: one offer at a time
	busy   bool                // guarded by dispatcher.mu; an offer is out
}

func newDispatcher(cfg schedule.Config, every time.Duration, store *cloudstore.Store, log *zap.Logger) *dispatcher {
	return &dispatcher{
		cfg: cfg, every: every, store: store, log: log, kick: make(chan struct{}, 1),
		waiters: make(map[api.NodeID][]*waiter),
		offered: make(map[api.InstanceID]offered),
		dirty:   make(map[api.NodeID]struct{}),
		charged: make(map[api.NodeID]map[*waiter]offer),
	}
}

// changed is told of every batch of events.
func (d *dispatcher) changed(ch cloud.Changes) {
	d.mu.Lock()
	waiting := false
	for id := range ch.Nodes {
		d.dirty[id] = struct{}{}
		for _, w := range d.waiters[id] {
			waiting = waiting || w.starts
			select {
			case w.wake <- struct{}{}:
			default:
			}
		}
	}
	d.mu.Unlock()
	if ch.Queue || waiting {
		d.poke()
	}
}

func (d *dispatcher) poke() {
	select {
	case d.kick <- struct{}{}:
	default:
	}
}

// join adds a long poll.
func (d *dispatcher) join(req *api.ReserveRequest) *waiter {
	w := &waiter{
		node:   req.NodeID,
		starts: slices.Contains(req.Kinds, api.TaskStart) && req.FreeVMs > 0,
		wake:   make(chan struct{}, 1),
		offer:  make(chan api.InstanceID, 1),
	}
	d.mu.Lock()
	d.waiters[w.node] = append(d.waiters[w.node], w)
	d.mu.Unlock()
	if w.starts {
		d.poke()
	}
	return w
}

// leave takes a long poll out. An offer that it did not take is free again.
func (d *dispatcher) leave(w *waiter) {
	d.mu.Lock()
	rest := slices.DeleteFunc(d.waiters[w.node], func(o *waiter) bool { return o == w })
	if len(rest) == 0 {
		delete(d.waiters, w.node)
	} else {
		d.waiters[w.node] = rest
	}
	unused := false
	select {
	case id := <-w.offer:
		delete(d.offered, id)
		d.unchargeLocked(w)
		unused = true
	default:
	}
	d.mu.Unlock()
	if unused {
		d.poke()
	}
}

// answered ends an offer that was taken up, claimed or not.
func (d *dispatcher) answered(w *waiter, id api.InstanceID, claimed bool) {
	d.mu.Lock()
	w.busy = false
	d.unchargeLocked(w)
	if !claimed {
		delete(d.offered, id)
	}
	d.mu.Unlock()
	if !claimed {
		d.poke()
	}
}

func (d *dispatcher) unchargeLocked(w *waiter) {
	d.dirty[w.node] = struct{}{}
	delete(d.charged[w.node], w)
	if len(d.charged[w.node]) == 0 {
		delete(d.charged, w.node)
	}
}

// run makes rounds whenever something changed, until ctx ends.
func (d *dispatcher) run(ctx context.Context) {
	select {
	case <-d.store.Loaded():
	case <-ctx.Done():
		return
	}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-d.kick:
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		begun := d.store.Now()
		later := d.round(begun)
		took := d.store.Now().Sub(begun)
		wait := time.Hour
		if !later.IsZero() {
			wait = max(later.Sub(begun)-took, roundPause)
		}
		timer.Reset(wait)
		select {
		case <-time.After(max(roundPause, roundShare*took)):
		case <-ctx.Done():
			return
		}
	}
}

// round offers waiting instances to waiting nodes, and returns when the next
// round is due though nothing changes.
func (d *dispatcher) round(now time.Time) time.Time {
	waiting := false
	d.store.Read(func(v *cloud.View) { waiting = len(v.Pending()) > 0 })
	if !waiting {
		return time.Time{} // most rounds: every long poll that begins asks for one
	}
	idle, charged, out, dirty := d.snapshot(now)
	if len(idle) == 0 {
		return time.Time{}
	}
	tasks, attempts, retry := d.look(charged, out, dirty, now)
	if len(tasks) == 0 {
		return retry
	}
	takers := make([]*schedule.Node, 0, len(idle))
	for id := range idle {
		if n := d.nodes[id]; n != nil {
			takers = append(takers, n)
		}
	}
	all := slices.AppendSeq(make([]*schedule.Node, 0, len(d.nodes)), maps.Values(d.nodes))
	matches, later := schedule.Assign(d.cfg, tasks, takers, all, now)
	if len(matches) > 0 {
		needs := make(map[string]schedule.Size, len(tasks))
		for _, t := range tasks {
			needs[t.ID] = t.Need
		}
		d.propose(matches, needs, attempts, idle, now)
		d.poke() // a node may have a second long poll, and room for it
	}
	if later.IsZero() || !retry.IsZero() && retry.Before(later) {
		later = retry
	}
	return later
}

// snapshot takes what a round decides on from under the lock: one idle long poll
// of each node, and the offers that are out.
func (d *dispatcher) snapshot(now time.Time) (idle map[api.NodeID]*waiter, charged map[api.NodeID][]offer, out map[api.InstanceID]offered, dirty map[api.NodeID]bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	idle, charged = make(map[api.NodeID]*waiter), make(map[api.NodeID][]offer)
	out, dirty = make(map[api.InstanceID]offered, len(d.offered)), make(map[api.NodeID]bool, len(d.dirty))
	for id, ws := range d.waiters {
		for _, w := range ws {
			if w.starts && !w.busy {
				idle[id] = w
				break
			}
		}
	}
	if len(idle) == 0 {
		return nil, nil, nil, nil
	}
	for id, o := range d.offered {
		if now.Sub(o.at) >= offerLife {
			delete(d.offered, id)
			continue
		}
		out[id] = o
	}
	for id, offers := range d.charged {
		charged[id] = slices.AppendSeq([]offer{}, maps.Values(offers))
	}
	for id := range d.dirty {
		dirty[id] = true
	}
	clear(d.dirty)
	return idle, charged, out, dirty
}

// look brings the nodes up to date and returns the waiting instances in order,
// with their attempts, and when the first offer that is out may be made again.
func (d *dispatcher) look(charged map[api.NodeID][]offer, out map[api.InstanceID]offered, dirty map[api.NodeID]bool, now time.Time) (tasks []*schedule.Task, attempts map[string]int, retry time.Time) {
	attempts = make(map[string]int)
	all := d.nodes == nil || now.Sub(d.rebuilt) > d.every
	if all {
		d.nodes, d.rebuilt = make(map[api.NodeID]*schedule.Node), now
	}
	d.store.Read(func(v *cloud.View) {
		refresh := func(id api.NodeID) {
			n := v.Nodes[id]
			if n == nil {
				delete(d.nodes, id)
				return
			}
			sn := v.ScheduleNode(n, v.Now())
			for _, o := range charged[id] {
				if i := v.Instances[o.id]; i != nil && i.Pending() {
					sn.Used = sn.Used.Add(o.need)
				}
			}
			d.nodes[id] = sn
		}
		if all {
			for id := range v.Nodes {
				refresh(id)
			}
		} else {
			for id := range dirty {
				refresh(id)
			}
		}
		for id, i := range v.Pending() {
			if o, ok := out[id]; ok && o.attempt == i.Attempt {
				if again := o.at.Add(offerLife); retry.IsZero() || again.Before(retry) {
					retry = again
				}
				continue
			}
			tasks = append(tasks, v.ScheduleTask(i))
			attempts[string(id)] = i.Attempt
		}
	})
	slices.SortFunc(tasks, schedule.Compare)
	return tasks, attempts, retry
}

// propose hands out the round's decisions to the long polls that still wait.
func (d *dispatcher) propose(matches []schedule.Match, needs map[string]schedule.Size, attempts map[string]int, idle map[api.NodeID]*waiter, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, m := range matches {
		w, id := idle[api.NodeID(m.Node)], api.InstanceID(m.Task)
		d.dirty[w.node] = struct{}{}
		if w.busy || !slices.Contains(d.waiters[w.node], w) {
			continue // it has left
		}
		w.busy = true
		d.offered[id] = offered{at: now, attempt: attempts[m.Task]}
		if d.charged[w.node] == nil {
			d.charged[w.node] = make(map[*waiter]offer)
		}
		d.charged[w.node][w] = offer{id, needs[m.Task]}
		w.offer <- id
	}
}

// waitingPolls is how many long polls wait.
func (d *dispatcher) waitingPolls() (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, ws := range d.waiters {
		n += len(ws)
	}
	return n
}
