package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/agent/images"
	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/controllerapi"
)

// Cloud is the agent wire of the controllers, as *controllerapi.Client has it.
// Every call may be repeated.
type Cloud interface {
	Register(context.Context, controllerapi.RegisterRequest) (controllerapi.RegisterResponse, error)
	Sync(context.Context, controllerapi.SyncRequest) (controllerapi.SyncResponse, error)
	Reserve(context.Context, controllerapi.ReserveRequest) (controllerapi.ReserveResponse, error)
	Report(context.Context, controllerapi.ReportRequest) (controllerapi.ReportResponse, error)
}

// Host is the machine under the agent.
type Host interface {
	// Facts returns what rarely changes; Host, versions and licence are left to
	// the agent.
	Facts() controllerapi.NodeFacts
	// Load returns what changes all the time. AnkaDiskUsage is left to the agent.
	Load() controllerapi.NodeLoad
	// Address returns the address that the node reaches the network from.
	Address() string
}

// Registry is the node's way to the registries.
type Registry interface {
	// URL is where the hypervisor's command finds them: the loopback proxy.
	URL() string
	// Moved counts the bytes that came through for a repository.
	Moved(repository string) int64
	// Size returns the bytes of an image by its manifest. The error wraps
	// hypervisor.ErrNotInRegistry when there is none.
	Size(ctx context.Context, repository, tag string) (uint64, error)
	// Push is the way to other registries than the node's own, for as long as
	// done has not been called.
	Push(registries []string) (url string, done func(), err error)
	// Latest returns the newest tag of a template, "" when there is no such
	// template. Revert removes a tag with all later ones; one that is not there is
	// removed. Both are of the registries that Push is given, the node's own for
	// none.
	Latest(ctx context.Context, registries []string, id controllerapi.TemplateID) (tag string, err error)
	Revert(ctx context.Context, registries []string, id controllerapi.TemplateID, tag string) error
}

// Deps are what an Agent works with. All are needed, but OnCluster and Pools.
type Deps struct {
	Cloud    Cloud
	Runtime  hypervisor.Runtime
	Host     Host
	Registry Registry
	// Identity tells this host from others that have a copy of its state.
	Identity controllerapi.HostIdentity
	// OnCluster is told of the servers that the cloud announces.
	OnCluster func(controllerapi.Cluster)
	// Pools tells what is known of the servers, for the heartbeat; the agent adds
	// what it counts itself. Nil tells nothing.
	Pools func() controllerapi.NodeNumbers
	// Upgrade replaces the agent's program; nil refuses upgrades.
	Upgrade Upgrader
	// Caffeinate is the command that keeps the host awake; "" on hosts without it.
	Caffeinate string
	Metrics    prometheus.Registerer
	Log        *zap.Logger
}

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

// connect makes the owners, each of those before it.
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
		upgrader: deps.Upgrade, workers: workers, outcomes: outcomes, headroom: headroom, log: log, wakeups: wakeups, swapped: newWakeup(),
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

// isPermanent reports whether the cloud has ended this session, or will not have
// it.
func isPermanent(err error) bool {
	return errors.Is(err, controllerapi.ErrSessionEnded) || errors.Is(err, controllerapi.ErrOtherHost)
}
