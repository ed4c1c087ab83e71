package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/internal/clienttls"
	"github.com/ankacluster/ankacluster/internal/servertls"
	"github.com/ankacluster/ankacluster/internal/settings"
	"github.com/ankacluster/ankacluster/registryapi/content/fs"
	"github.com/ankacluster/ankacluster/registryapi/replication"
	"github.com/ankacluster/ankacluster/registryapi/server"
)

// Groups of settings in the help.
const (
	groupServe    = "Serving"
	groupStore    = "Storage"
	groupReplica  = "Replication"
	groupLogs     = "Logs and metrics"
	groupRefused  = "Unsupported, and refused when set"
	groupNoEffect = "Accepted without effect"
)

// noEffect holds settings that configurations of Anka's registry have.
var noEffect = []settings.NoEffect{
	{Env: "ANKA_VM_DIR_PATH", Reason: "content is stored by digest below --base-path"},
	{Env: "ANKA_IMAGE_DIR_PATH", Reason: "content is stored by digest below --base-path"},
	{Env: "ANKA_STATE_FILE_DIR_PATH", Reason: "content is stored by digest below --base-path"},
	{Env: "ANKA_ENABLE_CENTRAL_LOGGING", IsBool: true, Reason: "the log calls are served always"},
}

// config is everything the program can be told. Its defaults are in table.
type config struct {
	server server.Config
	limits fs.Limits
	role   role

	MaxLogMB, KeepLogsDays int
	HTTPS                  bool
	Cert, Key              string
	MinTLS, MaxTLS         string
	Suites                 []string
	RegistryCA             string
	SkipTLSVerify          bool
	EnableMetrics          bool
	MetricsPort            int
	MetricsPath            string
	Verbosity              int
	Verbose                bool

	Backend, LogBackend string
	refused             map[string]*bool

	given map[string]settings.Source
}

// table binds every setting to its field of c.
func (c *config) table() []settings.Setting {
	s := &c.server
	def := server.DefaultConfig()
	table := []settings.Setting{
		{Env: "ANKA_LISTEN_ADDR", Group: groupServe, Parse: settings.Text(&s.ListenAddr), Usage: "serve on `HOST:PORT`, usually :8089"},
		{Env: "ANKA_UI_HOSTS", Group: groupServe, Parse: settings.List(&s.Browsers.Hosts), Usage: "`LIST` of names under which browsers may ask, besides addresses"},
		{Env: "ANKA_GRACEFUL_SHUTDOWN_TIMEOUT", Group: groupServe, Default: brief(def.GracefulShutdownTimeout), Parse: settings.Duration(&s.GracefulShutdownTimeout), Usage: "at a stop, requests in flight may take `DURATION` to end"},
		{Env: "ANKA_DRAIN_DELAY", Group: groupServe, Default: brief(def.DrainDelay), Parse: settings.Duration(&s.DrainDelay), Usage: "for the first `DURATION` of that only /readyz says no; then connections are refused"},
		{Env: "ANKA_UPLOAD_INACTIVITY", Group: groupServe, Default: brief(def.UploadInactivity), Parse: settings.Duration(&s.UploadInactivity), Usage: "end an upload request that brings no data for `DURATION`"},
		{Env: "ANKA_DOWNLOAD_INACTIVITY", Group: groupServe, Default: brief(def.DownloadInactivity), Parse: settings.Duration(&s.DownloadInactivity), Usage: "end a download that takes no data for `DURATION`"},
		{Env: "ANKA_VM_LIST_CACHE_TTL", Group: groupServe, Default: brief(def.ListCacheTTL), Parse: settings.Duration(&s.ListCacheTTL), Usage: "look every `DURATION` for changes made without a server"},
		{Env: "ANKA_VM_LIST_CONCURRENCY", Group: groupServe, Default: fmt.Sprint(def.ListConcurrency), Parse: settings.Number(&s.ListConcurrency, 1, 1000), Usage: "read `N` templates at a time for a list"},
		{Env: "ANKA_USE_HTTPS", Group: groupServe, IsBool: true, Parse: settings.Bool(&c.HTTPS), Usage: "serve HTTPS"},
		{Env: "ANKA_SERVER_CERT", Group: groupServe, IsPath: true, Parse: settings.Text(&c.Cert), Usage: "certificate `FILE`, read again when it changes"},
		{Env: "ANKA_SERVER_KEY", Group: groupServe, IsPath: true, Parse: settings.Text(&c.Key), Usage: "key `FILE`"},
		{Env: "ANKA_MIN_TLS_VERSION", Group: groupServe, Parse: settings.OneOf(&c.MinTLS, servertls.VersionWords()...), Usage: "`VERSION` tls_1.0 to tls_1.3 (default: tls_1.2)"},
		{Env: "ANKA_MAX_TLS_VERSION", Group: groupServe, Parse: settings.OneOf(&c.MaxTLS, servertls.VersionWords()...), Usage: "`VERSION`"},
		{Env: "ANKA_CIPHER_SUITES", Group: groupServe, Parse: settings.List(&c.Suites), Usage: "comma-separated `NAMES`"},

		{Env: "ANKA_BASE_PATH", Group: groupStore, IsPath: true, Default: ".", Parse: settings.Text(&s.Root), Usage: "keep everything below `DIR`; several servers may share it"},
		{Env: "ANKA_QUOTA", Group: groupStore, Default: "0", Parse: settings.Size(&c.limits.Quota), Usage: "refuse pushes beyond `SIZE` of content, e.g. 2TiB; 0 is no limit"},
		{Env: "ANKA_MIN_FREE", Group: groupStore, Default: "1GiB", Parse: settings.Size(&c.limits.MinFree), Usage: "refuse pushes that leave less than `SIZE` free"},
		{Env: "ANKA_GC_INTERVAL", Group: groupStore, Default: brief(def.GCInterval), Parse: settings.Duration(&s.GCInterval), Usage: "collect garbage every `DURATION`; 0 is never"},
		{Env: "ANKA_GC_GRACE", Group: groupStore, Default: brief(def.GCGrace), Parse: settings.Duration(&s.GCGrace), Usage: "keep unreferenced content for `DURATION`"},
		{Env: "ANKA_KEEP_UNTAGGED", Group: groupStore, Default: brief(def.KeepUntagged), Parse: settings.Duration(&s.KeepUntagged), Usage: "keep manifests without a tag for `DURATION`; 0 is for ever"},
		{Env: "ANKA_UPLOAD_EXPIRY", Group: groupStore, Default: brief(def.UploadExpiry), Parse: settings.Duration(&s.UploadExpiry), Usage: "remove uploads without data for `DURATION`; 0 is never"},

		{Env: "ANKA_FILES_DIR", Group: groupLogs, Default: def.FilesDir, Parse: settings.Text(&s.FilesDir), Usage: "keep uploaded files in `DIR` below the base path"},
		{Env: "ANKA_LOGS_DIR", Group: groupLogs, Default: def.LogsDir, Parse: settings.Text(&s.LogsDir), Usage: "keep central logs in `DIR` below the files"},
		{Env: "ANKA_KEEP_LOGS_FOR", Group: groupLogs, Default: "7", Parse: settings.Number(&c.KeepLogsDays, 0, 36500), Usage: "keep central logs for `DAYS`; 0 is for ever"},
		{Env: "ANKA_MAX_LOG_SIZE", Group: groupLogs, Default: "1024", Parse: settings.Number(&c.MaxLogMB, 0, 1<<30), Usage: "end a central log at `MB`"},
		{Env: "ANKA_ROTATE_LOG_FILES_AT_MAX_FILE_SIZE", Group: groupLogs, IsBool: true, Default: "true", Parse: settings.Bool(&s.RotateLogFilesAtMaxSize), Usage: "keep a full log under a dated name (default: true)"},
		{Env: "ANKA_ROTATE_LOG_FILES_END_OF_DAY", Group: groupLogs, IsBool: true, Parse: settings.Bool(&s.RotateLogFilesEndOfDay), Usage: "end logs daily"},
		{Env: "ANKA_ACCESS_LOGS", Group: groupLogs, IsBool: true, Parse: settings.Bool(&s.AccessLog), Usage: "log every request"},
		{Env: "ANKA_ENABLE_METRICS", Group: groupLogs, IsBool: true, Parse: settings.Bool(&c.EnableMetrics), Usage: "serve Prometheus metrics"},
		{Env: "ANKA_METRICS_PORT", Group: groupLogs, Default: "2112", Parse: settings.Number(&c.MetricsPort, 1, 65535), Usage: "serve metrics on `PORT`"},
		{Env: "ANKA_METRICS_PATH", Group: groupLogs, Default: "/metrics", Parse: settings.MetricsPath(&c.MetricsPath), Usage: "serve metrics under `PATH`"},
		{Env: "ANKA_V", Group: groupLogs, Default: "0", Parse: settings.Number(&c.Verbosity, 0, 10), Usage: "`LEVEL` of the log: 0 what happens, 1 and more details"},
		{Env: "ANKA_VERBOSE", Group: groupLogs, IsBool: true, Parse: settings.Bool(&c.Verbose), Usage: "the same as -v 1"},

		{Env: "ANKA_BACKEND_TYPE", Group: groupRefused, Default: "disk", Parse: settings.Text(&c.Backend), Usage: "`TYPE` of storage: disk"},
		{Env: "ANKA_LOG_SERVER_BACKEND_TYPE", Group: groupRefused, Default: "disk", Parse: settings.Text(&c.LogBackend), Usage: "`TYPE` of log storage: disk"},
	}
	c.refused = make(map[string]*bool)
	for _, r := range []struct{ env, usage string }{
		{"ANKA_ENABLE_AUTH", "authenticate clients"},
		{"ANKA_ENABLE_API_KEYS", "authenticate by API keys"},
		{"ANKA_ENABLE_AUTHORIZATION", "check permissions"},
		{"ANKA_ENABLE_RESOURCE_MANAGEMENT", "check permissions on templates"},
		{"ANKA_ENABLE_INGRESS_NGINX", "trust client certificates in headers"},
	} {
		c.refused[r.env] = new(bool)
		table = append(table, settings.Setting{Env: r.env, Group: groupRefused, IsBool: true, Parse: settings.Bool(c.refused[r.env]), Usage: r.usage})
	}
	table = append(table, c.role.table()...)
	table = append(table, settings.Accepted(groupNoEffect, noEffect)...)
	return append(table,
		settings.Setting{Env: "ANKA_REGISTRY_CA_CERT", Group: groupReplica, IsPath: true, Parse: settings.Text(&c.RegistryCA), Usage: "trust the authority in this PEM `FILE`, besides the system's, when another registry is asked; read again when it changes"},
		settings.Setting{Env: "ANKA_SKIP_TLS_VERIFICATION", Group: groupReplica, IsBool: true, Parse: settings.Bool(&c.SkipTLSVerify), Usage: "accept any certificate of other registries"})
}

// brief writes a duration as people do: 2h, not 2h0m0s.
func brief(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// load reads flags, environment and --env-file without looking at how the
// settings fit together.
func load(cc *cli.Context) (*config, error) { return loadWith(cc, cc.String("env-file")) }

// loadWith is load with the settings of a file behind those of flags and
// environment, if it names one.
func loadWith(cc *cli.Context, file string) (*config, error) {
	c := &config{server: server.DefaultConfig(), limits: fs.DefaultLimits()}
	table := c.table()
	env := settings.Lookup(os.LookupEnv)
	if file != "" {
		var err error
		if env, err = settings.WithFile(file, table, env); err != nil {
			return nil, fmt.Errorf("%w: %w", errUsage, err)
		}
	}
	given, errs := settings.Load(table, settings.OfCommand(cc), env)
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	c.given = given
	return c, nil
}

// name returns the flag or variable that was used for a setting, or both names.
func (c *config) name(env string) string {
	if s, ok := c.given[env]; ok {
		return s.Name
	}
	return env + " (--" + settings.Setting{Env: env}.Flag() + ")"
}

// complete fills the server's configuration and refuses what this program cannot
// keep, with one line for each.
func (c *config) complete() error {
	var errs []error
	s := &c.server
	s.DrainDelay = min(s.DrainDelay, s.GracefulShutdownTimeout)
	s.KeepLogsFor = time.Duration(c.KeepLogsDays) * 24 * time.Hour
	s.MaxLogSize = int64(c.MaxLogMB) << 20
	switch _, _, err := net.SplitHostPort(s.ListenAddr); {
	case s.ListenAddr == "":
		errs = append(errs, errors.New("ANKA_LISTEN_ADDR (--listen-addr) is not set; the usual one is :8089"))
	case err != nil:
		errs = append(errs, fmt.Errorf("%s %q must be HOST:PORT or :PORT", c.name("ANKA_LISTEN_ADDR"), s.ListenAddr))
	}
	switch {
	case c.HTTPS && (c.Cert == "" || c.Key == ""):
		for env, file := range map[string]string{"ANKA_SERVER_CERT": c.Cert, "ANKA_SERVER_KEY": c.Key} {
			if file == "" {
				errs = append(errs, fmt.Errorf("%s is missing; HTTPS needs a certificate and a key", c.name(env)))
			}
		}
	case c.HTTPS:
		var err error
		if s.TLS, err = servertls.Config(servertls.Options{Cert: c.Cert, Key: c.Key, Min: c.MinTLS, Max: c.MaxTLS, Suites: c.Suites}); err != nil {
			errs = append(errs, fmt.Errorf("ANKA_USE_HTTPS (ANKA_SERVER_CERT, ANKA_SERVER_KEY): %w", err))
		}
	}
	// A setting that promises more than this program does is refused: to ignore
	// one that protects would be worse than not to start.
	for env, value := range map[string]string{"ANKA_BACKEND_TYPE": c.Backend, "ANKA_LOG_SERVER_BACKEND_TYPE": c.LogBackend} {
		if value != "disk" {
			errs = append(errs, fmt.Errorf("%s=%s is not supported; the only backend is disk", env, value))
		}
	}
	for env, on := range c.refused {
		if *on {
			errs = append(errs, fmt.Errorf("%s is set, but this registry cannot authenticate its clients; unset it and restrict access to the network", env))
		}
	}
	var err error
	if c.role.replica.Trust, err = c.trust(); err != nil {
		errs = append(errs, err)
	}
	if fs.Reserved(s.FilesDir) {
		errs = append(errs, fmt.Errorf("files dir %q must be a directory of its own below the store's, such as /files", s.FilesDir))
	}
	errs = append(errs, s.Validate(), c.role.validate(c.given), c.place())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	return nil
}

// place refuses a directory that is perhaps not meant: the default is the current
// one, and a store there would stand between other files.
func (c *config) place() error {
	if _, given := c.given["ANKA_BASE_PATH"]; given {
		return nil
	}
	entries, err := os.ReadDir(c.server.Root)
	if err != nil || len(entries) == 0 {
		return nil // a fault of the directory is told by who makes the store
	}
	if fs.Exists(c.server.Root) {
		return nil
	}
	here, _ := filepath.Abs(c.server.Root)
	return fmt.Errorf("--base-path (ANKA_BASE_PATH) is not set, and the current directory, %s, holds other files and no registry: name the directory that keeps the templates", here)
}

// trust says whose certificates count for connections to other registries.
func (c *config) trust() (*clienttls.Trust, error) {
	trust, err := clienttls.New(clienttls.Options{CA: c.RegistryCA, SkipVerify: c.SkipTLSVerify})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.name("ANKA_REGISTRY_CA_CERT"), err)
	}
	return trust, nil
}

// role is what a registry is among others.
type role struct {
	replica   replication.Config
	through   bool
	writeOnly bool
}

func (r *role) table() []settings.Setting {
	return []settings.Setting{
		{Env: "ANKA_REPLICA_OF", Group: groupReplica, Parse: settings.List(&r.replica.Sources), Usage: "copy everything from these registries, `URL[,URL…]`, and take no pushes"},
		{Env: "ANKA_REPLICA_BANDWIDTH", Group: groupReplica, Default: "0", Parse: settings.Size(&r.replica.Bandwidth), Usage: "copy at no more than `SIZE` a second, for example 50MB; 0 is no limit"},
		{Env: "ANKA_REPLICA_PARALLEL", Group: groupReplica, Default: "3", Parse: settings.Number(&r.replica.Parallel, 1, 100), Usage: "copy `N` large images at a time"},
		{Env: "ANKA_REPLICA_READ_THROUGH", Group: groupReplica, IsBool: true, Parse: settings.Bool(&r.through), Usage: "serve what is not copied yet straight from its source, and keep it"},
		{Env: "ANKA_WRITE_ONLY", Group: groupReplica, IsBool: true, Parse: settings.Bool(&r.writeOnly), Usage: "take pushes and serve content to replicas alone"},
	}
}

func (r *role) validate(given map[string]settings.Source) error {
	var errs []error
	if len(r.replica.Sources) == 0 {
		for env, on := range map[string]bool{"ANKA_REPLICA_BANDWIDTH": r.replica.Bandwidth > 0, "ANKA_REPLICA_READ_THROUGH": r.through} {
			if on {
				errs = append(errs, fmt.Errorf("%s needs ANKA_REPLICA_OF (--replica-of)", given[env].Name))
			}
		}
		return errors.Join(errs...)
	}
	if r.writeOnly {
		errs = append(errs, errors.New("ANKA_WRITE_ONLY (--write-only) and ANKA_REPLICA_OF (--replica-of) exclude each other: no registry would serve content"))
	}
	if err := r.replica.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("ANKA_REPLICA_OF (--replica-of): %w", err))
	}
	return errors.Join(errs...)
}
