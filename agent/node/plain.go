package node

import (
	"net"
	"net/http"
	"time"

	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/internal/wire"
)

// Plain reaches one server at a time, without a pool.
type Plain struct {
	timeout time.Duration // of a call
	base    *http.Transport
	tls     tlsFor
	cfg     state.Config
}

// NewPlain returns one whose calls take at most timeout.
func NewPlain(cfg state.Config, timeout time.Duration) (Plain, error) {
	conf, err := clientTLS(cfg.Credentials)
	if err != nil {
		return Plain{}, err
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy, t.DisableKeepAlives = nil, true
	t.DialContext = (&net.Dialer{Timeout: cfg.DialTimeout}).DialContext
	t.TLSHandshakeTimeout = cfg.TLSHandshakeTimeout
	return Plain{timeout, t, conf, cfg}, nil
}

// RoundTrip sends a request on a connection of its own.
func (p Plain) RoundTrip(req *http.Request) (*http.Response, error) {
	t := p.base.Clone()
	if p.tls != nil {
		t.TLSClientConfig = p.tls(req.URL.Hostname())
	}
	return t.RoundTrip(req)
}

// At returns a client that signs for one server.
func (p Plain) At(base string) *http.Client {
	return &http.Client{CheckRedirect: wire.NoRedirect, Timeout: min(p.timeout, p.cfg.RequestTimeout), Transport: signed(base, p, p.cfg.Credentials)}
}
