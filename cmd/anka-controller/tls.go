package main

import (
	"crypto/tls"
	"strings"

	"github.com/ankacluster/ankacluster/internal/servertls"
	"github.com/ankacluster/ankacluster/internal/settings"
	"github.com/ankacluster/ankacluster/internal/tlsreload"
)

func tlsVersion(p *string) func(string) error {
	return settings.OneOf(p, servertls.VersionWords()...)
}

func cipherSuites(p *[]string) func(string) error {
	return func(s string) error {
		if err := settings.List(p)(s); err != nil {
			return err
		}
		_, err := servertls.SuiteIDs(*p)
		return err
	}
}

// serverTLS returns the configuration of a listener. Certificates of callers are
// asked for, not demanded: who may call what is decided per request.
func (c *config) serverTLS(cert, key, ca string, demand bool) (*tls.Config, error) {
	return servertls.Config(servertls.Options{
		Cert: cert, Key: key, Min: c.MinTLS, Max: c.MaxTLS, Suites: c.CipherSuites, ClientCA: ca, DemandClient: demand,
	})
}

// etcdTLSConfig returns the configuration for own etcd servers, or nil.
func (c *config) etcdTLSConfig() (*tls.Config, error) {
	if !c.EtcdTLS {
		return nil, nil
	}
	tc := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: c.EtcdSkip}
	if c.EtcdCA != "" {
		ca, err := tlsreload.LoadAuthorities(c.EtcdCA, false)
		if err != nil {
			return nil, err
		}
		if tc.RootCAs, err = ca.Get(); err != nil {
			return nil, err
		}
	}
	if c.EtcdCert != "" && c.EtcdKey != "" {
		pair, err := tlsreload.LoadKeyPair(c.EtcdCert, c.EtcdKey)
		if err != nil {
			return nil, err
		}
		tc.GetClientCertificate = pair.ForClient
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
