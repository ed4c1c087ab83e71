package servertls

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/internal/tlsreload"
)

// files writes a self-signed certificate for 127.0.0.1 and its key.
func files(t *testing.T, dir, name string) (cert, key string) {
	t.Helper()
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &priv.PublicKey, priv)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	write(t, cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(t, key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
	return cert, key
}

func write(t *testing.T, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// handshake connects to a server with cfg and returns the name on its
// certificate, and both sides' errors joined into one text.
func handshake(t *testing.T, cfg, client *tls.Config) (name, problem string) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	served := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			err = conn.(*tls.Conn).Handshake()
			conn.Close()
		}
		served <- err
	}()
	conn, err := tls.Dial("tcp", l.Addr().String(), client)
	if err == nil {
		name = conn.ConnectionState().PeerCertificates[0].Subject.CommonName
		defer conn.Close()
	} else {
		problem = err.Error()
	}
	if err := <-served; err != nil {
		problem += err.Error()
	}
	return name, problem
}

func TestConfig(t *testing.T) {
	dir := t.TempDir()
	cert, key := files(t, dir, "server")
	caCert, caKey := files(t, dir, "caller")
	authorities, err := tlsreload.LoadAuthorities(cert, false)
	if err != nil {
		t.Fatal(err)
	}
	pool, err := authorities.Get()
	if err != nil {
		t.Fatal(err)
	}
	caller, err := tls.LoadX509KeyPair(caCert, caKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name    string
		options Options
		client  *tls.Config
		want    string // in the problem; empty: none
	}{
		{"plain", Options{}, &tls.Config{}, ""},
		{"an old client", Options{}, &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}, "protocol version"},
		{"an old client, let in", Options{Min: "tls_1.0"}, &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}, ""},
		{"a new client, kept out", Options{Max: "tls_1.2"}, &tls.Config{MinVersion: tls.VersionTLS13}, "protocol version"},
		{"no suite in common", Options{Max: "tls_1.2", Suites: []string{"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"}},
			&tls.Config{CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384}}, "cipher suite"},
		{"callers asked, none shown", Options{ClientCA: caCert}, &tls.Config{}, ""},
		{"callers demanded, none shown", Options{ClientCA: caCert, DemandClient: true}, &tls.Config{}, "didn't provide a certificate"},
		{"callers demanded, shown", Options{ClientCA: caCert, DemandClient: true}, &tls.Config{Certificates: []tls.Certificate{caller}}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.options.Cert, tt.options.Key = cert, key
			cfg, err := Config(tt.options)
			if err != nil {
				t.Fatal(err)
			}
			tt.client.RootCAs = pool
			_, problem := handshake(t, cfg, tt.client)
			if (tt.want == "") != (problem == "") || !strings.Contains(problem, tt.want) {
				t.Errorf("handshake: got %q, want %q", problem, tt.want)
			}
		})
	}
}

func TestConfigRefuses(t *testing.T) {
	dir := t.TempDir()
	cert, key := files(t, dir, "server")
	for _, tt := range []struct {
		options Options
		want    string
	}{
		{Options{Cert: filepath.Join(dir, "none"), Key: key}, "none: no such file"},
		{Options{Cert: cert, Key: cert}, "certificate " + cert},
		{Options{Cert: cert, Key: key, Min: "1.2"}, `TLS version "1.2"`},
		{Options{Cert: cert, Key: key, Suites: []string{"ROT13"}}, `cipher suite "ROT13"`},
		{Options{Cert: cert, Key: key, ClientCA: key}, "no certificate in PEM form"},
	} {
		if _, err := Config(tt.options); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: got %v, want %q", tt.options, err, tt.want)
		}
	}
}

// A renewed certificate is served without a restart, also when the reader comes
// while only half of it was written.
func TestRenewedCertificateIsServed(t *testing.T) {
	dir := t.TempDir()
	cert, key := files(t, dir, "old")
	cfg, err := Config(Options{Cert: cert, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	served := func() string {
		name, problem := handshake(t, cfg, &tls.Config{InsecureSkipVerify: true})
		if problem != "" {
			t.Fatal(problem)
		}
		return name
	}
	if got := served(); got != "old" {
		t.Fatalf("certificate: got %s, want old", got)
	}
	newCert, newKey := files(t, dir, "new")
	later := time.Now().Add(time.Minute)
	for _, step := range []struct{ from, to, want string }{{newCert, cert, "old"}, {newKey, key, "new"}} {
		data, err := os.ReadFile(step.from)
		if err != nil {
			t.Fatal(err)
		}
		write(t, step.to, data)
		if err := os.Chtimes(step.to, later, later); err != nil {
			t.Fatal(err)
		}
		if got := served(); got != step.want {
			t.Errorf("after %s was written: got %s, want %s", filepath.Base(step.to), got, step.want)
		}
	}
}
