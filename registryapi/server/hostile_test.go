package server

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ankacluster/ankacluster/registryapi/content/fs"
)

// A few KB of YAML that mean gigabytes are pushed as any content, and neither lists
// nor a start read more of them than was pushed.
func TestYAMLBombIsPushedAndHarmsNothing(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	g := newRegistry(t, cfg)
	bomb := "a: &a \"" + strings.Repeat("x", 30_000) + "\"\nb: [" + strings.Repeat("*a,", 10_000) + "*a]\n"
	config := g.pushBlob("vm", []byte(bomb))
	layer := g.pushBlob("vm", []byte("disk"))
	raw := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.anka.config","digest":%q,"size":%d},"layers":[{"mediaType":"application/vnd.anka.disk","digest":%q,"size":4,"annotations":{%q:"a.ank"}}]}`,
		ispec.MediaTypeImageManifest, config.Digest, config.Size, layer.Digest, ispec.AnnotationTitle)
	g.want(http.StatusCreated, "PUT", "/v2/vm/manifests/v1", bytes.NewReader(raw), "Content-Type", ispec.MediaTypeImageManifest)
	for _, again := range []*registry{g, newRegistry(t, cfg)} {
		if a := again.want(http.StatusOK, "GET", "/registry/v2/vm", nil); len(a.body) > 10_000 {
			t.Errorf("the list has %d bytes", len(a.body))
		}
		again.want(http.StatusOK, "GET", "/v2/vm/manifests/v1", nil)
	}
}

// What a manifest refers to, and how deep, has a bound: all of it is looked at for
// each request.
func TestManifestsHaveBounds(t *testing.T) {
	t.Parallel()
	g := newRegistry(t, testConfig(t.TempDir()))
	config := g.pushBlob("vm", []byte("{}"))
	layers := func(n int) []byte {
		one := fmt.Sprintf(`{"mediaType":"a/b","digest":%q,"size":2}`, config.Digest)
		return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":%s,"layers":[%s]}`, ispec.MediaTypeImageManifest, one, strings.TrimSuffix(strings.Repeat(one+",", n), ","))
	}
	g.want(http.StatusCreated, "PUT", "/v2/vm/manifests/v1", bytes.NewReader(layers(1000)), "Content-Type", ispec.MediaTypeImageManifest)
	g.want(http.StatusBadRequest, "PUT", "/v2/vm/manifests/v2", bytes.NewReader(layers(20_000)), "Content-Type", ispec.MediaTypeImageManifest)
	// Of another type, what looks like a digest is looked for as well.
	var digests strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&digests, `,"%s"`, digest.FromString(fmt.Sprint(i)))
	}
	g.want(http.StatusBadRequest, "PUT", "/v2/vm/manifests/v3", strings.NewReader(`{"schemaVersion":2,"any":[""`+digests.String()+`]}`), "Content-Type", "application/vnd.any+json")
	g.want(http.StatusBadRequest, "PUT", "/v2/vm/manifests/v4", strings.NewReader(`{"schemaVersion":2,"any":[`+strings.Repeat("{},", 1<<20)+`{}]}`), "Content-Type", "application/vnd.any+json")

	inner := layers(1)
	status := http.StatusCreated
	depth := 0
	for ; status == http.StatusCreated && depth < 100; depth++ {
		d := digest.FromBytes(inner)
		status = g.do("PUT", "/v2/vm/manifests/"+d.String(), bytes.NewReader(inner), "Content-Type", mediaTypeOf(inner)).status
		inner = fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`, ispec.MediaTypeImageIndex, mediaTypeOf(inner), d, len(inner))
	}
	if status != http.StatusBadRequest || depth < 4 || depth > 12 {
		t.Errorf("manifests are %d deep in one another, then %d", depth, status)
	}

	tags := "?tag=t" + strings.Repeat("&tag=t", 200)
	d := digest.FromBytes(layers(1))
	g.want(http.StatusBadRequest, "PUT", "/v2/vm/manifests/"+d.String()+tags, bytes.NewReader(layers(1)), "Content-Type", ispec.MediaTypeImageManifest)
}

func mediaTypeOf(manifest []byte) string {
	if bytes.Contains(manifest, []byte(`"manifests"`)) {
		return ispec.MediaTypeImageIndex
	}
	return ispec.MediaTypeImageManifest
}

// A manifest is no page of the registry, whatever its type is said to be.
func TestManifestIsNoPage(t *testing.T) {
	t.Parallel()
	g := newRegistry(t, testConfig(t.TempDir()))
	for _, mediaType := range []string{"text/html", "image/svg+xml", "application/xhtml+xml", "application/vnd.wap.xhtml+xml", "text/javascript"} {
		raw := fmt.Appendf(nil, `{"schemaVersion":2,"x":"<script>%s</script>"}`, mediaType)
		d := digest.FromBytes(raw).String()
		g.want(http.StatusCreated, "PUT", "/v2/page/manifests/"+d, bytes.NewReader(raw), "Content-Type", mediaType)
		if got := g.want(http.StatusOK, "GET", "/v2/page/manifests/"+d, nil).header.Get("Content-Type"); got != "application/octet-stream" {
			t.Errorf("%s is served as %s", mediaType, got)
		}
	}
	raw := []byte(`{"schemaVersion":2,"x":"y"}`)
	g.want(http.StatusCreated, "PUT", "/v2/page/manifests/v1", bytes.NewReader(raw), "Content-Type", "application/vnd.acme.thing.v1")
	if got := g.want(http.StatusOK, "GET", "/v2/page/manifests/v1", nil).header.Get("Content-Type"); got != "application/vnd.acme.thing.v1" {
		t.Errorf("a type of its own is served as %s", got)
	}
}

// Who knows a digest alone does not get its content.
func TestMountNamesItsSource(t *testing.T) {
	t.Parallel()
	g := newRegistry(t, testConfig(t.TempDir()))
	d := g.pushBlob("secret", []byte("a layer of others")).Digest.String()
	g.want(http.StatusAccepted, "POST", "/v2/mine/blobs/uploads/?mount="+d, nil)
	g.want(http.StatusNotFound, "GET", "/v2/mine/blobs/"+d, nil)
}

// Uploads that get no content have a number and a life; those that get some do not.
func TestEmptyUploadsEnd(t *testing.T) {
	t.Parallel()
	g := newRegistry(t, testConfig(t.TempDir()))
	begin := func() answer { return g.do("POST", "/v2/vm/blobs/uploads/", nil) }
	used := begin()
	g.want(http.StatusAccepted, "PATCH", used.header.Get("Location"), strings.NewReader("abc"))
	var last answer
	begun := 0
	for ; begun < mostEmptyOfAddress+10; begun++ {
		if last = begin(); last.status != http.StatusAccepted {
			break
		}
	}
	if begun != mostEmptyOfAddress || last.status != http.StatusTooManyRequests {
		t.Fatalf("%d uploads were begun, then %d %s", begun, last.status, last.body)
	}
	g.srv.dropEmpty(t.Context(), time.Now().Add(emptyLife/2))
	if again := begin(); again.status != http.StatusTooManyRequests {
		t.Errorf("after half their life: %d", again.status)
	}
	g.srv.dropEmpty(t.Context(), time.Now().Add(2*emptyLife))
	if left, err := g.store.Uploads(); err != nil || len(left) != 1 {
		t.Errorf("%d uploads are left (%v), want the one with content", len(left), err)
	}
	g.want(http.StatusAccepted, "POST", "/v2/vm/blobs/uploads/", nil)
	g.want(http.StatusCreated, "PUT", used.header.Get("Location")+"?digest="+digest.FromString("abc").String(), nil)
}

// Files take the room that images may take, and central logs are added to, only.
func TestFilesAndLogsHaveBounds(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	store, err := fs.Open(cfg.Root, fs.Limits{Quota: 10})
	if err != nil {
		t.Fatal(err)
	}
	g := newRegistryOn(t, cfg, store)
	g.want(http.StatusOK, "PUT", "/registry/files/a.txt", strings.NewReader("a"))
	g.want(http.StatusBadRequest, "PUT", "/registry/files/central-logs/event/event.log", strings.NewReader("nothing happened"))
	g.want(http.StatusBadRequest, "PUT", "/registry/files/central-logs/node/agent.log", strings.NewReader("x"))
	g.want(http.StatusBadRequest, "POST", "/registry/logs/event/event.log", strings.NewReader("nothing happened"))
	g.want(http.StatusOK, "POST", "/registry/log-event", strings.NewReader(`{"a":1}`))
	g.want(http.StatusInsufficientStorage, "PUT", "/registry/files/b.txt", strings.NewReader("more than the quota"))
	g.want(http.StatusInsufficientStorage, "POST", "/registry/logs/node/agent.log", strings.NewReader("more than the quota"))
}
