package node

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/internal/oci"
)

// behind is what lies behind a door in a test: manifests by reference, and what was
// asked of it.
type behind struct {
	manifests map[string]string
	asked     []string
	auth      []string
}

func (b *behind) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.asked = append(b.asked, r.Method+" "+r.URL.Path)
	b.auth = append(b.auth, r.Header.Get("Authorization"))
	if asked := oci.Of(r); asked.Kind == oci.Manifest && r.Method == http.MethodGet {
		body, ok := b.manifests[asked.Ref]
		if !ok {
			oci.NewError(http.StatusNotFound, oci.CodeManifestUnknown, "no such manifest").Write(w)
			return
		}
		fmt.Fprint(w, body)
	}
}

func testDoor() (*door, *behind, http.Handler) {
	d, b := &door{host: "127.0.0.1:4001", log: zap.NewNop()}, &behind{manifests: make(map[string]string)}
	return d, b, d.guard(b)
}

func knock(h http.Handler, method, path string, edit func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://127.0.0.1:4001"+path, nil)
	if edit != nil {
		edit(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func with(password string) func(*http.Request) {
	return func(r *http.Request) { r.SetBasicAuth(doorUser, password) }
}

// A user of the host without the password of a transfer gets nothing, and the
// password is of use for its transfer only, and as long as it lasts.
func TestDoorServesTheTransferInHandOnly(t *testing.T) {
	d, b, h := testDoor()
	pull, donePull, err := d.open(hypervisor.Transfer{Repository: "team/demo", Tag: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	push, donePush, err := d.open(hypervisor.Transfer{Repository: "team/other", Tag: "v2", Write: true})
	if err != nil {
		t.Fatal(err)
	}
	defer donePush()
	blob := "/blobs/" + digest.FromString("x").String()
	for _, tt := range []struct {
		method, path, password string
		want                   int
	}{
		{"GET", "/v2/", "", 401},
		{"GET", "/v2/team/demo/manifests/v1", "", 401},
		{"GET", "/v2/team/demo/manifests/v1", "wrong", 401},
		{"DELETE", "/registry/vm?id=x", "", 401},
		{"GET", "/v2/", pull, 200},
		{"HEAD", "/v2/team/demo/manifests/v1", pull, 200},
		{"GET", "/v2/team/demo/tags/list", pull, 200},
		{"GET", "/v2/team/demo" + blob, pull, 200},
		{"GET", "/v2/team/demo/manifests/v9", pull, 404},
		{"GET", "/v2/team/other/manifests/v2", pull, 403},
		{"GET", "/v2/team/other" + blob, pull, 403},
		{"GET", "/v2/_catalog", pull, 403},
		{"GET", "/registry/v2/vm", pull, 403},
		{"DELETE", "/registry/vm?id=x", pull, 403},
		{"PUT", "/registry/files/central-logs/event/event.log", pull, 403},
		{"DELETE", "/v2/team/demo/manifests/v1", pull, 403},
		{"PUT", "/v2/team/demo/manifests/v1", pull, 403},
		{"POST", "/v2/team/demo/blobs/uploads/", pull, 403},
		{"POST", "/v2/team/other/blobs/uploads/", push, 200},
		{"PATCH", "/v2/team/other/blobs/uploads/id", push, 200},
		{"PUT", "/v2/team/other/blobs/uploads/id", push, 200},
		{"HEAD", "/v2/team/other" + blob, push, 200},
		{"PUT", "/v2/team/other/manifests/v2", push, 200},
		{"DELETE", "/v2/team/other/manifests/v2", push, 403},
		{"DELETE", "/v2/team/other" + blob, push, 403},
		{"POST", "/v2/team/demo/blobs/uploads/", push, 403},
		{"GET", "/v2/../registry/v2/vm", push, 403},
	} {
		before := len(b.asked)
		var edit func(*http.Request)
		if tt.password != "" {
			edit = with(tt.password)
		}
		w := knock(h, tt.method, tt.path, edit)
		if w.Code != tt.want {
			t.Errorf("%s %s: got %d, want %d: %s", tt.method, tt.path, w.Code, tt.want, w.Body)
		}
		if passed := len(b.asked) > before; passed != (tt.want == 200 || tt.want == 404) {
			t.Errorf("%s %s: passed on %v", tt.method, tt.path, passed)
		}
		if tt.want == 401 && !strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "Basic ") {
			t.Errorf("%s %s: the command is not asked for its password", tt.method, tt.path)
		}
	}
	if slices.ContainsFunc(b.auth, func(a string) bool { return a != "" }) {
		t.Errorf("the door's passwords went to the registry: %q", b.auth)
	}
	w := knock(h, "GET", "/v2/team/demo/manifests/v1", func(r *http.Request) { with(pull)(r); r.Host = "rebind.example:4001" })
	if w.Code != http.StatusMisdirectedRequest {
		t.Errorf("another name of this host: %d", w.Code)
	}
	donePull()
	if w := knock(h, "GET", "/v2/", with(pull)); w.Code != http.StatusUnauthorized {
		t.Errorf("after the transfer: %d", w.Code)
	}
}

// A push of a new template may write to the repository that it begins with, and to no
// other.
func TestDoorBindsANewTemplateToOneRepository(t *testing.T) {
	d, _, h := testDoor()
	push, done, err := d.open(hypervisor.Transfer{Tag: "v1", Write: true})
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	for _, tt := range []struct {
		path string
		want int
	}{{"/v2/New/blobs/uploads/", 403}, {"/v2/new/blobs/uploads/", 200}, {"/v2/other/blobs/uploads/", 403}, {"/v2/new/blobs/uploads/", 200}} {
		if w := knock(h, "POST", tt.path, with(push)); w.Code != tt.want {
			t.Errorf("%s: got %d, want %d", tt.path, w.Code, tt.want)
		}
	}
}

// The tag that a start was accepted with is what runs, though another was pushed
// meanwhile, and a registry that serves something else is found out.
func TestDoorServesTheDigestThatWasAccepted(t *testing.T) {
	d, b, h := testDoor()
	accepted := digest.FromString("accepted")
	b.manifests["v1"] = "moved"
	b.manifests[accepted.String()] = "accepted"
	open := func(t *testing.T, transfer hypervisor.Transfer) string {
		t.Helper()
		password, done, err := d.open(transfer)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(done)
		return password
	}
	pinned := open(t, hypervisor.Transfer{Repository: "demo", Tag: "v1", Digest: accepted.String()})
	get := func(ref, password string) (int, string) {
		w := knock(h, "GET", "/v2/demo/manifests/"+ref, with(password))
		body, _ := io.ReadAll(w.Body)
		return w.Code, string(body)
	}
	if code, body := get("v1", pinned); code != 200 || body != "accepted" {
		t.Errorf("got %d %q", code, body)
	}
	if w := knock(h, "HEAD", "/v2/demo/manifests/v1", with(pinned)); w.Code != 200 || b.asked[len(b.asked)-1] != "HEAD /v2/demo/manifests/"+accepted.String() {
		t.Errorf("a HEAD: %d, %v", w.Code, b.asked)
	}
	if code, body := get("v1", open(t, hypervisor.Transfer{Repository: "demo", Tag: "v1"})); code != 200 || body != "moved" {
		t.Errorf("without a digest: %d %q", code, body)
	}
	b.manifests[accepted.String()] = "forged"
	if code, body := get("v1", pinned); code != http.StatusBadGateway || strings.Contains(body, "forged") && !strings.Contains(body, "MANIFEST_INVALID") {
		t.Errorf("a forged one: %d %q", code, body)
	}
	if code, _ := get(accepted.String(), pinned); code != http.StatusBadGateway {
		t.Errorf("a forged one by its digest: %d", code)
	}
	delete(b.manifests, accepted.String())
	if code, _ := get("v1", pinned); code != http.StatusNotFound {
		t.Errorf("one that was deleted: %d", code)
	}
	if _, _, err := d.open(hypervisor.Transfer{Repository: "demo", Tag: "v1", Digest: "sha256:1"}); err == nil {
		t.Error("a digest that is none was accepted")
	}
}

// Both ways to registries, the node's own and others', open for one transfer and shut
// after it.
func TestOpenLetsOneTransferThrough(t *testing.T) {
	p := testPools(t, zap.NewNop(), "http://127.0.0.1:1", nil)
	proxy, err := newRegistryProxy(p)
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.listener.Close()
	at, done, err := proxy.Open(nil, hypervisor.Transfer{Repository: "demo", Tag: "v1"})
	if err != nil || at.URL != proxy.URL() || !strings.HasPrefix(at.User, doorUser+":") || at.Moved() != 0 {
		t.Fatalf("own: %+v, %v", at, err)
	}
	if len(proxy.door.passes) != 1 {
		t.Errorf("%d passes, want 1", len(proxy.door.passes))
	}
	done()
	if len(proxy.door.passes) != 0 {
		t.Errorf("%d passes are left", len(proxy.door.passes))
	}
	other, done, err := proxy.Open([]string{"http://127.0.0.1:1"}, hypervisor.Transfer{Write: true})
	if err != nil || other.URL == at.URL || other.User == at.User {
		t.Fatalf("others: %+v, %v", other, err)
	}
	resp, err := http.Get(other.URL + "/v2/")
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("without the password: %v, %v", resp, err)
	}
	done()
	if _, err := http.Get(other.URL + "/v2/"); err == nil {
		t.Error("it answers after the transfer")
	}
}
