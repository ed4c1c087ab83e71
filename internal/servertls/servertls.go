// Package servertls makes TLS configurations from files on disk and the words of
// the ANKA_ settings.
package servertls

import (
	"crypto/tls"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ankacluster/ankacluster/internal/tlsreload"
)

// Versions are the words for TLS versions.
var Versions = map[string]uint16{"tls_1.0": tls.VersionTLS10, "tls_1.1": tls.VersionTLS11, "tls_1.2": tls.VersionTLS12, "tls_1.3": tls.VersionTLS13}

// VersionWords returns the keys of Versions in order.
func VersionWords() []string { return slices.Sorted(maps.Keys(Versions)) }

// Options are a server's settings; empty words mean the default.
type Options struct {
	Cert, Key string   // PEM files
	Min, Max  string   // keys of Versions
	Suites    []string // IANA names, for TLS up to 1.2

	// ClientCA is a PEM file of the authorities that sign callers' certificates;
	// empty: callers are not asked for one. DemandClient refuses callers without.
	ClientCA     string
	DemandClient bool
}

// Config returns the configuration of a listener.
func Config(o Options) (*tls.Config, error) {
	pair, err := tlsreload.LoadKeyPair(o.Cert, o.Key)
	if err != nil {
		return nil, err
	}
	cfg := &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: pair.ForServer,
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
			return nil, fmt.Errorf("TLS version %q is none of %s", v.word, strings.Join(VersionWords(), ", "))
		}
		*v.to = version
	}
	if cfg.CipherSuites, err = SuiteIDs(o.Suites); err != nil {
		return nil, err
	}
	if o.ClientCA != "" {
		callers, err := tlsreload.LoadAuthorities(o.ClientCA, false)
		if err != nil {
			return nil, err
		}
		if cfg.ClientCAs, err = callers.Get(); err != nil {
			return nil, err
		}
		cfg.ClientAuth = tls.VerifyClientCertIfGiven
		if o.DemandClient {
			cfg.ClientAuth = tls.RequireAndVerifyClientCert
		}
	}
	return cfg, nil
}

// SuiteIDs returns the cipher suites of these IANA names.
func SuiteIDs(names []string) ([]uint16, error) {
	var ids []uint16
	known := append(tls.CipherSuites(), tls.InsecureCipherSuites()...)
	for _, name := range names {
		i := slices.IndexFunc(known, func(s *tls.CipherSuite) bool { return s.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("cipher suite %q is unknown; one is TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", name)
		}
		ids = append(ids, known[i].ID)
	}
	return ids, nil
}
