package balancer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/ankacluster/ankacluster/balancer/attempt"
	"github.com/ankacluster/ankacluster/balancer/download"
	"github.com/ankacluster/ankacluster/balancer/download/splice"
	"github.com/ankacluster/ankacluster/balancer/endpoint"
	"github.com/ankacluster/ankacluster/balancer/health"
)

// Policy says which of several usable endpoints takes the next request.
type Policy string

const (
	// RoundRobin takes the usable endpoints in turn. With the three to five
	// endpoints of a build cloud nothing cleverer pays.
	RoundRobin Policy = "round-robin"
	// LeastInFlight takes the endpoint with the fewest unanswered requests.
	LeastInFlight Policy = "least-in-flight"
)

// Config is everything about a Balancer. Start from DefaultConfig or
// BlobConfig; the zero Config is not valid.
type Config struct {
	// Name is the pool's name in logs, metrics and status, such as "controllers".
	Name   string
	Class  Class
	Policy Policy

	Probe   ProbeConfig
	Breaker BreakerConfig
	Slow    SlowConfig
	Retry   RetryConfig
	Hedge   HedgeConfig
	Stall   StallConfig
	Cache   CacheConfig

	// Rhythm is shared by pools that are to be probed together; nil is one of the
	// pool's own.
	Rhythm *Rhythm

	// SlowStart is how long a returned endpoint's share grows linearly from
	// SlowStartFrom to its fair part. It never applies at process start.
	SlowStart     time.Duration
	SlowStartFrom float64
	// FailOpenBelow is the usable fraction below which all endpoints are tried,
	// the least recently failed first.
	FailOpenBelow float64
	// ConnectTimeout bounds one TCP handshake, TLSHandshakeTimeout the TLS
	// handshake after it; ConnectRace is how long the two may take before the
	// next endpoint is tried beside it, and before the next address of a name is.
	ConnectTimeout      time.Duration
	TLSHandshakeTimeout time.Duration
	ConnectRace         time.Duration
	// ReadAhead is the size up to which an answer to a repeatable request is
	// read before it is returned, so that a reset in its middle can be repeated
	// elsewhere. An answer that announces no length is waited for until it is
	// late, and only if its type is of a document. 0 reads nothing ahead.
	ReadAhead int64
	// NotFoundAsksNext: a 404 to a repeatable request is asked of the other
	// endpoints too, because a replica may lag behind.
	NotFoundAsksNext bool
	// VerifyDigests: a download whose path ends in sha256:... is hashed as it
	// passes, and broken off before its last bytes if the sum is wrong. Without it a
	// download that continues elsewhere still is of the same strong ETag and of
	// exactly the range asked for.
	VerifyDigests bool
	// Splice: large downloads without TLS, from a connection to a connection, are left
	// to the kernel of Linux. What does not pass through this process is not hashed:
	// its reader checks it, as every client of a registry does.
	Splice bool
	// Debounce is the least time between two changes of the member list.
	Debounce time.Duration
	// LocalFaultWindow is the time within which a network error at all
	// endpoints is taken as this machine's fault.
	LocalFaultWindow time.Duration

	// ReturnAtOnce is how many of the requests that waited for an endpoint are
	// sent at the same time when there is one again: it has just started.
	ReturnAtOnce int

	// MaxIdleConns is the number of idle connections kept to each endpoint,
	// IdleTimeout how long one is kept.
	MaxIdleConns int
	IdleTimeout  time.Duration
	// ProveAfter is how long a connection may have been quiet and still carry a
	// request that may not be repeated: what lies between may have forgotten it, and
	// that shows only in an answer that never comes. After it a new connection is the
	// proof.
	ProveAfter time.Duration
	// TLS is used for https endpoints; nil is the system's trust. TLSFor, if set,
	// makes it for each endpoint's host name, for those who verify by themselves:
	// a tls.ConnectionState does not tell the name when it is an address.
	TLS    *tls.Config
	TLSFor func(host string) *tls.Config
	// DialContext replaces the dialer, in tests and for unix sockets; nil dials.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
	// Resolve replaces the lookup of a name's addresses; nil asks the system, or leaves
	// names to DialContext where that is set.
	Resolve func(ctx context.Context, host string) ([]string, error)
	// OnTransition, if set, is called after each transition, outside all locks.
	OnTransition func(Transition)
}

// CacheConfig is the learned member list on disk.
type CacheConfig struct {
	// Path is the file, or "" for none.
	Path string
	// CloudID ties the file to a cloud: a list of another cloud is ignored.
	CloudID string
}

// DefaultConfig returns the defaults for control calls.
func DefaultConfig() Config {
	return Config{
		Name:    "endpoints",
		Class:   Control,
		Policy:  RoundRobin,
		Probe:   health.DefaultProbe(),
		Breaker: endpoint.DefaultBreaker(),
		Slow:    health.DefaultSlow(),
		Retry: RetryConfig{
			Share:         0.2,
			Reserve:       10,
			Window:        10 * time.Second,
			WaitMin:       25 * time.Millisecond,
			WaitMax:       250 * time.Millisecond,
			MaxElapsed:    30 * time.Second,
			RetryAfterMax: 30 * time.Second,
			TrialInterval: 1800 * time.Millisecond,
		},
		Hedge: HedgeConfig{
			Enabled:  true,
			Min:      50 * time.Millisecond,
			Initial:  100 * time.Millisecond,
			Multiple: 8,
		},
		Stall: StallConfig{
			Timeout:     1500 * time.Millisecond,
			Upload:      15 * time.Second, // a registry may be busy with its disk
			CrawlFactor: 4,
			CrawlFor:    20 * time.Second,
		},
		SlowStart:           30 * time.Second,
		SlowStartFrom:       0.1,
		FailOpenBelow:       0.5,
		ConnectTimeout:      time.Second,
		TLSHandshakeTimeout: time.Second,
		ConnectRace:         250 * time.Millisecond,
		ReadAhead:           1 << 20,
		VerifyDigests:       true,
		Debounce:            time.Second,
		LocalFaultWindow:    time.Second,
		ReturnAtOnce:        128,
		MaxIdleConns:        128, // one node's own calls and a CI host's bursts
		IdleTimeout:         60 * time.Second,
		ProveAfter:          time.Second,
	}
}

// BlobConfig returns the defaults for large transfers: they have their own
// connections, breakers and budget.
func BlobConfig() Config {
	cfg := DefaultConfig()
	cfg.Class = Blob
	cfg.Hedge.Enabled = false
	cfg.ReadAhead = 0
	cfg.MaxIdleConns = 16
	cfg.NotFoundAsksNext = true
	cfg.Splice = true // 0.33 CPU seconds a GiB; copied it is 0.82, and hashed 1.60
	return cfg
}

// Verified is c with every download hashed, or none.
func (c Config) Verified(all bool) Config {
	c.VerifyDigests = all
	c.Splice = c.Splice && !all
	return c
}

// endpoint is the part that endpoints need.
func (c Config) endpoint() endpoint.Config {
	return endpoint.Config{
		Breaker: c.Breaker, SlowStart: c.SlowStart, SlowStartFrom: c.SlowStartFrom,
		TrialInterval: c.Retry.TrialInterval, ProbeInterval: c.Probe.Down,
		Transport: c.transport(),
	}
}

// sender is the part that concerns requests.
func (c Config) sender() attempt.Config {
	return attempt.Config{
		Name: c.Name, Class: c.Class, Breaker: c.Breaker, Slow: c.Slow, Retry: c.Retry, Hedge: c.Hedge, Stall: c.Stall,
		ConnectRace: c.ConnectRace, ProveAfter: c.ProveAfter, LocalFaultWindow: c.LocalFaultWindow,
		ReadAhead: c.ReadAhead, NotFoundAsksNext: c.NotFoundAsksNext, ReturnAtOnce: c.ReturnAtOnce,
	}
}

func (c Config) downloads() download.Config {
	return download.Config{Stall: c.Stall, Retry: c.Retry, Pause: c.Slow.Pause, VerifyDigests: c.VerifyDigests, Splice: c.Splice}
}

func (c Config) transport() endpoint.TransportConfig {
	t := endpoint.TransportConfig{
		ConnectTimeout: c.ConnectTimeout, TLSHandshakeTimeout: c.TLSHandshakeTimeout, ConnectRace: c.ConnectRace,
		MaxIdleConns: c.MaxIdleConns, IdleTimeout: c.IdleTimeout,
		TLS: c.TLS, TLSFor: c.TLSFor, DialContext: c.DialContext, Resolve: c.Resolve,
	}
	if c.Splice {
		t.Wrap = splice.Wrap
	}
	return t
}

// Validate reports every broken rule at once.
func (c Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	positive := func(name string, d time.Duration) {
		check(d > 0, "%s %s must be above 0", name, d)
	}
	fraction := func(name string, f float64) {
		check(f >= 0 && f <= 1, "%s %g must be between 0 and 1", name, f)
	}
	check(c.Name != "", "Name must not be empty")
	check(c.Class == Control || c.Class == Blob, "Class %q must be %q or %q", c.Class, Control, Blob)
	check(c.Policy == RoundRobin || c.Policy == LeastInFlight, "Policy %q must be %q or %q", c.Policy, RoundRobin, LeastInFlight)
	check(len(c.Probe.Path) > 0 && c.Probe.Path[0] == '/', "Probe.Path %q must begin with /", c.Probe.Path)
	positive("Probe.Timeout", c.Probe.Timeout)
	positive("Probe.Interval", c.Probe.Interval)
	positive("Probe.Fast", c.Probe.Fast)
	positive("Probe.Down", c.Probe.Down)
	positive("Probe.Slow", c.Probe.Slow)
	fraction("Probe.Jitter", c.Probe.Jitter)
	check(c.Probe.Fall > 0, "Probe.Fall %d must be above 0", c.Probe.Fall)
	check(c.Probe.Rise > 0, "Probe.Rise %d must be above 0", c.Probe.Rise)
	check(c.Breaker.Consecutive > 0, "Breaker.Consecutive must be above 0")
	fraction("Breaker.SuccessRate", c.Breaker.SuccessRate)
	positive("Breaker.Window", c.Breaker.Window)
	positive("Breaker.OpenFor", c.Breaker.OpenFor)
	check(c.Breaker.OpenMax >= c.Breaker.OpenFor, "Breaker.OpenMax %s must not be below Breaker.OpenFor %s", c.Breaker.OpenMax, c.Breaker.OpenFor)
	fraction("Breaker.Jitter", c.Breaker.Jitter)
	check(c.Slow.Late > 0 && c.Slow.Peers > 0, "Slow.Late %d and Slow.Peers %d must be above 0", c.Slow.Late, c.Slow.Peers)
	positive("Slow.Pause", c.Slow.Pause)
	fraction("Retry.Share", c.Retry.Share)
	check(c.Retry.Reserve >= 0, "Retry.Reserve %g must not be negative", c.Retry.Reserve)
	check(c.Retry.Window >= time.Second, "Retry.Window %s must be at least 1s", c.Retry.Window)
	positive("Retry.WaitMin", c.Retry.WaitMin)
	check(c.Retry.WaitMax >= c.Retry.WaitMin, "Retry.WaitMax %s must not be below Retry.WaitMin %s", c.Retry.WaitMax, c.Retry.WaitMin)
	positive("Retry.MaxElapsed", c.Retry.MaxElapsed)
	positive("Retry.TrialInterval", c.Retry.TrialInterval)
	if c.Hedge.Enabled {
		check(c.Class == Control, "Hedge.Enabled must be false for class %q", c.Class)
		positive("Hedge.Min", c.Hedge.Min)
		positive("Hedge.Initial", c.Hedge.Initial)
		check(c.Hedge.Multiple > 0, "Hedge.Multiple %d must be above 0", c.Hedge.Multiple)
	}
	positive("Stall.Timeout", c.Stall.Timeout)
	positive("Stall.Upload", c.Stall.Upload)
	check(c.Stall.CrawlFactor > 1, "Stall.CrawlFactor %g must be above 1", c.Stall.CrawlFactor)
	positive("Stall.CrawlFor", c.Stall.CrawlFor)
	check(c.SlowStart >= 0, "SlowStart %s must not be negative", c.SlowStart)
	check(c.SlowStartFrom > 0 && c.SlowStartFrom <= 1, "SlowStartFrom %g must be above 0 and at most 1", c.SlowStartFrom)
	fraction("FailOpenBelow", c.FailOpenBelow)
	positive("ConnectTimeout", c.ConnectTimeout)
	positive("TLSHandshakeTimeout", c.TLSHandshakeTimeout)
	positive("ConnectRace", c.ConnectRace)
	positive("ProveAfter", c.ProveAfter)
	check(c.ReturnAtOnce > 0, "ReturnAtOnce %d must be above 0", c.ReturnAtOnce)
	check(c.ReadAhead >= 0, "ReadAhead %d must not be negative", c.ReadAhead)
	check(c.Debounce >= 0, "Debounce %s must not be negative", c.Debounce)
	check(c.Cache.Path == "" || c.Cache.CloudID != "", "Cache.CloudID must be set when Cache.Path is")
	if len(errs) > 0 {
		return fmt.Errorf("balancer configuration: %w", errors.Join(errs...))
	}
	return nil
}
