// Package door is what stands between a drill's clients and its backends: package
// balancer, the loopback proxy, a plain client, or somebody else's load balancer.
package door

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ankacluster/ankacluster/balancer"
)

// Door is what stands between a client and the backends. Every client opens one
// of its own, so that no client learns from another's requests.
type Door interface {
	// Name is the heading under which it is compared.
	Name() string
	// Open returns the client to send with and the URL to send to.
	Open(ctx context.Context, backends []string) (client *http.Client, base string, err error)
	// Close ends what Open started.
	Close()
}

// Telling is a door that knows what it did.
type Telling interface {
	Door
	// Dials is when connections to each address were begun.
	Dials() map[string][]time.Time
	// Moves are the changes of what it thinks of the backends.
	Moves() []balancer.Transition
}

// Usage is a door that is a process of its own.
type Usage interface {
	Door
	// Usage is what the process used; call it after Close.
	Usage() (cpu time.Duration, maxResident int64)
}

// newTransport is what a careful Go program uses without a balancer.
func newTransport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy = nil
	t.MaxIdleConns = 0
	t.MaxIdleConnsPerHost = 256
	t.DisableCompression = true
	return t
}

// URL sends everything to one URL, behind which somebody else balances.
func URL(name, base string) Door { return &urlDoor{name: name, base: base} }

type urlDoor struct {
	name, base string
	transport  *http.Transport
}

func (d *urlDoor) Name() string { return d.name }

func (d *urlDoor) Open(context.Context, []string) (*http.Client, string, error) {
	d.transport = newTransport()
	return &http.Client{Transport: d.transport}, d.base, nil
}

func (d *urlDoor) Close() {
	if d.transport != nil {
		d.transport.CloseIdleConnections()
	}
}

// Plain is no balancing at all: what a download has whose client knows one
// address.
func Plain() Door { return &plainDoor{urlDoor{name: "one address"}} }

type plainDoor struct{ urlDoor }

func (d *plainDoor) Open(ctx context.Context, backends []string) (*http.Client, string, error) {
	d.base = backends[0]
	return d.urlDoor.Open(ctx, backends)
}

// Rotating is the client that people write when they have a list of
// addresses and no balancer: the next address for each request, and on an error,
// a 5xx or a timeout the next one again, whatever the method.
func Rotating() Door { return &rotatingDoor{} }

type rotatingDoor struct{ rotating *rotating }

func (d *rotatingDoor) Name() string { return "rotating Go client" }

func (d *rotatingDoor) Open(_ context.Context, backends []string) (*http.Client, string, error) {
	r := &rotating{transport: newTransport()}
	for _, b := range backends {
		u, err := url.Parse(b)
		if err != nil {
			return nil, "", err
		}
		r.hosts = append(r.hosts, u.Host)
	}
	d.rotating = r
	return &http.Client{Transport: r}, backends[0], nil
}

func (d *rotatingDoor) Close() {
	if d.rotating != nil {
		d.rotating.transport.CloseIdleConnections()
	}
}

type rotating struct {
	transport *http.Transport
	hosts     []string
	next      atomic.Uint64
}

// attemptTimeout is as short as one dares when some answers take a while.
const attemptTimeout = 2 * time.Second

func (r *rotating) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		var err error
		if body, err = io.ReadAll(req.Body); err != nil {
			return nil, err
		}
		_ = req.Body.Close()
	}
	var failures []error
	first := r.next.Add(1) - 1
	for i := range r.hosts {
		host := r.hosts[(first+uint64(i))%uint64(len(r.hosts))]
		resp, err := r.attempt(req, host, body)
		if err == nil {
			return resp, nil
		}
		failures = append(failures, fmt.Errorf("%s: %w", host, err))
	}
	return nil, errors.Join(failures...)
}

// attempt reads the whole answer before it calls it one.
func (r *rotating) attempt(req *http.Request, host string, body []byte) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(req.Context(), attemptTimeout)
	defer cancel()
	try := req.Clone(ctx)
	try.URL.Host, try.Host = host, ""
	if body != nil {
		try.Body = io.NopCloser(bytes.NewReader(body))
	}
	resp, err := r.transport.RoundTrip(try)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 500 {
		return nil, errors.New(resp.Status)
	}
	resp.Body = io.NopCloser(bytes.NewReader(got))
	return resp, nil
}

// CheckURL returns raw as a base to append paths to.
func CheckURL(raw string) (string, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return "", err
	case u.Scheme != "http" && u.Scheme != "https":
		return "", errors.New("must begin with http:// or https://")
	case u.Host == "":
		return "", errors.New("has no host")
	}
	return strings.TrimSuffix(u.String(), "/"), nil
}
