package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/zap/zaptest"

	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/content"
	"github.com/ankacluster/ankacluster/registryapi/content/fs"
	"github.com/ankacluster/ankacluster/registryapi/content/memory"
)

// registry is a served Server and the calls of a client that tests make.
type registry struct {
	t     testing.TB
	srv   *Server
	store content.Store
	http  *httptest.Server
}

func testConfig(root string) Config {
	cfg := DefaultConfig()
	cfg.Root = root
	return cfg
}

func newRegistry(t testing.TB, cfg Config) *registry {
	t.Helper()
	return newRegistryOn(t, cfg, openStore(t, cfg.Root))
}

// openStore opens the store of a directory.
func openStore(t testing.TB, root string) *fs.Store {
	t.Helper()
	store, err := fs.Open(root, fs.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// eachStore runs a test on registries of a directory and of memory: what the APIs
// promise, they promise on any store.
func eachStore(t *testing.T, test func(t *testing.T, g *registry)) {
	for name, open := range map[string]func(t testing.TB, root string) content.Store{
		"fs":     func(t testing.TB, root string) content.Store { return openStore(t, root) },
		"memory": func(testing.TB, string) content.Store { return memory.New() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(t.TempDir())
			test(t, newRegistryOn(t, cfg, open(t, cfg.Root)))
		})
	}
}

func newRegistryOn(t testing.TB, cfg Config, store content.Store) *registry {
	t.Helper()
	srv, err := New(cfg, store, zaptest.NewLogger(t, zaptest.Level(zapErrorLevel)))
	if err != nil {
		t.Fatal(err)
	}
	return serveRegistry(t, srv)
}

func serveRegistry(t testing.TB, srv *Server) *registry {
	t.Helper()
	ts := httptest.NewServer(srv.Handler())
	t.Cleanup(ts.Close)
	return &registry{t, srv, srv.store, ts}
}

// answer is a response whose body was read.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// do sends a request; path begins with a slash, header is pairs.
func (g *registry) do(method, path string, body io.Reader, header ...string) answer {
	g.t.Helper()
	req, err := http.NewRequest(method, g.http.URL+path, body)
	if err != nil {
		g.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := g.http.Client().Do(req)
	if err != nil {
		g.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatalf("%s %s: %v", method, path, err)
	}
	return answer{resp.StatusCode, resp.Header, data}
}

// want does a request and fails the test unless it is answered with status.
func (g *registry) want(status int, method, path string, body io.Reader, header ...string) answer {
	g.t.Helper()
	a := g.do(method, path, body, header...)
	if a.status != status {
		g.t.Fatalf("%s %s: got %d, want %d: %s", method, path, a.status, status, a.body)
	}
	return a
}

// pushBlob uploads data in one request.
func (g *registry) pushBlob(repo string, data []byte) ispec.Descriptor {
	g.t.Helper()
	d := digest.FromBytes(data)
	g.want(http.StatusCreated, "POST", "/v2/"+repo+"/blobs/uploads/?digest="+d.String(), bytes.NewReader(data))
	return ispec.Descriptor{MediaType: registryapi.MediaTypeVMFile, Digest: d, Size: int64(len(data))}
}

// pushVM pushes a template's tag with a configuration and files by name.
func (g *registry) pushVM(repo, tag, uuid string, files map[string][]byte) digest.Digest {
	g.t.Helper()
	config := g.pushBlob(repo, fmt.Appendf(nil, `{"name":"VM of %s","uuid":%q,"ram":"2G"}`, repo, uuid))
	config.MediaType = registryapi.MediaTypeVMConfig
	m := ispec.Manifest{MediaType: ispec.MediaTypeImageManifest, Config: config, Layers: []ispec.Descriptor{},
		Annotations: map[string]string{ispec.AnnotationDescription: "tag " + tag}}
	m.SchemaVersion = 2
	for _, name := range sortedKeys(files) {
		l := g.pushBlob(repo, files[name])
		l.Annotations = map[string]string{ispec.AnnotationTitle: name}
		m.Layers = append(m.Layers, l)
	}
	raw, err := json.Marshal(m)
	if err != nil {
		g.t.Fatal(err)
	}
	a := g.want(http.StatusCreated, "PUT", "/v2/"+repo+"/manifests/"+tag, bytes.NewReader(raw), "Content-Type", m.MediaType)
	return digest.Digest(a.header.Get("Docker-Content-Digest"))
}

// client is the typed client on this registry.
func (g *registry) client() *registryapi.Client {
	return registryapi.NewClient(g.http.URL, g.http.Client())
}
