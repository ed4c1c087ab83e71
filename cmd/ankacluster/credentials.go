package main

import (
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/ankacluster/ankacluster/agent"
	"github.com/ankacluster/ankacluster/agent/tap"
)

// clientTLS builds the TLS settings, or nil where the system's will do. The
// certificate is read again when its file changes (A18).
func clientTLS(c agent.Credentials) (*tls.Config, error) {
	if c.CACert == "" && c.Cert == "" && c.Keystore == "" && !c.SkipTLS {
		return nil, nil
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: c.SkipTLS} // asked for by --skip-tls-verification
	if c.CACert != "" {
		pem, err := os.ReadFile(c.CACert)
		if err != nil {
			return nil, fmt.Errorf("--cacert: %w", err)
		}
		roots, err := x509.SystemCertPool()
		if err != nil {
			roots = x509.NewCertPool()
		}
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--cacert %s: no certificate in PEM form in it", c.CACert)
		}
		conf.RootCAs = roots
	}
	if c.Cert != "" {
		pair := &keyPair{cert: c.Cert, key: c.CertKey, read: func() (tls.Certificate, error) { return tls.LoadX509KeyPair(c.Cert, c.CertKey) }}
		if _, err := pair.load(); err != nil {
			return nil, fmt.Errorf("--cert %s, --cert-key %s: %w", c.Cert, c.CertKey, err)
		}
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair.load() }
	}
	if c.Keystore != "" {
		pair := &keyPair{cert: c.Keystore, key: c.Keystore, read: func() (tls.Certificate, error) { return readKeystore(c.Keystore, string(c.KeystorePassword)) }}
		if _, err := pair.load(); err != nil {
			return nil, fmt.Errorf("--keystore %s: %w", c.Keystore, err)
		}
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair.load() }
	}
	return conf, nil
}

// readKeystore reads a PKCS#12 file.
func readKeystore(path, password string) (tls.Certificate, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, cert, chain, err := pkcs12.DecodeChain(data, password)
	if err != nil {
		return tls.Certificate{}, err
	}
	out := tls.Certificate{PrivateKey: key, Certificate: [][]byte{cert.Raw}, Leaf: cert}
	for _, c := range chain {
		out.Certificate = append(out.Certificate, c.Raw)
	}
	return out, nil
}

// keyPair is a certificate on disk.
type keyPair struct {
	cert, key string
	read      func() (tls.Certificate, error)

	mu     sync.Mutex
	loaded *tls.Certificate // guarded by mu
	stamp  [2]time.Time     // guarded by mu; modification times of what is loaded
}

// load returns the pair as it is on disk now. While a renewal is half done the
// last good pair is used.
func (p *keyPair) load() (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var stamp [2]time.Time
	for i, path := range []string{p.cert, p.key} {
		if info, err := os.Stat(path); err == nil {
			stamp[i] = info.ModTime()
		}
	}
	if p.loaded != nil && stamp == p.stamp {
		return p.loaded, nil
	}
	pair, err := p.read()
	if err != nil {
		if p.loaded != nil {
			return p.loaded, nil
		}
		return nil, err
	}
	p.loaded, p.stamp = &pair, stamp
	return p.loaded, nil
}

// signed wraps a transport so that requests to base carry the node's API key,
// where there is one.
func signed(base string, rt http.RoundTripper, c agent.Credentials) http.RoundTripper {
	if c.APIKeyID == "" {
		return rt
	}
	return tap.New(base, c.APIKeyID, func() (*rsa.PrivateKey, error) { return apiKey(c) }, rt)
}

// apiKey reads the key; a file wins, and is read anew each time.
func apiKey(c agent.Credentials) (*rsa.PrivateKey, error) {
	if c.APIKeyFile == "" {
		key, err := tap.ParseKey([]byte(c.APIKey))
		if err != nil {
			return nil, fmt.Errorf("--api-key-string %w", err)
		}
		return key, nil
	}
	data, err := os.ReadFile(c.APIKeyFile)
	if err != nil {
		return nil, fmt.Errorf("--api-key-file: %w", err)
	}
	key, err := tap.ParseKey(data)
	if err != nil {
		return nil, fmt.Errorf("--api-key-file %s %w", c.APIKeyFile, err)
	}
	return key, nil
}

// checkCredentials reads every key and certificate once, so that join refuses
// what the agent could not use.
func checkCredentials(c agent.Credentials) error {
	_, err := clientTLS(c)
	if c.APIKeyID != "" {
		_, keyErr := apiKey(c)
		err = errors.Join(err, keyErr)
	}
	return err
}
