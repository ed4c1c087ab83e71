package replication

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config says what to copy from where.
type Config struct {
	// Sources are the URLs of the registries to follow: push registries, or
	// replicas of one.
	Sources []string
	// HTTP sends the requests; nil means a client of our own.
	HTTP *http.Client
	// TLS is how our own client connects to https sources; nil means the
	// system's certificates.
	TLS *tls.Config
	// Bandwidth limits what is copied, in bytes a second; 0 is no limit.
	Bandwidth int64
	// Parallel is how many large images are copied at a time, and how many small
	// ones beside them; 0 means 3.
	Parallel int
	// Poll is how long one request for changes may wait; 0 means 30s, which
	// proxies bear.
	Poll time.Duration
	// Metrics, when set, gets the metrics.
	Metrics prometheus.Registerer
}

// small is the size up to which an image does not wait for large ones.
const small = 64 << 20

// Validate reports everything that is wrong with cfg.
func (cfg Config) Validate() error {
	var errs []error
	if len(cfg.Sources) == 0 {
		errs = append(errs, errors.New("no registry to replicate"))
	}
	seen := make(map[string]bool)
	for _, s := range cfg.Sources {
		u, err := url.Parse(s)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			errs = append(errs, fmt.Errorf("registry to replicate %q: must be http://host:port or https://host:port", s))
		}
		if seen[strings.TrimRight(s, "/")] {
			errs = append(errs, fmt.Errorf("registry to replicate %q is named twice", s))
		}
		seen[strings.TrimRight(s, "/")] = true
	}
	if cfg.Bandwidth < 0 || cfg.Parallel < 0 || cfg.Poll < 0 {
		errs = append(errs, errors.New("bandwidth, parallel copies and poll time of the replication must not be negative"))
	}
	if cfg.Bandwidth > 0 && cfg.Bandwidth < 64<<10 {
		errs = append(errs, fmt.Errorf("replication bandwidth of %d bytes a second: the least is %d", cfg.Bandwidth, 64<<10))
	}
	return errors.Join(errs...)
}
