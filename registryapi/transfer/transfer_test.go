package transfer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPushedImageIsPulledBack(t *testing.T) {
	t.Parallel()
	g := newRegistry()
	c := client(t, serve(t, g, nil), func(cfg *Config) { cfg.Chunk = 300_000 })
	img := image(t, 1, 3_000_000, 1, 0, 1<<20, 1<<20+1)
	var last Progress
	pushed, err := c.Push(ctx(t), "team/sonoma", "v1", img, PushOptions{Aliases: []string{"latest"}, Report: func(p Progress) { last = p }})
	if err != nil {
		t.Fatal(err)
	}
	if last.Done != last.Total || last.Total != pushed.Size {
		t.Errorf("progress ended at %d of %d; size %d", last.Done, last.Total, pushed.Size)
	}
	for _, ref := range []string{"v1", "latest", pushed.Digest.String()} {
		pulled, err := c.Pull(ctx(t), "team/sonoma", ref, t.TempDir(), PullOptions{Report: func(p Progress) { last = p }})
		if err != nil {
			t.Fatalf("pull %s: %v", ref, err)
		}
		sameFiles(t, img, pulled)
		if pulled.Digest != pushed.Digest {
			t.Errorf("pulled %s, pushed %s", pulled.Digest, pushed.Digest)
		}
		if last.Done != last.Total || last.Moved != last.Total {
			t.Errorf("progress ended at %+v", last)
		}
	}
}

func TestSecondPushSendsNothing(t *testing.T) {
	t.Parallel()
	c := client(t, serve(t, newRegistry(), nil), nil)
	img := image(t, 1, 2_000_000, 10)
	for i, want := range []bool{true, false} {
		pushed, err := c.Push(ctx(t), "sonoma", "v1", img, PushOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got := pushed.Sent > 0; got != want {
			t.Errorf("push %d sent %d bytes", i, pushed.Sent)
		}
	}
}

func TestPullKeepsFilesThatAreThere(t *testing.T) {
	t.Parallel()
	g := newRegistry()
	c := client(t, serve(t, g, nil), nil)
	img := image(t, 1, 2_000_000, 3_000_000)
	if _, err := c.Push(ctx(t), "sonoma", "v1", img, PushOptions{}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := c.Pull(ctx(t), "sonoma", "v1", dir, PullOptions{}); err != nil {
		t.Fatal(err)
	}
	damaged := filepath.Join(dir, img.Files[1].Name)
	if err := os.WriteFile(damaged, noise(9, 3_000_000), 0o644); err != nil {
		t.Fatal(err)
	}
	pulled, err := c.Pull(ctx(t), "sonoma", "v1", dir, PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	sameFiles(t, img, pulled)
	if pulled.Fetched != 3_000_000 {
		t.Errorf("fetched %d bytes, want those of the damaged file", pulled.Fetched)
	}
}

// R1: connections are cut at random points in both directions, again and again.
func TestTransferSurvivesCutConnections(t *testing.T) {
	t.Parallel()
	g := newRegistry()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var cuts atomic.Int64
	base := serve(t, g, func() int64 {
		cuts.Add(1)
		return 50_000 + rng.Int64N(1_500_000) // Accept is called by one goroutine
	})
	c := client(t, base, func(cfg *Config) { cfg.Chunk = 4 << 20 })
	img := image(t, 1, 12_000_000, 5_000_000, 100)
	if _, err := c.Push(ctx(t), "sonoma", "v1", img, PushOptions{}); err != nil {
		t.Fatal(err)
	}
	pulled, err := c.Pull(ctx(t), "sonoma", "v1", t.TempDir(), PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	sameFiles(t, img, pulled)
	if cuts.Load() < 10 {
		t.Errorf("only %d connections: the cuts did not happen", cuts.Load())
	}
	// What was received is never fetched again.
	if max := int64(17_000_100); pulled.Fetched != max {
		t.Errorf("fetched %d bytes for %d", pulled.Fetched, max)
	}
	t.Logf("%d connections; registry received %d and served %d bytes", cuts.Load(), g.received, g.served)
}

func TestCancelledPullGoesOnWhereItStopped(t *testing.T) {
	t.Parallel()
	g := newRegistry()
	const size = 20_000_000
	var cancelled atomic.Bool
	c := client(t, serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Until the pull is cancelled its second half comes byte by byte, so that
		// no machine is fast enough to end it first.
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") && !cancelled.Load() {
			w = &dripping{w, r.Context(), size / 2}
		}
		g.ServeHTTP(w, r)
	}), nil), nil)
	img := image(t, 1, size)
	if _, err := c.Push(ctx(t), "sonoma", "v1", img, PushOptions{}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	pullCtx, cancel := context.WithCancelCause(ctx(t))
	enough := errors.New("seen enough")
	_, err := c.Pull(pullCtx, "sonoma", "v1", dir, PullOptions{Report: func(p Progress) {
		if p.Moved > 0 {
			cancelled.Store(true)
			cancel(enough)
		}
	}})
	if !errors.Is(err, enough) {
		t.Fatalf("cancelled pull: %v, want the cause", err)
	}
	if _, err := os.Stat(filepath.Join(dir, img.Files[0].Name)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the incomplete file has its final name: %v", err)
	}
	partials, err := filepath.Glob(filepath.Join(dir, partialDir, "*.data"))
	if err != nil || len(partials) != 1 {
		t.Fatalf("partial files: %v %v", partials, err)
	}
	info, err := os.Stat(partials[0])
	if err != nil {
		t.Fatal(err)
	}
	pulled, err := c.Pull(ctx(t), "sonoma", "v1", dir, PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	sameFiles(t, img, pulled)
	if want := size - info.Size(); pulled.Fetched != want || info.Size() == 0 {
		t.Errorf("second pull fetched %d bytes, want %d (%d were there)", pulled.Fetched, want, info.Size())
	}
	if _, err := os.Stat(filepath.Join(dir, partialDir)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("leftovers: %v", err)
	}
}

// dripping writes its first bytes at once and each further one after a moment,
// until ctx ends.
type dripping struct {
	http.ResponseWriter
	ctx  context.Context
	left int
}

func (d *dripping) Write(b []byte) (int, error) {
	n, err := d.ResponseWriter.Write(b[:min(len(b), d.left)])
	d.left -= n
	for err == nil && n < len(b) {
		select {
		case <-d.ctx.Done():
			return n, d.ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
		if _, err = d.ResponseWriter.Write(b[n : n+1]); err == nil {
			n++
			err = http.NewResponseController(d.ResponseWriter).Flush()
		}
	}
	return n, err
}

func TestPartialFileWithWrongBytesIsFetchedAnew(t *testing.T) {
	t.Parallel()
	c := client(t, serve(t, newRegistry(), nil), nil)
	img := image(t, 1, 5_000_000)
	pushed, err := c.Push(ctx(t), "sonoma", "v1", img, PushOptions{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.Manifest(ctx(t), "sonoma", pushed.Digest.String())
	if err != nil {
		t.Fatal(err)
	}
	im, err := m.image()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	p, err := openPartial(dir, im.Layers[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Write(noise(7, 1_000_000)); err != nil {
		t.Fatal(err)
	}
	if err := p.close(); err != nil {
		t.Fatal(err)
	}
	pulled, err := c.Pull(ctx(t), "sonoma", "v1", dir, PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	sameFiles(t, img, pulled)
	if want := int64(9_000_000); pulled.Fetched != want {
		t.Errorf("fetched %d bytes, want %d: the rest, and then all", pulled.Fetched, want)
	}
}

func TestRegistryThatServesWrongBytesEndsInErrDigest(t *testing.T) {
	t.Parallel()
	g := newRegistry()
	c := client(t, serve(t, g, nil), nil)
	img := image(t, 1, 2_000_000)
	if _, err := c.Push(ctx(t), "sonoma", "v1", img, PushOptions{}); err != nil {
		t.Fatal(err)
	}
	for dg, data := range g.blobs {
		if len(data) == 2_000_000 {
			g.blobs[dg][1_000_000] ^= 1
		}
	}
	dir := t.TempDir()
	_, err := c.Pull(ctx(t), "sonoma", "v1", dir, PullOptions{})
	if !errors.Is(err, ErrDigest) {
		t.Fatalf("got %v, want ErrDigest", err)
	}
	if _, err := os.Stat(filepath.Join(dir, img.Files[0].Name)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the wrong file has its final name: %v", err)
	}
}

func TestMissingTagFailsAtOnce(t *testing.T) {
	t.Parallel()
	var requests atomic.Int64
	g := newRegistry()
	c := client(t, serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		g.ServeHTTP(w, r)
	}), nil), nil)
	_, err := c.Pull(ctx(t), "sonoma", "v9", t.TempDir(), PullOptions{})
	if !errors.Is(err, ErrNotFound) || requests.Load() != 1 {
		t.Errorf("got %v after %d requests, want ErrNotFound after 1", err, requests.Load())
	}
}

func TestStandstillEndsAfterIdleNotBefore(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	c := client(t, serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-hold:
		case <-r.Context().Done():
		}
	}), nil), func(cfg *Config) { cfg.Idle, cfg.Attempts = 50*time.Millisecond, 3 })
	defer close(hold)
	_, err := c.Manifest(ctx(t), "sonoma", "v1")
	if !errors.Is(err, errIdle) || !strings.Contains(err.Error(), "3 attempts") {
		t.Errorf("got %v, want the standstill after 3 attempts", err)
	}
}

// An upload session is known to one server of the pool only, as with
// registries that share nothing.
func TestUploadBeginsAnewWhenItsSessionIsGone(t *testing.T) {
	t.Parallel()
	g := newRegistry()
	var patches atomic.Int64
	c := client(t, serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPatch && patches.Add(1) == 2 {
			g.mu.Lock()
			clear(g.uploads)
			g.mu.Unlock()
		}
		g.ServeHTTP(w, r)
	}), nil), func(cfg *Config) { cfg.Chunk = 1 << 20 })
	img := image(t, 1, 3<<20)
	if _, err := c.Push(ctx(t), "sonoma", "v1", img, PushOptions{}); err != nil {
		t.Fatal(err)
	}
	pulled, err := c.Pull(ctx(t), "sonoma", "v1", t.TempDir(), PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	sameFiles(t, img, pulled)
}

// A request that was cut at the client may reach the server late, after the
// client was told where the upload is. The session goes on all the same.
func TestUploadGoesOnAfterALateRequest(t *testing.T) {
	t.Parallel()
	g := newRegistry()
	var posts, patches, asked atomic.Int64
	var late []byte
	c := client(t, serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPost:
			posts.Add(1)
		case r.Method == http.MethodPatch && patches.Add(1) == 1:
			body, _ := io.ReadAll(r.Body) // a short one fails the comparison below
			g.mu.Lock()                   // a connection that just ends orders nothing for the race detector
			late = body
			g.mu.Unlock()
			panic(http.ErrAbortHandler)
		case r.Method == http.MethodGet && asked.Add(1) == 1 && strings.Contains(r.URL.Path, "/blobs/uploads/"):
			g.ServeHTTP(w, r)
			g.mu.Lock()
			for id := range g.uploads {
				g.uploads[id] = append(g.uploads[id], late...)
			}
			g.mu.Unlock()
			return
		}
		g.ServeHTTP(w, r)
	}), nil), func(cfg *Config) { cfg.Chunk = 2 << 20 })
	data := noise(1, 5<<20)
	desc := ocispec.Descriptor{Digest: digest.FromBytes(data), Size: int64(len(data))}
	if err := c.Upload(ctx(t), "sonoma", desc, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(g.blobs[desc.Digest.String()], data) {
		t.Error("the blob differs")
	}
	if posts.Load() != 1 || len(late) != 2<<20 {
		t.Errorf("%d sessions were begun, want 1; the late request had %d bytes", posts.Load(), len(late))
	}
}

// A registry that is full gets back what the session took of it.
func TestUploadToAFullRegistryIsCancelled(t *testing.T) {
	t.Parallel()
	g := newRegistry()
	var cancelled atomic.Pointer[string]
	c := client(t, serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodPatch:
			_, _ = io.Copy(io.Discard, r.Body)
			fail(w, http.StatusInsufficientStorage, "DENIED")
		case http.MethodDelete:
			cancelled.Store(&r.URL.Path)
			w.WriteHeader(http.StatusNoContent)
		default:
			g.ServeHTTP(w, r)
		}
	}), nil), nil)
	data := noise(1, 2<<20)
	err := c.Upload(ctx(t), "sonoma", ocispec.Descriptor{Digest: digest.FromBytes(data), Size: int64(len(data))}, bytes.NewReader(data))
	if !errors.Is(err, ErrNoSpace) {
		t.Errorf("got %v, want %v", err, ErrNoSpace)
	}
	if got := cancelled.Load(); got == nil || *got != "/v2/sonoma/blobs/uploads/s1" {
		t.Errorf("cancelled %v", got)
	}
}

func TestTitlesThatLeaveTheDirectoryAreRefused(t *testing.T) {
	t.Parallel()
	g := newRegistry()
	c := client(t, serve(t, g, nil), nil)
	img := image(t, 1, 10)
	if _, err := c.Push(ctx(t), "sonoma", "v1", img, PushOptions{}); err != nil {
		t.Fatal(err)
	}
	raw := string(g.manifests["sonoma:v1"])
	for _, title := range []string{"../x", "..", "/etc/passwd", "a/b", `a\\b`, ".partial", "a\\u0000b"} {
		g.manifests["sonoma:v1"] = []byte(strings.Replace(raw, img.Files[0].Name, title, 1))
		dir := t.TempDir()
		if _, err := c.Pull(ctx(t), "sonoma", "v1", filepath.Join(dir, "in"), PullOptions{}); err == nil || !strings.Contains(err.Error(), "plain file name") {
			t.Errorf("title %q: got %v", title, err)
		}
	}
}

func TestBadNamesAreNamed(t *testing.T) {
	t.Parallel()
	c := client(t, "http://127.0.0.1:1", nil)
	for _, tc := range []struct{ repo, tag, says string }{
		{"Team/sonoma", "v1", `repository name is invalid: "Team/sonoma"`},
		{"../x", "v1", `repository name is invalid: "../x"`},
		{"sonoma", "a/b", `tag is invalid: "a/b"`},
		{"sonoma", "", `tag is invalid: ""`},
		{"sonoma", "..", `tag is invalid: ".."`},
	} {
		if _, err := c.Push(ctx(t), tc.repo, tc.tag, image(t, 1, 1), PushOptions{}); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("push %s:%s: got %v", tc.repo, tc.tag, err)
		}
	}
	for _, base := range []string{"", "10.0.1.4:8089", "ftp://x", "http://"} {
		if _, err := New(Config{Base: base}); err == nil {
			t.Errorf("base %q was accepted", base)
		}
	}
}
