package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/content"
	"github.com/ankacluster/ankacluster/registryapi/content/fs"
)

// mount makes a small file system of its own, where that is allowed.
func mount(t *testing.T, dir, fstype string, flags uintptr, data string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root to mount")
	}
	if err := syscall.Mount("none", dir, fstype, flags, data); err != nil {
		t.Skipf("mount is not allowed here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
}

// fill takes all that is left of a small file system, and returns what gives it
// back.
func fill(t *testing.T, dir string) (empty func()) {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for chunk := make([]byte, 4096); err == nil; {
		_, err = f.Write(chunk)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk did not fill up: %v", err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// refused does requests and checks that each is refused with the words given and
// without a file name of ours.
func (g *registry) refused(words, root string, calls []refusal) {
	g.t.Helper()
	for _, c := range calls {
		a := g.want(c.status, c.method, c.path, strings.NewReader(c.body))
		if !bytes.Contains(a.body, []byte(words)) || bytes.Contains(a.body, []byte(root)) {
			g.t.Errorf("%s %s: got %s, want %q", c.method, c.path, a.body, words)
		}
	}
}

type refusal struct {
	status             int
	method, path, body string
}

// A push that finds the disk full in its middle.
func TestFullDiskRefusesAndHarmsNothing(t *testing.T) {
	dir := t.TempDir()
	mount(t, dir, "tmpfs", 0, "size=4m")
	g := newRegistry(t, testConfig(dir))
	g.pushVM("vm", "v1", vmUUID, map[string][]byte{"a.ank": []byte("small")})
	big := bytes.Repeat([]byte("x"), 8<<20)
	loc := g.want(202, "POST", "/v2/vm/blobs/uploads/", nil).header.Get("Location")
	a := g.want(507, "PATCH", loc, bytes.NewReader(big))
	if !bytes.Contains(a.body, []byte("not enough space")) || bytes.Contains(a.body, []byte(dir)) {
		t.Errorf("got %s", a.body)
	}
	if got := g.template(vmUUID); len(got.Versions) != 1 {
		t.Errorf("got %+v", got)
	}
	g.want(200, "GET", "/v2/vm/manifests/v1", nil)
	g.want(204, "DELETE", loc, nil)
	g.pushVM("vm", "v2", vmUUID, map[string][]byte{"a.ank": []byte("fits again")})
	g.verified()
}

// verified fails the test if anything in the store is damaged.
func (g *registry) verified() {
	g.t.Helper()
	v, err := g.store.(*fs.Store).Verify(g.t.Context(), fs.VerifyOptions{})
	if err != nil || len(v.Damage) != 0 {
		g.t.Errorf("verify: %+v, %v", v, err)
	}
}

// A disk without a byte left: every call that needs one is refused by name,
// reads go on, nothing visible changes, deletes make room, and once there is
// some, what was begun is finished.
func TestDiskWithoutAByteLeft(t *testing.T) {
	dir := t.TempDir()
	mount(t, dir, "tmpfs", 0, "size=4m")
	g := newRegistry(t, testConfig(dir))
	g.pushVM("vm", "v1", vmUUID, map[string][]byte{"a.ank": []byte("one")})
	g.pushVM("vm", "v2", vmUUID, map[string][]byte{"a.ank": []byte("two")})
	manifest := string(g.want(200, "GET", "/v2/vm/manifests/v1", nil).body)
	loc := g.want(202, "POST", "/v2/vm/blobs/uploads/", nil).header.Get("Location")
	g.want(202, "PATCH", loc, strings.NewReader("begun "))
	_, cursor, _, err := g.store.Changes("", 0)
	if err != nil {
		t.Fatal(err)
	}
	empty := fill(t, dir)
	whole := digest.FromString("begun, then finished").String()
	page := strings.Repeat("x", 2*os.Getpagesize())
	g.refused("not enough space", dir, []refusal{
		{507, "POST", "/v2/vm/blobs/uploads/?digest=" + digest.FromString(page).String(), page},
		{507, "PATCH", loc, page},
		{507, "PUT", "/v2/vm/manifests/v3", manifest},
		{507, "PUT", "/registry/files/a", page},
		{507, "POST", "/registry/logs/a.log", page},
		{200, "PUT", "/registry/vm/arch", `{"id":"` + vmUUID + `","arch":"arm64"}`},
	})
	if got := tagNames(g.template(vmUUID)); got != "0=v1 1=v2" {
		t.Errorf("got %s", got)
	}
	g.want(200, "GET", "/v2/vm/manifests/v1", nil)
	g.want(200, "GET", "/v2/vm/blobs/"+digest.FromString("one").String(), nil)
	g.want(200, "DELETE", "/registry/revert?id="+vmUUID, nil)
	if _, err := g.store.Tag("vm", "v2"); !errors.Is(err, content.ErrTagUnknown) {
		t.Errorf("v2 was deleted on the full disk: got %v", err)
	}
	empty()
	// What the full disk kept from being told is told.
	if _, err := g.store.Settle(); err != nil {
		t.Fatal(err)
	}
	changes, _, reset, err := g.store.Changes(cursor, 10)
	if err != nil || !reset && len(changes) == 0 {
		t.Errorf("after the deletion: %+v, %v", changes, err)
	}
	if got := tagNames(g.template(vmUUID)); got != "0=v1" {
		t.Errorf("got %s", got)
	}
	// What arrived is kept, as far as the registry says.
	at := atoi(t, g.want(204, "GET", loc, nil).header.Get(registryapi.HeaderUploadOffset))
	if at < len("begun ") {
		t.Errorf("the upload went back to %d", at)
	}
	g.want(204, "DELETE", loc, nil)
	g.want(201, "POST", "/v2/vm/blobs/uploads/?digest="+whole, strings.NewReader("begun, then finished"))
	g.pushVM("vm", "v3", vmUUID, map[string][]byte{"a.ank": []byte("three")})
	g.verified()
}

func TestFreeSpaceFloorRefusesAtTheFirstRequest(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	g := newRegistry(t, cfg)
	g.pushVM("vm", "v1", vmUUID, map[string][]byte{"a.ank": []byte("x")})
	store, err := fs.Open(cfg.Root, fs.Limits{MinFree: 1 << 60})
	if err != nil {
		t.Fatal(err)
	}
	full := newRegistryOn(t, cfg, store)
	for _, path := range []string{"/v2/vm/blobs/uploads/", "/v2/vm/blobs/uploads/?digest=" + digest.FromString("y").String()} {
		if a := full.want(507, "POST", path, strings.NewReader("y")); !bytes.Contains(a.body, []byte("DENIED")) {
			t.Errorf("got %s", a.body)
		}
	}
	full.want(200, "GET", "/v2/vm/manifests/v1", nil)
	if left, err := full.store.Uploads(); err != nil || len(left) != 0 {
		t.Errorf("uploads: %+v, %v", left, err)
	}
}

// A directory that becomes read-only under a server, and one that a server
// starts on: reads go on, what would write is refused by name, and it works
// again once it can be written.
func TestReadOnlyDirectoryServesAndRefuses(t *testing.T) {
	dir := t.TempDir()
	mount(t, dir, "tmpfs", 0, "size=4m")
	running := newRegistry(t, testConfig(dir))
	running.pushVM("vm", "v1", vmUUID, map[string][]byte{"a.ank": []byte("x")})
	manifest := string(running.want(200, "GET", "/v2/vm/manifests/v1", nil).body)
	loc := running.want(202, "POST", "/v2/vm/blobs/uploads/", nil).header.Get("Location")
	remount := func(flags uintptr) {
		t.Helper()
		if err := syscall.Mount("none", dir, "", syscall.MS_REMOUNT|flags, ""); err != nil {
			t.Fatal(err)
		}
	}
	remount(syscall.MS_RDONLY)
	for _, g := range []*registry{running, newRegistry(t, testConfig(dir))} {
		g.want(200, "GET", "/readyz", nil)
		g.want(200, "GET", "/v2/vm/blobs/"+digest.FromString("x").String(), nil)
		g.refused("read-only", dir, []refusal{
			{403, "POST", "/v2/vm/blobs/uploads/", ""},
			{403, "PATCH", loc, "y"},
			{403, "PUT", "/v2/vm/manifests/v2", manifest},
			{403, "DELETE", "/v2/vm/manifests/v1", ""},
			{403, "PUT", "/registry/files/a", "y"},
			{403, "POST", "/registry/logs/a.log", "y"},
			{200, "DELETE", "/registry/vm?id=" + vmUUID, ""},
			{200, "DELETE", "/registry/revert?id=" + vmUUID, ""},
			{200, "PUT", "/registry/vm/arch", `{"id":"` + vmUUID + `","arch":"arm64"}`},
		})
		g.want(200, "GET", "/v2/vm/manifests/v1", nil)
		if got := tagNames(g.template(vmUUID)); got != "0=v1" {
			t.Errorf("got %s", got)
		}
	}
	remount(0)
	running.want(202, "PATCH", loc, strings.NewReader("y"))
	running.want(201, "PUT", loc+"?digest="+digest.FromString("y").String(), nil)
	running.pushVM("vm", "v2", vmUUID, map[string][]byte{"a.ank": []byte("again")})
	running.verified()
}

// Requirement R1: an upload that is slow and cut ten times resumes each time
// where it stopped, without a limit on its whole.
func TestR1CutUploadResumes(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	g := newRegistry(t, cfg)
	data := make([]byte, 1<<20)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	loc := g.want(202, "POST", "/v2/vm/blobs/uploads/", nil).header.Get("Location")
	// The client may be told of a cut before the server has taken in what came
	// of it. Content-Range keeps bytes that come late from being added twice.
	offset, sent := 0, 0
	for cut := range 10 {
		end := min(offset+1+rng.IntN(200_000), len(data))
		req, err := http.NewRequest("PATCH", g.http.URL+loc, io.MultiReader(bytes.NewReader(data[offset:end]), brokenReader{}))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Range", fmt.Sprintf("%d-%d", offset, end-1))
		if resp, err := g.http.Client().Do(req); err == nil {
			resp.Body.Close()
			if resp.StatusCode != http.StatusRequestedRangeNotSatisfiable {
				t.Fatalf("cut %d: a broken body was answered %d", cut, resp.StatusCode)
			}
		}
		sent = max(sent, end)
		next := atoi(t, g.want(204, "GET", loc, nil).header.Get(registryapi.HeaderUploadOffset))
		if next < offset || next > sent {
			t.Fatalf("cut %d: offset %d after sending %d to %d", cut, next, offset, sent)
		}
		offset = next
	}
	d := digest.FromBytes(data).String()
	g.finish(loc, data)
	if a := g.want(200, "GET", "/v2/vm/blobs/"+d, nil); !bytes.Equal(a.body, data) {
		t.Error("the content differs")
	}
}

// Requirement R10: a download goes on where a proxy cut it.
func TestR10CutDownloadResumesByRange(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, g *registry) {
		data := bytes.Repeat([]byte("0123456789"), 10_000)
		d := g.pushBlob("vm", data).Digest.String()
		etag := g.want(200, "HEAD", "/v2/vm/blobs/"+d, nil).header.Get("ETag")
		a := g.want(206, "GET", "/v2/vm/blobs/"+d, nil, "Range", "bytes=40000-", "If-Range", etag)
		if !bytes.Equal(a.body, data[40000:]) {
			t.Errorf("got %d bytes, want %d", len(a.body), len(data)-40000)
		}
	})
}

func TestDrainFailsReadinessAndFinishesRequests(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	cfg.ListenAddr = "127.0.0.1:0"
	cfg.DrainDelay = 300 * time.Millisecond
	cfg.GracefulShutdownTimeout = 2 * time.Minute
	polls := make(chan struct{}, 1)
	srv, err := New(cfg, openStore(t, cfg.Root), nil)
	if err != nil {
		t.Fatal(err)
	}
	srv.Use(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/changes") {
				polls <- struct{}{}
			}
			next.ServeHTTP(w, r)
		})
	})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	for srv.Addr() == nil {
		select {
		case err := <-ended:
			t.Fatal(err)
		case <-time.After(time.Millisecond):
		}
	}
	base := "http://" + srv.Addr().String()
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()

	poll := make(chan error, 1)
	go func() { // a long poll, which a drain ends at once
		_, err := get(client, base+"/registry/v1/changes?since=0&wait=45s")
		poll <- err
	}()
	<-polls
	body, writer := io.Pipe()
	upload := make(chan error, 1)
	d := digest.FromString("in flight").String()
	go func() {
		req, _ := http.NewRequest("POST", base+"/v2/vm/blobs/uploads/?digest="+d, body)
		resp, err := client.Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode != 201 {
				err = fmt.Errorf("upload: %s", resp.Status)
			}
		}
		upload <- err
	}()
	if _, err := writer.Write([]byte("in ")); err != nil {
		t.Fatal(err)
	}
	for { // until the request has reached its handler
		if ups, _ := os.ReadDir(filepath.Join(cfg.Root, "uploads")); len(ups) == 1 {
			break
		}
		select {
		case err := <-upload:
			t.Fatal(err)
		case <-time.After(time.Millisecond):
		}
	}
	stop()
	for {
		resp, err := client.Get(base + "/readyz")
		if err != nil {
			break // it went on to refuse connections before we asked
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusServiceUnavailable {
			if !resp.Close {
				t.Error("a server that drains keeps a connection on which the next request could cross its close")
			}
			break
		}
	}
	if _, err := writer.Write([]byte("flight")); err != nil {
		t.Fatal(err)
	}
	writer.Close()
	if err := <-upload; err != nil {
		t.Errorf("request in flight: %v", err)
	}
	if err := <-poll; err != nil {
		t.Errorf("long poll: %v", err)
	}
	if err := <-ended; err != nil {
		t.Errorf("run: %v", err)
	}
}

func get(c *http.Client, url string) (int, error) {
	resp, err := c.Get(url)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

func TestListenErrorNamesTheAddress(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	cfg.ListenAddr = "256.0.0.1:1"
	srv, err := New(cfg, openStore(t, cfg.Root), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "256.0.0.1:1") {
		t.Errorf("got %v", err)
	}
}

func TestChangesAreToldAtOnceThroughEveryServer(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	a, b := newRegistry(t, cfg), newRegistry(t, cfg)
	first, err := a.client().Changes(t.Context(), "", 0)
	if err != nil || !first.Reset {
		t.Fatalf("without a cursor: got %+v, %v", first, err)
	}
	a.pushVM("vm", "v1", vmUUID, map[string][]byte{"a.ank": []byte("1")})
	second, err := a.client().Changes(t.Context(), first.Cursor, 10*time.Second)
	if err != nil || !second.Reset {
		t.Fatalf("the journal began after the cursor: got %+v, %v", second, err)
	}
	type result struct {
		got any
		err error
	}
	told := make(chan result, 2)
	for _, g := range []*registry{a, b} {
		go func() {
			c, err := g.client().Changes(t.Context(), second.Cursor, 30*time.Second)
			if err == nil && len(c.Changes) == 0 {
				err = errors.New("told nothing")
			}
			told <- result{c, err}
		}()
	}
	b.pushVM("vm", "v2", vmUUID, map[string][]byte{"a.ank": []byte("2")})
	for range 2 {
		if r := <-told; r.err != nil {
			t.Errorf("got %+v, %v", r.got, r.err)
		}
	}
	state, err := b.client().Repository(t.Context(), "vm")
	if err != nil || len(state.Tags) != 2 || len(state.Manifests) != 2 || state.ID != vmUUID {
		t.Errorf("state: got %+v, %v", state, err)
	}
}

func TestAccessLogAndMetricsTellOfRequests(t *testing.T) {
	t.Parallel()
	core, logged := observer.New(zap.InfoLevel)
	cfg := testConfig(t.TempDir())
	cfg.AccessLog = true
	reg := prometheus.NewRegistry()
	cfg.Metrics = reg
	srv, err := New(cfg, openStore(t, cfg.Root), zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	g := serveRegistry(t, srv)
	g.pushVM("vm", "v1", vmUUID, map[string][]byte{"a.ank": []byte("12345")})
	g.want(200, "GET", "/v2/vm/blobs/"+digest.FromString("12345").String()+"?secret=x", nil)
	g.template(vmUUID)
	lines := logged.FilterMessage("request").FilterField(zap.Int64("sent_bytes", 5)).All()
	if len(lines) != 1 || strings.Contains(fmt.Sprint(lines[0].ContextMap()), "secret") {
		t.Errorf("access log: got %+v", lines)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]bool)
	for _, f := range families {
		got[f.GetName()] = true
	}
	for _, name := range []string{
		"anka_registry_state_count", "anka_registry_disk_total_space", "anka_registry_disk_free_space", "anka_registry_disk_used_space",
		"anka_registry_template_count", "anka_registry_template_tags_count", "anka_registry_template_disk_used",
		"anka_registry_template_tag_disk_used", "anka_registry_requests_total",
	} {
		if !got[name] {
			t.Errorf("no metric %s", name)
		}
	}
}

// An upload in one request that cannot be committed leaves nothing behind: its
// client never learned where it was, and nobody would go on with it.
func TestUploadInOneRequestThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	g := newRegistry(t, cfg)
	if err := os.WriteFile(filepath.Join(cfg.Root, "blobs", "sha256"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	data := []byte("nowhere to go")
	g.want(500, "POST", "/v2/vm/blobs/uploads/?digest="+digest.FromBytes(data).String(), bytes.NewReader(data))
	if left, err := g.store.Uploads(); err != nil || len(left) != 0 {
		t.Errorf("uploads left: %v, %v", left, err)
	}
}
