package main

import (
	"fmt"

	"github.com/ankacluster/ankacluster/internal/settings"
)

// The groups of the help, in the order in which a newcomer meets them.
const (
	groupStart    = "To begin with"
	groupEtcd     = "Own etcd servers"
	groupMember   = "Embedded etcd and cluster"
	groupRegistry = "Registries"
	groupTLS      = "TLS of this controller"
	groupAuth     = "Authentication: not in this version, and refused when set"
	groupCloud    = "Nodes, instances, queue"
	groupLogs     = "Logs and metrics"
	groupNoEffect = "Accepted without effect"
)

// noEffect holds settings that configurations of Anka's cloud have.
var noEffect = []settings.NoEffect{
	{Env: "ANKA_NUM_HTTP_RETRIES", Reason: "requests to registries are repeated within --request-timeout"},
	{Env: "ANKA_FILL_MAC_ADDRESS_RANGE_INTERVAL", Reason: "addresses are taken from the range one by one"},
	{Env: "ANKA_CLEAN_MAC_ADDRESS_INTERVAL", Reason: "an address is free as soon as its VM is gone"},
	{Env: "ANKA_ENABLE_CENTRAL_LOGGING", IsBool: true, Reason: "the registry takes logs always, and nodes send theirs unless they joined with --no-central-logging"},
	{Env: "ANKA_CMD_LOG_MAX_DAYS", Reason: "commands are logged by the agents"},
	{Env: "ANKA_CMD_LOG_MAX_MB", Reason: "commands are logged by the agents"},
}

// table binds every setting to its field of c.
func (c *config) table() []settings.Setting {
	return append([]settings.Setting{
		{Env: "ANKA_STANDALONE", Group: groupStart, IsBool: true, Parse: settings.Bool(&c.Standalone), Usage: "run etcd and a registry in this process, too: one command is a working cloud"},
		{Env: "ANKA_DATA_DIR", Group: groupStart, IsPath: true, Parse: settings.Text(&c.DataDir), Usage: "`DIR` for the data of --standalone and of the built-in registry (default: " + rootsDataDir() + " for root, else below the home directory)"},
		{Env: "ANKA_LISTEN_ADDR", Group: groupStart, Parse: settings.ListenAddr(&c.ListenAddr), Usage: "`ADDRESS` to serve at (default: :80, with --standalone :8090)"},
		{Env: "ANKA_ADVERTISE_URL", Group: groupStart, Parse: settings.HTTPURL(&c.AdvertiseURL), Usage: "`URL` at which nodes reach this controller (default: this machine's address)"},
		{Env: "ANKA_GRACEFUL_SHUTDOWN_TIMEOUT", Group: groupStart, Default: "10s", Parse: settings.Duration(&c.GracefulShutdown), Usage: "`DURATION` that requests may take to finish after SIGTERM"},
		{Env: "ANKA_DRAIN_DELAY", Group: groupStart, Default: "1s", Parse: settings.Duration(&c.DrainDelay), Usage: "for the first `DURATION` of that time answer only /readyz with no, so that load balancers go elsewhere, then refuse connections"},
		{Env: "ANKA_ALLOW_CORS", Group: groupStart, IsBool: true, Parse: settings.Bool(&c.browsers.all), Usage: "let the pages of every site do what they like; better is --cors-origins"},
		{Env: "ANKA_CORS_ORIGINS", Group: groupStart, Parse: origins(&c.browsers.origins), Usage: "`LIST` of sites whose pages may call the API, such as https://ci.example.com"},
		{Env: "ANKA_UI_HOSTS", Group: groupStart, Parse: settings.List(&c.browsers.hosts), Usage: "`LIST` of names under which browsers may ask, besides addresses and those in --advertise-url and --anka-registry"},

		{Env: "ANKA_ETCD_ENDPOINTS", Group: groupEtcd, Default: "127.0.0.1:2379", Parse: settings.List(&c.EtcdEndpoints), Usage: "`LIST` of all etcd members"},
		{Env: "ANKA_QUEUE_ETCD_ENDPOINTS", Group: groupEtcd, Hidden: true, Parse: settings.List(&c.QueueEtcdEndpoints), Usage: "`LIST` that must be the same as --etcd-endpoints: one etcd cluster holds everything"},
		{Env: "ANKA_USE_ETCD_TLS", Group: groupEtcd, IsBool: true, Parse: settings.Bool(&c.EtcdTLS), Usage: "speak TLS with etcd"},
		{Env: "ANKA_ETCD_CA_CERT", Group: groupEtcd, IsPath: true, Parse: settings.Text(&c.EtcdCA), Usage: "PEM `FILE` of the authority of etcd's certificates"},
		{Env: "ANKA_ETCD_CERT", Group: groupEtcd, IsPath: true, Parse: settings.Text(&c.EtcdCert), Usage: "PEM `FILE` of the client certificate for etcd"},
		{Env: "ANKA_ETCD_CERT_KEY", Group: groupEtcd, IsPath: true, Parse: settings.Text(&c.EtcdKey), Usage: "PEM `FILE` of its key"},
		{Env: "ANKA_SKIP_ETCD_TLS_VERIFICATION", Group: groupEtcd, IsBool: true, Parse: settings.Bool(&c.EtcdSkip), Usage: "accept any certificate of etcd"},
		{Env: "ANKA_USE_ETCD_LOGIN", Group: groupEtcd, IsBool: true, Parse: settings.Bool(&c.EtcdLogin), Usage: "log in to etcd with ANKA_ETCD_USERNAME and ANKA_ETCD_PASSWORD"},
		{Env: "ANKA_ETCD_USERNAME", Group: groupEtcd, Parse: settings.Text(&c.EtcdUser), Usage: "etcd user `NAME`"},
		{Env: "ANKA_ETCD_PASSWORD", Group: groupEtcd, Secret: true, Parse: settings.Text(&c.EtcdPassword), Usage: "its password"},
		{Env: "ANKA_ETCD_REQUEST_TIMEOUT", Group: groupEtcd, Default: "20s", Parse: settings.Duration(&c.EtcdRequestTimeout), Usage: "`DURATION` that one request to etcd may take, with all repeats; callers are answered after 10s whatever it is"},

		{Env: "ANKA_CLUSTER", Group: groupMember, Parse: settings.Text(&c.Cluster), Usage: "`HOST,HOST,HOST`: form one etcd cluster; the same on each of the hosts"},
		{Env: "ANKA_CLUSTER_SELF", Group: groupMember, Parse: settings.Text(&c.ClusterSelf), Usage: "the `HOST` of --cluster that is this machine (default: found by its addresses)"},
		{Env: "ANKA_ETCD_LISTEN_CLIENT", Group: groupMember, Parse: settings.Text(&c.EtcdListenClient), Usage: "`IP:PORT` of the embedded etcd for controllers (default: port 2379)"},
		{Env: "ANKA_ETCD_LISTEN_PEER", Group: groupMember, Parse: settings.Text(&c.EtcdListenPeer), Usage: "`IP:PORT` of the embedded etcd for its peers (default: port 2380)"},
		{Env: "ANKA_ETCD_TLS_CA", Group: groupMember, IsPath: true, Parse: settings.Text(&c.MemberCA), Usage: "PEM `FILE`: with the next two, the embedded members speak TLS and ask for certificates"},
		{Env: "ANKA_ETCD_TLS_CERT", Group: groupMember, IsPath: true, Parse: settings.Text(&c.MemberCert), Usage: "PEM `FILE` of this host's certificate"},
		{Env: "ANKA_ETCD_TLS_KEY", Group: groupMember, IsPath: true, Parse: settings.Text(&c.MemberKey), Usage: "PEM `FILE` of its key"},
		{Env: "ANKA_ETCD_QUOTA_MB", Group: groupMember, Default: "4096", Parse: settings.Number(&c.EtcdQuotaMB, 16, 65536), Usage: "size in `MB` at which the embedded etcd refuses writes"},
		{Env: "ANKA_AUTO_COMPACTION_MODE", Group: groupMember, Default: "periodic", Parse: settings.OneOf(&c.CompactionMode, "periodic", "revision"), Usage: "by time or by number: `periodic|revision`"},
		{Env: "ANKA_AUTO_COMPACTION_RETENTION", Group: groupMember, Default: "30m", Parse: settings.Text(&c.Retention), Usage: "history that the embedded etcd keeps, a `DURATION` or a number of revisions"},
		{Env: "ANKA_DEFRAG_DB_INTERVAL", Group: groupMember, Default: "0s", Parse: settings.Duration(&c.DefragInterval), Usage: "rewrite its database without holes every `DURATION`; 0 is never"},
		{Env: "ANKA_ALLOW_EMPTY_ETCD", Group: groupMember, IsBool: true, Parse: settings.Bool(&c.AllowEmptyEtcd), Usage: "start although etcd has lost the cloud that this data directory knows"},

		{Env: "ANKA_ANKA_REGISTRY", Group: groupRegistry, Parse: settings.HTTPURL(&c.AnkaRegistry), Usage: "`URL` of the registry that nodes use (default: the built-in one, if it runs)"},
		{Env: "ANKA_LOCAL_ANKA_REGISTRY", Group: groupRegistry, Parse: settings.HTTPURL(&c.LocalRegistry), Usage: "this controller's own `URL` of it"},
		{Env: "ANKA_PUSH_REGISTRY", Group: groupRegistry, Parse: settings.HTTPURLs(&c.PushRegistries), Usage: "`LIST` of URLs of the registries that are pushed to"},
		{Env: "ANKA_ALLOW_EMPTY_REGISTRY", Group: groupRegistry, IsBool: true, Parse: settings.Bool(&c.AllowEmptyRegistry), Usage: "start without any registry"},
		{Env: "ANKA_RUN_REGISTRY", Group: groupRegistry, IsBool: true, Parse: settings.Bool(&c.RunRegistry), Usage: "run the built-in registry (--standalone does unless --anka-registry names another)"},
		{Env: "ANKA_REGISTRY_BASE_PATH", Group: groupRegistry, IsPath: true, Parse: settings.Text(&c.RegistryBasePath), Usage: "`DIR` of the built-in registry's templates (default: registry below --data-dir)"},
		{Env: "ANKA_REGISTRY_LISTEN_ADDRESS", Group: groupRegistry, Default: ":8089", Parse: settings.ListenAddr(&c.RegistryListenAddr), Usage: "`ADDRESS` of the built-in registry"},
		{Env: "ANKA_REGISTRY_COPIES", Group: groupRegistry, Default: "2", Parse: copies(&c.RegistryCopies), Usage: "with --cluster: how many hosts must have a push before it is acknowledged; a `NUMBER` or all"},
		{Env: "ANKA_REGISTRY_COPIES_STRICT", Group: groupRegistry, IsBool: true, Parse: settings.Bool(&c.StrictCopies), Usage: "with --cluster: refuse a push that fewer hosts can take; else it is taken, shown as having few copies, and copied later"},
		{Env: "ANKA_REGISTRY_VM_LIST_CACHE_TTL", Group: groupRegistry, Default: "30s", Parse: settings.Duration(&c.VMListCacheTTL), Usage: "`DURATION` that a list of templates may be old"},
		{Env: "ANKA_REGISTRY_CA_CERT", Group: groupRegistry, IsPath: true, Parse: settings.Text(&c.RegistryCA), Usage: "PEM `FILE` of the authority of registries' certificates, besides the system's; read again when it changes"},
		{Env: "ANKA_SKIP_TLS_VERIFICATION", Group: groupRegistry, IsBool: true, Parse: settings.Bool(&c.SkipTLSVerify), Usage: "accept any certificate of the registry"},
		{Env: "ANKA_DIAL_TIMEOUT", Group: groupRegistry, Default: "5s", Parse: settings.Duration(&c.DialTimeout), Usage: "`DURATION` that connecting to the registry may take"},
		{Env: "ANKA_REQUEST_TIMEOUT", Group: groupRegistry, Default: "15s", Parse: settings.Duration(&c.RequestTimeout), Usage: "`DURATION` that one request to the registry may take"},
		{Env: "ANKA_TLS_HANDSHAKE_TIMEOUT", Group: groupRegistry, Default: "5s", Parse: settings.Duration(&c.TLSHandshakeTimeout), Usage: "`DURATION` that a TLS handshake with the registry may take"},
		{Env: "ANKA_MAX_IDLE_CONNECTION_PER_HOST", Group: groupRegistry, Default: "50", Parse: settings.Number(&c.IdlePerHost, 0, 10000), Usage: "keep `N` idle connections to the registry; each ends after 90 s without use"},

		{Env: "ANKA_USE_HTTPS", Group: groupTLS, IsBool: true, Parse: settings.Bool(&c.HTTPS), Usage: "serve HTTPS"},
		{Env: "ANKA_SERVER_CERT", Group: groupTLS, IsPath: true, Parse: settings.Text(&c.ServerCert), Usage: "PEM `FILE` of the certificate; read again when it changes"},
		{Env: "ANKA_SERVER_KEY", Group: groupTLS, IsPath: true, Parse: settings.Text(&c.ServerKey), Usage: "PEM `FILE` of its key"},
		{Env: "ANKA_MIN_TLS_VERSION", Group: groupTLS, Parse: tlsVersion(&c.MinTLS), Usage: "lowest `VERSION`, tls_1.0 to tls_1.3 (default: tls_1.2)"},
		{Env: "ANKA_MAX_TLS_VERSION", Group: groupTLS, Parse: tlsVersion(&c.MaxTLS), Usage: "highest `VERSION`, tls_1.0 to tls_1.3"},
		{Env: "ANKA_CIPHER_SUITES", Group: groupTLS, Parse: cipherSuites(&c.CipherSuites), Usage: "`LIST` of suites by their IANA names, for TLS up to 1.2"},
		{Env: "ANKA_QUEUE_ADDR", Group: groupTLS, Parse: settings.ListenAddr(&c.QueueAddr), Usage: "second `ADDRESS` that serves nodes only"},
		{Env: "ANKA_ENABLE_QUEUE_AUTH", Group: groupTLS, IsBool: true, Parse: settings.Bool(&c.QueueAuth), Usage: "ask nodes for certificates there"},
		{Env: "ANKA_USE_QUEUE_TLS", Group: groupTLS, IsBool: true, Parse: settings.Bool(&c.QueueTLS), Usage: "serve HTTPS there"},
		{Env: "ANKA_QUEUE_CA_CERT", Group: groupTLS, IsPath: true, Parse: settings.Text(&c.QueueCA), Usage: "PEM `FILE` of the authority of the nodes' certificates"},
		{Env: "ANKA_QUEUE_CRL", Group: groupTLS, IsPath: true, Parse: settings.Text(&c.QueueCRL), Usage: "PEM or DER `FILE` of revoked certificates"},
		{Env: "ANKA_QUEUE_SERVER_CERT", Group: groupTLS, IsPath: true, Parse: settings.Text(&c.QueueCert), Usage: "PEM `FILE` of the certificate there"},
		{Env: "ANKA_QUEUE_SERVER_KEY", Group: groupTLS, IsPath: true, Parse: settings.Text(&c.QueueKey), Usage: "PEM `FILE` of its key"},

		{Env: "ANKA_ENABLE_AUTH", Group: groupAuth, IsBool: true, Parse: settings.Bool(&c.EnableAuth), Usage: "ask callers who they are"},
		{Env: "ANKA_ROOT_TOKEN", Group: groupAuth, Secret: true, Parse: rootToken(&c.RootToken), Usage: "token of the superuser, 10 characters or more"},
		{Env: "ANKA_CA_CERT", Aliases: []string{"ANKA_ROOT_CERT"}, Group: groupAuth, IsPath: true, Parse: settings.Text(&c.CACert), Usage: "PEM `FILE` of the authority of callers' certificates"},
		{Env: "ANKA_CRL", Group: groupAuth, IsPath: true, Parse: settings.Text(&c.CRL), Usage: "PEM or DER `FILE` of revoked certificates"},
		{Env: "ANKA_ENABLE_INGRESS_NGINX", Group: groupAuth, IsBool: true, Parse: settings.Bool(&c.IngressNginx), Usage: "trust the certificate headers of an nginx ingress"},
		{Env: "ANKA_ENABLE_API_KEYS", Group: groupAuth, IsBool: true, Parse: settings.Bool(&c.APIKeys), Usage: "user API keys"},
		{Env: "ANKA_API_KEYS_SESSION_TTL", Group: groupAuth, Default: "5m", Parse: settings.Duration(&c.SessionTTL), Usage: "end a session of an API key after `DURATION`"},
		{Env: "ANKA_API_KEYS_CLEANING_INTERVAL", Group: groupAuth, Default: "4h", Parse: settings.Duration(&c.KeyCleaning), Usage: "remove expired keys every `DURATION`"},
		{Env: "ANKA_ENABLE_CONTROLLER_AUTHORIZATION", Group: groupAuth, IsBool: true, Parse: settings.Bool(&c.ControllerAuthz), Usage: "check permissions here"},
		{Env: "ANKA_ENABLE_REGISTRY_AUTHORIZATION", Group: groupAuth, IsBool: true, Parse: settings.Bool(&c.RegistryAuthz), Usage: "check permissions of registry calls"},
		{Env: "ANKA_ENABLE_RESOURCE_MANAGEMENT", Group: groupAuth, IsBool: true, Parse: settings.Bool(&c.ResourceManagement), Usage: "permissions per node and template"},
		{Env: "ANKA_OIDC_PROVIDER_URL", Group: groupAuth, Parse: settings.HTTPURL(&c.OIDCProvider), Usage: "`URL` of the OpenID provider"},
		{Env: "ANKA_OIDC_CLIENT_ID", Group: groupAuth, Parse: settings.Text(&c.OIDCClientID), Usage: "client `ID` there"},
		{Env: "ANKA_OIDC_CLIENT_SECRET", Group: groupAuth, Secret: true, Parse: settings.Text(&c.OIDCSecret), Usage: "its secret"},
		{Env: "ANKA_OIDC_DISPLAY_NAME", Group: groupAuth, Parse: settings.Text(&c.OIDCName), Usage: "`NAME` on the login page"},
		{Env: "ANKA_OIDC_SCOPES", Group: groupAuth, Parse: settings.List(&c.OIDCScopes), Usage: "`LIST` of further scopes"},
		{Env: "ANKA_OIDC_GROUPS_CLAIM", Group: groupAuth, Default: "groups", Parse: settings.Text(&c.OIDCGroupsClaim), Usage: "`NAME` of the claim with the groups"},
		{Env: "ANKA_OIDC_USERNAME_CLAIM", Group: groupAuth, Default: "name", Parse: settings.Text(&c.OIDCUserClaim), Usage: "`NAME` of the claim with the user's name"},
		{Env: "ANKA_OIDC_USER_INFO", Group: groupAuth, IsBool: true, Parse: settings.Bool(&c.OIDCUserInfo), Usage: "read the groups from the user info call"},

		{Env: "ANKA_INSTANCE_TIME_OUT", Group: groupCloud, Default: "1m", Parse: settings.Duration(&c.InstanceTimeout), Usage: "list an ended instance for `DURATION`"},
		{Env: "ANKA_INSTANCE_ACTIVE_TIMEOUT", Group: groupCloud, Default: "2m", Parse: settings.Duration(&c.InstanceActive), Usage: "an instance is in error after `DURATION` without a word of its node, if that is longer than --node-active-timeout"},
		{Env: "ANKA_NODE_ACTIVE_TIMEOUT", Group: groupCloud, Default: "2m", Parse: settings.Duration(&c.NodeActive), Usage: "a node is offline after `DURATION` without a word of it"},
		{Env: "ANKA_UNKNOWN_VM_THRESHOLD", Group: groupCloud, Default: "30", Parse: settings.Number(&c.UnknownVMThreshold, 1, 1_000_000), Usage: "end an unknown managed VM after `N` reports of it"},
		{Env: "ANKA_NUM_WORKERS", Group: groupCloud, Hidden: true, Default: "2", Parse: settings.Number(&c.NumWorkers, 1, 1000), Usage: "`N` times --batch-task-count tasks are handed out at the same time (default: no bound)"},
		{Env: "ANKA_BATCH_TASK_COUNT", Group: groupCloud, Hidden: true, Default: "2", Parse: settings.Number(&c.BatchTasks, 1, 40), Usage: "`N`, see --num-workers"},
		{Env: "ANKA_QUERY_TASK_TIMEOUT", Group: groupCloud, Hidden: true, Parse: settings.Duration(&c.QueryTaskTimeout), Usage: "`DURATION` that one look for a task may take (default: 10s)"},
		{Env: "ANKA_RESERVE_TASK_TIMEOUT", Group: groupCloud, Parse: settings.Duration(&c.ReserveTaskTimeout), Usage: "hold a node's wait for a task for `DURATION` (default: as long as the node asks, 50s at most)"},
		{Env: "ANKA_SCHEDULER_INTERVAL", Group: groupCloud, Hidden: true, Parse: settings.Duration(&c.SchedulerInterval), Usage: "look at every node anew each `DURATION`, besides at each change (default: 1m)"},
		{Env: "ANKA_CLEAN_QUEUES_INTERVAL", Group: groupCloud, Default: "1h", Parse: settings.Duration(&c.CleanQueuesInterval), Usage: "end starts that no node took for a day, every `DURATION`"},
		{Env: "ANKA_MANAGE_MAC_ADDRESSES", Group: groupCloud, IsBool: true, Parse: settings.Bool(&c.ManageMAC), Usage: "give VMs MAC addresses of a pool"},
		{Env: "ANKA_MAC_ADDR_RANGE", Group: groupCloud, Parse: settings.Text(&c.MACRange), Usage: "`FIRST-LAST` of the pool"},
		{Env: "ANKA_MAC_ADDR_RANGE_MAX_RETRIES", Group: groupCloud, Default: "100", Parse: settings.Number(&c.MACRangeMaxRetries, 1, 1_000_000), Usage: "try `N` times to find a free one"},
		{Env: "ANKA_NO_NODE_UPGRADES", Group: groupCloud, IsBool: true, Parse: settings.Bool(&c.NoNodeUpgrades), Usage: "never upgrade agents"},
		{Env: "ANKA_AGENT_PACKAGES", Group: groupCloud, IsPath: true, Parse: settings.Text(&c.AgentPackages), Usage: "`DIR` with the agent's programs AnkaAgent.pkg and AnkaAgentArm.pkg for node upgrades (default: what was installed beside this program)"},

		{Env: "ANKA_V", Group: groupLogs, Default: "0", Parse: settings.Number(&c.Verbosity, 0, 10), Usage: "`LEVEL` of the log: 0 what happens, 1 and more every request"},
		{Env: "ANKA_LOG_DIR", Group: groupLogs, IsPath: true, Parse: settings.Text(&c.LogDir), Usage: "`DIR` for rotated log files; stderr then stays quiet"},
		{Env: "ANKA_LOG_MAX_DAYS", Group: groupLogs, Default: "7", Parse: settings.Number(&c.LogMaxDays, 0, 3650), Usage: "remove logs after `DAYS`"},
		{Env: "ANKA_LOG_MAX_MB", Group: groupLogs, Default: "700", Parse: settings.Number(&c.LogMaxMB, 2, 1_000_000), Usage: "remove the oldest logs beyond `MB` in all"},
		{Env: "ANKA_ERROR_LOG_MAX_DAYS", Group: groupLogs, Default: "3", Parse: settings.Number(&c.ErrorLogMaxDays, 0, 3650), Usage: "remove error logs after `DAYS`"},
		{Env: "ANKA_ERROR_LOG_MAX_MB", Group: groupLogs, Default: "200", Parse: settings.Number(&c.ErrorLogMaxMB, 2, 1_000_000), Usage: "remove the oldest error logs beyond `MB` in all"},
		{Env: "ANKA_ENABLE_METRICS", Group: groupLogs, IsBool: true, Parse: settings.Bool(&c.EnableMetrics), Usage: "serve Prometheus metrics"},
		{Env: "ANKA_METRICS_PORT", Group: groupLogs, Default: "2112", Parse: settings.Number(&c.MetricsPort, 1, 65535), Usage: "their `PORT`"},
		{Env: "ANKA_METRICS_PATH", Group: groupLogs, Default: "/metrics", Parse: settings.MetricsPath(&c.MetricsPath), Usage: "serve them at `PATH`"},
		{Env: "ANKA_ENABLE_EVENT_LOGGING", Group: groupLogs, IsBool: true, Parse: settings.Bool(&c.EventLogging), Usage: "write the event log"},
		{Env: "ANKA_EVENT_LOG_URL", Group: groupLogs, Parse: settings.HTTPURL(&c.EventLogURL), Usage: "`URL` that events are POSTed to"},
	}, settings.Accepted(groupNoEffect, noEffect)...)
}

func rootToken(p *string) func(string) error {
	return func(s string) error {
		if len(s) < 10 {
			return fmt.Errorf("must have 10 characters or more")
		}
		*p = s
		return nil
	}
}
