package cluster

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/ankacluster/ankacluster/registryapi"
)

// losing is the way to a client that is gone when its answer is written.
type losing struct {
	*httptest.ResponseRecorder
	gone context.CancelFunc
}

func (l losing) WriteHeader(status int)      { l.gone(); l.ResponseRecorder.WriteHeader(status) }
func (l losing) Write(p []byte) (int, error) { l.gone(); return l.ResponseRecorder.Write(p) }

// What was removed is answered as before when it is repeated because the answer was
// lost, at any host, also after the first one died with its disk.
func TestRepeatedRemovalsAreAnsweredByAnyHost(t *testing.T) {
	t.Parallel()
	c := newCloud(t, 3, nil)
	first := c.hosts[0]
	push := func(repo string, tags ...string) (last digest.Digest) {
		for _, tag := range tags {
			last, _ = first.push(repo, tag, 1000)
		}
		return last
	}
	id := func(repo string) string {
		list, err := registryapi.NewClient(first.url(), plain).Templates(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, tpl := range list {
			if tpl.Repository == repo {
				return tpl.ID
			}
		}
		t.Fatalf("%s is not listed", repo)
		return ""
	}
	push("tag", "v1", "v2")
	image := push("image", "v1", "v2")
	push("revert", "v1", "v2", "v3")
	push("latest", "v1", "v2", "v3")
	push("whole", "v1")
	loose := first.pushBlob("tag", []byte("loose"))

	latest := "/registry/revert?id=" + id("latest")
	requests := []string{
		"/v2/tag/manifests/v2",
		"/v2/image/manifests/" + image.String(),
		"/v2/tag/blobs/" + loose.Digest.String(),
		"/registry/revert?id=" + id("revert") + "&tag=v3",
		latest,
		"/registry/vm?id=" + id("whole"),
	}
	for _, path := range requests {
		ctx, cancel := context.WithCancel(t.Context())
		w := losing{httptest.NewRecorder(), cancel}
		first.srv.Handler().ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodDelete, path, http.NoBody))
		if w.Code > 299 {
			t.Fatalf("%s: got %d: %s", path, w.Code, w.Body)
		}
	}
	first.stop()
	first.wipe()
	for _, h := range c.hosts[1:] {
		for _, path := range requests {
			want := http.StatusOK
			if strings.HasPrefix(path, "/v2/") {
				want = http.StatusAccepted
			}
			if path == latest && h == c.hosts[2] {
				continue // delivered by the host before: asked for again, it removes one more
			}
			if a := h.want(want, "DELETE", path, nil); bytes.Contains(a.body, []byte(`"FAIL"`)) {
				t.Errorf("%s: %s: repeated: %s", h.name, path, a.body)
			}
		}
		for repo, tags := range map[string]string{"tag": `["v1"]`, "image": `["v1"]`, "revert": `["v1","v2"]`, "latest": `["v1","v2"]`} {
			if a := h.want(http.StatusOK, "GET", "/v2/"+repo+"/tags/list", nil); !strings.Contains(string(a.body), tags) {
				t.Errorf("%s: %s has %s after the repeats, want %s", h.name, repo, a.body, tags)
			}
		}
		h.want(http.StatusNotFound, "DELETE", "/v2/tag/manifests/never", nil)
	}
}
