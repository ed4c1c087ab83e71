package main

import (
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/ankacluster/ankacluster/agent"
	"github.com/ankacluster/ankacluster/agent/tap"
)

// tlsFor makes the TLS settings towards a server, by its host name; nil leaves
// them to the system's.
type tlsFor func(host string) *tls.Config

// clientTLS reads the credentials. Certificates, the authority's too, are read
// again when their files change (A18): a renewal needs no restart.
func clientTLS(c agent.Credentials) (tlsFor, error) {
	if c.CACert == "" && c.Cert == "" && c.Keystore == "" && !c.SkipTLS {
		return nil, nil
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: c.SkipTLS} // asked for by --skip-tls-verification
	if c.Cert != "" {
		pair := reread(func() (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(c.Cert, c.CertKey)
			return &pair, err
		}, c.Cert, c.CertKey)
		if _, err := pair.load(); err != nil {
			return nil, fmt.Errorf("--cert %s, --cert-key %s: %w", c.Cert, c.CertKey, err)
		}
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair.load() }
	}
	if c.Keystore != "" {
		pair := reread(func() (*tls.Certificate, error) { return readKeystore(c.Keystore, string(c.KeystorePassword)) }, c.Keystore)
		if _, err := pair.load(); err != nil {
			return nil, fmt.Errorf("--keystore %s: %w", c.Keystore, err)
		}
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair.load() }
	}
	if c.CACert == "" {
		return func(string) *tls.Config { return conf.Clone() }, nil
	}
	authority := reread(func() (*x509.CertPool, error) { return readAuthority(c.CACert) }, c.CACert)
	if _, err := authority.load(); err != nil {
		return nil, fmt.Errorf("--cacert %w", err)
	}
	return func(host string) *tls.Config {
		conf := conf.Clone()
		if c.SkipTLS {
			return conf
		}
		// crypto/tls takes one set of authorities for good; ours may be renewed.
		// What it would do is done here: without this check there is none.
		conf.InsecureSkipVerify = true
		conf.VerifyConnection = func(s tls.ConnectionState) error { return verifyServer(s, host, authority) }
		return conf
	}, nil
}

// verifyServer does what crypto/tls does by itself, with the authorities that
// are on disk now.
func verifyServer(s tls.ConnectionState, host string, authority *fromDisk[*x509.CertPool]) error {
	roots, err := authority.load()
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
	_, err = s.PeerCertificates[0].Verify(x509.VerifyOptions{DNSName: host, Roots: roots, Intermediates: between})
	if err != nil {
		return &tls.CertificateVerificationError{UnverifiedCertificates: s.PeerCertificates, Err: err}
	}
	return nil
}

// readAuthority adds the certificates of a PEM file to the system's.
func readAuthority(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: no certificate in PEM form in it", path)
	}
	return roots, nil
}

// readKeystore reads a PKCS#12 file.
func readKeystore(path, password string) (*tls.Certificate, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	key, cert, chain, err := pkcs12.DecodeChain(data, password)
	if err != nil {
		return nil, err
	}
	out := &tls.Certificate{PrivateKey: key, Certificate: [][]byte{cert.Raw}, Leaf: cert}
	for _, c := range chain {
		out.Certificate = append(out.Certificate, c.Raw)
	}
	return out, nil
}

// fromDisk is something that is read from files, again when they change.
type fromDisk[T any] struct {
	files []string
	read  func() (T, error)

	mu     sync.Mutex
	loaded bool        // guarded by mu
	value  T           // guarded by mu
	stamp  []fileStamp // guarded by mu; of the files when value was read
}

type fileStamp struct {
	changed time.Time
	size    int64
}

func reread[T any](read func() (T, error), files ...string) *fromDisk[T] {
	return &fromDisk[T]{files: files, read: read}
}

// load returns what is on disk now. While a renewal is half done the last good
// one is used.
func (f *fromDisk[T]) load() (T, error) {
	stamp := make([]fileStamp, len(f.files))
	for i, path := range f.files {
		if info, err := os.Stat(path); err == nil {
			stamp[i] = fileStamp{info.ModTime(), info.Size()}
		}
	}
	f.mu.Lock()
	loaded, last, known := f.loaded, f.value, slices.Equal(stamp, f.stamp)
	f.mu.Unlock()
	if loaded && known {
		return last, nil
	}
	value, err := f.read() // by several at once, for all the lock cares: disks may hang
	if err != nil {
		if loaded {
			return last, nil
		}
		return value, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.loaded, f.value, f.stamp = true, value, stamp
	return value, nil
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
