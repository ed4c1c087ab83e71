package main

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ankacluster/ankacluster/internal/settings"
	"github.com/ankacluster/ankacluster/registryapi/content"
	"github.com/ankacluster/ankacluster/registryapi/content/fs"
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
		{"stast", "did you mean anka-registry stats?"},
		{"--no-such-flag", "flag provided but not defined"},
		{"--listen-addr 127.0.0.1:0", "--base-path (ANKA_BASE_PATH) is not set, and the current directory, "},
		{"--listen-addr 8089", `--listen-addr "8089" must be HOST:PORT or :PORT`},
		{"--listen-addr 127.0.0.1:0 --enable-auth", "ANKA_ENABLE_AUTH is set, but"},
		{"--listen-addr 127.0.0.1:0 --enable-authorization", "ANKA_ENABLE_AUTHORIZATION is set, but"},
		{"--listen-addr 127.0.0.1:0 --quota lots", `--quota "lots"`},
		{"--listen-addr 127.0.0.1:0 --use-https", "ANKA_SERVER_CERT"},
		{"--listen-addr 127.0.0.1:0 --files-dir /", `files dir "/" must be a directory of its own`},
		{"--listen-addr 127.0.0.1:0 --files-dir ../blobs/x", `files dir "../blobs/x" must be a directory of its own`},
		{"--listen-addr 127.0.0.1:0 --gc-grace 1s", "gc grace 1s must be at least 10m"},
		{"--listen-addr 127.0.0.1:0 --replica-of 10.0.1.4:8089", `"10.0.1.4:8089": must be http://host:port`},
		{"--listen-addr 127.0.0.1:0 --replica-of http://a:1,http://a:1/", "named twice"},
		{"--listen-addr 127.0.0.1:0 --replica-of http://a:1 --write-only", "exclude each other"},
		{"--listen-addr 127.0.0.1:0 --replica-bandwidth 50MB", "--replica-bandwidth needs ANKA_REPLICA_OF"},
		{"--listen-addr 127.0.0.1:0 --replica-of http://a:1 --replica-bandwidth fast", `--replica-bandwidth "fast"`},
		{"--listen-addr 127.0.0.1:0 --replica-of https://a:1 --registry-ca-cert /none", "--registry-ca-cert: open /none"},
		{"--registry-ca-cert /none verify", "--registry-ca-cert: open /none"},
		{"service install --quota lots", `--quota "lots"`},
		{"service install --replica-of http://a:1 --registry-ca-cert /none", "--registry-ca-cert: open /none"},
		{"service status now", `unexpected argument "now"`},
		{"service strat", `unknown command "strat"`},
		{"verify --from http://x", "--from needs --repair"},
		{"export", "export needs REPOSITORY and DIR"},
		{"--base-path " + dir + " stats", "holds no registry"},
		{"stats --json --base-path " + dir, dir + " holds no registry"},
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
	if code, out, _ := command(t, "--help"); code != 0 || !strings.Contains(out, "--listen-addr HOST:PORT") {
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

func openFS(t *testing.T, root string) content.Store {
	t.Helper()
	s, err := fs.Open(root, fs.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestVerifyFindsAndRepairsDamage(t *testing.T) {
	good, layer := store(t)
	cfg := server.DefaultConfig()
	cfg.Root = good
	srv, err := server.New(cfg, openFS(t, cfg.Root), nil)
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

// Compose files and charts pass variables that have no value. Such a one is an
// absent one, whatever its kind.
func TestEmptyVariableIsAnAbsentOne(t *testing.T) {
	dir := t.TempDir()
	for _, s := range (&config{}).table() {
		t.Setenv(s.Env, "")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	addr := "127.0.0.1:" + freePort(t)
	ended := make(chan string, 1)
	go func() {
		var errs bytes.Buffer
		run(ctx, []string{"anka-registry", "--listen-addr", addr, "--base-path", dir, "--enable-metrics", "--metrics-port", freePort(t)}, &bytes.Buffer{}, &errs)
		ended <- errs.String()
	}()
	for {
		resp, err := http.Get("http://" + addr + "/readyz")
		if err == nil {
			resp.Body.Close()
			break
		}
		select {
		case said := <-ended:
			t.Fatalf("the registry ended: %s", said)
		default:
			runtime.Gosched()
		}
	}
	cancel()
	<-ended
	t.Chdir(t.TempDir()) // an empty directory may become a store
	c := &config{server: server.DefaultConfig()}
	if _, errs := settings.Load(c.table(), none, os.LookupEnv); len(errs) > 0 {
		t.Fatal(errs)
	}
	c.server.ListenAddr = ":0"
	if err := c.complete(); err != nil {
		t.Fatal(err)
	}
	want := server.DefaultConfig()
	want.Root, want.ListenAddr = ".", ":0"
	if !reflect.DeepEqual(c.server, want) {
		t.Errorf("got\n%+v, want the defaults\n%+v", c.server, want)
	}
}

func none(string) (string, bool) { return "", false }

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// "-v 1" is the level of the log, as at the controller; "-v" alone is the version.
func TestVIsALevelOrTheVersion(t *testing.T) {
	if code, out, _ := command(t, "-v"); code != 0 || !strings.HasPrefix(out, "anka-registry ") {
		t.Errorf("-v: got %d, %q", code, out)
	}
	if code, out, stderr := command(t, "-v", "1", "--quota", "lots"); code != 2 || out != "" || !strings.Contains(stderr, `--quota "lots"`) {
		t.Errorf("-v 1: got %d, %q, %q", code, out, stderr)
	}
	if code, _, stderr := command(t, "-v", "loud"); code != 2 || !strings.Contains(stderr, `--v "loud": must be a whole number`) {
		t.Errorf("-v loud: got %d, %q", code, stderr)
	}
}

func TestOddMetricsPathIsRefused(t *testing.T) {
	for _, path := range []string{"metrics", "/{x", "/a b"} {
		t.Setenv("ANKA_METRICS_PATH", path)
		if code, _, stderr := command(t, "--listen-addr", "127.0.0.1:0", "--enable-metrics"); code != 2 || !strings.Contains(stderr, "ANKA_METRICS_PATH") {
			t.Errorf("%q: got %d, %q", path, code, stderr)
		}
	}
}
