package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
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

// Agent is the node's part of the cloud.
type Agent struct {
	cfg     Config
	dir     Dir
	id      controllerapi.NodeID
	session string
	since   time.Time
	deps    Deps
	log     *zap.Logger
	metrics *metrics
	journal *journal
	images  *imageCache
	slots   chan struct{} // one token a start that is being prepared; capacity NumWorkers

	wakeups   wakeups
	errors    *errorLog
	address   *address
	fitness   *fitness
	inventory *inventory
	statement *statement
	workers   *workers
	awake     *awake
	swapped   wakeup // an upgrade is in place

	mu            sync.Mutex
	draining      bool                                       // guarded by mu; no more starts, an upgrade is due
	joined        bool                                       // guarded by mu; registered at least once
	settings      controllerapi.NodeSettings                 // guarded by mu
	cluster       controllerapi.Cluster                      // guarded by mu
	assigned      *controllerapi.Assignments                 // guarded by mu
	askedAt       time.Time                                  // guarded by mu; when the sync that brought assigned was sent
	orphans       map[controllerapi.TaskID]time.Time         // guarded by mu
	recentlyEnded map[controllerapi.InstanceID]endedInstance // guarded by mu
	lastSync      time.Time                                  // guarded by mu
	syncError     string                                     // guarded by mu
	refused       string                                     // guarded by mu; why the cloud does not want the node
}

type endedInstance struct {
	attempt int
	at      time.Time
}

// errStopped is the cause of a context that ends because the agent stops.
var errStopped = errors.New("the agent is stopping")

// New returns an agent for a directory that join has prepared. It reads the
// journal and starts nothing.
func New(cfg Config, dir Dir, id controllerapi.NodeID, deps Deps) (*Agent, error) {
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
	a := &Agent{
		cfg: cfg, dir: dir, id: id, session: uuid.NewString(), deps: deps,
		log: deps.Log.With(zap.String("node_id", string(id))), metrics: newMetrics(deps.Metrics),
		journal: j, slots: make(chan struct{}, cfg.NumWorkers),
		cluster:       dir.Cluster(),
		orphans:       make(map[controllerapi.TaskID]time.Time),
		recentlyEnded: make(map[controllerapi.InstanceID]endedInstance),
	}
	a.wakeups, a.swapped = newWakeups(), newWakeup()
	a.errors = &errorLog{log: a.log}
	a.address = &address{fixed: cfg.Host, host: deps.Host, wakeups: a.wakeups}
	a.fitness = &fitness{log: a.log, wakeups: a.wakeups}
	a.workers = newWorkers(a.wakeups)
	a.inventory = &inventory{
		runtime: deps.Runtime, host: deps.Host, prefix: cfg.VMPrefix, working: a.workers.any, address: a.address, fitness: a.fitness,
		errors: a.errors, log: a.log, wakeups: a.wakeups, identified: make(chan struct{}),
	}
	a.images = &imageCache{
		runtime: deps.Runtime, registry: deps.Registry, host: deps.Host, reserve: cfg.ReserveSpace, anySize: cfg.SkipPullSizeCheck,
		prefix: cfg.VMPrefix, ledger: openImageLedger(dir), pullGroup: &a.workers.group, errors: a.errors, metrics: a.metrics,
		log: a.log, wakeups: a.wakeups, pulls: make(map[hypervisor.Image]*pull),
	}
	a.statement = &statement{
		node: id, prefix: cfg.VMPrefix, host: deps.Host, address: a.address, inventory: a.inventory, fitness: a.fitness,
		images: a.images, journal: j, metrics: a.metrics, pools: deps.Pools,
	}
	a.awake = &awake{command: deps.Caffeinate, log: a.log, needed: func() bool { return a.workers.any() || a.inventory.running() }}
	return a, nil
}

// Run is the agent's life. It returns nil when ctx ends it, with VMs left as
// they are, and an error that wraps controllerapi.ErrSessionEnded when another
// agent acts for this node, or ErrOtherHost when this host only has a copy of its
// state.
func (a *Agent) Run(ctx context.Context) error {
	a.since = time.Now()
	// Disjoin may have to speak for this session when the agent cannot.
	if err := os.WriteFile(a.dir.path("run", "session"), []byte(a.session), 0o600); err != nil {
		return err
	}
	if err := a.resume(); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.keepSession(ctx) })
	g.Go(func() error { return a.inventory.run(ctx) })
	g.Go(func() error { return a.address.run(ctx) })
	g.Go(func() error { return a.awake.run(ctx) })
	g.Go(func() error { return a.reconcile(ctx) })
	g.Go(func() error { return a.pollStarts(ctx) })
	g.Go(func() error { return a.pollControl(ctx) })
	g.Go(func() error { return a.monitorVMs(ctx) })
	g.Go(func() error { return a.awaitRestart(ctx) })
	err := g.Wait()
	a.workers.stop(errStopped)
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// resume counts a new life in every record, so that sequence numbers of reports
// go on from above the last process's.
func (a *Agent) resume() error {
	records := a.journal.all()
	for _, r := range records {
		r.Lives++
		if err := a.journal.put(r); err != nil {
			return fmt.Errorf("journal: %w", err)
		}
	}
	if len(records) > 0 {
		a.log.Info("found tasks of an earlier run", zap.Int("tasks", len(records)))
	}
	return nil
}

// isPermanent reports whether the cloud has ended this session, or will not have
// it.
func isPermanent(err error) bool {
	return errors.Is(err, controllerapi.ErrSessionEnded) || errors.Is(err, controllerapi.ErrOtherHost)
}
