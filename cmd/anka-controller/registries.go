package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/internal/clienttls"
	"github.com/ankacluster/ankacluster/internal/wire"
)

// builtInRegistry is the host of URLs that lead to the registry of this process.
// It is no name of the network: dialRegistry connects without one, and without a
// certificate.
const builtInRegistry = "built-in-registry"

// trustCheck bounds the look at a registry's certificate at the start.
const trustCheck = 3 * time.Second

// registryTrust says whose certificates count for connections to registries. Every
// TLS configuration for such connections is made of it.
func (c *config) registryTrust() (_ *clienttls.Trust, err error) {
	if c.trust == nil {
		c.trust, err = clienttls.New(clienttls.Options{CA: c.RegistryCA, SkipVerify: c.SkipTLSVerify})
	}
	return c.trust, err
}

// dialRegistry connects to a registry, or to the one in this process.
func (c *config) dialRegistry(ctx context.Context, network, addr string) (net.Conn, error) {
	if host, _, _ := net.SplitHostPort(addr); host == builtInRegistry {
		return c.inside.dial(ctx)
	}
	dialer := &net.Dialer{Timeout: c.DialTimeout, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3}}
	return dialer.DialContext(ctx, network, addr)
}

// registryClient carries this controller's calls to one registry. Idle
// connections end by number and by age: a firewall that was closed meanwhile must
// not be passed through an old one (F27).
func (c *config) registryClient() *http.Client {
	return &http.Client{CheckRedirect: wire.NoRedirect, Transport: c.trust.Transport(c.transport()), Timeout: c.RequestTimeout}
}

// eventClient carries events to their receiver. Its certificate is verified also
// when those of registries are not.
func (c *config) eventClient() *http.Client {
	trust, err := clienttls.New(clienttls.Options{CA: c.RegistryCA})
	if err != nil { // the file was read a moment ago, and may be half of a renewal now
		trust = c.trust
	}
	return &http.Client{CheckRedirect: wire.NoRedirect, Transport: trust.Transport(c.transport()), Timeout: c.RequestTimeout}
}

func (c *config) transport() *http.Transport {
	return &http.Transport{
		Proxy: func(r *http.Request) (*url.URL, error) {
			if r.URL.Hostname() == builtInRegistry {
				return nil, nil
			}
			return http.ProxyFromEnvironment(r)
		},
		DialContext:           c.dialRegistry,
		TLSHandshakeTimeout:   c.TLSHandshakeTimeout,
		MaxIdleConnsPerHost:   c.IdlePerHost,
		DisableKeepAlives:     c.IdlePerHost == 0,
		IdleConnTimeout:       90 * time.Second,
		ResponseHeaderTimeout: c.RequestTimeout,
		ForceAttemptHTTP2:     true,
	}
}

// checkRegistries looks at the certificates of the registries that the settings
// name. One that cannot be trusted is a mistake in the settings, and no VM would
// ever start: better no controller than that. A registry that does not answer may
// come later.
func (c *config) checkRegistries(ctx context.Context, log *zap.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, trustCheck)
	defer cancel()
	named := map[string]string{} // URL: setting
	for _, u := range c.PushRegistries {
		named[u] = "ANKA_PUSH_REGISTRY"
	}
	switch {
	case c.isGiven("ANKA_LOCAL_ANKA_REGISTRY"):
		named[c.LocalRegistry] = "ANKA_LOCAL_ANKA_REGISTRY"
	case !c.RunRegistry:
		named[c.AnkaRegistry] = "ANKA_ANKA_REGISTRY"
	}
	client := c.registryClient()
	defer client.CloseIdleConnections()
	var mu sync.Mutex
	var errs []error // guarded by mu
	var wg sync.WaitGroup
	for u, env := range named {
		if !strings.HasPrefix(u, "https://") {
			continue
		}
		wg.Go(func() {
			req, err := http.NewRequestWithContext(ctx, http.MethodHead, u+"/readyz", nil)
			if err != nil {
				return
			}
			resp, err := client.Do(req)
			if err == nil {
				resp.Body.Close()
				return
			}
			why, unknown, bad := clienttls.Reason(err)
			switch {
			case unknown:
				err = fmt.Errorf("%s: %s: %s; name that authority's certificate in --registry-ca-cert (ANKA_REGISTRY_CA_CERT)", c.name(env), u, why)
			case bad:
				err = fmt.Errorf("%s: %s: %s", c.name(env), u, why)
			default:
				log.Warn("a registry does not answer yet", zap.String("setting", c.name(env)), zap.String("url", u), zap.Error(err))
				return
			}
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// validateOwnCertificate looks at this host's certificate with the eyes of the
// other hosts of --cluster, which have the same settings.
func (c *config) validateOwnCertificate(bad func(env, format string, args ...any)) {
	why, unknown := c.ownCertificate()
	switch {
	case c.SkipTLSVerify || why == "":
	case unknown:
		bad("ANKA_SERVER_CERT", "the other hosts of %s would not trust the registry of this one: %s; name that authority's certificate in --registry-ca-cert (ANKA_REGISTRY_CA_CERT)", c.name("ANKA_CLUSTER"), why)
	default:
		bad("ANKA_SERVER_CERT", "the other hosts of %s would not trust the registry of this one: %s", c.name("ANKA_CLUSTER"), why)
	}
}

// warnOfOwnName tells when nodes cannot accept this host's certificate, because it
// does not name the address at which they reach it. A proxy between them may have
// another certificate.
func (c *config) warnOfOwnName(log *zap.Logger) {
	if !c.HTTPS || !c.RunRegistry {
		return
	}
	if why, unknown := c.ownCertificate(); why != "" && !unknown {
		log.Warn("nodes will not accept this host's certificate", zap.String("setting", c.name("ANKA_SERVER_CERT")), zap.String("reason", why))
	}
}

// ownCertificate returns why a client with --registry-ca-cert would not accept the
// certificate of the built-in registry, or "".
func (c *config) ownCertificate() (why string, unknown bool) {
	conf, err := c.serverTLS(c.ServerCert, c.ServerKey, "", false)
	if err != nil {
		return "", false // told where the listener is opened
	}
	pair, err := conf.GetCertificate(nil)
	if err != nil || len(pair.Certificate) == 0 {
		return "", false
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return "", false
	}
	u, err := url.Parse(c.AnkaRegistry)
	if err != nil {
		return "", false
	}
	roots, err := c.trust.Roots()
	if err != nil {
		return "", false
	}
	between := x509.NewCertPool()
	for _, der := range pair.Certificate[1:] {
		if cert, err := x509.ParseCertificate(der); err == nil {
			between.AddCert(cert)
		}
	}
	if _, err = leaf.Verify(x509.VerifyOptions{DNSName: u.Hostname(), Roots: roots, Intermediates: between}); err == nil {
		return "", false
	}
	why, unknown, known := clienttls.Reason(err)
	if !known {
		why = err.Error()
	}
	return why, unknown
}

// pipeListener accepts connections that this process makes to itself.
type pipeListener struct {
	conns  chan net.Conn // unbuffered: a connection that is made is accepted
	closed chan struct{}
	close  sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) dial(ctx context.Context) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case l.conns <- there:
		return here, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept implements net.Listener.
func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *pipeListener) Close() error {
	l.close.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener.
func (l *pipeListener) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return builtInRegistry }
