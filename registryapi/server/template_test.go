package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/content"
	"github.com/ankacluster/ankacluster/registryapi/content/memory"
)

func (g *registry) template(id string) registryapi.Template {
	g.t.Helper()
	t, err := g.client().Template(g.t.Context(), id)
	if err != nil {
		g.t.Fatalf("template %s: %v", id, err)
	}
	return t
}

func tagNames(t registryapi.Template) string {
	var names []string
	for i, v := range t.Versions {
		names = append(names, fmt.Sprintf("%d=%s", v.Number, v.Tag))
		if v.Number != i {
			names = append(names, "(wrong number)")
		}
	}
	return strings.Join(names, " ")
}

func TestSizesCountEachFileOnce(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, g *registry) {
		base, one, two := bytes.Repeat([]byte("b"), 1000), bytes.Repeat([]byte("1"), 100), bytes.Repeat([]byte("2"), 10)
		g.pushVM("vm", "v1", vmUUID, map[string][]byte{"a.ank": base, "b.ank": one, "copy.ank": one})
		g.pushVM("vm", "v2", vmUUID, map[string][]byte{"a.ank": base, "b.ank": two, "s.sav": nil})
		config := uint64(len(fmt.Sprintf(`{"name":"VM of vm","uuid":%q,"ram":"2G"}`, vmUUID)))
		got := g.template(vmUUID)
		if want := 1110 + config; got.Size != want {
			t.Errorf("template: got %d bytes, want %d", got.Size, want)
		}
		if want := 1100 + config; got.Versions[0].Size != want {
			t.Errorf("v1: got %d bytes, want %d", got.Versions[0].Size, want)
		}
		if v := got.Versions[1]; v.StateFile != "s.sav" || len(v.StateFiles) != 1 || len(v.Images) != 2 {
			t.Errorf("v2: got %+v", v)
		}
	})
}

func TestLatestIsAnAliasOfTheNewestPush(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, g *registry) {
		d1 := g.pushVM("vm", "v1", vmUUID, map[string][]byte{"a.ank": []byte("1")})
		pulls := func(want digest.Digest) {
			t.Helper()
			if a := g.want(200, "HEAD", "/v2/vm/manifests/latest", nil); a.header.Get("Docker-Content-Digest") != want.String() {
				t.Errorf("latest: got %s, want %s", a.header.Get("Docker-Content-Digest"), want)
			}
		}
		pulls(d1)
		d2 := g.pushVM("vm", "v2", vmUUID, map[string][]byte{"a.ank": []byte("2")})
		pulls(d2)
		// A client that pushes the alias itself makes no version of its own ...
		v1 := g.want(200, "GET", "/v2/vm/manifests/v1", nil)
		g.want(201, "PUT", "/v2/vm/manifests/latest", bytes.NewReader(v1.body), "Content-Type", v1.header.Get("Content-Type"))
		pulls(d1)
		if got := tagNames(g.template(vmUUID)); got != "0=v1 1=v2" {
			t.Errorf("versions: got %s", got)
		}
		// ... unless nothing else has its content.
		g.pushVM("vm", "latest", vmUUID, map[string][]byte{"a.ank": []byte("3")})
		if got := tagNames(g.template(vmUUID)); got != "0=v1 1=v2 2=latest" {
			t.Errorf("versions: got %s", got)
		}
	})
}

// Requirement R7 and the tag grammar: what is pushed is found, whether '+' is
// sent raw or escaped.
func TestR7TagsOfAllShapes(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, g *registry) {
		tags := []string{"vanilla+port-forward-22+brew-git", "os:deps:8G-RAM", "A", "a", "x_y.z-1", strings.Repeat("T", 128)}
		for i, tag := range tags {
			g.pushVM("vm", tag, vmUUID, map[string][]byte{"a.ank": {byte(i)}})
		}
		if got := g.template(vmUUID); len(got.Versions) != len(tags) {
			t.Fatalf("got %s", tagNames(got))
		}
		for _, tag := range tags {
			g.want(200, "GET", "/v2/vm/manifests/"+tag, nil)
			g.want(200, "GET", "/v2/vm/manifests/"+url.PathEscape(tag), nil)
			for _, query := range []string{tag, url.QueryEscape(tag)} {
				a := g.want(200, "GET", "/registry/vm/info?id="+vmUUID+"&tag="+query, nil)
				if !bytes.Contains(a.body, []byte(`"status":"OK"`)) {
					t.Errorf("info of %s: got %s", query, a.body)
				}
			}
		}
	})
}

func TestRevertRemovesTheTagAndEveryLaterOne(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, query, body, want, message string
	}{
		{"default", "", "", "0=a 1=b+1", ""},
		{"tag in the query", "&tag=b%2B1", "", "0=a", ""},
		{"raw plus in the query", "&tag=b+1", "", "0=a", ""},
		{"tag in the body", "", `{"tag":"b+1"}`, "0=a", ""},
		{"version in the body", "", `{"version":1}`, "0=a", ""},
		{"version 0", "", `{"version":0}`, "", ""},
		{"number in the query", "&number=2", "", "0=a 1=b+1", ""},
		{"number in the body", "", `{"number":1}`, "0=a", ""},
		{"unknown tag", "&tag=x", "", "0=a 1=b+1 2=c", "No such tag x"},
		{"unknown version", "&version=3", "", "0=a 1=b+1 2=c", "No such version 3"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := newRegistry(t, testConfig(t.TempDir()))
			for i, tag := range []string{"a", "b+1", "c"} {
				g.pushVM("vm", tag, vmUUID, map[string][]byte{"shared.ank": []byte("s"), "own.ank": {byte(i)}})
			}
			a := g.want(200, "DELETE", "/registry/revert?id="+vmUUID+tt.query, strings.NewReader(tt.body))
			var env struct {
				Status, Message string
				Body            json.RawMessage
			}
			if err := json.Unmarshal(a.body, &env); err != nil || env.Message != tt.message || string(env.Body) != "null" {
				t.Errorf("answer: got %s, want message %q and a null body", a.body, tt.message)
			}
			if (env.Status == "OK") != (tt.message == "") {
				t.Errorf("status: got %q with message %q", env.Status, env.Message)
			}
			if tt.want == "" {
				if _, err := g.client().Template(t.Context(), vmUUID); err == nil {
					t.Error("the template is still there")
				}
				return
			}
			if got := tagNames(g.template(vmUUID)); got != tt.want {
				t.Errorf("versions: got %s, want %s", got, tt.want)
			}
			g.want(200, "GET", "/v2/vm/manifests/a", nil) // its shared layer is there
		})
	}
}

// Requirement R6: looking at a template does not count as a pull of it.
func TestR6LastPullChangesOnlyByPulls(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	g := newRegistry(t, cfg)
	g.pushVM("vm", "v1", vmUUID, map[string][]byte{"a.ank": []byte("1")})
	g.pushVM("vm", "v2", vmUUID, map[string][]byte{"a.ank": []byte("2")})
	g.want(200, "HEAD", "/v2/vm/manifests/v1", nil)
	g.want(200, "GET", "/v2/vm/tags/list", nil)
	g.want(200, "GET", "/registry/vm/info?id="+vmUUID, nil)
	g.want(200, "GET", "/v2/vm/manifests/v1", nil, registryapi.HeaderNoPull, "replica")
	if got := g.template(vmUUID); got.LastPull != 0 {
		t.Errorf("after looks: got last_pull %d, want 0", got.LastPull)
	}
	g.want(200, "GET", "/v2/vm/manifests/v1", nil)
	got := g.template(vmUUID)
	if got.LastPull == 0 || got.Versions[0].LastPull == 0 || got.Versions[1].LastPull != 0 {
		t.Errorf("after a pull of v1: got %+v", got)
	}
	// Another server of the directory sees it after its next scan.
	other := newRegistry(t, cfg)
	if err := other.srv.catalog.scan(t.Context()); err != nil {
		t.Fatal(err)
	}
	if seen := other.template(vmUUID); seen.LastPull != got.LastPull {
		t.Errorf("the other server: got last_pull %d, want %d", seen.LastPull, got.LastPull)
	}
}

// Requirement R4: what is damaged or unfinished is left out, the rest lists.
func TestR4OneBadTemplateNeverHidesTheOthers(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	g := newRegistry(t, cfg)
	repos := filepath.Join(cfg.Root, "repos")
	damage := map[string]func(dir string) error{
		"badtag":     func(d string) error { return os.WriteFile(filepath.Join(d, "tags", "v1"), []byte("{"), 0o644) },
		"emptytag":   func(d string) error { return os.WriteFile(filepath.Join(d, "tags", "v1"), nil, 0o644) },
		"notags":     func(d string) error { return os.RemoveAll(filepath.Join(d, "tags")) },
		"noblobs":    func(d string) error { return os.RemoveAll(filepath.Join(d, "blobs")) },
		"nomanifest": func(d string) error { return os.RemoveAll(filepath.Join(d, "manifests")) },
		"badmeta":    func(d string) error { return os.WriteFile(filepath.Join(d, "meta"), []byte("{"), 0o644) },
	}
	for name := range damage {
		g.pushVM(name, "v1", "", map[string][]byte{"a.ank": []byte(name)})
	}
	g.pushVM("good", "v1", vmUUID, map[string][]byte{"a.ank": []byte("good")})
	g.pushBlob("unfinished", []byte("x"))
	for name, f := range damage {
		if err := f(filepath.Join(repos, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, stray := range []string{"UPPER", ".DS_Store", "a b"} {
		if err := os.WriteFile(filepath.Join(repos, stray), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// A fresh server reads everything from the disk.
	g = newRegistry(t, cfg)
	var shown []string
	all, err := g.client().Templates(t.Context())
	for _, tmpl := range all {
		shown = append(shown, tmpl.Repository)
	}
	if got := strings.Join(shown, " "); err != nil || got != "badmeta good" {
		t.Errorf("got %q, %v, want badmeta and good", got, err)
	}
	for _, path := range []string{"/registry/vm", "/registry/disk", "/registry/status", "/v2/_catalog", "/readyz"} {
		g.want(200, "GET", path, nil)
	}
}

// memoryDir is a directory in memory where the machine has one with some room;
// containers often have less.
func memoryDir(t *testing.T) string {
	t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs("/dev/shm", &st); err != nil || uint64(st.Bavail)*uint64(st.Bsize) < 256<<20 {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp("/dev/shm", "registry-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// pushDirect puts a small template into a store.
func pushDirect(t *testing.T, st content.Store, repo string) {
	t.Helper()
	config := []byte(`{"name":"` + repo + `"}`)
	layer := []byte("layer of " + repo)
	for _, data := range [][]byte{config, layer} {
		u, err := st.NewUpload(repo, "")
		if err == nil {
			_, err = u.Append(bytes.NewReader(data))
		}
		if err == nil {
			err = u.Commit(digest.FromBytes(data))
		}
		if err != nil {
			t.Error(err)
			return
		}
	}
	raw := fmt.Appendf(nil, `{"schemaVersion":2,"config":{"mediaType":"x","digest":%q,"size":%d},"layers":[{"mediaType":"y","digest":%q,"size":%d}]}`,
		digest.FromBytes(config), len(config), digest.FromBytes(layer), len(layer))
	m := content.Manifest{Digest: digest.FromBytes(raw), MediaType: "application/vnd.oci.image.manifest.v1+json", Raw: raw}
	if err := st.PutManifest(repo, m, "v1"); err != nil {
		t.Error(err)
	}
}

// What one server acknowledged, another of the same directory lists at once,
// whether it has an index or not.
func TestServersOfOneDirectoryAgree(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t.TempDir())
	a, b := newRegistry(t, cfg), newRegistry(t, cfg)
	a.pushVM("vm", "v1", vmUUID, map[string][]byte{"a.ank": []byte("1")})
	if got := tagNames(b.template(vmUUID)); got != "0=v1" {
		t.Errorf("got %s", got)
	}
	b.pushVM("vm", "v2", vmUUID, map[string][]byte{"a.ank": []byte("2")})
	if got := tagNames(a.template(vmUUID)); got != "0=v1 1=v2" {
		t.Errorf("got %s", got)
	}
	a.want(200, "DELETE", "/registry/revert?id="+vmUUID, nil)
	if got := tagNames(b.template(vmUUID)); got != "0=v1" {
		t.Errorf("got %s", got)
	}
	b.want(200, "DELETE", "/registry/vm?id="+vmUUID, nil)
	if all, err := a.client().Templates(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("got %+v, %v", all, err)
	}
}

func TestTemplateIDs(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, g *registry) {
		g.pushVM("first", "v1", vmUUID, map[string][]byte{"a.ank": []byte("1")})
		g.pushVM("first", "v2", strings.Replace(vmUUID, "c", "d", 1), map[string][]byte{"a.ank": []byte("2")})
		g.pushVM("copy", "v1", vmUUID, map[string][]byte{"a.ank": []byte("1")})
		g.pushVM("plain", "v1", "no uuid", map[string][]byte{"a.ank": []byte("1")})
		want := map[string]string{"first": vmUUID, "copy": content.RepositoryID("copy"), "plain": content.RepositoryID("plain")}
		all, err := g.client().Templates(t.Context())
		if err != nil || len(all) != len(want) {
			t.Fatalf("got %+v, %v", all, err)
		}
		for _, tmpl := range all {
			if tmpl.ID != want[tmpl.Repository] {
				t.Errorf("%s: got id %s, want %s", tmpl.Repository, tmpl.ID, want[tmpl.Repository])
			}
		}
	})
}

func TestArchIsSetAndKept(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, g *registry) {
		g.pushVM("vm", "v1", vmUUID, map[string][]byte{"a.ank": []byte("1")})
		if got := g.template(vmUUID).Arch; got != "" {
			t.Errorf("got %q, want none: clients know arm64 and amd64 alone", got)
		}
		g.want(200, "PUT", "/registry/vm/arch", strings.NewReader(`{"id":"`+vmUUID+`","arch":"arm64"}`))
		g.want(400, "PUT", "/registry/vm/arch", strings.NewReader(`{"id":"`+vmUUID+`","arch":"m68k"}`))
		g.pushVM("vm", "v2", vmUUID, map[string][]byte{"a.ank": []byte("2")})
		if got := g.template(vmUUID).Arch; got != "arm64" {
			t.Errorf("got %q, want arm64", got)
		}
	})
}

// Requirement R13: failures of calls say FAIL, with 200 where clients insist.
func TestR13FailureWords(t *testing.T) {
	t.Parallel()
	g := newRegistryOn(t, testConfig(t.TempDir()), memory.New())
	for _, tt := range []struct {
		method, path string
		status       int
		message      string
	}{
		{"GET", "/registry/v2/vm?id=none", 200, "VM not in the registry"},
		{"GET", "/registry/vm?id=none", 200, "VM not in the registry"},
		{"DELETE", "/registry/vm?id=none", 200, "VM not in the registry"},
		{"DELETE", "/registry/revert?id=none", 200, "VM not in the registry"},
		{"GET", "/registry/vm/info?id=none", 200, "VM not in the registry"},
		{"DELETE", "/registry/revert", 400, "id is required"},
		{"GET", "/registry/nothing", 404, "Not found"},
		{"PATCH", "/registry/v2/vm", 405, "/registry/v2/vm takes GET, not PATCH"},
		{"POST", "/registry/vm", 405, "/registry/vm takes GET and DELETE, not POST"},
		{"DELETE", "/registry/files/a", 405, "/registry/files/a takes GET and PUT, not DELETE"},
	} {
		a := g.want(tt.status, tt.method, tt.path, nil)
		want := fmt.Sprintf(`{"status":"FAIL","message":%q,"body":null}`, tt.message) + "\n"
		if string(a.body) != want {
			t.Errorf("%s %s: got %s, want %s", tt.method, tt.path, a.body, want)
		}
	}
	if a := g.want(http.StatusOK, "GET", "/", nil); !bytes.HasPrefix(a.body, []byte("anka-registry ")) {
		t.Errorf("welcome page: got %s", a.body)
	}
	if a := g.want(http.StatusOK, "GET", "/registry//v2/vm/", nil); string(a.body) != `{"status":"OK","message":"","body":[]}`+"\n" {
		t.Errorf("empty list: got %s", a.body)
	}
}

// A person who mistypes a parameter learns of it, at every call; the existing clients
// may send what was never documented.
func TestUnknownParametersAreRefused(t *testing.T) {
	t.Parallel()
	g := newRegistryOn(t, testConfig(t.TempDir()), memory.New())
	for _, tt := range []struct{ method, path, message string }{
		{"GET", "/registry/v2/vm?name=sonoma", `unknown parameter "name": this call takes id`},
		{"GET", "/registry/vm?idd=1", `unknown parameter "idd"; is "id" meant?`},
		{"DELETE", "/registry/vm?uuid=1", `unknown parameter "uuid": this call takes id, tag, version, number`},
		{"DELETE", "/registry/revert?id=1&tagg=v1", `unknown parameter "tagg"; is "tag" meant?`},
		{"GET", "/registry/v1/changes?sinse=1", `unknown parameter "sinse"; is "since" meant?`},
		{"GET", "/registry/v1/copies?tag=1", `unknown parameter "tag": this call takes none`},
		{"GET", "/registry/status?verbose", `unknown parameter "verbose": this call takes none`},
		{"GET", "/registry/files?name=1", `unknown parameter "name": this call takes none`},
	} {
		for agent, status := range map[string]int{"curl/8.7.1": 400, "Go-http-client/1.1": 0, "Apache-HttpClient/4.5": 0} {
			r := httptest.NewRequest(tt.method, tt.path, nil)
			r.Header.Set("User-Agent", agent)
			w := httptest.NewRecorder()
			g.srv.Handler().ServeHTTP(w, r)
			if status == 400 && (w.Code != 400 || !strings.Contains(w.Body.String(), strconv.Quote(tt.message))) || status == 0 && strings.Contains(w.Body.String(), "unknown parameter") {
				t.Errorf("%s %s of %s: got %d %s, want %q of curl alone", tt.method, tt.path, agent, w.Code, w.Body, tt.message)
			}
		}
	}
}

// Requirement R14: a pull that has its manifest ends, though the tag is
// reverted meanwhile, and shared layers stay.
func TestR14RevertDuringAPull(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, g *registry) {
		g.pushVM("vm", "v1", vmUUID, map[string][]byte{"s.ank": []byte("shared")})
		g.pushVM("vm", "v2", vmUUID, map[string][]byte{"s.ank": []byte("shared"), "o.ank": []byte("own")})
		g.want(200, "GET", "/v2/vm/manifests/v2", nil)
		g.want(200, "DELETE", "/registry/revert?id="+vmUUID, nil)
		opt := content.CollectOptions{Grace: g.srv.cfg.GCGrace, KeepUntagged: time.Hour}
		if _, err := g.store.Collect(t.Context(), opt); err != nil {
			t.Fatal(err)
		}
		g.want(200, "GET", "/v2/vm/blobs/"+digest.FromString("own").String(), nil)
		opt.Grace = 0 // the grace period has passed
		if _, err := g.store.Collect(t.Context(), opt); err != nil {
			t.Fatal(err)
		}
		g.want(404, "GET", "/v2/vm/blobs/"+digest.FromString("own").String(), nil)
		g.want(200, "GET", "/v2/vm/blobs/"+digest.FromString("shared").String(), nil)
		g.want(200, "GET", "/v2/vm/manifests/v1", nil)
	})
}

// A caller that goes away while its list is made takes nothing from the next:
// what was acknowledged is in every later list.
func TestListThatWasCancelledLosesNoChange(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, g *registry) {
		g.pushVM("vm", "v1", vmUUID, map[string][]byte{"a.ank": []byte("a")})
		if _, err := g.client().Templates(t.Context()); err != nil {
			t.Fatal(err)
		}
		g.want(200, "PUT", "/registry/vm/arch", strings.NewReader(`{"id":"`+vmUUID+`","arch":"amd64"}`))
		gone, leave := context.WithCancel(t.Context())
		leave()
		c := g.srv.catalog
		if err := c.lock(t.Context()); err != nil {
			t.Fatal(err)
		}
		err := c.follow(gone)
		c.unlock()
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v, want a cancelled list", err)
		}
		all, err := g.client().Templates(t.Context())
		if err != nil || len(all) != 1 || all[0].Arch != "amd64" {
			t.Errorf("got %+v, %v, want the architecture that was set", all, err)
		}
	})
}

// A pull does not wait for the index, which may be reading a slow disk.
func TestPullDoesNotWaitForTheIndex(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, g *registry) {
		g.pushVM("vm", "v1", vmUUID, map[string][]byte{"a.ank": []byte("a")})
		if _, err := g.client().Templates(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := g.srv.catalog.lock(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second hangs if the first waits: both are on one connection
			g.want(200, "GET", "/v2/vm/manifests/v1", nil)
		}
		g.srv.catalog.unlock()
		got, err := g.client().Template(t.Context(), vmUUID)
		if err != nil || got.LastPull == 0 || got.Versions[0].LastPull == 0 {
			t.Errorf("got %+v, %v, want the pull in the first list after it", got, err)
		}
	})
}
