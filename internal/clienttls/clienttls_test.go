package clienttls

import (
	"crypto/tls"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ankacluster/ankacluster/internal/servertls"
	"github.com/ankacluster/ankacluster/internal/tlsreload"
	"github.com/ankacluster/ankacluster/test/certs"
)

// server is an HTTPS server whose certificate is read from cert and key.
func server(t *testing.T, cert, key string) string {
	t.Helper()
	conf, err := servertls.Config(servertls.Options{Cert: cert, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, conf, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "hello") }))
}

func serve(t *testing.T, conf *tls.Config, h http.Handler) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", conf)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)}
	var served sync.WaitGroup
	served.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() { s.Close(); served.Wait() })
	return "https://" + l.Addr().String()
}

// ask returns the error of one request through rt.
func ask(rt http.RoundTripper, url string) error {
	resp, err := (&http.Client{Transport: rt}).Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// ways are both ways to use a Trust, each with a connection of its own.
func ways(trust *Trust) map[string]func() http.RoundTripper {
	kept := trust.Transport(&http.Transport{})
	return map[string]func() http.RoundTripper{
		"Transport": func() http.RoundTripper { return kept },
		"For": func() http.RoundTripper {
			return &http.Transport{TLSClientConfig: trust.For("127.0.0.1"), DisableKeepAlives: true}
		},
	}
}

func TestTrust(t *testing.T) {
	dir := t.TempDir()
	ours, theirs := certs.New(t, dir, "ours"), certs.New(t, dir, "theirs")
	cert, key := ours.Issue(t, dir, "server", "127.0.0.1")
	url := server(t, cert, key)
	otherCert, otherKey := ours.Issue(t, dir, "other", "registry.example.com")
	misnamed := server(t, otherCert, otherKey)
	for _, tt := range []struct {
		name, url string
		options   Options
		want      string // in Reason; empty: none
	}{
		{"our authority", url, Options{CA: ours.File}, ""},
		{"another authority", url, Options{CA: theirs.File}, "signed by an authority that is not known here (CN=ours)"},
		{"the system's authorities", url, Options{}, "signed by an authority that is not known here"},
		{"anything", url, Options{SkipVerify: true}, ""},
		{"anything wins over an authority", url, Options{CA: theirs.File, SkipVerify: true}, ""},
		{"another name", misnamed, Options{CA: ours.File}, "is for registry.example.com, and not for 127.0.0.1"},
	} {
		trust, err := New(tt.options)
		if err != nil {
			t.Fatal(err)
		}
		for way, rt := range ways(trust) {
			t.Run(tt.name+"/"+way, func(t *testing.T) {
				err := ask(rt(), tt.url)
				why, _, is := Reason(err)
				if (tt.want == "") != (err == nil) || is != (tt.want != "") || !strings.Contains(why, tt.want) {
					t.Errorf("got %v, reason %q; want %q", err, why, tt.want)
				}
			})
		}
	}
}

func TestNewRefuses(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, []byte("no PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{filepath.Join(dir, "none"): "no such file", empty: "no certificate in PEM form"} {
		for _, skip := range []bool{false, true} {
			if _, err := New(Options{CA: file, SkipVerify: skip}); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("New(%s): %v, want %q", file, err, want)
			}
		}
	}
}

// A renewed authority is trusted without a restart, and the old one no longer.
func TestRenewedAuthority(t *testing.T) {
	dir := t.TempDir()
	before, after := certs.New(t, dir, "before"), certs.New(t, t.TempDir(), "after, whose name is longer")
	cert, key := before.Issue(t, dir, "server", "127.0.0.1")
	trust, err := New(Options{CA: before.File})
	if err != nil {
		t.Fatal(err)
	}
	url := server(t, cert, key)
	both := ways(trust)
	for way, rt := range both {
		if err := ask(rt(), url); err != nil {
			t.Fatalf("%s, before: %v", way, err)
		}
	}
	if err := os.Rename(after.File, before.File); err != nil {
		t.Fatal(err)
	}
	for way, rt := range both {
		if _, unknown, _ := Reason(ask(rt(), url)); !unknown {
			t.Errorf("%s: a server of the old authority is still trusted", way)
		}
	}
	after.Issue(t, dir, "server", "127.0.0.1")
	for way, rt := range both {
		if err := ask(rt(), url); err != nil {
			t.Errorf("%s, after: %v", way, err)
		}
	}
}

func TestCertificateIsShown(t *testing.T) {
	dir := t.TempDir()
	ours := certs.New(t, dir, "ours")
	cert, key := ours.Issue(t, dir, "both", "127.0.0.1")
	pair, err := tlsreload.LoadKeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	trust, err := New(Options{CA: ours.File, Certificate: pair.Get})
	if err != nil {
		t.Fatal(err)
	}
	conf := &tls.Config{ClientAuth: tls.RequireAnyClientCert, GetCertificate: pair.ForServer}
	url := serve(t, conf, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	for way, rt := range ways(trust) {
		if err := ask(rt(), url); err != nil {
			t.Errorf("%s: %v", way, err)
		}
	}
}
