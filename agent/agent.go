package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/ankacluster/ankacluster/agent/images"
	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/controllerapi"
)

// Agent is the node's part of the cloud. It connects owners that have one job each;
// what they share is safe for concurrent use.
type Agent struct {
	cfg     state.Config
	dir     state.Dir
	caller  caller
	members *membership
	journal *journal
	workers *workers

	// With a goroutine of their own in Run.
	session    *session
	inventory  *inventory
	address    *address
	awake      *awake
	reconciler *reconciler
	taskPoll   *taskPoll
	monitor    *monitor
	upgrade    *upgrade

	status *statusPage
}

// errStopped is the cause of a context that ends because the agent stops.
var errStopped = errors.New("the agent is stopping")

// New returns an agent for a directory that join has prepared. It reads the
// journal and starts nothing.
func New(cfg state.Config, dir state.Dir, id controllerapi.NodeID, deps Deps) (*Agent, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := dir.Make(); err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	j, damaged, err := openJournal(dir)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	for _, path := range damaged {
		deps.Log.Error("a journal file is damaged and was set aside", zap.String("file", path))
	}
	a := &Agent{cfg: cfg, dir: dir, caller: caller{id, uuid.NewString()}, journal: j}
	a.connect(deps)
	return a, nil
}

// connect makes the owners, each from those before it.
func (a *Agent) connect(deps Deps) {
	cfg, node, caller, journal := &a.cfg, a.caller.node, a.caller, a.journal
	log, metrics, wakeups := deps.Log.With(zap.String("node_id", string(node))), newMetrics(deps.Metrics), newWakeups()
	errors := &errorLog{log: log}

	// What is known: of the cloud, of the node, of the tasks in hand.
	members := &membership{now: standing{cluster: a.dir.Cluster()}}
	assigned := newAssignments()
	workers := newWorkers(wakeups)
	address := &address{fixed: cfg.Host, host: deps.Host, wakeups: wakeups}
	fitness := &fitness{log: log, wakeups: wakeups}
	inventory := &inventory{
		runtime: deps.Runtime, host: deps.Host, prefix: cfg.VMPrefix, working: workers.any, address: address, fitness: fitness,
		errors: errors, log: log, wakeups: wakeups, identified: make(chan struct{}),
	}
	images := images.New(images.Config{
		Runtime: deps.Runtime, Registry: deps.Registry, Host: deps.Host, Ledger: a.dir.ImagesFile(), Reserve: cfg.ReserveSpace.Of,
		AnySize: cfg.SkipPullSizeCheck, Instance: func(name string) bool { return managed(name, cfg.VMPrefix) }, Go: workers.group.Go,
		Fail: errors.fail, Pulled: metrics.pulled, Added: wakeups.heartbeat.wake, Removed: wakeups.inventory.wake, Log: log,
	})
	headroom := &headroom{
		cfg: cfg, host: deps.Host, runtime: deps.Runtime, inventory: inventory, fitness: fitness, members: members, journal: journal,
	}
	claims := &claims{journal: journal, workers: workers, ended: newRecentlyEnded(), errors: errors, log: log, wakeups: wakeups}
	outcomes := &outcomes{
		cloud: deps.Cloud, caller: caller, timeout: cfg.RequestTimeout, journal: journal, claims: claims,
		errors: errors, metrics: metrics, log: log,
	}

	// What tasks do.
	vms := &vms{
		runtime: deps.Runtime, prefix: cfg.VMPrefix, startTimeout: cfg.StartTimeout, inventory: inventory, fitness: fitness, metrics: metrics,
	}
	starter := &starter{
		cfg: cfg, node: node, runtime: deps.Runtime, vms: vms, images: images, journal: journal, claims: claims, outcomes: outcomes,
		address: address, headroom: headroom, members: members, errors: errors, log: log, slots: make(chan struct{}, cfg.NumWorkers),
	}
	instances := &instances{
		node: node, runtime: deps.Runtime, vms: vms, journal: journal, claims: claims, outcomes: outcomes, address: address,
	}
	saver := &saver{
		runtime: deps.Runtime, registry: deps.Registry, vms: vms, instances: instances, journal: journal, claims: claims,
		outcomes: outcomes, errors: errors, log: log,
	}
	upgrade := &upgrade{
		upgrader: deps.Upgrade, workers: workers, outcomes: outcomes, headroom: headroom, log: log, wakeups: wakeups, upgraded: newWakeup(),
	}
	tasks := &tasks{
		journal: journal, outcomes: outcomes, starter: starter, instances: instances, saver: saver, upgrade: upgrade,
		images: &imageTasks{images: images, journal: journal, outcomes: outcomes, wakeups: wakeups},
	}

	// What goes on by itself.
	statement := &statement{
		node: node, prefix: cfg.VMPrefix, host: deps.Host, address: address, inventory: inventory, fitness: fitness,
		images: images, journal: journal, metrics: metrics, pools: deps.Pools,
	}
	a.session = &session{
		cfg: cfg, dir: a.dir, caller: caller, host: deps.Identity, cloud: deps.Cloud, onCluster: deps.OnCluster, statement: statement,
		identified: inventory.identified, members: members, assigned: assigned, journal: journal, wakeups: wakeups, metrics: metrics, log: log,
	}
	a.taskPoll = &taskPoll{
		cloud: deps.Cloud, caller: caller, claims: claims, journal: journal, members: members, headroom: headroom,
		inventory: inventory, images: images, errors: errors, wakeups: wakeups,
	}
	a.reconciler = &reconciler{
		journal: journal, assigned: assigned, inventory: inventory, workers: workers, claims: claims, outcomes: outcomes,
		vms: vms, work: tasks.work, errors: errors, log: log, wakeups: wakeups,
	}
	a.monitor = &monitor{
		cfg: cfg, runtime: deps.Runtime, inventory: inventory, journal: journal, workers: workers, outcomes: outcomes, errors: errors, log: log,
	}
	a.awake = &awake{command: deps.Caffeinate, log: log, needed: func() bool { return workers.any() || inventory.running() }}
	a.status = &statusPage{
		cfg: cfg, dir: a.dir, node: node, host: deps.Host, registry: deps.Registry, members: members, inventory: inventory,
		address: address, fitness: fitness, images: images, journal: journal, errors: errors,
	}
	a.members, a.workers, a.inventory, a.address, a.upgrade = members, workers, inventory, address, upgrade
}

// Run is the agent's life. It returns nil when ctx ends it, with VMs left as
// they are, and an error that wraps controllerapi.ErrSessionEnded when another
// agent acts for this node, or ErrOtherHost when this host only has a copy of its
// state.
func (a *Agent) Run(ctx context.Context) error {
	a.members.change(func(m *standing) { m.since = time.Now() })
	if err := a.dir.SaveSession(a.caller.session); err != nil {
		return err
	}
	if err := a.journal.resume(a.session.log); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, run := range []func(context.Context) error{
		a.session.run, a.inventory.run, a.address.run, a.awake.run, a.reconciler.run,
		a.taskPoll.starts, a.taskPoll.others, a.monitor.run, a.upgrade.run,
	} {
		g.Go(func() error { return run(ctx) })
	}
	err := g.Wait()
	a.workers.stop(errStopped)
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// Status returns the agent's state as of now.
func (a *Agent) Status() Status { return a.status.make() }

// LogsCentrally reports whether the cloud wants this node's log.
func (a *Agent) LogsCentrally() bool {
	member := a.members.get()
	return member.joined && !a.cfg.NoCentralLogging && !member.settings.DisableCentralLogging
}
