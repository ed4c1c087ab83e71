package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/internal/clienttls"
	"github.com/ankacluster/ankacluster/internal/wire"
)

// Config says how to reach a registry and how patient to be.
type Config struct {
	// Base is the registry's URL, for example "http://10.0.1.4:8089". With an
	// HTTP client that balances, it names the pool.
	Base string
	// HTTP sends the requests; nil means a client of our own without limits in
	// time. A client with a Timeout would cut long transfers and is refused.
	HTTP *http.Client
	// Parallel is how many blobs move at once; 0 means 4, which fills a gigabit
	// line in spite of one slow connection and does not make a disk seek.
	Parallel int
	// Attempts is how often in a row an operation may fail without a byte
	// gained; 0 means 8, which with the backoff below is about half a minute:
	// longer than a registry needs to restart.
	Attempts int
	// Idle is how long a connection may stand still; 0 means 30s.
	Idle time.Duration
	// Commit is how long the server may take to answer once it has all of a
	// blob; 0 means 5m, for it may have to flush 60 GB to a slow disk.
	Commit time.Duration
	// Chunk is the largest body of one request in a push, in bytes; 0 means
	// 64 MiB: proxies limit bodies and times, and registries that forget a cut
	// request lose no more than this.
	Chunk int64
	// Piece is how much of a blob a striped pull asks of a registry at a time, in
	// bytes; 0 means 16 MiB: large enough that the requests do not show, small
	// enough that the hash follows the data closely.
	Piece int64
	// MinBackoff and MaxBackoff bound the wait between attempts; 0 means 100ms
	// and 8s.
	MinBackoff, MaxBackoff time.Duration
	// Trust says whose certificates are accepted where HTTP is nil; nil means those
	// of the system's authorities.
	Trust *clienttls.Trust
	// Authorize adds credentials to a request; nil adds none.
	Authorize func(*http.Request)
	// Log may be nil.
	Log *zap.Logger
}

// Validate reports everything that is wrong with cfg.
func (cfg Config) Validate() error {
	var errs []error
	if u, err := url.Parse(cfg.Base); err != nil {
		errs = append(errs, fmt.Errorf("registry URL %q: %w", cfg.Base, err))
	} else if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		errs = append(errs, fmt.Errorf("registry URL %q: must be http://host:port or https://host:port", cfg.Base))
	}
	if cfg.HTTP != nil && cfg.HTTP.Timeout != 0 {
		errs = append(errs, fmt.Errorf("the HTTP client's timeout of %s would cut long transfers: use Idle", cfg.HTTP.Timeout))
	}
	if cfg.Parallel < 0 || cfg.Attempts < 0 || cfg.Chunk < 0 || cfg.Piece < 0 || cfg.Idle < 0 || cfg.Commit < 0 || cfg.MinBackoff < 0 || cfg.MaxBackoff < 0 {
		errs = append(errs, errors.New("a negative number makes no sense in a transfer configuration"))
	}
	return errors.Join(errs...)
}

// Client moves blobs and manifests to and from one registry (or one pool).
type Client struct {
	cfg  Config
	base string
}

// New checks cfg and returns a client.
func New(cfg Config) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.HTTP == nil {
		cfg.HTTP = defaultHTTP(cfg.Trust)
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	setDefault(&cfg.Parallel, 4)
	setDefault(&cfg.Attempts, 8)
	setDefault(&cfg.Idle, 30*time.Second)
	setDefault(&cfg.Commit, 5*time.Minute)
	setDefault(&cfg.Chunk, 64<<20)
	setDefault(&cfg.Piece, 16<<20)
	setDefault(&cfg.MinBackoff, 100*time.Millisecond)
	setDefault(&cfg.MaxBackoff, 8*time.Second)
	return &Client{cfg: cfg, base: strings.TrimRight(cfg.Base, "/")}, nil
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// defaultHTTP is a client whose connections are limited in number and age, so
// that a closed firewall is noticed, and that never asks for compression:
// ranges of a compressed answer are not ranges of the blob.
func defaultHTTP(trust *clienttls.Trust) *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy = http.ProxyFromEnvironment
	t.MaxIdleConnsPerHost = 16
	t.IdleConnTimeout = 60 * time.Second
	t.DisableCompression = true
	return &http.Client{CheckRedirect: wire.NoRedirect, Transport: trust.Transport(t)}
}

// Base returns the URL that the client was made with.
func (c *Client) Base() string { return c.base }

// request makes a request for a path below the base URL, or for an absolute one.
func (c *Client) request(ctx context.Context, method, target string, body io.Reader) (*http.Request, error) {
	if strings.HasPrefix(target, "/") {
		target = c.base + target
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept-Encoding", "identity")
	if c.cfg.Authorize != nil {
		c.cfg.Authorize(req)
	}
	return req, nil
}

// send sends req under the watch of w and turns an answer that is not one of
// want into a *ResponseError. The caller closes the body.
func (c *Client) send(w *watchdog, req *http.Request, want ...int) (*http.Response, error) {
	resp, err := c.cfg.HTTP.Do(req)
	if err != nil {
		return nil, w.explain(err)
	}
	for _, code := range want {
		if resp.StatusCode == code {
			resp.Body = &watchedBody{ReadCloser: resp.Body, w: w}
			return resp, nil
		}
	}
	defer resp.Body.Close()
	return nil, newResponseError(req, resp)
}

// drain reads what little is left of a body so that the connection is reused.
func drain(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // best effort
	resp.Body.Close()
}
