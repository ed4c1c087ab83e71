package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/ankacluster/ankacluster/registryapi"
)

// fuzzed is a registry in a directory beside a file that must stay as it is.
type fuzzed struct {
	*registry
	secret string
}

func newFuzzed(f *testing.F) fuzzed {
	parent := f.TempDir()
	g := fuzzed{secret: filepath.Join(parent, "secret")}
	if err := os.WriteFile(g.secret, []byte("secret"), 0o644); err != nil {
		f.Fatal(err)
	}
	g.registry = newRegistry(f, testConfig(filepath.Join(parent, "store")))
	return g
}

// ask sends a request past the network, which would refuse most of them, and
// checks what no request may do. length -1 is a body of unknown length.
func (g fuzzed) ask(t *testing.T, method, target, body string, length int64, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	req := httptest.NewRequest("GET", "/", strings.NewReader(body))
	path, query, _ := strings.Cut(target, "?")
	req.Method, req.URL.Path, req.URL.RawQuery, req.ContentLength = method, path, query, length
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	g.srv.Handler().ServeHTTP(w, req)
	if w.Code >= 500 && w.Code != http.StatusInsufficientStorage {
		t.Errorf("%q %q %q: got %d %s", method, target, header, w.Code, w.Body)
	}
	if bytes.Contains(w.Body.Bytes(), []byte("secret")) && !strings.Contains(target+body+strings.Join(header, ""), "secret") {
		t.Errorf("%q %q leaks: %s", method, target, w.Body)
	}
	if data, err := os.ReadFile(g.secret); err != nil || string(data) != "secret" {
		t.Fatalf("%q %q changed a file outside: %q, %v", method, target, data, err)
	}
	return w
}

// FuzzOCIRequest throws paths, queries and headers at a registry.
func FuzzOCIRequest(f *testing.F) {
	blob := "/v2/vm/blobs/" + digest.FromString("0123456789").String()
	for _, seed := range [][4]string{
		{"GET", blob, "bytes=0-4,6-", ""},
		{"GET", "/v2/../../secret/manifests/..", "bytes=-99999999999999999999", ""},
		{"PUT", "/v2/vm/manifests/v1", "", `{"config":{"digest":"sha256:","size":1}}`},
		{"PUT", "/v2/vm/manifests/v1?tag=../x&tag=%00", "application/vnd.oci.image.index.v1+json; charset=utf-8", `{"manifests":[]}`},
		{"POST", "/v2/vm/blobs/uploads/?mount=../x&from=..", "", ""},
		{"POST", "/v2/vm/blobs/uploads/?mount=sha256:" + strings.Repeat("0", 64) + "&from=../../x", "", ""},
		{"POST", "/v2/vm/blobs/uploads/?digest=sha512:00", "0-9", "x"},
		{"POST", "/v2/vm/blobs/uploads/?digest-algorithm=sha512", "", ""},
		{"PATCH", "/v2/vm/blobs/uploads/../../secret", "9223372036854775807-0", "x"},
		{"GET", "/v2/vm/blobs/uploads/00000000-0000-0000-0000-000000000000", "", ""},
		{"DELETE", "/v2/vm/blobs/" + strings.Repeat("a/", 100), "", ""},
		{"GET", "/v2/vm/tags/list?n=-1&last=%00", "", ""},
		{"GET", "/v2/vm/referrers/" + digest.FromString("x").String() + "?artifactType=%zz", "", ""},
		{"PUT", "/registry/files/../../secret", "", "x"},
		{"POST", "/registry/logs/a/../../../secret", "", "x"},
		{"GET", "/registry/logs//etc/passwd", "", ""},
		{"DELETE", "/registry/revert?id=x&version=99999999999999999999", "", `{"tag":1}`},
		{"GET", "/registry/v1/changes?since=a-1-2&wait=-1s", "", ""},
		{"GET", "/registry/v1/repository?name=../..", "", ""},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3])
	}
	g := newFuzzed(f)
	g.pushBlob("vm", []byte("0123456789"))
	f.Fuzz(func(t *testing.T, method, target, ranges, body string) {
		if strings.Contains(target, "wait=") || strings.Contains(target, "follow=") || !strings.HasPrefix(target, "/") {
			return
		}
		g.ask(t, method, target, body, int64(len(body)), "Range", ranges, "Content-Range", ranges, "Content-Type", ranges)
	})
}

// FuzzRange asks for ranges of a blob as clients write them and as they do not.
func FuzzRange(f *testing.F) {
	for _, s := range []string{
		"", "bytes=0-", "bytes=0-0", "bytes=3-5", "bytes=-1", "bytes=-5", "bytes=9-", "bytes=10-", "bytes=0-9223372036854775807", "bytes=0-99999999999999999999",
		"bytes=5-4", "bytes=0-1,3-4", "bytes=0-,0-,0-,0-,0-,0-,0-,0-,0-", "bytes=-0", "bytes=,-0", "bytes=- 00 ,", "bytes=-0,-0", "bytes= 0 - 1 ", "bytes=0x1-2", "bytes=+1-2", "Bytes=0-1", "bytes=", "bytes=-", "0-1", "items=0-1", "bytes=1-2-3",
	} {
		f.Add(s)
	}
	const content = "0123456789"
	g := newFuzzed(f)
	blob := "/v2/vm/blobs/" + g.pushBlob("vm", []byte(content)).Digest.String()
	nothing := "/v2/vm/blobs/" + g.pushBlob("vm", nil).Digest.String()
	f.Fuzz(func(t *testing.T, ranges string) {
		if w := g.ask(t, "GET", nothing, "", 0, "Range", ranges); w.Code == http.StatusPartialContent && !strings.HasPrefix(w.Header().Get("Content-Type"), "multipart/") {
			t.Errorf("%q of an empty blob: got %q", ranges, w.Header().Get("Content-Range"))
		}
		w := g.ask(t, "GET", blob, "", 0, "Range", ranges)
		switch w.Code {
		case http.StatusOK:
			if w.Body.String() != content {
				t.Errorf("%q: got %q", ranges, w.Body)
			}
		case http.StatusPartialContent:
			if strings.HasPrefix(w.Header().Get("Content-Type"), "multipart/") {
				if w.Body.Len() > 4096 { // no more than its parts' heads for so small a blob
					t.Errorf("%q: %d bytes", ranges, w.Body.Len())
				}
				return
			}
			var first, last, size int
			if _, err := fmt.Sscanf(w.Header().Get("Content-Range"), "bytes %d-%d/%d", &first, &last, &size); err != nil ||
				first < 0 || last < first || last >= len(content) || size != len(content) || w.Body.String() != content[first:last+1] {
				t.Errorf("%q: got %q as %q", ranges, w.Body, w.Header().Get("Content-Range"))
			}
		case http.StatusRequestedRangeNotSatisfiable:
		default:
			t.Errorf("%q: got %d", ranges, w.Code)
		}
	})
}

// FuzzUpload sends one chunk and closes the upload. What the headers say never
// makes the registry believe more than it got, or store other than it was told.
func FuzzUpload(f *testing.F) {
	whole := digest.FromString("0123456789").String()
	for _, s := range []struct {
		chunkRange, chunk, lastRange, last, digest string
		length                                     int64
	}{
		{"0-4", "01234", "5-9", "56789", whole, 5},          // as the specification has it
		{"bytes 0-4/10", "01234", "", "56789", whole, 5},    // as HTTP has it
		{"", "0123456789", "", "", whole, -1},               // streamed
		{"5-9", "01234", "0-4", "56789", whole, 5},          // out of order
		{"0-4", "01234", "4-9", "456789", whole, 5},         // overlapping
		{"0-9", "01234", "5-9", "56789", whole, 5},          // shorter than it says
		{"0-4", "01234", "5-9", "56789", "sha256:00", 5},    // malformed
		{"0-4", "01234", "5-9", "5678x", whole, 5},          // other content
		{"0-4", "01234", "5-9", "56789", "", 5},             // no digest
		{"", "", "", "", digest.FromString("").String(), 0}, // empty
		{"0-0", "0", "", "", digest.SHA512.FromString("0").String(), 1},
		{"0-9223372036854775807", "01234", "9223372036854775807-0", "", whole, 5},
		{"-5--1", "01234", "x", "", "md5:00", -1},
	} {
		f.Add(s.chunkRange, s.chunk, s.length, s.lastRange, s.last, s.digest)
	}
	g := newFuzzed(f)
	f.Fuzz(func(t *testing.T, chunkRange, chunk string, length int64, lastRange, last, closing string) {
		if length != -1 && length != int64(len(chunk)) {
			length = int64(len(chunk)) // net/http holds a body to its length
		}
		loc := g.ask(t, "POST", "/v2/vm/blobs/uploads/", "", 0).Header().Get("Location")
		if loc == "" {
			t.Fatal("no upload was begun")
		}
		accepted := ""
		if w := g.ask(t, "PATCH", loc, chunk, length, "Content-Range", chunkRange); w.Code == http.StatusAccepted {
			accepted = chunk
		}
		at := g.ask(t, "GET", loc, "", 0).Header().Get(registryapi.HeaderUploadOffset)
		if at != strconv.Itoa(len(accepted)) {
			t.Errorf("Content-Range %q: accepted %d bytes, the upload is at %s", chunkRange, len(accepted), at)
		}
		w := g.ask(t, "PUT", loc+"?digest="+url.QueryEscape(closing), last, int64(len(last)), "Content-Range", lastRange)
		if w.Code == http.StatusCreated {
			d := digest.Digest(closing)
			blob := g.ask(t, "GET", "/v2/vm/blobs/"+closing, "", 0)
			if content := accepted + last; blob.Body.String() != content || d.Algorithm().FromString(content) != d {
				t.Errorf("%q was stored as %s: %q", content, closing, blob.Body)
			}
		}
		g.ask(t, "DELETE", loc, "", 0)
	})
}

// FuzzPages walks a list in pages: each name comes once, in order, whatever the
// client names as the last.
func FuzzPages(f *testing.F) {
	g := newFuzzed(f)
	var tags []string
	for i := range 7 {
		tags = append(tags, fmt.Sprintf("v%d+b:%c", i, 'a'+i))
		g.pushVM("vm", tags[i], vmUUID, map[string][]byte{"a.ank": {byte(i)}})
	}
	for _, seed := range [][2]string{
		{"1", ""}, {"2", "v0+b:a"}, {"3", "v"}, {"100", "~"}, {"0", ""}, {"-1", ""}, {"x", ""}, {"99999999999999999999", ""}, {"", ""}, {"2", "v3+b:d\x00"}, {"2", "é"}, {"+2", ""},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, n, last string) {
		want := slices.DeleteFunc(slices.Clone(tags), func(tag string) bool { return last != "" && tag <= last })
		target := "/v2/vm/tags/list?" + url.Values{"n": {n}, "last": {last}}.Encode()
		var got []string
		for turn := 0; target != ""; turn++ {
			w := g.ask(t, "GET", target, "", 0)
			if w.Code == http.StatusBadRequest && turn == 0 {
				return // n is no number
			}
			var page struct{ Tags []string }
			if err := json.Unmarshal(w.Body.Bytes(), &page); err != nil || w.Code != http.StatusOK || turn > len(tags) || page.Tags == nil {
				t.Fatalf("n=%q last=%q, page %d: %d %s, %v", n, last, turn, w.Code, w.Body, err)
			}
			got = append(got, page.Tags...)
			link, _, _ := strings.Cut(strings.TrimPrefix(w.Header().Get("Link"), "<"), ">")
			target = link
		}
		if zero, err := strconv.Atoi(n); err == nil && zero == 0 {
			want = nil
		}
		if !slices.Equal(got, want) {
			t.Errorf("n=%q last=%q: got %q, want %q", n, last, got, want)
		}
	})
}

// FuzzTemplateCalls throws queries and bodies at the template REST API. Every
// answer is an envelope, and what failed has changed nothing.
func FuzzTemplateCalls(f *testing.F) {
	calls := []struct{ method, path string }{
		{"GET", "/registry/v2/vm"}, {"GET", "/registry/vm"}, {"DELETE", "/registry/vm"}, {"GET", "/registry/vm/info"},
		{"DELETE", "/registry/revert"}, {"PUT", "/registry/vm/arch"}, {"POST", "/registry/log-event"},
	}
	for i, seed := range []struct{ query, body string }{
		{"id=" + vmUUID, ""}, {"id=" + strings.ToUpper(vmUUID), ""}, {"id=" + vmUUID, "null"}, {"id=" + vmUUID + "&tag=v1", ""},
		{"id=" + vmUUID, `{"tag":"v1"}`}, {"", `{"id":"` + vmUUID + `","arch":"arm64"}`}, {"", `{"event":"x"}`},
		{"id=" + vmUUID + "&version=-1", ""}, {"id=" + vmUUID + "&number=99999999999999999999", ""}, {"id=%00&tag=%zz", ""},
		{"id=" + vmUUID, `{"version":1e400}`}, {"id=" + vmUUID, `{"version":1.5,"number":"0"}`}, {"id=" + vmUUID, `[`}, {"", `{"id":["x"],"arch":{}}`},
		{"id=../../secret", `{"id":"../../secret"}`}, {"id=" + vmUUID + "&id=x", `{"id":"` + vmUUID + `"}{}`}, {"", strings.Repeat(`{"a":`, 2000)},
	} {
		f.Add(uint8(i), seed.query, seed.body)
	}
	g := newFuzzed(f)
	g.pushVM("vm", "v1", vmUUID, map[string][]byte{"a.ank": []byte("1")})
	g.pushVM("vm", "v2", vmUUID, map[string][]byte{"a.ank": []byte("2")})
	raw := map[string][]byte{}
	for _, tag := range []string{"v1", "v2"} {
		raw[tag] = g.want(200, "GET", "/v2/vm/manifests/"+tag, nil).body
	}
	f.Fuzz(func(t *testing.T, which uint8, query, body string) {
		call := calls[int(which)%len(calls)]
		w := g.ask(t, call.method, call.path+"?"+query, body, int64(len(body)))
		var e struct {
			Status  string
			Message string
			Body    json.RawMessage
		}
		if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e.Status != "OK" && e.Status != "FAIL" || e.Status == "FAIL" && e.Message == "" || e.Body == nil {
			t.Errorf("%s?%s %q: got %d %s, %v", call.path, query, body, w.Code, w.Body, err)
		}
		var shown struct{ Body registryapi.Template }
		list := g.ask(t, "GET", "/registry/v2/vm?id="+vmUUID, "", 0)
		_ = json.Unmarshal(list.Body.Bytes(), &shown) // a template that is gone has no body
		if e.Status == "OK" && call.method == "DELETE" {
			for _, tag := range []string{"v1", "v2"} {
				if w := g.ask(t, "PUT", "/v2/vm/manifests/"+tag, string(raw[tag]), int64(len(raw[tag]))); w.Code != http.StatusCreated {
					t.Fatalf("push %s again: %d %s", tag, w.Code, w.Body)
				}
			}
			return
		}
		if got := tagNames(shown.Body); got != "0=v1 1=v2" {
			t.Errorf("%s?%s %q was answered %s and left %s", call.path, query, body, w.Body, got)
		}
	})
}

// FuzzDamagedFiles puts anything into the files of one template, the journal and
// the index: the other template is listed and pulled all the same.
func FuzzDamagedFiles(f *testing.F) {
	places := []string{
		"repos/bad/meta", "repos/bad/tags/v1", "repos/bad/manifests/sha256/*", "repos/bad/blobs/sha256/*", "repos/bad/pulls/v1", "index.json", "journal/*/*",
		"repos/bad/tags/" + strings.Repeat("x", 200), "repos/not~a~~name", "locks/journal",
	}
	for i := range places {
		for _, content := range []string{"", "{", "null", "[]", `{"id":5}`, `{"tag":"v1","digest":"sha256:../../x"}`, `{"entries":{"a":null}}`, "-1", "99999999999999999999", "\x00\xff"} {
			f.Add(uint8(i), []byte(content))
		}
	}
	parent := f.TempDir()
	cfg := testConfig(filepath.Join(parent, "store"))
	g := newRegistry(f, cfg)
	g.pushVM("good", "v1", vmUUID, map[string][]byte{"a.ank": []byte("1")})
	g.pushVM("bad", "v1", "", map[string][]byte{"b.ank": []byte("2")})
	g.srv.catalog.close()
	f.Fuzz(func(t *testing.T, where uint8, content []byte) {
		pattern := filepath.Join(cfg.Root, places[int(where)%len(places)])
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		if len(paths) == 0 {
			paths = []string{pattern}
		}
		if err := os.MkdirAll(filepath.Dir(paths[0]), 0o755); err != nil {
			t.Fatal(err)
		}
		before, err := os.ReadFile(paths[0])
		if werr := os.WriteFile(paths[0], content, 0o644); werr != nil {
			t.Fatal(werr)
		}
		defer func() {
			if err != nil {
				_ = os.Remove(paths[0])
			} else if err := os.WriteFile(paths[0], before, 0o644); err != nil {
				t.Error(err)
			}
		}()
		srv, err := New(cfg, openStore(t, cfg.Root), nil)
		if err != nil {
			t.Fatal(err)
		}
		d := fuzzed{&registry{t: t, srv: srv}, filepath.Join(parent, "secret")}
		if err := os.WriteFile(d.secret, []byte("secret"), 0o644); err != nil {
			t.Fatal(err)
		}
		// An index that says otherwise is believed until the next scan.
		if err := srv.catalog.scan(t.Context()); err != nil {
			t.Errorf("%s %q: scan: %v", pattern, content, err)
		}
		list := d.ask(t, "GET", "/registry/v2/vm", "", 0)
		if !bytes.Contains(list.Body.Bytes(), []byte(vmUUID)) {
			t.Errorf("%s %q: the other template is gone: %s", pattern, content, list.Body)
		}
		if w := d.ask(t, "GET", "/v2/good/manifests/v1", "", 0); w.Code != http.StatusOK {
			t.Errorf("%s %q: the other template is answered %d", pattern, content, w.Code)
		}
		d.ask(t, "GET", "/v2/bad/manifests/v1", "", 0)
		d.ask(t, "GET", "/v2/bad/tags/list", "", 0)
		d.ask(t, "GET", "/registry/v1/repository?name=bad", "", 0)
		d.ask(t, "GET", "/registry/v1/changes?since=0", "", 0)
	})
}
