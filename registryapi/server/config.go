package server

import (
	"crypto/tls"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ankacluster/ankacluster/internal/access"
	"github.com/ankacluster/ankacluster/internal/wire"
)

// Config sets up a Server. DefaultConfig has the defaults.
type Config struct {
	// Root is the directory below which uploaded files and central logs are. Servers of
	// one store share it.
	Root string
	// ListenAddr is where Run serves, host:port. "" means that Run serves
	// nothing: the Handler is mounted elsewhere.
	ListenAddr string
	// TLS serves HTTPS when set.
	TLS *tls.Config

	// FilesDir and LogsDir hold uploaded files and central logs, below Root
	// even when they begin with a slash, as the original has it.
	FilesDir, LogsDir string
	// KeepLogsFor and MaxLogSize bound each central log file's age and size.
	KeepLogsFor time.Duration
	MaxLogSize  int64
	// RotateLogFilesAtMaxSize keeps the full file under another name instead
	// of dropping its older half; RotateLogFilesEndOfDay does so daily.
	RotateLogFilesAtMaxSize, RotateLogFilesEndOfDay bool

	// UploadInactivity ends an upload request that brings no data, so that its
	// lock is free for another. There is no limit on the whole upload.
	UploadInactivity time.Duration
	// DownloadInactivity ends a download whose client takes no data.
	DownloadInactivity time.Duration
	// GracefulShutdownTimeout is how long requests in flight may take to end.
	GracefulShutdownTimeout time.Duration
	// DrainDelay is how long /readyz says 503 before connections are refused,
	// for balancers to notice. It is part of GracefulShutdownTimeout.
	DrainDelay time.Duration

	// ListCacheTTL is how old the times of pulls by other servers may be in
	// lists, and how soon changes made without a server are found.
	ListCacheTTL time.Duration
	// ListConcurrency is how many templates are read at a time.
	ListConcurrency int

	// GCInterval is how often the collector runs; 0 is never.
	GCInterval time.Duration
	// GCGrace keeps unreferenced content, for pushes and pulls in progress.
	GCGrace time.Duration
	// KeepUntagged keeps manifests without a tag; 0 is for ever.
	KeepUntagged time.Duration
	// UploadExpiry removes uploads that got no data for so long.
	UploadExpiry time.Duration

	// AccessLog writes a line for every request.
	AccessLog bool
	// Metrics, when set, gets the registry's metrics.
	Metrics prometheus.Registerer
	// Browsers is what pages in browsers may do.
	Browsers wire.Browsers
	// Access finds out who calls, and decides what they may. The zero value lets
	// everybody in.
	Access access.Guard
}

// DefaultConfig returns the defaults; Root and ListenAddr have none.
func DefaultConfig() Config {
	return Config{
		FilesDir: "/files", LogsDir: "/central-logs",
		KeepLogsFor: 7 * 24 * time.Hour, MaxLogSize: 1 << 30, RotateLogFilesAtMaxSize: true,
		UploadInactivity:        20 * time.Second,
		DownloadInactivity:      5 * time.Minute, // below the 350 s at which network balancers cut
		GracefulShutdownTimeout: 10 * time.Second,
		DrainDelay:              time.Second,
		ListCacheTTL:            30 * time.Second, ListConcurrency: 10,
		GCInterval:   time.Hour,
		GCGrace:      2 * time.Hour, // longer than a slow client needs between two requests of a push
		KeepUntagged: 24 * time.Hour,
		UploadExpiry: 24 * time.Hour,
	}
}

// Validate reports everything that is wrong.
func (c Config) Validate() error {
	var errs []error
	if c.Root == "" {
		errs = append(errs, errors.New("the store's directory is not set"))
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"upload inactivity", c.UploadInactivity}, {"download inactivity", c.DownloadInactivity},
		{"graceful shutdown timeout", c.GracefulShutdownTimeout},
	} {
		if d.value <= 0 {
			errs = append(errs, fmt.Errorf("%s %s must be positive", d.name, d.value))
		}
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"gc interval", c.GCInterval}, {"untagged", c.KeepUntagged}, {"list cache TTL", c.ListCacheTTL},
		{"drain delay", c.DrainDelay}, {"keep logs for", c.KeepLogsFor}, {"upload expiry", c.UploadExpiry},
	} {
		if d.value < 0 {
			errs = append(errs, fmt.Errorf("%s %s must not be negative", d.name, d.value))
		}
	}
	if first, _, _ := strings.Cut(path.Clean("/" + c.FilesDir)[1:], "/"); first == "" {
		errs = append(errs, fmt.Errorf("files dir %q must be a directory of its own below the store's, such as /files", c.FilesDir))
	}
	if c.GCGrace < 10*time.Minute {
		errs = append(errs, fmt.Errorf("gc grace %s must be at least 10m while pushes are served", c.GCGrace))
	}
	if c.DrainDelay > c.GracefulShutdownTimeout {
		errs = append(errs, fmt.Errorf("drain delay %s must not exceed the graceful shutdown timeout %s", c.DrainDelay, c.GracefulShutdownTimeout))
	}
	if c.ListConcurrency < 1 {
		errs = append(errs, fmt.Errorf("list concurrency %d must be at least 1", c.ListConcurrency))
	}
	return errors.Join(errs...)
}
