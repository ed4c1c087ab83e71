package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/internal/wire"
	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/content/memory"
	"github.com/ankacluster/ankacluster/registryapi/server"
	"github.com/ankacluster/ankacluster/registryapi/transfer"
)

func startTemplateRegistry(t *testing.T) *httptest.Server {
	t.Helper()
	cfg := server.DefaultConfig()
	cfg.Root, cfg.ListCacheTTL = t.TempDir(), 0
	srv, err := server.New(cfg, memory.New(), nil)
	if err != nil {
		t.Fatal(err)
	}
	ts := httptest.NewServer(srv.Handler())
	t.Cleanup(ts.Close)
	return ts
}

// startTemplateController answers as much of a controller as the template
// command asks, and passes the rest to the registry.
func startTemplateController(t *testing.T, registry string) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/status", func(w http.ResponseWriter, r *http.Request) {
		wire.WriteJSON(w, 200, wire.Envelope{Status: "OK", Body: map[string]string{"status": "Running", "registry_address": registry}})
	})
	mux.HandleFunc("/api/v1/registry/", func(w http.ResponseWriter, r *http.Request) {
		path := strings.TrimPrefix(r.URL.Path, "/api/v1")
		if path == "/registry/vm" && r.Method == http.MethodGet {
			path = "/registry/v2/vm"
		}
		req, _ := http.NewRequestWithContext(r.Context(), r.Method, registry+path+"?"+r.URL.RawQuery, r.Body)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		w.WriteHeader(resp.StatusCode)
		var b bytes.Buffer
		_, _ = b.ReadFrom(resp.Body)
		_, _ = w.Write(b.Bytes())
	})
	ts := httptest.NewServer(mux)
	t.Cleanup(ts.Close)
	return ts
}

func template(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), append([]string{"ankacluster", "template"}, args...), &out, &errs)
	return code, out.String(), errs.String()
}

func mustTemplate(t *testing.T, args ...string) string {
	t.Helper()
	code, stdout, stderr := template(t, args...)
	if code != 0 {
		t.Fatalf("template %v: exit %d: %s", args, code, stderr)
	}
	return stdout
}

func TestTemplateGoesThereAndBack(t *testing.T) {
	reg := startTemplateRegistry(t)
	for _, url := range []string{reg.URL, startTemplateController(t, reg.URL).URL} {
		dir := t.TempDir()
		name := "sonoma" + filepath.Base(url)[len(filepath.Base(url))-1:]
		for file, content := range map[string]string{"aa.ank": "new layer", "bb.ank": strings.Repeat("x", 100_000)} {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		mustTemplate(t, "push", dir, name+":v1", "--url", url, "--description", "fresh")
		if code, _, stderr := template(t, "push", dir, name+":v1", "--url", url); code != 1 || !strings.Contains(stderr, "exists already") || !strings.Contains(stderr, "--force") {
			t.Errorf("push over a tag: exit %d, %s", code, stderr)
		}
		if _, _, stderr := template(t, "push", dir, name+":v1", "--url", url, "--description", "fresh"); !strings.Contains(stderr, "is there already") {
			t.Errorf("push of what is there: %s", stderr)
		}
		mustTemplate(t, "tag", name+":v1", "stable", "--url", url)
		// Requirement R6: none of this is a pull.
		if list := mustTemplate(t, "list", "--json", "--url", url); wasPulled(t, list, name) {
			t.Errorf("after pushes alone:\n%s", list)
		}
		show := mustTemplate(t, "show", name, "--url", url)
		for _, want := range []string{"v1", "stable", "fresh", "100.1 kB"} {
			if !strings.Contains(show, want) {
				t.Errorf("show lacks %q:\n%s", want, show)
			}
		}
		var list []registryapi.Template
		if err := json.Unmarshal([]byte(mustTemplate(t, "list", "--json", "--url", url)), &list); err != nil || len(list) == 0 {
			t.Errorf("list --json: %v, %v", list, err)
		}
		to := filepath.Join(t.TempDir(), "pulled")
		mustTemplate(t, "pull", name+":v1", to, "--url", url)
		if got, err := os.ReadFile(filepath.Join(to, "aa.ank")); err != nil || string(got) != "new layer" {
			t.Errorf("pulled file: %q, %v", got, err)
		}
		// What was pulled is pushed again as the same image, order and all.
		mustTemplate(t, "push", to, name+":again", "--url", url)
		var tmpl registryapi.Template
		if err := json.Unmarshal([]byte(mustTemplate(t, "show", name, "--json", "--url", url)), &tmpl); err != nil {
			t.Fatal(err)
		}
		digests := make(map[string]string)
		for _, v := range tmpl.Versions {
			digests[v.Tag] = v.Digest
		}
		if digests["again"] == "" || digests["again"] != digests["v1"] || digests["stable"] != digests["v1"] {
			t.Errorf("digests of the tags: %v", digests)
		}
		if code, _, stderr := template(t, "delete", name, "--url", url); code != 2 || !strings.Contains(stderr, "--yes") {
			t.Errorf("delete without --yes: exit %d, %s", code, stderr)
		}
		mustTemplate(t, "delete", name+":stable", "--yes", "--url", url)
		mustTemplate(t, "revert", name+":again", "--yes", "--url", url)
		if show := mustTemplate(t, "show", name, "--url", url); strings.Contains(show, "stable") || strings.Contains(show, "again") || !strings.Contains(show, "v1") {
			t.Errorf("after delete and revert:\n%s", show)
		}
		mustTemplate(t, "delete", name, "--yes", "--url", url)
		if code, _, stderr := template(t, "show", name, "--url", url); code != 1 || !strings.Contains(stderr, "there is no template") {
			t.Errorf("show of a deleted template: exit %d, %s", code, stderr)
		}
	}
}

// wasPulled reads in the list's JSON whether the template of that name was.
func wasPulled(t *testing.T, list, name string) bool {
	t.Helper()
	var all []registryapi.Template
	if err := json.Unmarshal([]byte(list), &all); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(tmpl registryapi.Template) bool { return tmpl.Name == name })
	if i < 0 {
		t.Fatalf("%s is not listed:\n%s", name, list)
	}
	return all[i].LastPull != 0
}

// Who is asked for --yes reads what exactly would go.
func TestDoomedTagsAreNamed(t *testing.T) {
	tmpl := registryapi.Template{Name: "vm", Versions: []registryapi.Version{{Number: 0, Tag: "v1"}, {Number: 1, Tag: "v2"}, {Number: 2, Tag: "v3"}}}
	for _, tc := range []struct{ what, tag, want string }{
		{"delete", "", "vm:v1, vm:v2, vm:v3"},
		{"delete", "v2", "vm:v2"},
		{"revert", "", "vm:v3"},
		{"revert", "v2", "vm:v2, vm:v3"},
		{"revert", "v1", "vm:v1, vm:v2, vm:v3"},
	} {
		if got := doomed(tc.what, tmpl, tc.tag); got != tc.want {
			t.Errorf("%s %q: got %q, want %q", tc.what, tc.tag, got, tc.want)
		}
	}
	if got := doomed("revert", registryapi.Template{Name: "vm"}, ""); got != "" {
		t.Errorf("of no version at all: got %q", got)
	}
}

// To go on does not help where there is no space, and no such tag.
func TestAdviceAfterATransferFitsItsError(t *testing.T) {
	for err, want := range map[error]string{
		fmt.Errorf("upload: %w", transfer.ErrNoSpace): "delete templates that nobody needs",
		transfer.ErrNotFound:                          "ankacluster template show vm",
		os.ErrPermission:                              "choose a directory",
		errors.New("connection reset"):                "the same command goes on",
	} {
		var out bytes.Buffer
		printError(&out, explainResumable("vm", "v1", err, "the same command goes on"))
		if _, hint, _ := strings.Cut(out.String(), "hint: "); !strings.HasPrefix(hint, want) {
			t.Errorf("%v: got %q, want a hint that begins with %q", err, out.String(), want)
		}
	}
}

func TestTemplateErrorsSayWhatToDo(t *testing.T) {
	reg := startTemplateRegistry(t)
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	t.Setenv(stateDirEnv, t.TempDir())
	for _, tc := range []struct {
		code int
		says string
		args []string
	}{
		{2, "--url is not set", []string{"list"}},
		{2, "unknown command", []string{"frob"}},
		{2, "NAME is missing", []string{"show", "--url", reg.URL}},
		{2, `unexpected argument "x"`, []string{"list", "x", "--url", reg.URL}},
		{2, `--url "10.0.1.4:8089"`, []string{"list", "--url", "10.0.1.4:8089"}},
		{1, "neither a registry nor a controller", []string{"list", "--url", other.URL}},
		{1, "refused", []string{"list", "--url", "http://127.0.0.1:1"}},
		{2, "has no tag", []string{"push", t.TempDir(), "sonoma", "--url", reg.URL}},
		{2, "holds no files", []string{"push", t.TempDir(), "sonoma:v1", "--url", reg.URL}},
		{1, "there is no template", []string{"pull", "sonoma:v1", t.TempDir(), "--url", reg.URL}},
		{0, "there is no template at " + reg.URL + " yet", []string{"list", "--url", reg.URL}},
	} {
		code, _, stderr := template(t, tc.args...)
		if code != tc.code || !strings.Contains(stderr, tc.says) {
			t.Errorf("template %v: exit %d, %s; want %d and %q", tc.args, code, stderr, tc.code, tc.says)
		}
	}
}

// A template that was made to be read by a terminal is shown in its own line, as it is
// called.
func TestNamesOfTemplatesDoNothingToATerminal(t *testing.T) {
	var out strings.Builder
	tpl := registryapi.Template{Name: "macos\x1b[2J\nroot", ID: "i", Versions: []registryapi.Version{{Tag: "v1", Description: "x\r\u202ey"}}}
	if err := printTemplate(&out, tpl, time.Now()); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); strings.ContainsAny(got, "\x1b\r\u202e") || !strings.Contains(got, `macos\x1b[2J\x0aroot`) || !strings.Contains(got, `x\x0d\u202ey`) {
		t.Errorf("got %q", got)
	}
	if got := readable(`{"level":"info","msg":"a\u001b[2Jb","k":"c\u0007"}`); strings.ContainsAny(got, "\x1b\x07") {
		t.Errorf("log line: %q", got)
	}
}
