package server

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ankacluster/ankacluster/registryapi"
)

func TestMalformedRequestsNameTheSpecificationsError(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, g *registry) {
		g.pushVM("team/vm", "v1", vmUUID, map[string][]byte{"a.ank": []byte("layer")})
		blob := "/v2/team/vm/blobs/" + digest.FromString("layer").String()
		absent := digest.FromString("absent").String()
		missing := fmt.Sprintf(`{"schemaVersion":2,"config":{"digest":%q,"size":6},"layers":[]}`, absent)
		wrongSize := fmt.Sprintf(`{"schemaVersion":2,"config":{"digest":%q,"size":6},"layers":[]}`, digest.FromString("layer"))
		tests := []struct {
			method, path, body string
			status             int
			code               string
		}{
			{"GET", "/v2/team/vm/blobs/sha256:abc", "", 400, "DIGEST_INVALID"},
			{"GET", "/v2/team/vm/blobs/sha256:" + strings.Repeat("A", 64), "", 400, "DIGEST_INVALID"},
			{"GET", "/v2/team/vm/blobs/md5:" + strings.Repeat("a", 32), "", 400, "DIGEST_INVALID"},
			{"GET", "/v2/team/vm/blobs/nodigest", "", 400, "DIGEST_INVALID"},
			{"GET", "/v2/team/vm/blobs/" + absent, "", 404, "BLOB_UNKNOWN"},
			{"GET", "/v2/other/blobs/" + digest.FromString("layer").String(), "", 404, "BLOB_UNKNOWN"},
			{"DELETE", blob, "", 405, "UNSUPPORTED"}, // a manifest names it
			{"GET", "/v2/Team/vm/blobs/" + absent, "", 400, "NAME_INVALID"},
			{"GET", "/v2/a//b/tags/list", "", 400, "NAME_INVALID"},
			{"GET", "/v2/../../etc/tags/list", "", 400, "NAME_INVALID"},
			{"GET", "/v2/%2e%2e/%2e%2e/tags/list", "", 400, "NAME_INVALID"},
			{"GET", "/v2/" + strings.Repeat("a", 251) + "/tags/list", "", 400, "NAME_INVALID"},
			{"GET", "/v2/none/tags/list", "", 404, "NAME_UNKNOWN"},
			{"GET", "/v2/team/vm/tags/list?n=x", "", 400, "PAGINATION_NUMBER_INVALID"},
			{"GET", "/v2/team/vm/manifests/none", "", 404, "MANIFEST_UNKNOWN"},
			{"GET", "/v2/team/vm/manifests/..", "", 404, "MANIFEST_UNKNOWN"},
			{"GET", "/v2/team/vm/manifests/sha256:abc", "", 400, "DIGEST_INVALID"},
			{"PUT", "/v2/team/vm/manifests/-x", missing, 400, "MANIFEST_INVALID"},
			{"PUT", "/v2/team/vm/manifests/v2", missing, 400, "MANIFEST_BLOB_UNKNOWN"},
			{"PUT", "/v2/team/vm/manifests/v2", wrongSize, 400, "MANIFEST_INVALID"},
			{"PUT", "/v2/team/vm/manifests/v2", "not json", 400, "MANIFEST_INVALID"},
			{"PUT", "/v2/team/vm/manifests/v2", `{"config":{"digest":"../../x","size":1}}`, 400, "MANIFEST_INVALID"},
			{"PUT", "/v2/team/vm/manifests/v2", strings.Repeat(" ", 4<<20+1), 413, "SIZE_INVALID"},
			{"PUT", "/v2/team/vm/manifests/" + absent, `{"config":null}`, 400, "DIGEST_INVALID"},
			{"POST", "/v2/team/vm/blobs/uploads/?digest=sha256:1", "x", 400, "DIGEST_INVALID"},
			{"POST", "/v2/team/vm/blobs/uploads/?digest-algorithm=md5", "", 400, "DIGEST_INVALID"},
			{"POST", "/v2/team/vm/blobs/uploads/?digest=" + absent, "not it", 400, "DIGEST_INVALID"},
			{"PATCH", "/v2/team/vm/blobs/uploads/" + vmUUID, "x", 404, "BLOB_UPLOAD_UNKNOWN"},
			{"PATCH", "/v2/team/vm/blobs/uploads/..", "x", 404, "BLOB_UPLOAD_UNKNOWN"},
			{"PUT", "/v2/team/vm/blobs/uploads/" + vmUUID, "x", 400, "DIGEST_INVALID"},
			{"PUT", "/v2/team/vm/blobs/uploads/" + vmUUID + "?digest=" + absent, "", 404, "BLOB_UPLOAD_UNKNOWN"},
			{"DELETE", "/v2/team/vm/blobs/uploads/" + vmUUID, "", 404, "BLOB_UPLOAD_UNKNOWN"},
			{"POST", "/v2/team/vm/manifests/v1", "", 405, "UNSUPPORTED"},
			{"GET", "/v2/team/vm/elsewhere/x", "", 404, "NAME_UNKNOWN"},
		}
		for _, tt := range tests {
			name := tt.method + " " + tt.path
			req, err := http.NewRequest(tt.method, g.http.URL, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			path, query, _ := strings.Cut(tt.path, "?")
			req.URL.Opaque, req.URL.RawQuery = path, query // as written: no cleaning on our side
			resp, err := g.http.Client().Do(req)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != tt.status || !strings.Contains(string(body), `"`+tt.code+`"`) {
				t.Errorf("%.120s: got %d %s, want %d %s", name, resp.StatusCode, body, tt.status, tt.code)
			}
		}
		// Nothing visible has changed.
		if a := g.want(200, "GET", "/v2/team/vm/tags/list", nil); string(a.body) != `{"name":"team/vm","tags":["v1"]}` {
			t.Errorf("tags: got %s", a.body)
		}
		if a := g.want(200, "GET", "/v2/_catalog", nil); string(a.body) != `{"repositories":["team/vm"]}` {
			t.Errorf("catalog: got %s", a.body)
		}
	})
}

func TestRangesOfABlob(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, g *registry) {
		data := []byte("0123456789")
		g.pushBlob("vm", data)
		path := "/v2/vm/blobs/" + digest.FromBytes(data).String()
		for _, tt := range []struct {
			spec   string
			status int
			want   string
		}{
			{"bytes=0-0", 206, "0"}, {"bytes=3-5", 206, "345"}, {"bytes=8-", 206, "89"}, {"bytes=-3", 206, "789"},
			{"bytes=5-100", 206, "56789"}, {"bytes=10-", 416, ""}, {"bytes=5-4", 416, ""}, {"bytes=x", 416, ""},
			{"lines=1-2", 200, "0123456789"}, {"bytes=0-9", 206, "0123456789"},
		} {
			a := g.do("GET", path, nil, "Range", tt.spec)
			if a.status != tt.status || tt.status == 206 && string(a.body) != tt.want {
				t.Errorf("%s: got %d %q, want %d %q", tt.spec, a.status, a.body, tt.status, tt.want)
			}
		}
	})
}

func TestSmallestUploads(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, g *registry) {
		for _, content := range []string{"", "x"} {
			for _, alg := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
				d := alg.FromString(content)
				loc := g.want(202, "POST", "/v2/vm/blobs/uploads/", nil).header.Get("Location")
				if content != "" {
					a := g.want(202, "PATCH", loc, strings.NewReader(content))
					if a.header.Get("Upload-Offset") != "1" {
						t.Errorf("one byte: got offset %q", a.header.Get("Upload-Offset"))
					}
				}
				g.want(201, "PUT", loc+"?digest="+d.String(), nil)
				if a := g.want(200, "GET", "/v2/vm/blobs/"+d.String(), nil); string(a.body) != content {
					t.Errorf("%s: got %q, want %q", d, a.body, content)
				}
			}
		}
	})
}

// A closing PUT that is cut in its body keeps what arrived; the client asks
// where it was and goes on.
func TestInterruptedClosingPutResumes(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, g *registry) {
		data := bytes.Repeat([]byte("0123456789"), 50_000)
		d := digest.FromBytes(data).String()
		loc := g.want(202, "POST", "/v2/vm/blobs/uploads/", nil).header.Get("Location")
		half := len(data) / 2
		req, err := http.NewRequest("PUT", g.http.URL+loc+"?digest="+d, io.MultiReader(bytes.NewReader(data[:half]), brokenReader{}))
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = int64(len(data))
		if resp, err := g.http.Client().Do(req); err == nil {
			resp.Body.Close()
			t.Fatalf("a broken body was answered %d", resp.StatusCode)
		}
		g.want(404, "GET", "/v2/vm/blobs/"+d, nil)
		if got := g.finish(loc, data); got > half {
			t.Errorf("the upload was at %d, at most %d were sent", got, half)
		}
		g.want(200, "GET", "/v2/vm/blobs/"+d, nil)
	})
}

// finish closes an upload with what it lacks of data, and returns where it was.
// The client may have been told of a break before the server has read what came
// of it: an offset that has moved on since is refused (416), and asked anew.
func (g *registry) finish(loc string, data []byte) int {
	g.t.Helper()
	for {
		at := atoi(g.t, g.want(204, "GET", loc, nil).header.Get(registryapi.HeaderUploadOffset))
		put := g.do("PUT", loc+"?digest="+digest.FromBytes(data).String(), bytes.NewReader(data[at:]), "Content-Range", fmt.Sprintf("%d-%d", at, len(data)-1))
		if put.status == 201 {
			return at
		}
		// A request that was cut before may reach the server late: it has moved
		// the offset, or takes the upload over from this one.
		if put.status != 416 && put.status != 408 {
			g.t.Fatalf("closing PUT from %d: got %d %s, want 201, 408 or 416", at, put.status, put.body)
		}
	}
}

// An upload that one server begins is half sent to another and closed at the
// first: where it is, and its hash, are on the disk.
func TestUploadWandersBetweenServers(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	a, b := newRegistry(t, cfg), newRegistry(t, cfg)
	data := bytes.Repeat([]byte("0123456789"), 100_000)
	d, half := digest.FromBytes(data).String(), len(data)/2
	loc := a.want(202, "POST", "/v2/vm/blobs/uploads/", nil).header.Get("Location")
	b.want(202, "PATCH", loc, bytes.NewReader(data[:half]), "Content-Range", fmt.Sprintf("0-%d", half-1))
	if got := a.want(204, "GET", loc, nil).header.Get(registryapi.HeaderUploadOffset); got != fmt.Sprint(half) {
		t.Errorf("the first server is at %s, the other got %d", got, half)
	}
	a.want(201, "PUT", loc+"?digest="+d, bytes.NewReader(data[half:]))
	b.want(404, "GET", loc, nil)
	if got := b.want(200, "GET", "/v2/vm/blobs/"+d, nil); !bytes.Equal(got.body, data) {
		t.Error("the content differs")
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// Requirement R2: an upload without data frees its lock, and a second push of
// the same file works.
func TestR2StalledUploadFreesItsLock(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	other := newRegistry(t, cfg) // of the same directory, with more patience for this machine
	cfg.UploadInactivity = 100 * time.Millisecond
	g := newRegistry(t, cfg)
	loc := g.want(202, "POST", "/v2/vm/blobs/uploads/", nil).header.Get("Location")
	body, stalled := io.Pipe() // brings four bytes, then nothing, and is never closed by us
	defer stalled.Close()
	req, err := http.NewRequest("PATCH", g.http.URL+loc, body)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		resp, err := g.http.Client().Do(req)
		if err == nil {
			resp.Body.Close()
			err = fmt.Errorf("%s", resp.Status)
		}
		ended <- err
	}()
	if _, err := stalled.Write([]byte("0123")); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil || strings.Contains(err.Error(), "202") {
		t.Fatalf("the stalled request: got %v, want an end without success", err)
	}
	a := other.want(204, "GET", loc, nil)
	offset := atoi(t, a.header.Get("Upload-Offset")) // 4, or 0 where even those came too late
	other.want(201, "PUT", loc+"?digest="+digest.FromString("01234567").String(), strings.NewReader("01234567"[offset:]))
}

// A client that lost its connection asks again at once; the server must not
// make it wait until the old connection is found dead.
func TestNewRequestTakesOverAnUpload(t *testing.T) {
	t.Parallel()
	g, loc := writing(t, "01")
	a := g.want(204, "GET", loc, nil)
	offset := atoi(t, a.header.Get("Upload-Offset"))
	g.want(201, "PUT", loc+"?digest="+digest.FromString("0123").String(), strings.NewReader("0123"[offset:]),
		"Content-Range", fmt.Sprintf("%d-3", offset))
}

// The request that was cut may also arrive late, while the one that goes on where
// it ended is received. Without a Content-Range nobody can tell the two apart: its
// bytes are not appended, and the upload still becomes what it was to be.
func TestLateRequestWithoutRangeAddsNothing(t *testing.T) {
	t.Parallel()
	g, loc := writing(t, "01")
	late := g.want(416, "PATCH", loc, strings.NewReader("0"))
	if at := g.finish(loc, []byte("0123")); strconv.Itoa(at) != late.header.Get(registryapi.HeaderUploadOffset) {
		t.Errorf("the upload was at %d, and the late request was told %q", at, late.header.Get(registryapi.HeaderUploadOffset))
	}
}

// writing returns an upload to which a request has begun to send start, and from
// which no more will come.
func writing(t *testing.T, start string) (g *registry, loc string) {
	t.Helper()
	cfg := testConfig(t.TempDir())
	cfg.UploadInactivity = 10 * time.Minute // what waits for that waits for the test's end
	g = newRegistry(t, cfg)
	loc = g.want(202, "POST", "/v2/vm/blobs/uploads/", nil).header.Get("Location")
	body, writer := io.Pipe()
	t.Cleanup(func() { _ = writer.Close() })
	req, err := http.NewRequest("PATCH", g.http.URL+loc, body)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		if resp, err := g.http.Client().Do(req); err == nil {
			resp.Body.Close()
		}
	}()
	if _, err := io.WriteString(writer, start); err != nil {
		t.Fatal(err)
	}
	waitLocked(t, filepath.Join(g.srv.cfg.Root, "uploads", path.Base(loc), "lock"))
	return g, loc
}

// waitLocked waits until somebody holds the lock on a file.
func waitLocked(t *testing.T, path string) {
	t.Helper()
	for {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		f.Close()
		if err != nil {
			return
		}
		select {
		case <-t.Context().Done():
			t.Fatal("nobody took the lock")
		case <-time.After(time.Millisecond):
		}
	}
}

func atoi(t testing.TB, s string) (n int) {
	t.Helper()
	if _, err := fmt.Sscan(s, &n); err != nil {
		t.Fatalf("%q is no number", s)
	}
	return n
}

func TestMountAcrossRepositories(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, g *registry) {
		data := []byte("shared layer")
		d := g.pushBlob("one", data).Digest.String()
		g.want(201, "POST", "/v2/two/blobs/uploads/?mount="+d+"&from=one", nil)
		g.want(200, "GET", "/v2/two/blobs/"+d, nil)
		g.want(202, "POST", "/v2/three/blobs/uploads/?mount="+d+"&from=empty", nil) // the client uploads it
		g.want(404, "GET", "/v2/three/blobs/"+d, nil)
	})
}

// Requirement R9: a file half copied by other means than a push is not served,
// and neither is a tag that needs it.
func TestR9HalfCopiedFileIsAbsent(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	g := newRegistry(t, cfg)
	layer := []byte("a layer of some length")
	g.pushVM("good", "v1", "", map[string][]byte{"b.ank": []byte("other")})
	g.pushVM("vm", "v1", vmUUID, map[string][]byte{"a.ank": layer})
	hex := digest.FromBytes(layer).Encoded()
	path := filepath.Join(cfg.Root, "blobs", "sha256", hex[:2], hex)
	if err := os.Truncate(path, 5); err != nil {
		t.Fatal(err)
	}
	g.want(404, "GET", "/v2/vm/blobs/sha256:"+hex, nil)
	g.want(404, "HEAD", "/v2/vm/blobs/sha256:"+hex, nil)
	g.want(404, "GET", "/v2/vm/manifests/v1", nil)
	if err := os.WriteFile(path, layer, 0o644); err != nil {
		t.Fatal(err)
	}
	g.want(200, "GET", "/v2/vm/manifests/v1", nil)
}

// recordingWriter stands for the server's own writer, whose ReadFrom is
// sendfile when it is given a file or a limit on one.
type recordingWriter struct {
	*httptest.ResponseRecorder
	sources []io.Reader
}

func (w *recordingWriter) ReadFrom(r io.Reader) (int64, error) {
	w.sources = append(w.sources, r)
	return io.Copy(w.ResponseRecorder, r)
}

func TestDownloadHandsTheFileToTheServer(t *testing.T) {
	t.Parallel()
	g := newRegistry(t, testConfig(t.TempDir()))
	d := g.pushBlob("vm", bytes.Repeat([]byte("x"), paceChunk+1000)).Digest
	w := &recordingWriter{ResponseRecorder: httptest.NewRecorder()}
	g.srv.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/v2/vm/blobs/"+d.String(), nil))
	if len(w.sources) != 2 || w.Body.Len() != paceChunk+1000 {
		t.Fatalf("got %d bytes by %d calls of ReadFrom, want %d by 2", w.Body.Len(), len(w.sources), paceChunk+1000)
	}
	for _, src := range w.sources {
		limited, ok := src.(*io.LimitedReader)
		if !ok {
			t.Fatalf("got a %T, want a limit on a file", src)
		}
		if _, ok := limited.R.(*os.File); !ok {
			t.Errorf("got a limit on a %T, want on a file", limited.R)
		}
	}
}
