package tlsreload

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// Certificate is a certificate with its key, as it is on disk.
type Certificate struct{ files *Files[*tls.Certificate] }

// LoadKeyPair returns the certificate of two PEM files. They are read once here, so
// that a mistake shows at start.
func LoadKeyPair(cert, key string) (*Certificate, error) {
	return Load(func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("certificate %s with key %s: %w", cert, key, err)
		}
		return &pair, nil
	}, cert, key)
}

// Load returns the certificate that read makes of the files at paths.
func Load(read func() (*tls.Certificate, error), paths ...string) (*Certificate, error) {
	c := &Certificate{New(read, paths...)}
	_, err := c.Get()
	return c, err
}

// Get returns the certificate as it is on disk, or the last good one while it
// cannot be read, as when half of a renewal was written.
func (c *Certificate) Get() (*tls.Certificate, error) { return c.files.Load() }

// ForServer is a tls.Config.GetCertificate.
func (c *Certificate) ForServer(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.Get() }

// ForClient is a tls.Config.GetClientCertificate.
func (c *Certificate) ForClient(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return c.Get()
}

// Authorities are those of a PEM file.
type Authorities struct{ files *Files[*x509.CertPool] }

// LoadAuthorities returns the authorities of a PEM file, with the system's besides
// if asked for. The file is read once here, so that a mistake shows at start.
func LoadAuthorities(file string, withSystems bool) (*Authorities, error) {
	a := &Authorities{New(func() (*x509.CertPool, error) {
		pool := x509.NewCertPool()
		if withSystems {
			if all, err := x509.SystemCertPool(); err == nil {
				pool = all
			}
		}
		return pool, appendPEM(pool, file)
	}, file)}
	_, err := a.Get()
	return a, err
}

// Get returns the authorities as they are on disk, or the last good ones while
// they cannot be read. The pool is the same one as long as the file is.
func (a *Authorities) Get() (*x509.CertPool, error) { return a.files.Load() }

func appendPEM(pool *x509.CertPool, file string) error {
	pem, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if !pool.AppendCertsFromPEM(pem) {
		return fmt.Errorf("%s: no certificate in PEM form in it", file)
	}
	return nil
}
