package server

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ankacluster/ankacluster/balancer"
	"github.com/ankacluster/ankacluster/controllerapi/cloud"
	"github.com/ankacluster/ankacluster/controllerapi/cloudstore"
	"github.com/ankacluster/ankacluster/controllerapi/schedule"
	"github.com/ankacluster/ankacluster/internal/access"
	"github.com/ankacluster/ankacluster/internal/wire"
)

// Config of a Server. The environment variable that sets a field is named where
// there is one.
type Config struct {
	// ID names this controller in the cloud; it should survive a restart.
	ID string
	// URL is where agents reach this controller, as announced to them. Empty: it
	// is not announced, and agents know it only from their own configuration.
	URL string
	// Version is told by the status and in the cloud's list.
	Version string
	// License is the word that the status tells.
	License string
	// CloudID, when set, must be the cloud that etcd holds.
	CloudID string

	// RegistryURL is what nodes use (ANKA_ANKA_REGISTRY).
	RegistryURL string
	// LocalRegistryURL is this controller's own way to the registry
	// (ANKA_LOCAL_ANKA_REGISTRY); empty means RegistryURL.
	LocalRegistryURL string
	// PushRegistries is where images are pushed (ANKA_PUSH_REGISTRY).
	PushRegistries []string
	// AllowEmptyRegistry lets the controller start without a RegistryURL
	// (ANKA_ALLOW_EMPTY_REGISTRY).
	AllowEmptyRegistry bool
	// RegistryListCacheTTL is how old a list of templates may be that is told
	// while the registry does not answer (ANKA_REGISTRY_VM_LIST_CACHE_TTL).
	RegistryListCacheTTL time.Duration
	// RegistryPool balances reads over the registries of the cloud.
	RegistryPool balancer.Config
	// RegistryHTTP carries requests that are for one registry: its condition, a
	// change, an event. nil means a client with plain defaults.
	RegistryHTTP *http.Client

	// EventHTTP carries events to EventLogURL. nil means a client with plain defaults.
	EventHTTP *http.Client

	// HeartbeatInterval is what agents are told.
	HeartbeatInterval time.Duration
	// NodeActiveTimeout: a node that is silent for longer is Offline
	// (ANKA_NODE_ACTIVE_TIMEOUT).
	NodeActiveTimeout time.Duration
	// InstanceActiveTimeout: an instance without word for longer is in error
	// (ANKA_INSTANCE_ACTIVE_TIMEOUT).
	InstanceActiveTimeout time.Duration
	// InstanceTimeOut: how long an ended instance stays listed
	// (ANKA_INSTANCE_TIME_OUT).
	InstanceTimeOut time.Duration
	// UnknownVMThreshold is ANKA_UNKNOWN_VM_THRESHOLD.
	UnknownVMThreshold int
	// EtcdTimeout bounds the repeats of one etcd operation within a call
	// (ANKA_ETCD_REQUEST_TIMEOUT, of which no more than the default counts).
	EtcdTimeout time.Duration
	// CleanQueuesInterval is how often instances that have waited for a node for
	// a day are put in error (ANKA_CLEAN_QUEUES_INTERVAL).
	CleanQueuesInterval time.Duration
	// SchedulerInterval is how often placement looks at every node anew, though no
	// event has told of it (ANKA_SCHEDULER_INTERVAL).
	SchedulerInterval time.Duration
	// ReserveTaskTimeout bounds how long a node's wait for a task is held
	// (ANKA_RESERVE_TASK_TIMEOUT); it never exceeds what proxies bear.
	ReserveTaskTimeout time.Duration
	// QueryTaskTimeout bounds the look for a task, and the claim of one, within
	// that wait (ANKA_QUERY_TASK_TIMEOUT).
	QueryTaskTimeout time.Duration
	// Claims bounds how many tasks this controller hands out at the same time
	// (ANKA_NUM_WORKERS times ANKA_BATCH_TASK_COUNT); 0 is no bound.
	Claims int

	// ManageMACAddresses gives every instance an address of MACRange
	// (ANKA_MANAGE_MAC_ADDRESSES, ANKA_MAC_ADDR_RANGE as "a-b",
	// ANKA_MAC_ADDR_RANGE_MAX_RETRIES).
	ManageMACAddresses bool
	MACRange           string
	MACRangeMaxRetries int
	// PackageDir holds the agent packages AnkaAgent.pkg and AnkaAgentArm.pkg of
	// this Version; empty means that none are served and no node is upgraded.
	PackageDir string
	// NoNodeUpgrades refuses node upgrades (ANKA_NO_NODE_UPGRADES).
	NoNodeUpgrades bool
	// EnableEventLogging sends events to the registry's central logs
	// (ANKA_ENABLE_EVENT_LOGGING), and EventLogURL, when set, is where they are
	// posted too (ANKA_EVENT_LOG_URL).
	EnableEventLogging bool
	EventLogURL        string

	// Schedule is how nodes are chosen.
	Schedule schedule.Config

	// Browsers is what pages in browsers may do (ANKA_ALLOW_CORS, ANKA_UI_HOSTS).
	Browsers wire.Browsers
	// Access finds out who calls, and decides what they may. The zero value lets
	// everybody in.
	Access access.Guard
	// ClockOffset is how far this machine's clock is taken to be ahead, for tests.
	ClockOffset time.Duration
	// Metrics takes the controller's metrics; nil means none are kept.
	Metrics prometheus.Registerer
}

// DefaultConfig returns the documented defaults. ID, and RegistryURL unless
// AllowEmptyRegistry is set, have none.
func DefaultConfig() Config {
	store := cloudstore.DefaultConfig()
	pool := balancer.DefaultConfig()
	pool.Name = "registries"
	return Config{
		RegistryPool:          pool,
		Version:               "dev",
		License:               "enterprise plus", // TeamCity hides features on lower words
		RegistryListCacheTTL:  30 * time.Second,
		HeartbeatInterval:     5 * time.Second,
		NodeActiveTimeout:     store.NodeActiveTimeout,
		InstanceActiveTimeout: store.InstanceActiveTimeout,
		InstanceTimeOut:       store.InstanceTimeout,
		UnknownVMThreshold:    store.UnknownVMThreshold,
		EtcdTimeout:           store.RequestTimeout,
		CleanQueuesInterval:   store.CleanQueuesInterval,
		SchedulerInterval:     time.Minute,
		ReserveTaskTimeout:    maxReserveWait,
		QueryTaskTimeout:      store.RequestTimeout,
		MACRangeMaxRetries:    100,
		Schedule:              schedule.DefaultConfig(),
	}
}

// Validate reports every wrong field, by the name of its environment variable
// where there is one.
func (c Config) Validate() error {
	var errs []error
	for _, u := range []struct{ name, value string }{
		{"URL", c.URL}, {"ANKA_ANKA_REGISTRY", c.RegistryURL}, {"ANKA_LOCAL_ANKA_REGISTRY", c.LocalRegistryURL},
		{"ANKA_EVENT_LOG_URL", c.EventLogURL},
	} {
		if u.value != "" {
			errs = append(errs, checkURL(u.name, u.value))
		}
	}
	for _, u := range c.PushRegistries {
		errs = append(errs, checkURL("ANKA_PUSH_REGISTRY", u))
	}
	if c.RegistryURL == "" && !c.AllowEmptyRegistry {
		errs = append(errs, errors.New("ANKA_ANKA_REGISTRY is empty: set it to the registry's URL, or set ANKA_ALLOW_EMPTY_REGISTRY=true"))
	}
	if c.HeartbeatInterval < 100*time.Millisecond || c.HeartbeatInterval > c.NodeActiveTimeout/2 {
		errs = append(errs, fmt.Errorf("HeartbeatInterval %v must be from 100ms to half of ANKA_NODE_ACTIVE_TIMEOUT (%v)", c.HeartbeatInterval, c.NodeActiveTimeout))
	}
	for _, d := range []struct {
		name string
		got  time.Duration
	}{
		{"ANKA_SCHEDULER_INTERVAL", c.SchedulerInterval}, {"ANKA_CLEAN_QUEUES_INTERVAL", c.CleanQueuesInterval},
		{"ANKA_RESERVE_TASK_TIMEOUT", c.ReserveTaskTimeout}, {"ANKA_QUERY_TASK_TIMEOUT", c.QueryTaskTimeout},
	} {
		if d.got < time.Second {
			errs = append(errs, fmt.Errorf("%s is %v: it must be at least 1s", d.name, d.got))
		}
	}
	if s := c.Schedule.Strategy; s != schedule.Spread && s != schedule.Pack {
		errs = append(errs, fmt.Errorf("strategy %q must be %q or %q", s, schedule.Spread, schedule.Pack))
	}
	if c.ManageMACAddresses {
		if _, err := cloud.ParseMACRange(c.MACRange); err != nil {
			errs = append(errs, fmt.Errorf("ANKA_MAC_ADDR_RANGE: %w", err))
		}
	}
	if c.PackageDir != "" {
		if _, err := os.Stat(c.PackageDir); err != nil {
			errs = append(errs, fmt.Errorf("PackageDir: %w", err))
		}
	}
	errs = append(errs, c.store().Validate())
	return errors.Join(errs...)
}

func checkURL(name, value string) error {
	u, err := url.Parse(value)
	if err != nil {
		return fmt.Errorf("%s %q: %w", name, value, err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return fmt.Errorf("%s %q must be a URL such as http://10.0.1.4:8089", name, value)
	}
	return nil
}

func (c Config) store() cloudstore.Config {
	s := cloudstore.DefaultConfig()
	s.ID, s.CloudID = c.ID, c.CloudID
	s.NodeActiveTimeout, s.InstanceActiveTimeout, s.InstanceTimeout = c.NodeActiveTimeout, c.InstanceActiveTimeout, c.InstanceTimeOut
	s.UnknownVMThreshold = c.UnknownVMThreshold
	s.RequestTimeout, s.CleanQueuesInterval = c.EtcdTimeout, c.CleanQueuesInterval
	s.ClockOffset = c.ClockOffset
	s.MACRange, s.MACTries = c.macRange(), c.MACRangeMaxRetries
	return s
}

// macRange is zero when addresses are not managed.
func (c Config) macRange() cloud.MACRange {
	if !c.ManageMACAddresses {
		return cloud.MACRange{}
	}
	r, err := cloud.ParseMACRange(c.MACRange)
	if err != nil {
		return cloud.MACRange{} // Validate has told
	}
	return r
}

func (c Config) registry() string {
	if c.LocalRegistryURL != "" {
		return c.LocalRegistryURL
	}
	return c.RegistryURL
}
