package node

import (
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/ankacluster/ankacluster/agent/apikey"
	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/internal/clienttls"
	"github.com/ankacluster/ankacluster/internal/tlsreload"
)

// tlsFor makes the TLS settings towards a server, by its host name; nil leaves
// them to the system's.
type tlsFor func(host string) *tls.Config

// clientTLS reads the credentials. Certificates, the authority's too, are read
// again when their files change (A18): a renewal needs no restart.
func clientTLS(c state.Credentials) (tlsFor, error) {
	if c.CACert == "" && c.Cert == "" && c.Keystore == "" && !c.SkipTLS {
		return nil, nil
	}
	opts := clienttls.Options{CA: c.CACert, SkipVerify: c.SkipTLS} // asked for by --skip-tls-verification
	if c.Cert != "" {
		pair, err := tlsreload.LoadKeyPair(c.Cert, c.CertKey)
		if err != nil {
			return nil, fmt.Errorf("--cert, --cert-key: %w", err)
		}
		opts.Certificate = pair.Get
	}
	if c.Keystore != "" {
		pair, err := tlsreload.Load(func() (*tls.Certificate, error) { return readKeystore(c.Keystore, string(c.KeystorePassword)) }, c.Keystore)
		if err != nil {
			return nil, fmt.Errorf("--keystore %s: %w", c.Keystore, err)
		}
		opts.Certificate = pair.Get
	}
	trust, err := clienttls.New(opts)
	if err != nil {
		return nil, fmt.Errorf("--cacert %w", err)
	}
	return trust.For, nil
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

// signed wraps a transport so that requests to base carry the node's API key,
// where there is one.
func signed(base string, rt http.RoundTripper, c state.Credentials) http.RoundTripper {
	if c.APIKeyID == "" {
		return rt
	}
	return apikey.New(base, c.APIKeyID, func() (*rsa.PrivateKey, error) { return apiKey(c) }, rt)
}

// apiKey reads the key; a file wins, and is read anew each time.
func apiKey(c state.Credentials) (*rsa.PrivateKey, error) {
	if c.APIKeyFile == "" {
		key, err := apikey.ParseKey([]byte(c.APIKey))
		if err != nil {
			return nil, fmt.Errorf("--api-key-string %w", err)
		}
		return key, nil
	}
	data, err := os.ReadFile(c.APIKeyFile)
	if err != nil {
		return nil, fmt.Errorf("--api-key-file: %w", err)
	}
	key, err := apikey.ParseKey(data)
	if err != nil {
		return nil, fmt.Errorf("--api-key-file %s %w", c.APIKeyFile, err)
	}
	return key, nil
}

// CheckCredentials reads every key and certificate once, so that join refuses
// what the agent could not use.
func CheckCredentials(c state.Credentials) error {
	_, err := clientTLS(c)
	if c.APIKeyID != "" {
		_, keyErr := apiKey(c)
		err = errors.Join(err, keyErr)
	}
	return err
}
