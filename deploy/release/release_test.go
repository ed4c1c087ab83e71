package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"aead.dev/minisign"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// madeRelease is a release of the checked-out commit for two platforms.
type madeRelease struct{ dir, public, commit, date string }

// newKey makes a key with a password.
func newKey(t *testing.T) (file string, public minisign.PublicKey) {
	t.Helper()
	public, private, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := minisign.EncryptKey("a password", private)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "minisign.key")
	if err := os.WriteFile(file, key, 0o600); err != nil {
		t.Fatal(err)
	}
	return file, public
}

// makeRelease clones the source and makes a release of the commit, signed with a
// key.
func makeRelease(t *testing.T, commit, umask, file string, public minisign.PublicKey) madeRelease {
	t.Helper()
	clone, out := filepath.Join(t.TempDir(), "a clone"), t.TempDir()
	command(t, "", "git", "clone", "--quiet", "--no-hardlinks", "../..", clone)
	command(t, clone, "git", "-c", "advice.detachedHead=false", "checkout", "--quiet", commit)
	// Settings of this machine must not reach the result.
	t.Setenv("ANKA_LISTEN_ADDR", ":1234")
	t.Setenv("MINISIGN_PASSWORD", "a password")
	command(t, filepath.Join(clone, "deploy/release"), "sh", "-c", "umask "+umask+`; exec go run . -out "$0" -key "$1" -platforms "linux/amd64 darwin/arm64"`, out, file)
	date := strings.Fields(command(t, clone, "deploy/release/version"))[2]
	return madeRelease{out, public.String(), commit, date}
}

func command(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// TestRelease makes a release twice, from two clones in different folders, and
// looks into the first.
func TestRelease(t *testing.T) {
	commit := strings.TrimSpace(command(t, "", "git", "rev-parse", "HEAD"))
	file, public := newKey(t)
	first := makeRelease(t, commit, "022", file, public)
	second := makeRelease(t, commit, "077", file, public)

	t.Run("two builds of one commit are equal", func(t *testing.T) {
		files := names(t, first.dir)
		if got := names(t, second.dir); !slices.Equal(got, files) {
			t.Fatalf("the second release has the files %v, the first %v", got, files)
		}
		for _, f := range files {
			if !bytes.Equal(read(t, first.dir, f), read(t, second.dir, f)) {
				t.Errorf("%s differs between two builds of one commit", f)
			}
		}
	})
	t.Run("checksums and signature", func(t *testing.T) { checkSignature(t, first) })
	t.Run("archives", func(t *testing.T) { checkArchives(t, first) })
	t.Run("bills of materials", func(t *testing.T) { checkBills(t, first) })
	t.Run("images", func(t *testing.T) { checkImages(t, first) })
	t.Run("formula", func(t *testing.T) { checkFormula(t, first) })
}

func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func read(t *testing.T, dir, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// one returns the only file of the release with that beginning and ending.
func one(t *testing.T, dir, begin, end string) string {
	t.Helper()
	list := slices.DeleteFunc(names(t, dir), func(n string) bool { return !strings.HasPrefix(n, begin) || !strings.HasSuffix(n, end) })
	if len(list) != 1 {
		t.Fatalf("files %s…%s: %v, want one", begin, end, list)
	}
	return filepath.Join(dir, list[0])
}

func checkSignature(t *testing.T, r madeRelease) {
	var key minisign.PublicKey
	if err := key.UnmarshalText([]byte(r.public)); err != nil {
		t.Fatal(err)
	}
	list, signature := read(t, r.dir, sums), read(t, r.dir, sums+".minisig")
	if !minisign.Verify(key, list, signature) {
		t.Error("the signature does not fit the checksums")
	}
	if minisign.Verify(key, append(list, ' '), signature) {
		t.Error("the signature fits other checksums, too")
	}
	command(t, r.dir, "sha256sum", "--check", "--quiet", "--strict", sums)
	covered := strings.Count(string(list), "\n")
	if all := len(names(t, r.dir)); covered != all-3 { // itself, its signature, the key
		t.Errorf("%d of %d files have a checksum", covered, all-3)
	}
}

// archived returns the paths of an archive, without its own folder, and texts.
func archived(t *testing.T, path string) map[string]*tar.Header {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	zip, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]*tar.Header)
	for in := tar.NewReader(zip); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		_, name, _ := strings.Cut(h.Name, "/")
		found[name] = h
	}
}

func checkArchives(t *testing.T, r madeRelease) {
	want := []string{
		"bin/ankacluster", "bin/anka-controller", "bin/anka-registry",
		"share/man/man8/ankacluster.8.gz", "share/man/man8/anka-controller.8.gz", "share/man/man8/anka-registry.8.gz",
		"share/bash-completion/completions/ankacluster", "share/zsh/site-functions/_anka-registry", "share/fish/vendor_completions.d/anka-controller.fish",
		"share/ankacluster/agents/AnkaAgentArm.pkg", "share/doc/ankacluster/LICENSE", "share/doc/ankacluster/THIRD-PARTY-LICENSES.txt", "share/doc/ankacluster/README.md",
	}
	for ending, more := range map[string]string{
		"_linux_amd64.tar.gz":  "share/doc/ankacluster/services/anka-controller.service",
		"_darwin_arm64.tar.gz": "share/doc/ankacluster/services/anka-registry.plist",
	} {
		path := one(t, r.dir, "ankacluster_", ending)
		found := archived(t, path)
		for _, name := range append(want, more) {
			h := found[name]
			switch {
			case h == nil || h.Size == 0:
				t.Errorf("%s lacks %s", filepath.Base(path), name)
			case (strings.HasPrefix(name, "bin/") || strings.HasSuffix(name, ".pkg")) != (h.Mode&0o111 != 0) || h.Uid != 0 || h.Mode&0o022 != 0:
				t.Errorf("%s: %s has mode %o and owner %d", filepath.Base(path), name, h.Mode, h.Uid)
			}
		}
	}
	dir := t.TempDir()
	command(t, "", "tar", "-xzf", one(t, r.dir, "ankacluster_", "_linux_amd64.tar.gz"), "-C", dir, "--strip-components", "1")
	for _, p := range programs {
		version := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(one(t, r.dir, "ankacluster_", "_linux_amd64.tar.gz")), "ankacluster_"), "_linux_amd64.tar.gz")
		got := command(t, "", filepath.Join(dir, "bin", p), "--version")
		if want := p + " " + version + " (commit " + r.commit[:12] + ", " + r.date + ", go"; !strings.HasPrefix(got, want) {
			t.Errorf("%s --version: %q, want %s…", p, got, want)
		}
	}
	checkAgents(t, r, filepath.Join(dir, "share/ankacluster/agents"))
}

// checkAgents looks at the signatures of the agents for Macs: of what each is, with
// the key that the agents trust.
func checkAgents(t *testing.T, r madeRelease, dir string) {
	t.Helper()
	content := read(t, dir, "AnkaAgentArm.pkg")
	signature := read(t, dir, "AnkaAgentArm.pkg.minisig")
	var public minisign.PublicKey
	if err := public.UnmarshalText([]byte(r.public)); err != nil {
		t.Fatal(err)
	}
	if !minisign.Verify(public, content, signature) {
		t.Error("the agent for Macs is not signed with the release's key")
	}
	version := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(one(t, r.dir, "ankacluster_", "_linux_amd64.tar.gz")), "ankacluster_"), "_linux_amd64.tar.gz")
	if want := fmt.Sprintf("\ntrusted comment: ankacluster %s darwin/arm64 %d\n", version, len(content)); !strings.Contains(string(signature), want) {
		t.Errorf("the agent is signed as %s, want %q", signature, want)
	}
	if !bytes.Contains(content, []byte(r.public)) {
		t.Error("the agent does not know the release's key")
	}
}

func checkBills(t *testing.T, r madeRelease) {
	var bom struct {
		BOMFormat  string
		Components []struct {
			Name, PURL string
			Licenses   []struct{ License struct{ ID string } }
		}
	}
	if err := json.Unmarshal(read(t, r.dir, filepath.Base(one(t, r.dir, "ankacluster_", "_linux_amd64.cdx.json"))), &bom); err != nil {
		t.Fatal(err)
	}
	if bom.BOMFormat != "CycloneDX" {
		t.Errorf("format %q", bom.BOMFormat)
	}
	seen := make(map[string]bool)
	for _, c := range bom.Components {
		seen[c.Name] = true
		if len(c.Licenses) == 0 || c.PURL == "" {
			t.Errorf("%s has no licence or no package URL", c.Name)
		}
	}
	for _, name := range []string{"anka-controller", "std", "go.etcd.io/etcd/server/v3", "github.com/sony/gobreaker/v2"} {
		if !seen[name] {
			t.Errorf("the bill of materials lacks %s", name)
		}
	}
}

// checkImages pushes an image to a registry, as `make release` prints it, and
// looks at what arrives.
func checkImages(t *testing.T, r madeRelease) {
	server := httptest.NewServer(registry.New())
	defer server.Close()
	dir := t.TempDir()
	command(t, "", "tar", "-xf", one(t, r.dir, "anka-controller_", "_oci.tar"), "-C", dir)
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	outer, err := index.IndexManifest()
	if err != nil || len(outer.Manifests) != 1 {
		t.Fatalf("the layout has %d images (%v), want 1", len(outer.Manifests), err)
	}
	image, err := index.ImageIndex(outer.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(strings.TrimPrefix(server.URL, "http://") + "/anka-controller:test")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(ref, image); err != nil {
		t.Fatal(err)
	}
	pulled, err := remote.Image(ref)
	if err != nil {
		t.Fatal(err)
	}
	config, err := pulled.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Config.Labels["org.opencontainers.image.licenses"] != "Apache-2.0" || config.Config.User != "65532:65532" || config.Architecture != "amd64" {
		t.Errorf("image configuration: %+v", config)
	}
	layers, err := pulled.Layers()
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]*tar.Header)
	for _, l := range layers {
		content, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		for in := tar.NewReader(content); ; {
			h, err := in.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			found[h.Name] = h
		}
	}
	for _, name := range []string{"data/", "tmp/", "anka-controller", "share/ankacluster/agents/AnkaAgentArm.pkg", "usr/share/doc/ankacluster/THIRD-PARTY-LICENSES.txt"} {
		if found[name] == nil {
			t.Errorf("the image lacks %s", name)
		}
	}
	if d := found["data/"]; d != nil && d.Uid != imageUser {
		t.Errorf("/data belongs to %d", d.Uid)
	}
}

func checkFormula(t *testing.T, r madeRelease) {
	formula := string(read(t, r.dir, "ankacluster.rb"))
	for line := range strings.Lines(string(read(t, r.dir, sums))) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		if strings.HasSuffix(name, ".tar.gz") && (!strings.Contains(formula, name) || !strings.Contains(formula, sum)) {
			t.Errorf("the formula lacks %s", line)
		}
	}
	if ruby, err := exec.LookPath("ruby"); err == nil {
		command(t, r.dir, ruby, "-c", "ankacluster.rb")
	} else {
		t.Log("no ruby on this machine: the formula's syntax is not checked")
	}
}

// TestLicences shows that what is not allowed is refused.
func TestLicences(t *testing.T) {
	mit := read(t, "testdata", "mit.txt")
	for _, c := range []struct {
		name, file string
		text       string
		want       string // part of the error; "" is none
	}{
		{"allowed", "LICENSE", string(mit), ""},
		{"a notice beside it needs no name", "NOTICE", "Copyright somebody", "has no file with a licence"},
		{"unknown", "LICENSE", "You may use this on Sundays.", "holds no licence that is known"},
		{"none", "README", "", "has no file with a licence"},
		{"not allowed", "COPYING", strings.Replace(string(mit), "THE SOFTWARE IS PROVIDED", "The Software shall be used for Good, not Evil.\n\nTHE SOFTWARE IS PROVIDED", 1), "licence JSON is not allowed"},
		{"mostly something else", "LICENSE", string(mit) + strings.Repeat("And another condition that changes everything. ", 100), "holds no licence that is known"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, c.file), []byte(c.text), 0o644); err != nil {
				t.Fatal(err)
			}
			found := make(map[string]*module)
			pkg := listed{Dir: dir}
			pkg.Module = &struct {
				Path, Version, Dir string
				Main               bool
			}{"example.org/m", "v1.0.0", dir, false}
			if err := note(found, pkg, "ankacluster"); err != nil {
				t.Fatal(err)
			}
			err := found["example.org/m"].classify()
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
			if err != nil && !strings.Contains(err.Error(), "example.org/m v1.0.0") {
				t.Errorf("the error does not name the module: %v", err)
			}
		})
	}
}

func TestKeyNeedsItsPassword(t *testing.T) {
	_, private, err := minisign.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	encrypted, err := minisign.EncryptKey("secret", private)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := private.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, password string
		text           []byte
		works          bool
	}{{"encrypted", "secret", encrypted, true}, {"encrypted, no password", "", encrypted, false}, {"encrypted, wrong", "x", encrypted, false}, {"plain", "", plain, true}, {"no key", "", []byte("hello"), false}} {
		file := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(file, c.text, 0o600); err != nil {
			t.Fatal(err)
		}
		key, err := readKey(file, c.password)
		if (err == nil) != c.works || err == nil && !key.Equal(private) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestCommandLine(t *testing.T) {
	if err := run(context.Background(), []string{"-platforms", "linux"}); err == nil || !strings.Contains(err.Error(), `"linux"`) {
		t.Errorf("got %v, want an error that names the platform", err)
	}
}
