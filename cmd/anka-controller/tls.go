package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

var tlsVersions = map[string]uint16{"tls_1.0": tls.VersionTLS10, "tls_1.1": tls.VersionTLS11, "tls_1.2": tls.VersionTLS12, "tls_1.3": tls.VersionTLS13}

func tlsVersion(p *string) func(string) error {
	return oneOf(p, "tls_1.0", "tls_1.1", "tls_1.2", "tls_1.3")
}

func cipherSuites(p *[]string) func(string) error {
	return func(s string) error {
		if err := list(p)(s); err != nil {
			return err
		}
		_, err := suiteIDs(*p)
		return err
	}
}

func suiteIDs(names []string) ([]uint16, error) {
	var ids []uint16
	for _, name := range names {
		found := false
		for _, suite := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
			if suite.Name == name {
				ids, found = append(ids, suite.ID), true
			}
		}
		if !found {
			return nil, fmt.Errorf("%s is not a cipher suite, e.g. TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", name)
		}
	}
	return ids, nil
}

// serverTLS returns the configuration of a listener. Certificates of callers are
// asked for, not demanded: who may call what is decided per request.
func (c *config) serverTLS(cert, key, ca string, demand bool) (*tls.Config, error) {
	pair := &certificate{cert: cert, key: key}
	if _, err := pair.get(); err != nil {
		return nil, err
	}
	suites, err := suiteIDs(c.CipherSuites)
	if err != nil {
		return nil, err
	}
	tc := &tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair.get() },
		MinVersion:     tls.VersionTLS12,
		CipherSuites:   suites,
	}
	if c.MinTLS != "" {
		tc.MinVersion = tlsVersions[c.MinTLS]
	}
	if c.MaxTLS != "" {
		tc.MaxVersion = tlsVersions[c.MaxTLS]
	}
	if ca != "" {
		if tc.ClientCAs, err = certPool(ca); err != nil {
			return nil, err
		}
		tc.ClientAuth = tls.VerifyClientCertIfGiven
		if demand {
			tc.ClientAuth = tls.RequireAndVerifyClientCert
		}
	}
	return tc, nil
}

// certificate is a key pair on disk, read again when the file has changed: a
// renewed certificate must not wait for a restart.
type certificate struct {
	cert, key string

	mu      sync.Mutex
	pair    *tls.Certificate // guarded by mu
	modTime time.Time        // guarded by mu; of cert when pair was read
}

func (c *certificate) get() (*tls.Certificate, error) {
	info, statErr := os.Stat(c.cert)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pair != nil && (statErr != nil || info.ModTime().Equal(c.modTime)) {
		return c.pair, nil
	}
	if statErr != nil {
		return nil, statErr
	}
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		if c.pair != nil { // half of a renewal has been written; the next handshake tries again
			return c.pair, nil
		}
		return nil, fmt.Errorf("certificate %s and key %s: %w", c.cert, c.key, err)
	}
	c.pair, c.modTime = &pair, info.ModTime()
	return c.pair, nil
}

func certPool(file string) (*x509.CertPool, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("%s holds no PEM certificate", file)
	}
	return pool, nil
}

// etcdTLSConfig returns the configuration for own etcd servers, or nil.
func (c *config) etcdTLSConfig() (*tls.Config, error) {
	if !c.EtcdTLS {
		return nil, nil
	}
	tc := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: c.EtcdSkip}
	var err error
	if c.EtcdCA != "" {
		if tc.RootCAs, err = certPool(c.EtcdCA); err != nil {
			return nil, err
		}
	}
	if c.EtcdCert != "" && c.EtcdKey != "" {
		pair := &certificate{cert: c.EtcdCert, key: c.EtcdKey}
		if _, err := pair.get(); err != nil {
			return nil, err
		}
		tc.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair.get() }
	}
	return tc, nil
}

// withScheme writes HOST:PORT endpoints as URLs, so that the etcd client knows
// whether to speak TLS.
func withScheme(endpoints []string, tls bool) []string {
	scheme := "http://"
	if tls {
		scheme = "https://"
	}
	var urls []string
	for _, ep := range endpoints {
		if !strings.Contains(ep, "://") {
			ep = scheme + ep
		}
		urls = append(urls, ep)
	}
	return urls
}
