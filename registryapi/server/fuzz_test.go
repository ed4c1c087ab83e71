package server

import (
	"bytes"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// FuzzOCIRequest throws paths and headers at a registry in a directory beside a
// file that must stay as it is.
func FuzzOCIRequest(f *testing.F) {
	blob := "/v2/vm/blobs/" + digest.FromString("0123456789").String()
	for _, seed := range [][4]string{
		{"GET", blob, "bytes=0-4,6-", ""},
		{"GET", "/v2/../../secret/manifests/..", "bytes=-99999999999999999999", ""},
		{"PUT", "/v2/vm/manifests/v1", "", `{"config":{"digest":"sha256:","size":1}}`},
		{"POST", "/v2/vm/blobs/uploads/?mount=../x&from=..", "", ""},
		{"POST", "/v2/vm/blobs/uploads/?digest=sha512:00", "0-9", "x"},
		{"PATCH", "/v2/vm/blobs/uploads/../../secret", "9223372036854775807-0", "x"},
		{"DELETE", "/v2/vm/blobs/" + strings.Repeat("a/", 100), "", ""},
		{"GET", "/v2/vm/tags/list?n=-1&last=%00", "", ""},
		{"PUT", "/registry/files/../../secret", "", "x"},
		{"DELETE", "/registry/revert?id=x&version=99999999999999999999", "", `{"tag":1}`},
		{"GET", "/registry/v1/changes?since=a-1-2&wait=-1s", "", ""},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3])
	}
	parent := f.TempDir()
	secret := filepath.Join(parent, "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o644); err != nil {
		f.Fatal(err)
	}
	g := newRegistry(f, testConfig(filepath.Join(parent, "store")))
	g.pushBlob("vm", []byte("0123456789"))
	handler := g.srv.Handler()
	f.Fuzz(func(t *testing.T, method, target, ranges, body string) {
		if strings.Contains(target, "wait=") || !strings.HasPrefix(target, "/") {
			return
		}
		req := httptest.NewRequest("GET", "/", strings.NewReader(body))
		path, query, _ := strings.Cut(target, "?")
		req.Method, req.URL.Path, req.URL.RawQuery = method, path, query
		for _, h := range []string{"Range", "Content-Range", "Content-Type"} {
			req.Header.Set(h, ranges)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, req)
		if w.Code >= 500 && w.Code != 507 {
			t.Errorf("%q %q: got %d %s", method, target, w.Code, w.Body)
		}
		if bytes.Contains(w.Body.Bytes(), []byte("secret")) && !strings.Contains(target+body+ranges, "secret") {
			t.Errorf("%q %q leaks: %s", method, target, w.Body)
		}
		if data, err := os.ReadFile(secret); err != nil || string(data) != "secret" {
			t.Fatalf("%q %q changed a file outside: %q, %v", method, target, data, err)
		}
	})
}

func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"0-9", "bytes 0-9/10", "9-0", "-1", "+1-2", "1-", "99999999999999999999-1", "0--1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if first, last, ok := parseContentRange(text); ok && (first < 0 || last < first-1) {
			t.Errorf("%q: got %d to %d", text, first, last)
		}
	})
}
