package endpoint

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"
)

// unackedTime is how long what was sent may stay unacknowledged: a request that rides
// on a connection which is dead without a sign ends then, if nothing ends it sooner.
const unackedTime = 15 * time.Second

// TransportConfig is how the endpoints of a pool are connected to.
type TransportConfig struct {
	// ConnectTimeout bounds one TCP handshake, TLSHandshakeTimeout the TLS handshake after
	// it; ConnectRace is how long to wait before the next address of a name is tried.
	ConnectTimeout      time.Duration
	TLSHandshakeTimeout time.Duration
	ConnectRace         time.Duration
	// MaxIdleConns is the number of idle connections kept, IdleTimeout how long one is.
	MaxIdleConns int
	IdleTimeout  time.Duration
	// TLS is used for https; TLSFor, if set, makes it for the endpoint's host name.
	TLS    *tls.Config
	TLSFor func(host string) *tls.Config
	// DialContext replaces the dialer, Resolve the lookup of names.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
	Resolve     func(ctx context.Context, host string) ([]string, error)
	// Wrap, if set, has the last word on a connection.
	Wrap func(net.Conn) net.Conn
}

// newTransport returns the connections of one endpoint. Each endpoint has its
// own, so that removing one closes its idle connections and no other's.
func newTransport(cfg *TransportConfig, host string) *http.Transport {
	conf := cfg.TLS.Clone() // the transport writes to it, and there is one per endpoint
	if cfg.TLSFor != nil {
		conf = cfg.TLSFor(host)
	}
	dial, resolve := cfg.DialContext, cfg.Resolve
	if dial == nil {
		if resolve == nil {
			resolve = systemResolve
		}
		dialer := &net.Dialer{
			Timeout: cfg.ConnectTimeout,
			Control: deadAfter(unackedTime),
			// A dead peer behind an idle connection is noticed in some ten seconds.
			KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3},
		}
		dial = dialer.DialContext
	}
	names := &dialer{dial: dial, resolve: resolve, race: cfg.ConnectRace}
	return &http.Transport{
		Proxy: nil, // endpoints are addressed directly; a proxy would be one more thing that fails
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, cfg.ConnectTimeout)
			defer cancel()
			conn, err := names.connect(ctx, network, addr)
			if err != nil {
				return nil, &DialError{Err: err}
			}
			if cfg.Wrap != nil {
				conn = cfg.Wrap(conn)
			}
			return conn, nil
		},
		TLSClientConfig:       conf,
		TLSHandshakeTimeout:   cfg.TLSHandshakeTimeout,
		MaxIdleConnsPerHost:   cfg.MaxIdleConns,
		IdleConnTimeout:       cfg.IdleTimeout,
		ExpectContinueTimeout: time.Second,
		// Bytes pass through as the server sent them.
		DisableCompression: true,
		ForceAttemptHTTP2:  true,
		// A silent HTTP/2 connection is pinged, so that a dead one is not given
		// to the next request.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 1500 * time.Millisecond, PingTimeout: time.Second},
	}
}
