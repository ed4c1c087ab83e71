package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"google.golang.org/grpc"

	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/content"
	"github.com/ankacluster/ankacluster/registryapi/content/fs"
	"github.com/ankacluster/ankacluster/registryapi/server"
)

// deadline bounds a wait on a loaded machine.
const deadline = time.Minute

// eventually waits until ok returns nil.
func eventually(t testing.TB, what string, ok func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(deadline); time.Now().Before(end); <-time.After(20 * time.Millisecond) {
		if err = ok(); err == nil {
			return
		}
	}
	t.Fatalf("%s: %v", what, err)
}

// cloud is some hosts on one etcd.
type cloud struct {
	t     testing.TB
	etcd  string
	hosts []*host
	cfg   func(*Config)
}

func newCloud(t testing.TB, n int, change func(*Config)) *cloud {
	t.Helper()
	c := &cloud{t: t, etcd: startEtcd(t), cfg: change}
	for i := range n {
		c.hosts = append(c.hosts, &host{c: c, name: fmt.Sprintf("host%d", i+1), root: filepath.Join(t.TempDir(), "registry")})
	}
	for _, h := range c.hosts {
		h.start()
	}
	for _, h := range c.hosts {
		h.ready()
	}
	c.allLive()
	return c
}

// allLive waits until every host sees every other that runs.
func (c *cloud) allLive() {
	c.t.Helper()
	running := 0
	for _, h := range c.hosts {
		if h.cl != nil {
			running++
		}
	}
	for _, h := range c.hosts {
		if h.cl == nil {
			continue
		}
		eventually(c.t, h.name+" sees the others", func() error {
			if n := len(live(h.cl.others())); n != running-1 {
				return fmt.Errorf("%d are live", n)
			}
			return nil
		})
	}
}

func startEtcd(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "etcd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	cfg := embed.NewConfig()
	cfg.Dir, cfg.LogLevel, cfg.UnsafeNoFsync = dir, "fatal", true
	any := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	cfg.ListenClientUrls, cfg.ListenPeerUrls = any, any
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	<-e.Server.ReadyNotify()
	return e.Clients[0].Addr().String()
}

// host is one of them. It can be ended, started again, and cut off.
type host struct {
	c    *cloud
	name string
	root string
	addr string // kept over restarts

	srv    *server.Server
	store  content.Store
	cl     *Cluster // nil while it is down
	http   *http.Server
	client *clientv3.Client
	cancel context.CancelFunc
	ended  chan struct{}

	cut   atomic.Bool // from all others and from etcd
	mu    sync.Mutex
	conns map[net.Conn]bool // to etcd; guarded by mu
}

func (h *host) url() string { return "http://" + h.addr }

func (h *host) start() {
	t := h.c.t
	t.Helper()
	addr := h.addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	var ln net.Listener
	eventually(t, "listen", func() (err error) { ln, err = net.Listen("tcp", addr); return err })
	if h.addr == "" {
		h.addr = ln.Addr().String()
	}
	h.conns = make(map[net.Conn]bool)
	log := zap.NewNop()
	if testing.Verbose() {
		log = zaptest.NewLogger(t).Named(h.name)
	}
	cfg := server.DefaultConfig()
	cfg.Root = h.root
	var err error
	if h.store, err = fs.Open(h.root, fs.Limits{}); err != nil {
		t.Fatal(err)
	}
	if h.srv, err = server.New(cfg, h.store, log); err != nil {
		t.Fatal(err)
	}
	h.client, err = clientv3.New(clientv3.Config{Endpoints: []string{h.c.etcd}, Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(h.dialEtcd)}})
	if err != nil {
		t.Fatal(err)
	}
	own := DefaultConfig()
	own.Name, own.URL = h.name, h.url()
	for _, o := range h.c.hosts {
		own.Hosts = append(own.Hosts, o.name)
	}
	own.HTTP = &http.Client{Transport: &cuttable{h, DefaultTransport()}}
	own.Wait, own.Patience, own.Lease = 2*time.Second, 2*time.Second, 2*time.Second
	if h.c.cfg != nil {
		h.c.cfg(&own)
	}
	cl, err := New(own, h.store, h.client, log)
	if err != nil {
		t.Fatal(err)
	}
	h.srv.Share(cl)
	h.srv.Use(cl.Around, cl.Routes()...)
	h.cl = cl
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel, h.ended = cancel, make(chan struct{})
	h.http = &http.Server{Handler: h.srv.Handler()}
	go func() { _ = h.http.Serve(ln) }()
	go func() {
		defer close(h.ended)
		_ = cl.Run(ctx)
	}()
	t.Cleanup(h.stop)
}

// ready waits until the host belongs to the catalogue.
func (h *host) ready() {
	h.c.t.Helper()
	eventually(h.c.t, h.name+" is ready", func() error { return h.cl.ready(h.c.t.Context()) })
}

// stop ends the host at once.
func (h *host) stop() {
	if h.cl == nil {
		return
	}
	h.http.Close()
	h.cancel()
	<-h.ended
	h.client.Close()
	h.cl = nil
}

// wipe removes the host's disk.
func (h *host) wipe() {
	if err := os.RemoveAll(h.root); err != nil {
		h.c.t.Fatal(err)
	}
}

func (h *host) dialEtcd(ctx context.Context, addr string) (net.Conn, error) {
	if h.cut.Load() {
		return nil, errors.New("cut off")
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err == nil {
		h.mu.Lock()
		h.conns[conn] = true
		h.mu.Unlock()
	}
	return conn, err
}

// setCut cuts the host off, or ends that.
func (h *host) setCut(on bool) {
	h.cut.Store(on)
	h.mu.Lock()
	defer h.mu.Unlock()
	for conn := range h.conns {
		if on {
			conn.Close()
			delete(h.conns, conn)
		}
	}
}

// cuttable carries a host's requests to others as long as neither is cut off.
type cuttable struct {
	from *host
	next http.RoundTripper
}

func (c *cuttable) RoundTrip(req *http.Request) (*http.Response, error) {
	for _, h := range c.from.c.hosts {
		if (h == c.from || h.addr == req.URL.Host) && h.cut.Load() {
			<-req.Context().Done()
			return nil, req.Context().Err()
		}
	}
	return c.next.RoundTrip(req)
}

// answer is a response whose body was read.
type answer struct {
	status int
	header http.Header
	body   []byte
}

var plain = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}, Timeout: deadline}

func (h *host) try(method, path string, body []byte, header ...string) (answer, error) {
	req, err := http.NewRequest(method, h.url()+path, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := plain.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, data}, err
}

// want asks until the answer is not 503, five times at most, and fails unless it is the
// one wanted: a machine that stands still for longer than a host waits for etcd gives
// 503, and clients repeat that.
func (h *host) want(status int, method, path string, body []byte, header ...string) answer {
	h.c.t.Helper()
	var a answer
	for range 5 {
		var err error
		if a, err = h.try(method, path, body, header...); err != nil {
			h.c.t.Fatalf("%s: %s %s: %v", h.name, method, path, err)
		}
		if a.status != http.StatusServiceUnavailable || status == a.status {
			break
		}
	}
	if a.status != status {
		h.c.t.Fatalf("%s: %s %s: got %d, want %d: %s", h.name, method, path, a.status, status, a.body)
	}
	return a
}

func (h *host) pushBlob(repo string, data []byte) ispec.Descriptor {
	h.c.t.Helper()
	d := digest.FromBytes(data)
	h.want(http.StatusCreated, "POST", "/v2/"+repo+"/blobs/uploads/?digest="+d.String(), data)
	return ispec.Descriptor{MediaType: registryapi.MediaTypeVMFile, Digest: d, Size: int64(len(data))}
}

// manifest makes a manifest of a VM with one file.
func manifest(config, layer ispec.Descriptor, note string) []byte {
	config.MediaType = registryapi.MediaTypeVMConfig
	layer.Annotations = map[string]string{ispec.AnnotationTitle: "disk.img"}
	m := ispec.Manifest{MediaType: ispec.MediaTypeImageManifest, Config: config, Layers: []ispec.Descriptor{layer},
		Annotations: map[string]string{ispec.AnnotationDescription: note}}
	m.SchemaVersion = 2
	raw, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return raw
}

// push pushes a template's tag with one file of so many bytes.
func (h *host) push(repo, tag string, size int) (digest.Digest, []byte) {
	h.c.t.Helper()
	data := noise(size)
	config := h.pushBlob(repo, fmt.Appendf(nil, `{"name":%q}`, repo))
	raw := manifest(config, h.pushBlob(repo, data), "pushed to "+h.name)
	a := h.want(http.StatusCreated, "PUT", "/v2/"+repo+"/manifests/"+tag, raw, "Content-Type", ispec.MediaTypeImageManifest)
	return digest.Digest(a.header.Get("Docker-Content-Digest")), data
}

func noise(size int) []byte {
	data := make([]byte, size)
	src := rand.NewChaCha8([32]byte{byte(rand.Uint32()), byte(rand.Uint32()), byte(rand.Uint32()), byte(rand.Uint32()), 5})
	_, _ = src.Read(data)
	return data
}

// pull reads a tag with its file.
func (h *host) pull(repo, tag string) ([]byte, error) {
	a, err := h.try("GET", "/v2/"+repo+"/manifests/"+tag, nil)
	if err != nil {
		return nil, err
	}
	if a.status != http.StatusOK {
		return nil, fmt.Errorf("%s: manifest: %d %s", h.name, a.status, a.body)
	}
	var m ispec.Manifest
	if err := json.Unmarshal(a.body, &m); err != nil {
		return nil, err
	}
	b, err := h.try("GET", "/v2/"+repo+"/blobs/"+m.Layers[0].Digest.String(), nil)
	if err != nil {
		return nil, err
	}
	if b.status != http.StatusOK {
		return nil, fmt.Errorf("%s: blob: %d %s", h.name, b.status, b.body)
	}
	return b.body, nil
}

// names returns the names of the templates in the host's list.
func (h *host) names() ([]string, error) {
	list, err := registryapi.NewClient(h.url(), plain).Templates(context.Background())
	names := []string{}
	for _, t := range list {
		names = append(names, t.Name)
	}
	return names, err
}

// has reports whether the host's directory has a manifest with all of its content.
func (h *host) has(repo string, d digest.Digest) bool { return h.cl.completeHere(repo, d) }

// staged reports whether the host's disk has all content of a manifest.
func (h *host) staged(repo string, raw []byte) bool {
	var m ispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return false
	}
	store := h.store
	for _, d := range []digest.Digest{m.Config.Digest, m.Layers[0].Digest} {
		f, _, err := store.OpenBlob("vm", d)
		if err != nil {
			return false
		}
		f.Close()
	}
	return true
}
