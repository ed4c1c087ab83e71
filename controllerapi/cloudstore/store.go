package cloudstore

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	api "github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"github.com/ankacluster/ankacluster/internal/etcdkit"
	"go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
)

// Config of a Store.
type Config struct {
	// ID names this Store among those of the cloud.
	ID string
	// CloudID, when set, is the cloud that etcd must hold; an etcd without it is
	// refused, because it has probably lost its data.
	CloudID string
	// RequestTimeout bounds what one call spends on an etcd that does not
	// answer, with all repeats.
	RequestTimeout time.Duration
	// NodeActiveTimeout is how long after its last sync a node is Offline, or up to a
	// third longer: see leaseTTL.
	NodeActiveTimeout time.Duration
	// InstanceActiveTimeout is how long an instance may be without word from its
	// node before it is failed.
	InstanceActiveTimeout time.Duration
	// InstanceTimeout is how long an ended instance stays in lists.
	InstanceTimeout time.Duration
	// UnknownVMThreshold is how many syncs must show a managed VM that belongs
	// to no instance before it is removed.
	UnknownVMThreshold int
	// MACRange is what addresses instances are given from, and MACTries how many
	// are looked at from a random place before the range is searched.
	MACRange cloud.MACRange
	MACTries int
	// CleanQueuesInterval is how often instances are looked for that have waited
	// for a node for a day; they are in error then.
	CleanQueuesInterval time.Duration
	// ServerLease is the life of an announcement, and of a duty, after its
	// holder died.
	ServerLease time.Duration
	// ClockOffset is how far this machine's clock is taken to be ahead, for tests
	// of clocks that differ. No decision may depend on it.
	ClockOffset time.Duration
}

// DefaultConfig returns the documented defaults.
func DefaultConfig() Config {
	return Config{
		RequestTimeout:        10 * time.Second, // CI clients give up after that
		NodeActiveTimeout:     2 * time.Minute,
		InstanceActiveTimeout: 2 * time.Minute,
		InstanceTimeout:       time.Minute,
		UnknownVMThreshold:    30,
		CleanQueuesInterval:   time.Hour,
		ServerLease:           10 * time.Second, // five election timeouts of a slow etcd
	}
}

// Validate reports every wrong field.
func (c Config) Validate() error {
	var errs []error
	if c.ID == "" {
		errs = append(errs, errors.New("ID must not be empty"))
	}
	for _, d := range []struct {
		name string
		got  time.Duration
		min  time.Duration
	}{
		{"RequestTimeout", c.RequestTimeout, 100 * time.Millisecond},
		{"NodeActiveTimeout", c.NodeActiveTimeout, time.Second},
		{"InstanceActiveTimeout", c.InstanceActiveTimeout, time.Second},
		{"InstanceTimeout", c.InstanceTimeout, 0},
		{"CleanQueuesInterval", c.CleanQueuesInterval, time.Second},
		{"ServerLease", c.ServerLease, time.Second},
	} {
		if d.got < d.min {
			errs = append(errs, fmt.Errorf("%s is %v: it must be at least %v", d.name, d.got, d.min))
		}
	}
	if c.UnknownVMThreshold < 1 {
		errs = append(errs, fmt.Errorf("UnknownVMThreshold is %d: it must be at least 1", c.UnknownVMThreshold))
	}
	return errors.Join(errs...)
}

const (
	// lagLimit and maxLag bound how long the watch may be behind; see
	// etcdkit.CacheConfig.
	lagLimit = 300 * time.Millisecond
	maxLag   = 3 * time.Second
)

// Store is the cloud's state. It is safe for concurrent use. Calls wait until
// Run has loaded the state.
type Store struct {
	cfg Config
	kit *etcdkit.Client
	log *zap.Logger

	// OnChange, when set before Run, is called after each batch of events, from
	// the watching goroutine: it must be quick, and must not call Fresh.
	OnChange func(cloud.Changes)
	// OnEvent, when set before Run, is told of what this Store has brought about,
	// once for the whole cloud. It must be quick.
	OnEvent func(kind string, facts map[string]any)
	// Starts, when set before Run, hears how the starts go whose changes this
	// Store makes. It must be quick.
	Starts cloud.StartObserver

	cache *etcdkit.Cache[*cloud.View, cloud.Changes]
	ages  *cloud.Ages // of the cache's view, guarded by its lock

	keeping  atomic.Bool  // this Store is the keeper
	lease    atomic.Int64 // the announcement's lease, 0 for none
	announce announcement
	loads    loads
	nodes    nodeLeases
}

// New returns a Store on the etcd that client reaches. It starts nothing.
func New(cfg Config, client *clientv3.Client, log *zap.Logger) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := &Store{
		cfg: cfg, log: log,
		kit:      etcdkit.NewClient(client, cfg.RequestTimeout, dirIdem),
		loads:    loads{byNode: make(map[api.NodeID]api.NodeLoad)},
		nodes:    nodeLeases{joins: make(chan struct{}, maxJoins)},
		announce: announcement{wakeUp: make(chan struct{}, 1)},
	}
	s.cache = etcdkit.NewCache(etcdkit.CacheConfig{
		Prefix: watched, Anchor: keyMeta, Wait: cfg.RequestTimeout, LoadWait: cfg.RequestTimeout,
		Lag: lagLimit, MaxLag: maxLag,
	}, s.kit, model{s}, log)
	s.cache.Read(func(v *cloud.View) { s.ages = v.Ages })
	s.ages.Offset.Store(int64(cfg.ClockOffset))
	s.nodes.renewer = etcdkit.NewRenewer(clientv3.RetryLeaseClient(client), log, func(node string, at time.Time) { s.NoteRenewed(api.NodeID(node), at) })
	return s, nil
}

// Run keeps the Store working until ctx ends. It returns an error at once when
// etcd holds another cloud than the configured one.
func (s *Store) Run(ctx context.Context) error {
	if err := s.bootstrap(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { s.cache.Run(ctx); return nil })
	g.Go(func() error { s.announcer(ctx); return nil })
	g.Go(func() error { s.keeper(ctx); return nil })
	g.Go(func() error { s.broadcastLoads(ctx); return nil })
	g.Go(func() error { s.nodes.renewer.Run(ctx); return nil })
	return g.Wait()
}

func (s *Store) now() time.Time { return time.Now().UTC().Add(time.Duration(s.ages.Offset.Load())) }

// Now is this machine's clock: for stamps, and for ages of what this Store saw.
func (s *Store) Now() time.Time { return s.now() }

// Advance lets time pass for this Store, for tests.
func (s *Store) Advance(d time.Duration) { s.ages.Offset.Add(int64(d)) }

func (s *Store) fenceRecord(now time.Time) (rec cloud.FenceRecord) {
	s.Read(func(*cloud.View) { rec = s.ages.Record(now) })
	return rec
}

// Read calls f with the state as it is in memory. f must not block.
func (s *Store) Read(f func(v *cloud.View)) { s.cache.Read(f) }

// Loaded is closed once the state is in memory for the first time.
func (s *Store) Loaded() <-chan struct{} { return s.cache.Loaded() }

// Fresh returns once the view holds every write that was acknowledged, by any
// Store, before the call.
func (s *Store) Fresh(ctx context.Context) error { return s.cache.Fresh(ctx) }

// Revision returns the revision of etcd up to which the view is complete.
func (s *Store) Revision() int64 { return s.cache.Revision() }

// WaitRevision returns once the view is complete up to rev.
func (s *Store) WaitRevision(ctx context.Context, rev int64) error {
	return s.cache.WaitRevision(ctx, rev)
}

// CloudID returns the cloud's id, "" before the state is loaded.
func (s *Store) CloudID() (id string) {
	s.Read(func(v *cloud.View) {
		if v.Meta != nil {
			id = v.Meta.CloudID
		}
	})
	return id
}

// record returns a record of the view.
func record[K comparable, T any](s *Store, table func(*cloud.View) map[K]*T, id K) *T {
	var rec *T
	s.Read(func(v *cloud.View) { rec = table(v)[id] })
	return rec
}

func (s *Store) node(id api.NodeID) *cloud.Node {
	return record(s, func(v *cloud.View) map[api.NodeID]*cloud.Node { return v.Nodes }, id)
}
