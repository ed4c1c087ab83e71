// Package servertls makes the TLS configuration of a server from files on disk
// and the words of the ANKA_ settings.
package servertls

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"
	"time"
)

// Versions are the words for TLS versions.
var Versions = map[string]uint16{"tls_1.0": tls.VersionTLS10, "tls_1.1": tls.VersionTLS11, "tls_1.2": tls.VersionTLS12, "tls_1.3": tls.VersionTLS13}

// Options are a server's settings; empty words mean the default.
type Options struct {
	Cert, Key string // PEM files
	Min, Max  string // keys of Versions
	Suites    []string
}

// Config returns the configuration. The certificate is read again when its file
// changes: a renewed one must not wait for a restart.
func Config(o Options) (*tls.Config, error) {
	pair := &keyPair{cert: o.Cert, key: o.Key}
	if _, err := pair.get(); err != nil {
		return nil, err
	}
	cfg := &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair.get() },
	}
	for _, v := range []struct {
		word string
		to   *uint16
	}{{o.Min, &cfg.MinVersion}, {o.Max, &cfg.MaxVersion}} {
		if v.word == "" {
			continue
		}
		version, ok := Versions[v.word]
		if !ok {
			return nil, fmt.Errorf("TLS version %q is none of tls_1.0, tls_1.1, tls_1.2, tls_1.3", v.word)
		}
		*v.to = version
	}
	for _, name := range o.Suites {
		id, ok := suite(name)
		if !ok {
			return nil, fmt.Errorf("cipher suite %q is unknown; one is TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", name)
		}
		cfg.CipherSuites = append(cfg.CipherSuites, id)
	}
	return cfg, nil
}

func suite(name string) (uint16, bool) {
	for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		if s.Name == name {
			return s.ID, true
		}
	}
	return 0, false
}

type keyPair struct {
	cert, key string

	mu   sync.Mutex
	pair *tls.Certificate // guarded by mu
	read time.Time        // guarded by mu; the file's time when pair was read
}

func (p *keyPair) get() (*tls.Certificate, error) {
	info, err := os.Stat(p.cert)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pair != nil && (err != nil || info.ModTime().Equal(p.read)) {
		return p.pair, nil
	}
	if err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(p.cert, p.key)
	if err != nil {
		if p.pair != nil {
			return p.pair, nil // half of a renewal was written; the next handshake tries again
		}
		return nil, fmt.Errorf("certificate %s with key %s: %w", p.cert, p.key, err)
	}
	p.pair, p.read = &pair, info.ModTime()
	return p.pair, nil
}
