package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/ankacluster/ankacluster/controllerapi/etcdmember"
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
	AllowCORS              bool
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
	VMListCacheTTL              time.Duration
	SkipTLSVerify               bool
	DialTimeout, RequestTimeout time.Duration
	TLSHandshakeTimeout         time.Duration
	HTTPRetries, IdlePerHost    int

	// The cloud.
	InstanceTimeout, InstanceActive, NodeActive time.Duration
	UnknownVMThreshold, NumWorkers, BatchTasks  int
	QueryTaskTimeout, ReserveTaskTimeout        time.Duration
	SchedulerInterval, CleanQueuesInterval      time.Duration
	ManageMAC                                   bool
	MACRange                                    string
	MACRangeMaxRetries                          int
	FillMACInterval, CleanMACInterval           time.Duration
	NoNodeUpgrades                              bool

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
	CentralLogging, EventLogging                         bool
	EventLogURL                                          string
	LogDir                                               string
	Verbosity                                            int
	LogMaxDays, LogMaxMB, ErrorLogMaxDays, ErrorLogMaxMB int

	given map[string]source
}

// The groups of the help, in the order in which a newcomer meets them.
const (
	groupStart    = "1 To begin with"
	groupEtcd     = "2 Own etcd servers"
	groupMember   = "3 Embedded etcd and cluster"
	groupRegistry = "4 Registries"
	groupTLS      = "5 TLS of this controller"
	groupAuth     = "6 Authentication and authorisation"
	groupCloud    = "7 Nodes, instances, queue"
	groupLogs     = "8 Logs and metrics"
)

// table binds every setting to its field of c.
func (c *config) table() []setting {
	return []setting{
		{env: "ANKA_STANDALONE", group: groupStart, isBool: true, parse: boolean(&c.Standalone), usage: "run etcd and a registry in this process, too: one command is a working cloud"},
		{env: "ANKA_DATA_DIR", group: groupStart, isPath: true, parse: text(&c.DataDir), usage: "`DIR` for the data of --standalone and of the built-in registry (default: " + defaultDataDir() + ")"},
		{env: "ANKA_LISTEN_ADDR", group: groupStart, parse: listenAddr(&c.ListenAddr), usage: "`ADDRESS` to serve at (default: :80, with --standalone :8090)"},
		{env: "ANKA_ADVERTISE_URL", group: groupStart, parse: httpURL(&c.AdvertiseURL), usage: "`URL` at which nodes reach this controller (default: this machine's address)"},
		{env: "ANKA_GRACEFUL_SHUTDOWN_TIMEOUT", group: groupStart, def: "10s", parse: duration(&c.GracefulShutdown), usage: "how long requests may take to finish after SIGTERM"},
		{env: "ANKA_DRAIN_DELAY", group: groupStart, def: "1s", parse: duration(&c.DrainDelay), usage: "how long of that /readyz says no before connections are refused"},
		{env: "ANKA_ALLOW_CORS", group: groupStart, isBool: true, parse: boolean(&c.AllowCORS), usage: "answer browsers of other origins"},

		{env: "ANKA_ETCD_ENDPOINTS", group: groupEtcd, def: "127.0.0.1:2379", parse: list(&c.EtcdEndpoints), usage: "`LIST` of all etcd members"},
		{env: "ANKA_QUEUE_ETCD_ENDPOINTS", group: groupEtcd, hidden: true, parse: list(&c.QueueEtcdEndpoints), usage: "must be the same as --etcd-endpoints: one etcd cluster holds everything"},
		{env: "ANKA_USE_ETCD_TLS", group: groupEtcd, isBool: true, parse: boolean(&c.EtcdTLS), usage: "speak TLS with etcd"},
		{env: "ANKA_ETCD_CA_CERT", group: groupEtcd, isPath: true, parse: text(&c.EtcdCA), usage: "PEM `FILE` of the authority of etcd's certificates"},
		{env: "ANKA_ETCD_CERT", group: groupEtcd, isPath: true, parse: text(&c.EtcdCert), usage: "PEM `FILE` of the client certificate for etcd"},
		{env: "ANKA_ETCD_CERT_KEY", group: groupEtcd, isPath: true, parse: text(&c.EtcdKey), usage: "PEM `FILE` of its key"},
		{env: "ANKA_SKIP_ETCD_TLS_VERIFICATION", group: groupEtcd, isBool: true, parse: boolean(&c.EtcdSkip), usage: "accept any certificate of etcd"},
		{env: "ANKA_USE_ETCD_LOGIN", group: groupEtcd, isBool: true, parse: boolean(&c.EtcdLogin), usage: "log in to etcd with ANKA_ETCD_USERNAME and ANKA_ETCD_PASSWORD"},
		{env: "ANKA_ETCD_USERNAME", group: groupEtcd, parse: text(&c.EtcdUser), usage: "etcd user `NAME`"},
		{env: "ANKA_ETCD_PASSWORD", group: groupEtcd, secret: true, parse: text(&c.EtcdPassword), usage: "its password"},
		{env: "ANKA_ETCD_REQUEST_TIMEOUT", group: groupEtcd, def: "20s", parse: duration(&c.EtcdRequestTimeout), usage: "limit of one request to etcd, with all repeats; callers are answered after 10s whatever it is"},

		{env: "ANKA_CLUSTER", group: groupMember, parse: text(&c.Cluster), usage: "`HOST,HOST,HOST`: form one etcd cluster; the same on each of the hosts"},
		{env: "ANKA_CLUSTER_SELF", group: groupMember, parse: text(&c.ClusterSelf), usage: "the `HOST` of --cluster that is this machine (default: found by its addresses)"},
		{env: "ANKA_ETCD_LISTEN_CLIENT", group: groupMember, parse: text(&c.EtcdListenClient), usage: "`IP:PORT` of the embedded etcd for controllers (default: port 2379)"},
		{env: "ANKA_ETCD_LISTEN_PEER", group: groupMember, parse: text(&c.EtcdListenPeer), usage: "`IP:PORT` of the embedded etcd for its peers (default: port 2380)"},
		{env: "ANKA_ETCD_TLS_CA", group: groupMember, isPath: true, parse: text(&c.MemberCA), usage: "PEM `FILE`: with the next two, the embedded members speak TLS and ask for certificates"},
		{env: "ANKA_ETCD_TLS_CERT", group: groupMember, isPath: true, parse: text(&c.MemberCert), usage: "PEM `FILE` of this host's certificate"},
		{env: "ANKA_ETCD_TLS_KEY", group: groupMember, isPath: true, parse: text(&c.MemberKey), usage: "PEM `FILE` of its key"},
		{env: "ANKA_ETCD_QUOTA_MB", group: groupMember, def: "4096", parse: number(&c.EtcdQuotaMB, 16, 65536), usage: "size in `MB` at which the embedded etcd refuses writes"},
		{env: "ANKA_AUTO_COMPACTION_MODE", group: groupMember, def: "periodic", parse: oneOf(&c.CompactionMode, "periodic", "revision"), usage: "periodic or revision"},
		{env: "ANKA_AUTO_COMPACTION_RETENTION", group: groupMember, def: "30m", parse: text(&c.Retention), usage: "history that the embedded etcd keeps"},
		{env: "ANKA_DEFRAG_DB_INTERVAL", group: groupMember, def: "0s", parse: duration(&c.DefragInterval), usage: "how often its database is rewritten without holes (0: never)"},
		{env: "ANKA_ALLOW_EMPTY_ETCD", group: groupMember, isBool: true, parse: boolean(&c.AllowEmptyEtcd), usage: "start although etcd has lost the cloud that this data directory knows"},

		{env: "ANKA_ANKA_REGISTRY", group: groupRegistry, parse: httpURL(&c.AnkaRegistry), usage: "`URL` of the registry that nodes use (default: the built-in one, if it runs)"},
		{env: "ANKA_LOCAL_ANKA_REGISTRY", group: groupRegistry, parse: httpURL(&c.LocalRegistry), usage: "this controller's own `URL` of it"},
		{env: "ANKA_PUSH_REGISTRY", group: groupRegistry, parse: httpURLs(&c.PushRegistries), usage: "`LIST` of URLs of the registries that are pushed to"},
		{env: "ANKA_ALLOW_EMPTY_REGISTRY", group: groupRegistry, isBool: true, parse: boolean(&c.AllowEmptyRegistry), usage: "start without any registry"},
		{env: "ANKA_RUN_REGISTRY", group: groupRegistry, isBool: true, parse: boolean(&c.RunRegistry), usage: "run the built-in registry (--standalone does unless --anka-registry names another)"},
		{env: "ANKA_REGISTRY_BASE_PATH", group: groupRegistry, isPath: true, parse: text(&c.RegistryBasePath), usage: "`DIR` of the built-in registry's templates (default: registry below --data-dir)"},
		{env: "ANKA_REGISTRY_LISTEN_ADDRESS", group: groupRegistry, def: ":8089", parse: listenAddr(&c.RegistryListenAddr), usage: "`ADDRESS` of the built-in registry"},
		{env: "ANKA_REGISTRY_VM_LIST_CACHE_TTL", group: groupRegistry, def: "30s", parse: duration(&c.VMListCacheTTL), usage: "how old a list of templates may be"},
		{env: "ANKA_SKIP_TLS_VERIFICATION", group: groupRegistry, isBool: true, parse: boolean(&c.SkipTLSVerify), usage: "accept any certificate of the registry"},
		{env: "ANKA_DIAL_TIMEOUT", group: groupRegistry, def: "5s", parse: duration(&c.DialTimeout), usage: "limit of connecting to the registry"},
		{env: "ANKA_REQUEST_TIMEOUT", group: groupRegistry, def: "15s", parse: duration(&c.RequestTimeout), usage: "limit of one request to the registry"},
		{env: "ANKA_TLS_HANDSHAKE_TIMEOUT", group: groupRegistry, def: "5s", parse: duration(&c.TLSHandshakeTimeout), usage: "limit of a TLS handshake with the registry"},
		{env: "ANKA_NUM_HTTP_RETRIES", group: groupRegistry, def: "5", parse: number(&c.HTTPRetries, 0, 100), usage: "repeats of a failed request to the registry"},
		{env: "ANKA_MAX_IDLE_CONNECTION_PER_HOST", group: groupRegistry, def: "50", parse: number(&c.IdlePerHost, 0, 10000), usage: "idle connections kept to the registry (F27: idle ones end after 90 s)"},

		{env: "ANKA_USE_HTTPS", group: groupTLS, isBool: true, parse: boolean(&c.HTTPS), usage: "serve HTTPS"},
		{env: "ANKA_SERVER_CERT", group: groupTLS, isPath: true, parse: text(&c.ServerCert), usage: "PEM `FILE` of the certificate; read again when it changes"},
		{env: "ANKA_SERVER_KEY", group: groupTLS, isPath: true, parse: text(&c.ServerKey), usage: "PEM `FILE` of its key"},
		{env: "ANKA_MIN_TLS_VERSION", group: groupTLS, parse: tlsVersion(&c.MinTLS), usage: "tls_1.0 to tls_1.3 (default: tls_1.2)"},
		{env: "ANKA_MAX_TLS_VERSION", group: groupTLS, parse: tlsVersion(&c.MaxTLS), usage: "tls_1.0 to tls_1.3"},
		{env: "ANKA_CIPHER_SUITES", group: groupTLS, parse: cipherSuites(&c.CipherSuites), usage: "`LIST` of suites by their IANA names, for TLS up to 1.2"},
		{env: "ANKA_QUEUE_ADDR", group: groupTLS, parse: listenAddr(&c.QueueAddr), usage: "second `ADDRESS` that serves nodes only"},
		{env: "ANKA_ENABLE_QUEUE_AUTH", group: groupTLS, isBool: true, parse: boolean(&c.QueueAuth), usage: "ask nodes for certificates there"},
		{env: "ANKA_USE_QUEUE_TLS", group: groupTLS, isBool: true, parse: boolean(&c.QueueTLS), usage: "serve HTTPS there"},
		{env: "ANKA_QUEUE_CA_CERT", group: groupTLS, isPath: true, parse: text(&c.QueueCA), usage: "PEM `FILE` of the authority of the nodes' certificates"},
		{env: "ANKA_QUEUE_CRL", group: groupTLS, isPath: true, parse: text(&c.QueueCRL), usage: "PEM or DER `FILE` of revoked certificates"},
		{env: "ANKA_QUEUE_SERVER_CERT", group: groupTLS, isPath: true, parse: text(&c.QueueCert), usage: "PEM `FILE` of the certificate there"},
		{env: "ANKA_QUEUE_SERVER_KEY", group: groupTLS, isPath: true, parse: text(&c.QueueKey), usage: "PEM `FILE` of its key"},

		{env: "ANKA_ENABLE_AUTH", group: groupAuth, isBool: true, parse: boolean(&c.EnableAuth), usage: "ask callers who they are"},
		{env: "ANKA_ROOT_TOKEN", group: groupAuth, secret: true, parse: rootToken(&c.RootToken), usage: "token of the superuser, 10 characters or more"},
		{env: "ANKA_CA_CERT", aliases: []string{"ANKA_ROOT_CERT"}, group: groupAuth, isPath: true, parse: text(&c.CACert), usage: "PEM `FILE` of the authority of callers' certificates"},
		{env: "ANKA_CRL", group: groupAuth, isPath: true, parse: text(&c.CRL), usage: "PEM or DER `FILE` of revoked certificates"},
		{env: "ANKA_ENABLE_INGRESS_NGINX", group: groupAuth, isBool: true, parse: boolean(&c.IngressNginx), usage: "trust the certificate headers of an nginx ingress"},
		{env: "ANKA_ENABLE_API_KEYS", group: groupAuth, isBool: true, parse: boolean(&c.APIKeys), usage: "user API keys"},
		{env: "ANKA_API_KEYS_SESSION_TTL", group: groupAuth, def: "5m", parse: duration(&c.SessionTTL), usage: "life of a session of an API key"},
		{env: "ANKA_API_KEYS_CLEANING_INTERVAL", group: groupAuth, def: "4h", parse: duration(&c.KeyCleaning), usage: "how often expired keys are removed"},
		{env: "ANKA_ENABLE_CONTROLLER_AUTHORIZATION", group: groupAuth, isBool: true, parse: boolean(&c.ControllerAuthz), usage: "check permissions here"},
		{env: "ANKA_ENABLE_REGISTRY_AUTHORIZATION", group: groupAuth, isBool: true, parse: boolean(&c.RegistryAuthz), usage: "check permissions of registry calls"},
		{env: "ANKA_ENABLE_RESOURCE_MANAGEMENT", group: groupAuth, isBool: true, parse: boolean(&c.ResourceManagement), usage: "permissions per node and template"},
		{env: "ANKA_OIDC_PROVIDER_URL", group: groupAuth, parse: httpURL(&c.OIDCProvider), usage: "`URL` of the OpenID provider"},
		{env: "ANKA_OIDC_CLIENT_ID", group: groupAuth, parse: text(&c.OIDCClientID), usage: "client `ID` there"},
		{env: "ANKA_OIDC_CLIENT_SECRET", group: groupAuth, secret: true, parse: text(&c.OIDCSecret), usage: "its secret"},
		{env: "ANKA_OIDC_DISPLAY_NAME", group: groupAuth, parse: text(&c.OIDCName), usage: "`NAME` on the login page"},
		{env: "ANKA_OIDC_SCOPES", group: groupAuth, parse: list(&c.OIDCScopes), usage: "`LIST` of further scopes"},
		{env: "ANKA_OIDC_GROUPS_CLAIM", group: groupAuth, def: "groups", parse: text(&c.OIDCGroupsClaim), usage: "claim with the groups"},
		{env: "ANKA_OIDC_USERNAME_CLAIM", group: groupAuth, def: "name", parse: text(&c.OIDCUserClaim), usage: "claim with the name"},
		{env: "ANKA_OIDC_USER_INFO", group: groupAuth, isBool: true, parse: boolean(&c.OIDCUserInfo), usage: "read the groups from the user info call"},

		{env: "ANKA_INSTANCE_TIME_OUT", group: groupCloud, def: "1m", parse: duration(&c.InstanceTimeout), usage: "how long an ended instance stays listed"},
		{env: "ANKA_INSTANCE_ACTIVE_TIMEOUT", group: groupCloud, def: "2m", parse: duration(&c.InstanceActive), usage: "silence of its node after which an instance is in error, if longer than --node-active-timeout"},
		{env: "ANKA_NODE_ACTIVE_TIMEOUT", group: groupCloud, def: "2m", parse: duration(&c.NodeActive), usage: "silence after which a node is offline"},
		{env: "ANKA_UNKNOWN_VM_THRESHOLD", group: groupCloud, def: "30", parse: number(&c.UnknownVMThreshold, 1, 1_000_000), usage: "reports of an unknown managed VM before it is ended"},
		{env: "ANKA_NUM_WORKERS", group: groupCloud, hidden: true, def: "2", parse: number(&c.NumWorkers, 1, 1000), usage: "times --batch-task-count: tasks handed out at the same time (default: no bound)"},
		{env: "ANKA_BATCH_TASK_COUNT", group: groupCloud, hidden: true, def: "2", parse: number(&c.BatchTasks, 1, 40), usage: "see --num-workers"},
		{env: "ANKA_QUERY_TASK_TIMEOUT", group: groupCloud, hidden: true, parse: duration(&c.QueryTaskTimeout), usage: "limit of one look for a task (default: 10s)"},
		{env: "ANKA_RESERVE_TASK_TIMEOUT", group: groupCloud, parse: duration(&c.ReserveTaskTimeout), usage: "how long a node's wait for a task is held (default: as long as the node asks, 50s at most)"},
		{env: "ANKA_SCHEDULER_INTERVAL", group: groupCloud, hidden: true, parse: duration(&c.SchedulerInterval), usage: "how often every node is looked at anew, besides at each change (default: 1m)"},
		{env: "ANKA_CLEAN_QUEUES_INTERVAL", group: groupCloud, def: "1h", parse: duration(&c.CleanQueuesInterval), usage: "how often starts that no node took for a day are ended"},
		{env: "ANKA_MANAGE_MAC_ADDRESSES", group: groupCloud, isBool: true, parse: boolean(&c.ManageMAC), usage: "give VMs MAC addresses of a pool"},
		{env: "ANKA_MAC_ADDR_RANGE", group: groupCloud, parse: text(&c.MACRange), usage: "`FIRST-LAST` of the pool"},
		{env: "ANKA_MAC_ADDR_RANGE_MAX_RETRIES", group: groupCloud, def: "100", parse: number(&c.MACRangeMaxRetries, 1, 1_000_000), usage: "tries to find a free one"},
		{env: "ANKA_FILL_MAC_ADDRESS_RANGE_INTERVAL", group: groupCloud, def: "3h", parse: duration(&c.FillMACInterval), usage: "how often the pool is filled"},
		{env: "ANKA_CLEAN_MAC_ADDRESS_INTERVAL", group: groupCloud, def: "1h", parse: duration(&c.CleanMACInterval), usage: "how often unused ones go back"},
		{env: "ANKA_NO_NODE_UPGRADES", group: groupCloud, isBool: true, parse: boolean(&c.NoNodeUpgrades), usage: "never upgrade agents"},

		{env: "ANKA_V", group: groupLogs, def: "0", parse: number(&c.Verbosity, 0, 10), usage: "`LEVEL` of the log: 0 what happens, 1 and more every request"},
		{env: "ANKA_LOG_DIR", group: groupLogs, isPath: true, parse: text(&c.LogDir), usage: "`DIR` for rotated log files, besides stderr"},
		{env: "ANKA_LOG_MAX_DAYS", group: groupLogs, def: "7", parse: number(&c.LogMaxDays, 0, 3650), usage: "age of the oldest"},
		{env: "ANKA_LOG_MAX_MB", group: groupLogs, def: "700", parse: number(&c.LogMaxMB, 2, 1_000_000), usage: "size of all"},
		{env: "ANKA_ERROR_LOG_MAX_DAYS", group: groupLogs, def: "3", parse: number(&c.ErrorLogMaxDays, 0, 3650), usage: "age of the oldest error log"},
		{env: "ANKA_ERROR_LOG_MAX_MB", group: groupLogs, def: "200", parse: number(&c.ErrorLogMaxMB, 2, 1_000_000), usage: "size of all error logs"},
		{env: "ANKA_CMD_LOG_MAX_DAYS", group: groupLogs, hidden: true, parse: noEffect, usage: "no effect"},
		{env: "ANKA_CMD_LOG_MAX_MB", group: groupLogs, hidden: true, parse: noEffect, usage: "no effect"},
		{env: "ANKA_ENABLE_METRICS", group: groupLogs, isBool: true, parse: boolean(&c.EnableMetrics), usage: "serve Prometheus metrics"},
		{env: "ANKA_METRICS_PORT", group: groupLogs, def: "2112", parse: number(&c.MetricsPort, 1, 65535), usage: "their `PORT`"},
		{env: "ANKA_METRICS_PATH", group: groupLogs, def: "/metrics", parse: metricsPath(&c.MetricsPath), usage: "their path"},
		{env: "ANKA_ENABLE_CENTRAL_LOGGING", group: groupLogs, isBool: true, parse: boolean(&c.CentralLogging), usage: "nodes send their logs to the registry"},
		{env: "ANKA_ENABLE_EVENT_LOGGING", group: groupLogs, isBool: true, parse: boolean(&c.EventLogging), usage: "write the event log"},
		{env: "ANKA_EVENT_LOG_URL", group: groupLogs, parse: httpURL(&c.EventLogURL), usage: "`URL` that events are POSTed to"},
	}
}

// name returns how a person would say the setting: the flag or variable that was
// used, or the variable.
func (c *config) name(env string) string {
	if s, ok := c.given[env]; ok {
		return s.name
	}
	return env
}

func (c *config) isGiven(env string) bool { _, ok := c.given[env]; return ok }

// complete fills what depends on other settings.
func (c *config) complete() {
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
	host := c.outwardHost()
	if c.AdvertiseURL == "" {
		c.AdvertiseURL = c.advertised(host, c.ListenAddr)
	}
	if c.RunRegistry {
		url := c.advertised(host, c.RegistryListenAddr)
		if c.AnkaRegistry == "" {
			c.AnkaRegistry = url
		}
		if c.LocalRegistry == "" {
			c.LocalRegistry = c.advertised("127.0.0.1", c.RegistryListenAddr)
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

// outwardHost is the address of this machine for others: the host of --cluster
// that it is, else its first address that is not loopback.
func (c *config) outwardHost() string {
	if h, err := etcdmember.ParseHost(c.ClusterSelf); err == nil {
		return h.Name
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
			return h.Name
		}
	}
	if len(mine) > 0 {
		return mine[0]
	}
	return "127.0.0.1"
}

// validate reports every setting that is wrong, one line each, by the name under
// which it was given.
func (c *config) validate() error {
	var errs []error
	bad := func(env, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", c.name(env), fmt.Sprintf(format, args...)))
	}
	file := func(env, path string, needed bool, why string) {
		if path == "" {
			if needed {
				bad(env, "is missing; %s", why)
			}
			return
		}
		f, err := os.Open(path)
		if err != nil {
			bad(env, "%v", err)
			return
		}
		f.Close()
	}

	if c.Standalone {
		if c.isGiven("ANKA_ETCD_ENDPOINTS") {
			bad("ANKA_ETCD_ENDPOINTS", "contradicts %s, which runs its own etcd; use one of them", c.name("ANKA_STANDALONE"))
		}
		if _, err := c.memberConfig(); err != nil {
			errs = append(errs, err)
		}
	} else {
		for _, env := range []string{"ANKA_CLUSTER", "ANKA_CLUSTER_SELF", "ANKA_ETCD_LISTEN_CLIENT", "ANKA_ETCD_LISTEN_PEER"} {
			if c.isGiven(env) {
				bad(env, "needs --standalone")
			}
		}
		c.validateEtcd(bad, file)
	}

	if c.AnkaRegistry == "" && !c.AllowEmptyRegistry {
		bad("ANKA_ANKA_REGISTRY", "is missing; name the registry that nodes use, run the built-in one with --run-registry, or start without any with --allow-empty-registry")
	}
	if c.HTTPS || c.ServerCert != "" || c.ServerKey != "" {
		file("ANKA_SERVER_CERT", c.ServerCert, true, "HTTPS needs a certificate and a key")
		file("ANKA_SERVER_KEY", c.ServerKey, true, "HTTPS needs a certificate and a key")
		if !c.HTTPS {
			bad("ANKA_SERVER_CERT", "has no effect without --use-https")
		}
	}
	if c.QueueAddr != "" && c.QueueTLS {
		file("ANKA_QUEUE_SERVER_CERT", c.QueueCert, true, "--use-queue-tls needs a certificate and a key")
		file("ANKA_QUEUE_SERVER_KEY", c.QueueKey, true, "--use-queue-tls needs a certificate and a key")
	}
	if c.QueueAuth {
		file("ANKA_QUEUE_CA_CERT", c.QueueCA, true, "--enable-queue-auth needs the authority of the nodes' certificates")
	}
	file("ANKA_QUEUE_CRL", c.QueueCRL, false, "")
	file("ANKA_CA_CERT", c.CACert, false, "")
	file("ANKA_CRL", c.CRL, false, "")
	if c.MinTLS != "" && c.MaxTLS != "" && c.MinTLS > c.MaxTLS {
		bad("ANKA_MIN_TLS_VERSION", "%s is above ANKA_MAX_TLS_VERSION %s", c.MinTLS, c.MaxTLS)
	}
	// A lock that does not lock is worse than none: whoever asks for one of these
	// must not get an open controller.
	for env, on := range map[string]bool{
		"ANKA_ENABLE_AUTH": c.EnableAuth, "ANKA_ENABLE_INGRESS_NGINX": c.IngressNginx, "ANKA_ENABLE_API_KEYS": c.APIKeys,
		"ANKA_ENABLE_CONTROLLER_AUTHORIZATION": c.ControllerAuthz, "ANKA_ENABLE_REGISTRY_AUTHORIZATION": c.RegistryAuthz,
		"ANKA_ENABLE_RESOURCE_MANAGEMENT": c.ResourceManagement, "ANKA_CRL": c.CRL != "", "ANKA_QUEUE_CRL": c.QueueCRL != "",
		"ANKA_OIDC_PROVIDER_URL": c.OIDCProvider != "",
	} {
		if on {
			bad(env, "is not supported by this version; the controller would be open to everybody who reaches it")
		}
	}
	if c.QueueAuth && !c.QueueTLS {
		bad("ANKA_ENABLE_QUEUE_AUTH", "needs --use-queue-tls: nodes show certificates in TLS only")
	}
	if c.ManageMAC && c.MACRange == "" {
		bad("ANKA_MAC_ADDR_RANGE", "is missing; --manage-mac-addresses needs FIRST-LAST")
	}
	if c.EventLogURL != "" && !c.EventLogging {
		bad("ANKA_EVENT_LOG_URL", "has no effect without --enable-event-logging")
	}
	return errors.Join(errs...)
}

func (c *config) validateEtcd(bad func(env, format string, args ...any), file func(env, path string, needed bool, why string)) {
	for _, ep := range c.EtcdEndpoints {
		host := ep
		if u, err := url.Parse(ep); err == nil && strings.Contains(ep, "://") {
			host = u.Host
			switch {
			case u.Scheme != "http" && u.Scheme != "https":
				bad("ANKA_ETCD_ENDPOINTS", "%q is not HOST:PORT, http://HOST:PORT or https://HOST:PORT", ep)
				continue
			case (u.Scheme == "https") != c.EtcdTLS:
				bad("ANKA_ETCD_ENDPOINTS", "%q does not fit --use-etcd-tls=%t", ep, c.EtcdTLS)
				continue
			}
		}
		if h, port, err := net.SplitHostPort(host); err != nil || h == "" || port == "" {
			bad("ANKA_ETCD_ENDPOINTS", "%q is not HOST:PORT, http://HOST:PORT or https://HOST:PORT", ep)
		}
	}
	if len(c.QueueEtcdEndpoints) > 0 && !slices.Equal(slices.Sorted(slices.Values(c.QueueEtcdEndpoints)), slices.Sorted(slices.Values(c.EtcdEndpoints))) {
		bad("ANKA_QUEUE_ETCD_ENDPOINTS", "must be left out or be the same as ANKA_ETCD_ENDPOINTS: one etcd cluster holds everything")
	}
	file("ANKA_ETCD_CA_CERT", c.EtcdCA, false, "")
	file("ANKA_ETCD_CERT", c.EtcdCert, c.EtcdKey != "", "ANKA_ETCD_CERT_KEY is its key")
	file("ANKA_ETCD_CERT_KEY", c.EtcdKey, c.EtcdCert != "", "ANKA_ETCD_CERT needs its key")
	if !c.EtcdTLS {
		for _, env := range []string{"ANKA_ETCD_CA_CERT", "ANKA_ETCD_CERT", "ANKA_ETCD_CERT_KEY"} {
			if c.isGiven(env) {
				bad(env, "has no effect without --use-etcd-tls")
			}
		}
	} else if _, err := c.etcdTLSConfig(); err != nil {
		bad("ANKA_ETCD_CERT", "%v", err)
	}
	if c.EtcdLogin && c.EtcdUser == "" {
		bad("ANKA_ETCD_USERNAME", "is missing; --use-etcd-login needs it")
	}
	if c.EtcdLogin && c.EtcdPassword == "" {
		bad("ANKA_ETCD_PASSWORD", "is missing; --use-etcd-login needs it")
	}
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

// defaultDataDir is where a service, or a user who tries it out, keeps data.
func defaultDataDir() string {
	const name = "anka-controller"
	if os.Geteuid() == 0 {
		if runtime.GOOS == "darwin" {
			return filepath.Join("/Library/Application Support", name)
		}
		return filepath.Join("/var/lib", name)
	}
	if runtime.GOOS == "darwin" {
		home, _ := os.UserHomeDir()
		return filepath.Join(home, "Library", "Application Support", name)
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, name)
	}
	home, _ := os.UserHomeDir()
	return filepath.Join(home, ".local", "share", name)
}
