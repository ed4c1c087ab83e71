package cluster

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config says who this host is and how safe a push is to be.
type Config struct {
	// Name is what people call this host, and URL where the others reach its
	// registry.
	Name, URL string
	// Hosts are the names of the hosts that the cluster has. Another's copies do
	// not count: it was taken out.
	Hosts []string
	// Copies is how many hosts must have a push before it is acknowledged; All,
	// and any number above Hosts, mean every host.
	Copies int
	// Strict refuses a push that fewer hosts can take; otherwise it is taken,
	// shown as having few copies, and copied as soon as can be.
	Strict bool
	// Patience is how long a push waits for copies on which nothing moves.
	Patience time.Duration
	// Wait bounds how long an answer that needs the catalogue waits for etcd.
	Wait time.Duration
	// Lease is how long a host counts as live after its last word.
	Lease time.Duration
	// HTTP carries what the hosts ask of each other; nil means a client of our
	// own. It has no timeout: blobs take as long as they take.
	HTTP *http.Client
	// Metrics, when set, gets the metrics.
	Metrics prometheus.Registerer
}

// All asks for a copy on every host.
const All = 1 << 10

// DefaultConfig returns the defaults; Name, URL and Hosts have none.
func DefaultConfig() Config {
	return Config{
		Copies:   2,               // the loss of any one host, disk included, loses nothing
		Patience: 5 * time.Second, // clients wait longer for the answer to a manifest
		Wait:     5 * time.Second, // an election takes a second or two, and clients give up after ten
		Lease:    10 * time.Second,
	}
}

// Validate reports everything that is wrong.
func (c Config) Validate() error {
	var errs []error
	if u, err := url.Parse(c.URL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		errs = append(errs, fmt.Errorf("URL %q of this host's registry: must be http://host:port or https://host:port", c.URL))
	}
	if c.Name == "" {
		errs = append(errs, errors.New("this host has no name"))
	}
	if len(c.Hosts) < 1 {
		errs = append(errs, errors.New("a cluster of 0 hosts: must have at least 1"))
	}
	if c.Copies < 1 {
		errs = append(errs, fmt.Errorf("%d copies: must be at least 1", c.Copies))
	}
	for _, d := range []struct {
		name string
		got  time.Duration
	}{{"patience", c.Patience}, {"wait", c.Wait}, {"lease", c.Lease}} {
		if d.got < time.Second {
			errs = append(errs, fmt.Errorf("%s is %s: must be at least 1s", d.name, d.got))
		}
	}
	if c.HTTP != nil && c.HTTP.Timeout != 0 {
		errs = append(errs, fmt.Errorf("the HTTP client's timeout of %s would cut long copies", c.HTTP.Timeout))
	}
	return errors.Join(errs...)
}

// wanted is how many hosts must have a push.
func (c Config) wanted() int { return min(c.Copies, len(c.Hosts)) }
