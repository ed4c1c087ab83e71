package server

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// two are servers of one store.
func two(t *testing.T, g *registry) [2]*registry {
	return [2]*registry{g, newRegistryOn(t, g.srv.cfg, g.store)}
}

// Every write that is repeated because its answer was lost gets the first one's
// answer, at any server of the store.
func TestRepeatedWritesGetTheFirstAnswer(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, one *registry) {
		g := two(t, one)
		content := []byte("content of a blob")
		d := digest.FromBytes(content)
		begin := func() string { return g[0].want(202, "POST", "/v2/a/blobs/uploads/", nil).header.Get("Location") }
		body := func() *bytes.Reader { return bytes.NewReader(content) }
		twice := func(status int, method, path string, data []byte, header ...string) {
			t.Helper()
			for _, k := range []int{0, 0, 1} {
				a := g[k].do(method, path, bytes.NewReader(data), header...)
				if a.status != status {
					t.Errorf("%s %s: got %d %s, want %d", method, path, a.status, a.body, status)
				}
			}
		}

		at := begin()
		twice(201, "PUT", at+"?digest="+d.String(), content) // with its content

		at = begin()
		chunk := []string{"Content-Range", "0-16"}
		g[0].want(202, "PATCH", at, body(), chunk...)
		twice(201, "PUT", at+"?digest="+d.String(), nil)
		twice(202, "PATCH", at, content, chunk...) // after the commit
		if a := g[1].do("PATCH", at, body(), "Content-Range", "17-33"); a.status != 404 {
			t.Errorf("a chunk that never was part of it: got %d", a.status)
		}
		if a := g[1].do("PUT", at+"?digest="+digest.FromString("other").String(), body()); a.status != 404 {
			t.Errorf("a digest that it was not closed with: got %d", a.status)
		}

		twice(204, "DELETE", begin(), nil)
		if a := g[0].do("DELETE", at, nil); a.status != 404 {
			t.Errorf("cancel of an upload that was closed: got %d", a.status)
		}

		m := g[0].pushVM("a", "v1", vmUUID, map[string][]byte{"x.ank": content})
		g[0].pushVM("a", "v2", vmUUID, map[string][]byte{"x.ank": []byte("more")})
		twice(202, "DELETE", "/v2/a/manifests/v2", nil)
		twice(202, "DELETE", "/v2/a/manifests/"+m.String(), nil)
		loose := g[0].pushBlob("a", []byte("loose"))
		twice(202, "DELETE", "/v2/a/blobs/"+loose.Digest.String(), nil)
		for _, path := range []string{"/v2/a/manifests/v9", "/v2/a/manifests/" + digest.FromString("x").String(), "/v2/a/blobs/" + digest.FromString("x").String()} {
			if a := g[1].do("DELETE", path, nil); a.status != 404 {
				t.Errorf("%s, which never was there: got %d", path, a.status)
			}
		}
		if a := g[1].do("GET", "/v2/a/manifests/v2", nil); a.status != 404 {
			t.Errorf("what was deleted is there: %d", a.status)
		}
		g[1].pushVM("a", "v2", vmUUID, map[string][]byte{"x.ank": []byte("more")})
		g[0].want(202, "DELETE", "/v2/a/manifests/v2", nil)
		if a := g[0].do("GET", "/v2/a/manifests/v2", nil); a.status != 404 {
			t.Errorf("pushed and deleted again: %d", a.status)
		}
	})
}

// losing is the way to a client that is gone when its answer is written.
type losing struct {
	*httptest.ResponseRecorder
	gone context.CancelFunc
}

func (l losing) WriteHeader(status int)      { l.gone(); l.ResponseRecorder.WriteHeader(status) }
func (l losing) Write(p []byte) (int, error) { l.gone(); return l.ResponseRecorder.Write(p) }

// A revert whose answer was lost removes no more when it is repeated; one that is
// asked for again does.
func TestRepeatedRevertRemovesNoMore(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"", "&tag=v4", "&version=3"} {
		eachStore(t, func(t *testing.T, one *registry) {
			g := two(t, one)
			for _, tag := range []string{"v1", "v2", "v3", "v4"} {
				g[0].pushVM("a", tag, vmUUID, map[string][]byte{"x.ank": []byte(tag)})
			}
			path := "/registry/revert?id=" + vmUUID + target
			ctx, cancel := context.WithCancel(t.Context())
			g[0].srv.Handler().ServeHTTP(losing{httptest.NewRecorder(), cancel}, httptest.NewRequestWithContext(ctx, "DELETE", path, http.NoBody))
			tags := func() string {
				return string(g[0].want(200, "GET", "/v2/a/tags/list", nil).body)
			}
			if got := tags(); !strings.Contains(got, `["v1","v2","v3"]`) {
				t.Fatalf("%q: after the first: %s", target, got)
			}
			if a := g[1].want(200, "DELETE", path, nil); !strings.Contains(string(a.body), `"OK"`) {
				t.Errorf("%q: repeated: %s", target, a.body)
			}
			if got := tags(); !strings.Contains(got, `["v1","v2","v3"]`) {
				t.Errorf("%q: after the repeat: %s", target, got)
			}
			if target == "" {
				g[1].want(200, "DELETE", path, nil)
				if got := tags(); !strings.Contains(got, `["v1","v2"]`) {
					t.Errorf("asked for anew: %s", got)
				}
			}
		})
	}
}

// Tags are listed in the order of the specification, page by page.
func TestTagsAreListedLexically(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, g *registry) {
		for _, tag := range []string{"b", "A", "a", "C", "B", "1", "_"} {
			g.pushVM("a", tag, vmUUID, nil)
		}
		if got := string(g.want(200, "GET", "/v2/a/tags/list", nil).body); !strings.Contains(got, `["1","_","A","a","B","b","C"]`) {
			t.Errorf("got %s", got)
		}
		if got := string(g.want(200, "GET", "/v2/a/tags/list?n=2&last=a", nil).body); !strings.Contains(got, `["B","b"]`) {
			t.Errorf("a page: got %s", got)
		}
	})
}
