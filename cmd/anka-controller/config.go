package main

import (
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ankacluster/ankacluster/controllerapi/etcdmember"
	"github.com/ankacluster/ankacluster/internal/clienttls"
	"github.com/ankacluster/ankacluster/internal/settings"
)

// config is everything the program can be told. Its defaults are in table.
type config struct {
	// The servers of this process.
	ListenAddr             string
	AdvertiseURL           string
	Standalone             bool
	DataDir                string
	GracefulShutdown       time.Duration
	DrainDelay             time.Duration
	RunRegistry            bool
	RegistryBasePath       string
	RegistryListenAddr     string
	QueueAddr              string
	QueueTLS               bool
	QueueAuth              bool
	QueueCert, QueueKey    string
	QueueCA, QueueCRL      string
	HTTPS                  bool
	ServerCert, ServerKey  string
	MinTLS, MaxTLS         string
	CipherSuites           []string
	EnableMetrics          bool
	MetricsPort            int
	MetricsPath            string
	browsers               browserSettings
	AllowEmptyEtcd         bool
	EtcdEndpoints          []string
	QueueEtcdEndpoints     []string
	EtcdTLS, EtcdSkip      bool
	EtcdCA, EtcdCert       string
	EtcdKey                string
	EtcdLogin              bool
	EtcdUser, EtcdPassword string
	EtcdRequestTimeout     time.Duration

	// The embedded etcd member.
	Cluster                         string
	ClusterSelf                     string
	EtcdListenClient                string
	EtcdListenPeer                  string
	MemberCA, MemberCert, MemberKey string
	EtcdQuotaMB                     int
	CompactionMode, Retention       string
	DefragInterval                  time.Duration

	// Registries.
	AnkaRegistry, LocalRegistry string
	PushRegistries              []string
	AllowEmptyRegistry          bool
	RegistryCopies              int
	StrictCopies                bool
	VMListCacheTTL              time.Duration
	SkipTLSVerify               bool
	RegistryCA                  string
	DialTimeout, RequestTimeout time.Duration
	TLSHandshakeTimeout         time.Duration
	IdlePerHost                 int

	// The cloud.
	InstanceTimeout, InstanceActive, NodeActive time.Duration
	UnknownVMThreshold, NumWorkers, BatchTasks  int
	QueryTaskTimeout, ReserveTaskTimeout        time.Duration
	SchedulerInterval, CleanQueuesInterval      time.Duration
	ManageMAC                                   bool
	MACRange                                    string
	MACRangeMaxRetries                          int
	NoNodeUpgrades                              bool
	AgentPackages                               string

	// Who may do what.
	EnableAuth                                           bool
	RootToken                                            string
	CACert, CRL                                          string
	IngressNginx                                         bool
	APIKeys                                              bool
	SessionTTL, KeyCleaning                              time.Duration
	ControllerAuthz, RegistryAuthz, ResourceManagement   bool
	OIDCProvider, OIDCClientID, OIDCSecret, OIDCName     string
	OIDCScopes                                           []string
	OIDCGroupsClaim, OIDCUserClaim                       string
	OIDCUserInfo                                         bool
	EventLogging                                         bool
	EventLogURL                                          string
	LogDir                                               string
	Verbosity                                            int
	LogMaxDays, LogMaxMB, ErrorLogMaxDays, ErrorLogMaxMB int

	given map[string]settings.Source

	trust  *clienttls.Trust // of registryTrust
	inside *pipeListener    // to the registry of this process
}

// name returns how a person would say the setting: the flag or variable that was
// used, or the variable.
func (c *config) name(env string) string {
	if s, ok := c.given[env]; ok {
		return s.Name
	}
	return env
}

// both returns the name that was used for a setting, or both names.
func (c *config) both(env string) string {
	if c.isGiven(env) {
		return c.name(env)
	}
	return "--" + settings.Setting{Env: env}.Flag() + " (" + env + ")"
}

func (c *config) isGiven(env string) bool { _, ok := c.given[env]; return ok }

// complete fills what depends on other settings.
func (c *config) complete() {
	c.inside = newPipeListener()
	if c.ListenAddr == "" {
		c.ListenAddr = ":80"
		if c.Standalone {
			c.ListenAddr = ":8090"
		}
	}
	if c.Standalone && c.AnkaRegistry == "" && !c.isGiven("ANKA_RUN_REGISTRY") {
		c.RunRegistry = true
	}
	if c.DataDir == "" {
		c.DataDir = defaultDataDir()
	}
	if c.RunRegistry && c.RegistryBasePath == "" {
		c.RegistryBasePath = filepath.Join(c.DataDir, "registry")
	}
	if c.AgentPackages == "" {
		c.AgentPackages = installedAgents()
	}
	host := c.outwardHost().Name
	if c.AdvertiseURL == "" {
		c.AdvertiseURL = c.advertised(host, c.ListenAddr)
	}
	if c.RunRegistry {
		url := c.advertised(host, c.RegistryListenAddr)
		if c.AnkaRegistry == "" {
			c.AnkaRegistry = url
		}
		if c.LocalRegistry == "" {
			c.LocalRegistry = "http://" + builtInRegistry
		}
	}
}

// advertised returns the URL of a listener for others: a listener on one address
// has that address, one on all has host.
func (c *config) advertised(host, listen string) string {
	scheme := "http"
	if c.HTTPS {
		scheme = "https"
	}
	if h, port, err := net.SplitHostPort(listen); err == nil {
		if ip := net.ParseIP(h); h != "" && (ip == nil || !ip.IsUnspecified()) {
			host = h
		}
		if (scheme == "http" && port == "80") || (scheme == "https" && port == "443") {
			if strings.Contains(host, ":") {
				host = "[" + host + "]"
			}
			return scheme + "://" + host
		}
		return scheme + "://" + net.JoinHostPort(host, port)
	}
	return scheme + "://" + host
}

// clustered reports whether the built-in registry is one with those of the other
// hosts of --cluster.
func (c *config) clustered() bool { return c.Standalone && c.Cluster != "" && c.RunRegistry }

// outwardHost is this machine for others: the host of --cluster that it is, else its
// first address that is not loopback.
func (c *config) outwardHost() etcdmember.Host {
	if h, err := etcdmember.ParseHost(c.ClusterSelf); err == nil {
		return h
	}
	addrs, _ := net.InterfaceAddrs()
	var mine []string
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() {
			mine = append(mine, n.IP.String())
		}
	}
	hosts, _ := etcdmember.ParseHosts(c.Cluster)
	for _, h := range hosts {
		if slices.Contains(mine, h.Name) {
			return h
		}
	}
	if len(mine) > 0 {
		return etcdmember.Host{Name: mine[0], PeerPort: etcdmember.DefaultPeerPort}
	}
	return etcdmember.Host{Name: "127.0.0.1", PeerPort: etcdmember.DefaultPeerPort}
}

// memberConfig returns the embedded member's configuration.
func (c *config) memberConfig() (etcdmember.Config, error) {
	m := etcdmember.DefaultConfig()
	m.DataDir = filepath.Join(c.DataDir, "etcd")
	m.ClientListen, m.PeerListen = c.EtcdListenClient, c.EtcdListenPeer
	m.Self = c.ClusterSelf
	m.TLS = etcdmember.TLS{CA: c.MemberCA, Cert: c.MemberCert, Key: c.MemberKey}
	m.QuotaBytes = int64(c.EtcdQuotaMB) << 20
	m.CompactionMode, m.CompactionRetention = c.CompactionMode, c.Retention
	m.DefragInterval = c.DefragInterval
	var err error
	if m.Cluster, err = etcdmember.ParseHosts(c.Cluster); err != nil {
		return m, fmt.Errorf("%s: %w", c.name("ANKA_CLUSTER"), err)
	}
	return m, m.Validate()
}
