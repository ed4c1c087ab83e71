package node

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/balancer"
	"github.com/ankacluster/ankacluster/controllerapi"
)

// Join's flags about connections reach the pools.
func TestConnectionFlagsReachThePools(t *testing.T) {
	def := state.DefaultConfig()
	base, blob := balancer.DefaultConfig(), balancer.BlobConfig()
	if got := poolConfig("p", base, def, nil); got.ConnectTimeout != base.ConnectTimeout || got.TLSHandshakeTimeout != 5*time.Second || got.Retry.MaxElapsed != time.Minute || got.MaxIdleConns != 50 {
		t.Errorf("defaults: connect %s, TLS %s, request %s, %d idle", got.ConnectTimeout, got.TLSHandshakeTimeout, got.Retry.MaxElapsed, got.MaxIdleConns)
	}
	cfg := def
	cfg.DialTimeout, cfg.TLSHandshakeTimeout, cfg.RequestTimeout, cfg.MaxIdlePerHost = 3*time.Second, 4*time.Second, 9*time.Second, 7
	if got := poolConfig("p", base, cfg, nil); got.ConnectTimeout != 3*time.Second || got.TLSHandshakeTimeout != 4*time.Second || got.Retry.MaxElapsed != 9*time.Second || got.MaxIdleConns != 7 {
		t.Errorf("control: connect %s, TLS %s, request %s, %d idle", got.ConnectTimeout, got.TLSHandshakeTimeout, got.Retry.MaxElapsed, got.MaxIdleConns)
	}
	// A transfer is no request: it may take hours.
	if got := poolConfig("p", blob, cfg, nil); got.ConnectTimeout != 3*time.Second || got.TLSHandshakeTimeout != 4*time.Second || got.Retry.MaxElapsed != blob.Retry.MaxElapsed || got.MaxIdleConns != blob.MaxIdleConns {
		t.Errorf("blobs: connect %s, TLS %s, request %s, %d idle", got.ConnectTimeout, got.TLSHandshakeTimeout, got.Retry.MaxElapsed, got.MaxIdleConns)
	}
	for _, c := range []balancer.Config{poolConfig("p", base, cfg, nil), poolConfig("p", blob, cfg, nil)} {
		if err := c.Validate(); err != nil {
			t.Error(err)
		}
	}
}

// silentListener accepts, by the kernel, and never answers.
func silentListener(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

// testPools are a node's pools towards one controller.
func testPools(t *testing.T, log *zap.Logger, url string, edit func(*state.Config)) *Pools {
	cfg := state.DefaultConfig()
	cfg.Controllers = []string{url}
	if edit != nil {
		edit(&cfg)
	}
	p, err := NewPools(cfg, controllerapi.Cluster{}, log)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A server that accepts and says nothing is left after the TLS handshake's
// time, and the request given up after its own.
func TestSilentServerIsGivenUp(t *testing.T) {
	t.Parallel()
	url := "https://" + silentListener(t)
	pools := func(request time.Duration) *Pools {
		return testPools(t, zap.NewNop(), url, func(c *state.Config) {
			c.TLSHandshakeTimeout, c.RequestTimeout = 100*time.Millisecond, request
		})
	}
	handshakes := uint64(0)
	for limit := 3 * time.Second; handshakes < 2; limit *= 2 { // a slow machine needs more
		p := pools(limit)
		if _, err := p.Client().Status(t.Context()); err == nil {
			t.Fatal("an answer of a server that says nothing")
		}
		if handshakes = p.controllers.Status().Endpoints[0].Failures; handshakes < 2 && limit > time.Minute {
			t.Fatalf("%d handshakes were given up in %s, want several", handshakes, limit)
		}
	}
	p := pools(time.Minute)
	plain, err := NewPlain(p.cfg, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := controllerapi.NewClient(p.cfg.Controllers[0], plain.At(p.cfg.Controllers[0])).Status(t.Context()); err == nil || !strings.Contains(err.Error(), "TLS handshake timeout") {
		t.Errorf("the test of join: got %v, want a TLS handshake that timed out", err)
	}
}

// --tls: a cloud that announces plain servers does not lure the node to them.
func TestTLSFlagIgnoresPlainServers(t *testing.T) {
	p := testPools(t, zap.NewNop(), "https://c1", func(c *state.Config) { c.Credentials.TLS = true })
	servers := []controllerapi.Server{{URL: "http://c2"}, {URL: "https://c3"}}
	p.setCluster(balancer.OriginCached, controllerapi.Cluster{Controllers: servers, Registries: servers}, zap.NewNop())
	urls := func(b *balancer.Balancer) (list []string) {
		for _, e := range b.Status().Endpoints {
			list = append(list, e.URL)
		}
		return list
	}
	if got := urls(p.controllers); slices.Contains(got, "http://c2") || !slices.Contains(got, "https://c3") {
		t.Errorf("controllers: %v", got)
	}
	if got := urls(p.blobs); !slices.Equal(got, []string{"https://c3"}) {
		t.Errorf("registries: %v", got)
	}
}

// --dump-network-meter, --num-http-sample-threshold.
func TestNetworkMeterTellsEverySoManyRequests(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(statusOnly))
	defer srv.Close()
	for _, tt := range []struct {
		dump             bool
		every, calls, at int
	}{{true, 5, 14, 2}, {true, 5, 15, 3}, {true, 1000, 15, 0}, {false, 5, 15, 0}} {
		core, logged := observer.New(zapcore.InfoLevel)
		p := testPools(t, zap.New(core), srv.URL, func(c *state.Config) { c.DumpNetworkMeter, c.HTTPSamples = tt.dump, tt.every })
		for range tt.calls {
			if _, err := p.Client().Status(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		lines := logged.FilterMessage("network meter").FilterField(zap.String("pool", "controllers")).All()
		if len(lines) != tt.at {
			t.Errorf("%+v: %d lines, want %d", tt, len(lines), tt.at)
		}
		for _, l := range lines {
			if f := l.ContextMap(); f["endpoint"] != srv.URL || f["requests"] == uint64(0) || f["failures"] != uint64(0) {
				t.Errorf("%+v: line %v", tt, f)
			}
		}
	}
}

// authority signs certificates in a test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	n    int64
}

func newAuthority(t *testing.T, name string) *authority {
	a := &authority{t: t}
	a.cert, a.key = a.issue(name, true)
	return a
}

func (a *authority) issue(name string, ca bool) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	a.n++
	c := &x509.Certificate{SerialNumber: big.NewInt(a.n), Subject: pkix.Name{CommonName: name}, IsCA: ca, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	parent, signer := c, key
	if !ca {
		c.KeyUsage, c.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		a.t.Fatal(err)
	}
	return c, key
}

func (a *authority) pair(name string) tls.Certificate {
	c, key := a.issue(name, false)
	return tls.Certificate{Certificate: [][]byte{c.Raw}, PrivateKey: key, Leaf: c}
}

// writePEM stores blocks, with a time of change that differs from the last.
func writePEM(t *testing.T, path string, at time.Time, kind string, der ...[]byte) {
	t.Helper()
	var text []byte
	for _, b := range der {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b})...)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

// A18: the node's certificate and the authority's are read again when their
// files change; nothing is restarted.
func TestA18RenewedCertificatesAreUsed(t *testing.T) {
	dir, day := t.TempDir(), time.Now().Add(-24*time.Hour)
	caFile, certFile, keyFile := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	first, second := newAuthority(t, "first"), newAuthority(t, "second")
	store := func(at time.Time, ca *authority, name string) {
		pair := ca.pair(name)
		key, err := x509.MarshalECPrivateKey(pair.PrivateKey.(*ecdsa.PrivateKey))
		if err != nil {
			t.Fatal(err)
		}
		writePEM(t, certFile, at, "CERTIFICATE", pair.Certificate...)
		writePEM(t, keyFile, at, "EC PRIVATE KEY", key)
		writePEM(t, caFile, at, "CERTIFICATE", ca.cert.Raw)
	}
	serve := func(ca *authority) string {
		pool := x509.NewCertPool()
		pool.AddCert(ca.cert)
		srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, `{"status":"OK","message":"","body":{"status":"Running","version":%q}}`, r.TLS.PeerCertificates[0].Subject.CommonName)
		}))
		srv.TLS = &tls.Config{Certificates: []tls.Certificate{ca.pair("server")}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
		srv.Config.ErrorLog = zap.NewStdLog(zap.NewNop())
		srv.Config.SetKeepAlivesEnabled(false) // each request shakes hands anew
		srv.StartTLS()
		t.Cleanup(srv.Close)
		return srv.URL
	}
	store(day, first, "old")
	url, moved := serve(first), serve(second)
	credentials := func(c *state.Config) {
		c.Credentials = state.Credentials{CACert: caFile, Cert: certFile, CertKey: keyFile}
		c.RequestTimeout = time.Minute
	}
	p, q := testPools(t, zap.NewNop(), url, credentials), testPools(t, zap.NewNop(), moved, credentials)
	who := func(p *Pools) (string, error) {
		s, err := p.Client().Status(t.Context())
		return s.Version, err
	}
	if name, err := who(p); err != nil || name != "old" {
		t.Fatalf("before: %q, %v", name, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := q.Client().Status(ctx); err == nil {
		t.Fatal("a server of an authority that is not trusted was believed")
	}

	store(day.Add(time.Hour), first, "renewed")
	if name, err := who(p); err != nil || name != "renewed" {
		t.Errorf("after the node's certificate was renewed: %q, %v", name, err)
	}
	// Half a renewal: the last good files are used.
	writePEM(t, keyFile, day.Add(2*time.Hour), "EC PRIVATE KEY", []byte("half"))
	if name, err := who(p); err != nil || name != "renewed" {
		t.Errorf("in the middle of a renewal: %q, %v", name, err)
	}
	store(day.Add(3*time.Hour), second, "moved")
	if name, err := who(q); err != nil || name != "moved" {
		t.Errorf("after the authority changed: %q, %v", name, err)
	}
}

// A server's certificate must be for the name or address it is called by.
func TestServerIsVerifiedByItsAddress(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t, "ca")
	caFile := filepath.Join(dir, "ca.pem")
	writePEM(t, caFile, time.Now(), "CERTIFICATE", ca.cert.Raw)
	conf, err := clientTLS(state.Credentials{CACert: caFile})
	if err != nil {
		t.Fatal(err)
	}
	state := tls.ConnectionState{PeerCertificates: []*x509.Certificate{ca.pair("server").Leaf}}
	for host, ok := range map[string]bool{"127.0.0.1": true, "127.0.0.2": false, "server": false, "": false} {
		if err := conf(host).VerifyConnection(state); (err == nil) != ok {
			t.Errorf("certificate for 127.0.0.1, called as %q: %v", host, err)
		}
	}
	if err := conf("127.0.0.1").VerifyConnection(tls.ConnectionState{}); err == nil {
		t.Error("a server without a certificate was believed")
	}
	other := tls.ConnectionState{PeerCertificates: []*x509.Certificate{newAuthority(t, "other").pair("server").Leaf}}
	if err := conf("127.0.0.1").VerifyConnection(other); err == nil {
		t.Error("a server of another authority was believed")
	}
}

// statusOnly is a controller that answers one question.
func statusOnly(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/api/v1/status" {
		fmt.Fprint(w, `{"status":"OK","message":"","body":{"status":"Running","version":"1.2.3"}}`)
	}
}
