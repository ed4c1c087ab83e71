package main

import (
	"bytes"
	"context"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ankacluster/ankacluster/registryapi/server"
)

func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errOut bytes.Buffer
	code = run(t.Context(), append([]string{"anka-registry"}, args...), &out, &errOut)
	return code, out.String(), errOut.String()
}

func TestWrongUseSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		args string
		want string
	}{
		{"", "ANKA_LISTEN_ADDR (--listen-addr) is not set"},
		{"bogus", `no command "bogus"`},
		{"--no-such-flag", "flag provided but not defined"},
		{"--listen-addr 127.0.0.1:0 --enable-auth", "ANKA_ENABLE_AUTH is set, but"},
		{"--listen-addr 127.0.0.1:0 --enable-authorization", "ANKA_ENABLE_AUTHORIZATION is set, but"},
		{"--listen-addr 127.0.0.1:0 --quota lots", "ANKA_QUOTA (--quota)"},
		{"--listen-addr 127.0.0.1:0 --use-https", "ANKA_SERVER_CERT"},
		{"--listen-addr 127.0.0.1:0 --files-dir /", `files dir "/" must be a directory of its own`},
		{"--listen-addr 127.0.0.1:0 --files-dir ../blobs/x", `files dir "../blobs/x" must be a directory of its own`},
		{"--listen-addr 127.0.0.1:0 --gc-grace 1s", "gc grace 1s must be at least 10m"},
		{"--listen-addr 127.0.0.1:0 --replica-of 10.0.1.4:8089", `"10.0.1.4:8089": must be http://host:port`},
		{"--listen-addr 127.0.0.1:0 --replica-of http://a:1,http://a:1/", "named twice"},
		{"--listen-addr 127.0.0.1:0 --replica-of http://a:1 --write-only", "exclude each other"},
		{"--listen-addr 127.0.0.1:0 --replica-bandwidth 50MB", "needs ANKA_REPLICA_OF"},
		{"--listen-addr 127.0.0.1:0 --replica-of http://a:1 --replica-bandwidth fast", "ANKA_REPLICA_BANDWIDTH"},
		{"verify --from http://x", "--from needs --repair"},
		{"export vm " + dir + " --json", "option --json must stand before the arguments"},
		{"export", "export needs REPOSITORY and DIR"},
		{"--base-path " + dir + " stats", "holds no registry"},
	} {
		code, _, stderr := command(t, strings.Fields(tt.args)...)
		if code != 2 || !strings.Contains(stderr, tt.want) {
			t.Errorf("%q: got exit %d and %q, want 2 and %q", tt.args, code, stderr, tt.want)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("a refused command made %v", left)
	}
}

// Requirement R8: object storage is not supported. Whoever asks for it hears so
// in one line, whatever else of it is set, and nothing is made.
func TestR8ObjectStorageIsRefusedInOneLine(t *testing.T) {
	dir := t.TempDir()
	for name, value := range map[string]string{
		"ANKA_BACKEND_TYPE": "s3", "ANKA_BACKEND_S3_BUCKET": "templates", "ANKA_BACKEND_S3_USE_PATH_STYLE": "true",
		"ANKA_BACKEND_S3_SKIP_TLS_VERIFICATION": "true", "ANKA_BASE_PATH": dir, "ANKA_LISTEN_ADDR": "127.0.0.1:0",
	} {
		t.Setenv(name, value)
	}
	code, stdout, stderr := command(t)
	want := "anka-registry: error: ANKA_BACKEND_TYPE=s3 is not supported; the only backend is disk"
	if first, _, _ := strings.Cut(stderr, "\n"); code != 2 || stdout != "" || first != want {
		t.Errorf("got exit %d, %q and %q, want 2 and %q", code, stdout, stderr, want)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("a refused start made %v", left)
	}
}

func TestVersionAndHelp(t *testing.T) {
	if code, out, _ := command(t, "--version"); code != 0 || !strings.HasPrefix(out, "anka-registry ") {
		t.Errorf("version: got %d, %q", code, out)
	}
	if code, out, _ := command(t, "--help"); code != 0 || !strings.Contains(out, "ANKA_LISTEN_ADDR") {
		t.Errorf("help: got %d, %q", code, out)
	}
}

func TestServesUntilAskedToStop(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"anka-registry", "--listen-addr", "127.0.0.1:0", "--base-path", t.TempDir()}, &bytes.Buffer{}, &bytes.Buffer{})
	}()
	time.AfterFunc(300*time.Millisecond, cancel) // at whatever point of its start that is
	if code := <-ended; code != 0 {
		t.Errorf("got exit %d, want 0", code)
	}
}

// store makes a store with one template and returns its directory and the
// digest of its layer.
func store(t *testing.T) (string, digest.Digest) {
	t.Helper()
	layout, dir := t.TempDir(), t.TempDir()
	write := func(name, content string) {
		path := filepath.Join(layout, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	blob := func(content string) digest.Digest {
		d := digest.FromString(content)
		write("blobs/sha256/"+d.Encoded(), content)
		return d
	}
	config, layer := blob("{}"), blob("layer")
	manifest := blob(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"x","digest":"` +
		config.String() + `","size":2},"layers":[{"mediaType":"y","digest":"` + layer.String() + `","size":5}]}`)
	write("oci-layout", `{"imageLayoutVersion":"1.0.0"}`)
	write("index.json", `{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"`+
		manifest.String()+`","size":1,"annotations":{"org.opencontainers.image.ref.name":"v1"}}]}`)
	if code, out, stderr := command(t, "--base-path", dir, "import", layout, "team/vm"); code != 0 || out != "imported team/vm: v1\n" {
		t.Fatalf("import: got %d %q %q", code, out, stderr)
	}
	return dir, layer
}

func TestExportedLayoutImportsAgain(t *testing.T) {
	dir, layer := store(t)
	out := filepath.Join(t.TempDir(), "out")
	if code, said, stderr := command(t, "--base-path", dir, "export", "team/vm", out, "v1"); code != 0 || said != "exported team/vm: v1\n" || !strings.Contains(stderr, "export team/vm: 100% of ") {
		t.Fatalf("export: %d %q %s", code, said, stderr)
	}
	if data, err := os.ReadFile(filepath.Join(out, "blobs", "sha256", layer.Encoded())); err != nil || string(data) != "layer" {
		t.Errorf("layer: got %q, %v", data, err)
	}
	if code, got, stderr := command(t, "--base-path", t.TempDir(), "import", out, "other"); code != 0 || got != "imported other: v1\n" {
		t.Errorf("import: got %d %q %q", code, got, stderr)
	}
	for _, args := range [][]string{{"export", "team/vm", out}, {"export", "none", t.TempDir()}, {"export", "team/vm", t.TempDir(), "none"}} {
		if code, _, stderr := command(t, append([]string{"--base-path", dir}, args...)...); code != 1 {
			t.Errorf("%v: got %d %q, want 1", args, code, stderr)
		}
	}
}

func TestVerifyFindsAndRepairsDamage(t *testing.T) {
	good, layer := store(t)
	cfg := server.DefaultConfig()
	cfg.Root = good
	srv, err := server.New(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	peer := httptest.NewServer(srv.Handler())
	defer peer.Close()

	dir, _ := store(t)
	path := filepath.Join(dir, "blobs", "sha256", layer.Encoded()[:2], layer.Encoded())
	damage := func() {
		t.Helper()
		if err := os.WriteFile(path, []byte("rotte"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if code, out, _ := command(t, "--base-path", dir, "verify"); code != 0 || !strings.Contains(out, "0 damaged") {
		t.Errorf("sound store: got %d %q", code, out)
	}
	damage()
	if code, out, _ := command(t, "--base-path", dir, "verify"); code != 1 || !strings.Contains(out, "left         team/vm sha256:") {
		t.Errorf("damage: got %d %q", code, out)
	}
	if code, out, _ := command(t, "--base-path", dir, "verify", "--repair", "--from", "http://127.0.0.1:1", "--from", peer.URL); code != 0 || !strings.Contains(out, "1 damaged, 1 repaired") {
		t.Errorf("repair: got %d %q", code, out)
	}
	if data, _ := os.ReadFile(path); string(data) != "layer" {
		t.Errorf("repaired content: got %q", data)
	}
	damage()
	if code, out, _ := command(t, "--base-path", dir, "verify", "--repair"); code != 1 || !strings.Contains(out, "quarantined  team/vm sha256:") {
		t.Errorf("quarantine: got %d %q", code, out)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("damaged content is still served")
	}
	// It is missing now; a peer brings it back.
	if code, out, _ := command(t, "--base-path", dir, "verify", "--repair", "--from", peer.URL); code != 0 {
		t.Errorf("repair of missing content: got %d %q", code, out)
	}
	if code, out, _ := command(t, "--base-path", dir, "stats", "-j"); code != 0 || !strings.Contains(out, `"quarantined": 1`) {
		t.Errorf("stats: got %d %q", code, out)
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "500": 500, "1GiB": 1 << 30, "2 TB": 2e12, "3kb": 3000, "5MiB": 5 << 20} {
		if got, err := parseBytes(text); err != nil || got != want {
			t.Errorf("%q: got %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "x", "-1", "1XiB", "1.5GiB", "99999999TiB", "GiB"} {
		if got, err := parseBytes(text); err == nil {
			t.Errorf("%q: got %d, want an error", text, got)
		}
	}
}
