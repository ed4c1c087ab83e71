package transfer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// registry is a small registry in memory whose servers can be made to misbehave.
// It implements what the specification says and no more.
type registry struct {
	mu        sync.Mutex
	blobs     map[string][]byte
	manifests map[string][]byte // repo + ":" + reference
	uploads   map[string][]byte
	served    int64 // bytes of blobs sent
	received  int64 // bytes of blobs received
	next      int
}

func newRegistry() *registry {
	return &registry{blobs: map[string][]byte{}, manifests: map[string][]byte{}, uploads: map[string][]byte{}}
}

func (g *registry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/v2/")
	switch {
	case strings.Contains(path, "/manifests/"):
		repo, ref, _ := strings.Cut(path, "/manifests/")
		g.serveManifest(w, r, repo, ref)
	case strings.Contains(path, "/blobs/uploads/"):
		repo, id, _ := strings.Cut(path, "/blobs/uploads/")
		g.serveUpload(w, r, repo, id)
	case strings.Contains(path, "/blobs/"):
		_, dg, _ := strings.Cut(path, "/blobs/")
		g.mu.Lock()
		data, ok := g.blobs[dg]
		g.mu.Unlock()
		if !ok {
			fail(w, http.StatusNotFound, "BLOB_UNKNOWN")
			return
		}
		http.ServeContent(&countingWriter{w, g}, r, "", time.Time{}, bytes.NewReader(data))
	default:
		fail(w, http.StatusNotFound, "NAME_UNKNOWN")
	}
}

// blobBytes is how many bytes of blobs were sent.
func (g *registry) blobBytes() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.served
}

type countingWriter struct {
	http.ResponseWriter
	g *registry
}

func (c *countingWriter) Write(b []byte) (int, error) {
	n, err := c.ResponseWriter.Write(b)
	c.g.mu.Lock()
	c.g.served += int64(n)
	c.g.mu.Unlock()
	return n, err
}

func fail(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"told so"}]}`, code)
}

func (g *registry) serveManifest(w http.ResponseWriter, r *http.Request, repo, ref string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch r.Method {
	case http.MethodPut:
		data, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		g.manifests[repo+":"+ref] = data
		g.manifests[repo+":"+digest.FromBytes(data).String()] = data
		w.WriteHeader(http.StatusCreated)
	case http.MethodDelete:
		if _, ok := g.manifests[repo+":"+ref]; !ok {
			fail(w, http.StatusNotFound, "MANIFEST_UNKNOWN")
			return
		}
		delete(g.manifests, repo+":"+ref)
		w.WriteHeader(http.StatusAccepted)
	default:
		data, ok := g.manifests[repo+":"+ref]
		if !ok {
			fail(w, http.StatusNotFound, "MANIFEST_UNKNOWN")
			return
		}
		w.Header().Set("Docker-Content-Digest", digest.FromBytes(data).String())
		_, _ = w.Write(data)
	}
}

func (g *registry) serveUpload(w http.ResponseWriter, r *http.Request, repo, id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	answer := func(status int) {
		w.Header().Set("Location", "/v2/"+repo+"/blobs/uploads/"+id)
		if n := len(g.uploads[id]); n > 0 {
			w.Header().Set("Range", fmt.Sprintf("0-%d", n-1))
		}
		w.WriteHeader(status)
	}
	if r.Method == http.MethodPost {
		g.next++
		id = fmt.Sprintf("s%d", g.next)
		g.uploads[id] = []byte{}
		answer(http.StatusAccepted)
		return
	}
	data, ok := g.uploads[id]
	if !ok {
		fail(w, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN")
		return
	}
	if r.Method == http.MethodGet {
		answer(http.StatusNoContent)
		return
	}
	if cr := r.Header.Get("Content-Range"); cr != "" && !strings.HasPrefix(cr, fmt.Sprintf("%d-", len(data))) {
		answer(http.StatusRequestedRangeNotSatisfiable)
		return
	}
	var got bytes.Buffer
	_, err := io.Copy(&got, r.Body) // what came before a cut is kept
	g.received += int64(got.Len())
	g.uploads[id] = append(data, got.Bytes()...)
	if err != nil {
		return
	}
	if r.Method == http.MethodPatch {
		answer(http.StatusAccepted)
		return
	}
	dg := r.URL.Query().Get("digest")
	if digest.FromBytes(g.uploads[id]).String() != dg {
		fail(w, http.StatusBadRequest, "DIGEST_INVALID")
		return
	}
	g.blobs[dg] = g.uploads[id]
	delete(g.uploads, id)
	w.WriteHeader(http.StatusCreated)
}

// cutter closes connections after a number of bytes in either direction.
type cutter struct {
	net.Listener
	after func() int64 // bytes until the cut of the next connection; < 0 never
}

func (c *cutter) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	n := c.after()
	if n < 0 {
		return conn, nil
	}
	return &cutConn{Conn: conn, left: n}, nil
}

type cutConn struct {
	net.Conn
	mu   sync.Mutex
	left int64
}

func (c *cutConn) spend(n int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left -= int64(n)
	if c.left < 0 {
		c.Conn.(*net.TCPConn).SetLinger(0)
		c.Conn.Close()
		return net.ErrClosed
	}
	return nil
}

func (c *cutConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if serr := c.spend(n); serr != nil {
		return 0, serr
	}
	return n, err
}

func (c *cutConn) Write(b []byte) (int, error) {
	if err := c.spend(len(b)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// serve starts h; after says when to cut each connection (nil: never).
func serve(t testing.TB, h http.Handler, after func() int64) string {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	if after != nil {
		srv.Listener = &cutter{Listener: srv.Listener, after: after}
	}
	srv.Start()
	t.Cleanup(srv.Close)
	return srv.URL
}

func client(t testing.TB, base string, change func(*Config)) *Client {
	t.Helper()
	hc := defaultHTTP(nil)
	t.Cleanup(hc.CloseIdleConnections)
	cfg := Config{Base: base, HTTP: hc, MinBackoff: time.Millisecond, MaxBackoff: 5 * time.Millisecond}
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// image makes files of the given sizes in a new directory.
func image(t testing.TB, seed byte, sizes ...int) Image {
	t.Helper()
	dir := t.TempDir()
	img := Image{Config: []byte(`{"name":"sonoma","uuid":"5d1b40b9-7ad5-4c50-9f5a-2e0f7f5a0f00"}`), Description: "fresh"}
	for i, size := range sizes {
		name := fmt.Sprintf("%032x.ank", i)
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, noise(seed+byte(i), size), 0o644); err != nil {
			t.Fatal(err)
		}
		img.Files = append(img.Files, File{Name: name, Path: path})
	}
	return img
}

func noise(seed byte, size int) []byte {
	data := make([]byte, size)
	src := rand.NewChaCha8(sha256.Sum256([]byte{seed}))
	_, _ = src.Read(data)
	return data
}

func sameFiles(t testing.TB, img Image, pulled Pulled) {
	t.Helper()
	if len(pulled.Files) != len(img.Files) {
		t.Fatalf("pulled %d files, want %d", len(pulled.Files), len(img.Files))
	}
	for i, f := range img.Files {
		want, err := os.ReadFile(f.Path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(pulled.Files[i].Path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("file %s: %d bytes pulled differ from %d bytes pushed", f.Name, len(got), len(want))
		}
	}
	if !bytes.Equal(pulled.Config, img.Config) {
		t.Errorf("configuration %s, want %s", pulled.Config, img.Config)
	}
}

func ctx(t testing.TB) context.Context {
	c, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	return c
}
