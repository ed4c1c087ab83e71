package main

import (
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ankacluster/ankacluster/internal/servertls"
	"github.com/ankacluster/ankacluster/registryapi/server"
	"github.com/ankacluster/ankacluster/test/certs"
)

// httpsRegistry serves the store in root with a certificate of authority.
func httpsRegistry(t *testing.T, root string, authority *certs.Authority) string {
	t.Helper()
	cert, key := authority.Issue(t, t.TempDir(), "registry", "127.0.0.1")
	conf, err := servertls.Config(servertls.Options{Cert: cert, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	cfg := server.DefaultConfig()
	cfg.Root = root
	srv, err := server.New(cfg, openFS(t, cfg.Root), nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	hs := &http.Server{Handler: srv.Handler(), TLSConfig: conf, ErrorLog: log.New(io.Discard, "", 0)}
	var served sync.WaitGroup
	served.Go(func() { _ = hs.ServeTLS(l, "", "") })
	t.Cleanup(func() { hs.Close(); served.Wait() })
	return "https://" + l.Addr().String()
}

func TestRepairFromAnHTTPSRegistry(t *testing.T) {
	ours, theirs := certs.New(t, t.TempDir(), "ours"), certs.New(t, t.TempDir(), "theirs")
	good, layer := store(t)
	peer := httpsRegistry(t, good, ours)
	dir, _ := store(t)
	path := filepath.Join(dir, "blobs", "sha256", layer.Encoded()[:2], layer.Encoded())
	if err := os.WriteFile(path, []byte("rotte"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, authority := range []*certs.Authority{ours, theirs} { // what is repaired first can be damaged again
		code, out, stderr := command(t, "--base-path", dir, "--registry-ca-cert", authority.File, "verify", "--repair", "--from", peer)
		if (code == 0) != (authority == ours) {
			t.Errorf("authority %s: exit %d, %q %q", authority.File, code, out, stderr)
		}
		if authority == ours && !strings.Contains(out, "1 damaged, 1 repaired") {
			t.Errorf("repair: %q", out)
		}
		if err := os.WriteFile(path, []byte("rotte"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
