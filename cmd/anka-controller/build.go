package main

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/controllerapi/etcdmember"
	controller "github.com/ankacluster/ankacluster/controllerapi/server"
	"github.com/ankacluster/ankacluster/internal/atomicfile"
	"github.com/ankacluster/ankacluster/internal/buildinfo"
	"github.com/ankacluster/ankacluster/registryapi/content/fs"
	registry "github.com/ankacluster/ankacluster/registryapi/server"
)

// newController makes the controller from the settings.
func (c *config) newController(etcd *etcdmember.Client, log *zap.Logger, metrics prometheus.Registerer) (controllerServer, error) {
	cfg := c.controllerConfig()
	cfg.Metrics = metrics
	return controller.New(cfg, etcd.Client, log.Named("controller"))
}

// controllerConfig is what the settings mean for the controller.
func (c *config) controllerConfig() controller.Config {
	cfg := controller.DefaultConfig()
	cfg.ID = c.controllerID()
	cfg.URL = c.AdvertiseURL
	cfg.Version = buildinfo.Version
	cfg.CloudID = c.knownCloudID()
	cfg.RegistryURL, cfg.LocalRegistryURL = c.AnkaRegistry, c.LocalRegistry
	cfg.PushRegistries = c.PushRegistries
	cfg.AllowEmptyRegistry = c.AllowEmptyRegistry
	cfg.RegistryListCacheTTL = c.VMListCacheTTL
	cfg.RegistryHTTP = c.registryClient()
	cfg.EventHTTP = c.eventClient()
	cfg.RegistryPool.ConnectTimeout = min(c.DialTimeout, cfg.RegistryPool.ConnectTimeout)
	cfg.RegistryPool.MaxIdleConns = max(c.IdlePerHost, 1)
	cfg.RegistryPool.TLSFor = c.trust.For
	cfg.RegistryPool.DialContext = c.dialRegistry
	cfg.NodeActiveTimeout = c.NodeActive
	cfg.InstanceActiveTimeout = c.InstanceActive
	cfg.InstanceTimeOut = c.InstanceTimeout
	cfg.UnknownVMThreshold = c.UnknownVMThreshold
	cfg.CleanQueuesInterval = c.CleanQueuesInterval
	// The documented defaults of these are of another way of scheduling: they count
	// only when they are given.
	if c.isGiven("ANKA_SCHEDULER_INTERVAL") {
		cfg.SchedulerInterval = c.SchedulerInterval
	}
	if c.isGiven("ANKA_RESERVE_TASK_TIMEOUT") {
		cfg.ReserveTaskTimeout = c.ReserveTaskTimeout
	}
	if c.isGiven("ANKA_QUERY_TASK_TIMEOUT") {
		cfg.QueryTaskTimeout = c.QueryTaskTimeout
	}
	if c.isGiven("ANKA_NUM_WORKERS") || c.isGiven("ANKA_BATCH_TASK_COUNT") {
		cfg.Claims = c.NumWorkers * c.BatchTasks
	}
	cfg.EtcdTimeout = min(c.EtcdRequestTimeout, cfg.EtcdTimeout) // callers of the API give up earlier than etcd would
	cfg.ManageMACAddresses, cfg.MACRange, cfg.MACRangeMaxRetries = c.ManageMAC, c.MACRange, c.MACRangeMaxRetries
	cfg.NoNodeUpgrades = c.NoNodeUpgrades
	cfg.PackageDir = c.AgentPackages
	cfg.EnableEventLogging, cfg.EventLogURL = c.EventLogging, c.EventLogURL
	cfg.Browsers = c.browsers.of(c.AdvertiseURL, c.AnkaRegistry)
	return cfg
}

// newRegistry makes the built-in registry; its listener is ours. In a cluster it
// is one registry with those of the other hosts.
func (c *config) newRegistry(etcd *clientv3.Client, log *zap.Logger, metrics prometheus.Registerer) (registryServer, error) {
	if err := os.MkdirAll(c.RegistryBasePath, 0o755); err != nil {
		return nil, fmt.Errorf("%s: %w", c.name("ANKA_REGISTRY_BASE_PATH"), err)
	}
	cfg := registry.DefaultConfig()
	cfg.Root = c.RegistryBasePath
	cfg.GracefulShutdownTimeout = c.GracefulShutdown
	cfg.Metrics = metrics
	cfg.Browsers = c.browsers.of(c.AdvertiseURL, c.AnkaRegistry)
	store, err := fs.Open(cfg.Root, fs.DefaultLimits())
	if err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	srv, err := registry.New(cfg, store, log.Named("registry"))
	if err != nil || !c.clustered() {
		return srv, err
	}
	return c.joinRegistries(srv, store, etcd, log.Named("registry"), metrics)
}

// controllerID names this controller in the list of controllers. With a data
// directory it survives a restart; a controller without one is the same as long
// as it has the same address, which is what the list is about.
func (c *config) controllerID() string {
	if !c.Standalone {
		return strings.NewReplacer("://", "-", ":", "-", "/", "-").Replace(c.AdvertiseURL)
	}
	path := filepath.Join(c.DataDir, "controller-id")
	if data, err := os.ReadFile(path); err == nil && len(strings.TrimSpace(string(data))) > 0 {
		return strings.TrimSpace(string(data))
	}
	id := strings.ToLower(rand.Text())
	// A failure means a new id next time, and an old entry that its lease removes.
	_ = atomicfile.Options{}.Write(path, []byte(id+"\n"))
	return id
}
