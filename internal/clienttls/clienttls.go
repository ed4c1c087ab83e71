// Package clienttls decides which servers' certificates our clients trust: the
// system's authorities and those of a PEM file, which is read again when it
// changes.
//
//	trust, err := clienttls.New(clienttls.Options{CA: "/etc/anka/ca.pem"})
//	hc := &http.Client{Transport: trust.Transport(&http.Transport{})}
package clienttls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"strings"
	"sync"

	"github.com/ankacluster/ankacluster/internal/tlsreload"
)

// Options say whom to trust. The zero value is the system's authorities.
type Options struct {
	// CA is a PEM file of authorities that are trusted besides the system's.
	CA string
	// SkipVerify accepts any certificate; it must be asked for by name.
	SkipVerify bool
	// Certificate, when set, shows this client's certificate to servers that ask.
	Certificate func() (*tls.Certificate, error)
}

// Trust makes TLS configurations. It is safe for concurrent use; nil and the zero
// value trust the system's authorities.
type Trust struct {
	opts  Options
	roots *tlsreload.Authorities // nil: the system's
}

// New reads the authorities once, so that a mistake shows at start.
func New(o Options) (*Trust, error) {
	t := &Trust{opts: o}
	if o.CA == "" {
		return t, nil
	}
	roots, err := tlsreload.LoadAuthorities(o.CA, true)
	if err != nil {
		return nil, err
	}
	if !o.SkipVerify {
		t.roots = roots
	}
	return t, nil
}

// Roots returns the authorities that are trusted now; nil means the system's.
func (t *Trust) Roots() (*x509.CertPool, error) {
	if t == nil || t.roots == nil {
		return nil, nil
	}
	return t.roots.Get()
}

func (t *Trust) config() *tls.Config {
	if t == nil {
		return &tls.Config{MinVersion: tls.VersionTLS12}
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: t.opts.SkipVerify}
	if t.opts.Certificate != nil {
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return t.opts.Certificate() }
	}
	return conf
}

// For returns the configuration for connections to one host. It stays right when
// the authorities on disk are renewed.
func (t *Trust) For(host string) *tls.Config {
	conf := t.config()
	if t == nil || t.roots == nil {
		return conf
	}
	// crypto/tls takes one set of authorities for good; ours may be renewed. What
	// it would do is done here: without this check there is none.
	conf.InsecureSkipVerify = true
	conf.VerifyConnection = func(s tls.ConnectionState) error { return t.verify(s, host) }
	return conf
}

// verify does what crypto/tls does by itself, with the authorities that are on
// disk now.
func (t *Trust) verify(s tls.ConnectionState, host string) error {
	roots, err := t.roots.Get()
	if err != nil {
		return err
	}
	if len(s.PeerCertificates) == 0 || host == "" {
		return errors.New("the server has no certificate or no name")
	}
	between := x509.NewCertPool()
	for _, c := range s.PeerCertificates[1:] {
		between.AddCert(c)
	}
	if _, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{DNSName: host, Roots: roots, Intermediates: between}); err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: s.PeerCertificates, Err: err}
	}
	return nil
}

// Transport returns base with this trust, for requests to many hosts, also through
// a proxy. base must not be used any more.
func (t *Trust) Transport(base *http.Transport) http.RoundTripper {
	base.TLSClientConfig = t.config()
	if t == nil || t.roots == nil {
		return base
	}
	return &renewing{trust: t, base: base}
}

// renewing begins with new connections when the authorities have changed.
type renewing struct {
	trust *Trust
	base  *http.Transport

	mu    sync.Mutex
	roots *x509.CertPool  // guarded by mu; those of now
	now   *http.Transport // guarded by mu
}

// RoundTrip implements http.RoundTripper.
func (r *renewing) RoundTrip(req *http.Request) (*http.Response, error) {
	t, err := r.current()
	if err != nil {
		return nil, err
	}
	return t.RoundTrip(req)
}

func (r *renewing) current() (*http.Transport, error) {
	roots, err := r.trust.roots.Get()
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now == nil || roots != r.roots {
		if r.now != nil {
			r.now.CloseIdleConnections()
		}
		r.now, r.roots = r.base.Clone(), roots
		r.now.TLSClientConfig.RootCAs = roots
	}
	return r.now, nil
}

// CloseIdleConnections is what http.Client.CloseIdleConnections calls.
func (r *renewing) CloseIdleConnections() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now != nil {
		r.now.CloseIdleConnections()
	}
}

// Reason returns why a server's certificate was not accepted, in plain words, and
// false for any other error. With unknown, the authority is one that is not trusted
// here, and a setting mends it.
func Reason(err error) (why string, unknown, ok bool) {
	if e, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		issuer := ""
		if e.Cert != nil && e.Cert.Issuer.String() != "" {
			issuer = " (" + e.Cert.Issuer.String() + ")"
		}
		return "its certificate is signed by an authority that is not known here" + issuer, true, true
	}
	if e, ok := errors.AsType[x509.HostnameError](err); ok {
		names := e.Certificate.DNSNames
		for _, ip := range e.Certificate.IPAddresses {
			names = append(names, ip.String())
		}
		if len(names) == 0 {
			return "its certificate names no host, and not " + e.Host, false, true
		}
		return "its certificate is for " + strings.Join(names, ", ") + ", and not for " + e.Host, false, true
	}
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		return "its certificate is not valid: " + strings.TrimPrefix(e.Error(), "x509: "), false, true
	}
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "its certificate cannot be verified: " + e.Err.Error(), true, true
	}
	return "", false, false
}
