package replication

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ankacluster/ankacluster/internal/clienttls"
)

// Config says what to copy from where.
type Config struct {
	// Sources are the URLs of the registries to follow: push registries, or
	// replicas of one. User and password in a URL are sent by basic
	// authentication to that host, and not shown or logged.
	Sources []string
	// HTTP sends the requests; nil means a client of our own.
	HTTP *http.Client
	// Trust says whose certificates our own client accepts of https sources; nil
	// means those of the system's authorities.
	Trust *clienttls.Trust
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
		base, _ := splitSource(s)
		u, err := url.Parse(base)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			errs = append(errs, fmt.Errorf("registry to replicate %q: must be http://host:port or https://host:port", base))
		}
		if seen[base] {
			errs = append(errs, fmt.Errorf("registry to replicate %q is named twice", base))
		}
		seen[base] = true
	}
	if cfg.Bandwidth < 0 || cfg.Parallel < 0 || cfg.Poll < 0 {
		errs = append(errs, errors.New("bandwidth, parallel copies and poll time of the replication must not be negative"))
	}
	if cfg.Bandwidth > 0 && cfg.Bandwidth < 64<<10 {
		errs = append(errs, fmt.Errorf("replication bandwidth of %d bytes a second: the least is %d", cfg.Bandwidth, 64<<10))
	}
	return errors.Join(errs...)
}

// splitSource takes the credentials out of a source's URL.
func splitSource(source string) (base string, user *url.Userinfo) {
	u, err := url.Parse(source)
	if err != nil { // what stands before an @ may be a password all the same
		return source[strings.LastIndexByte(source, '@')+1:], nil
	}
	user, u.User = u.User, nil
	return strings.TrimRight(u.String(), "/"), user
}

// authorized is c that sends user's credentials to the host of base.
func authorized(c *http.Client, base string, user *url.Userinfo) *http.Client {
	if user == nil {
		return c
	}
	next := c.Transport
	if next == nil {
		next = http.DefaultTransport
	}
	with := *c
	with.Transport = roundTripper(func(req *http.Request) (*http.Response, error) {
		if strings.HasPrefix(req.URL.String(), base+"/") { // not where a redirect leads
			req = req.Clone(req.Context())
			password, _ := user.Password()
			req.SetBasicAuth(user.Username(), password)
		}
		return next.RoundTrip(req)
	})
	return &with
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
