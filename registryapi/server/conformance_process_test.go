package server

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// The distribution specification's conformance suite, pinned by version and
// content. It is built outside this module, whose go.mod does not know it.
const (
	conformanceModule  = "github.com/opencontainers/distribution-spec/conformance"
	conformanceVersion = "v0.0.0-20260831232431-97274622c111"
	conformanceSum     = "h1:ppZPU0CrEPzyJhVggYwUIZrqh0w2lIT0esw+9ABNPA4="
)

func TestOCIConformance(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and runs the conformance suite")
	}
	bin := buildConformance(t)
	for _, version := range []string{"1.1", "dev"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			eachStore(t, func(t *testing.T, g *registry) {
				results := t.TempDir()
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
				defer cancel()
				cmd := exec.CommandContext(ctx, bin)
				cmd.Dir = results
				cmd.Env = append(os.Environ(),
					"OCI_VERSION="+version, "OCI_TLS=disabled", "OCI_RESULTS_DIR="+results,
					"OCI_REGISTRY="+strings.TrimPrefix(g.http.URL, "http://"),
					"OCI_REPO1=conformance/one", "OCI_REPO2=conformance/two",
					// What the suite leaves to the registry's choice and this one has.
					"OCI_API_BLOBS_DIGEST_HEADER=true", "OCI_API_MANIFESTS_DIGEST_HEADER=true",
					"OCI_API_BLOBS_UPLOAD_CANCEL=true", "OCI_API_MANIFESTS_TAG_PARAM=true")
				out, err := cmd.CombinedOutput()
				t.Logf("%s", summary(string(out)))
				if err != nil {
					t.Errorf("conformance: %v", err)
				}
				junit, err := os.ReadFile(filepath.Join(results, "junit.xml"))
				if err != nil {
					t.Fatalf("no results: %v\n%s", err, out)
				}
				checkConformance(t, string(junit))
			})
		})
	}
}

// checkConformance fails on any failure, and when hardly anything was tested.
func checkConformance(t *testing.T, junit string) {
	t.Helper()
	tests := regexp.MustCompile(`<testsuite [^>]*tests="(\d+)"[^>]*failures="(\d+)"[^>]*errors="(\d+)"`).FindStringSubmatch(junit)
	if tests == nil {
		t.Fatalf("no totals in the results: %.500s", junit)
	}
	if len(tests[1]) < 3 || tests[2] != "0" || tests[3] != "0" {
		t.Errorf("%s tests, %s failures, %s errors", tests[1], tests[2], tests[3])
	}
	for _, m := range regexp.MustCompile(`(?s)<testcase name="([^"]*)"[^>]*>\s*<failure message="([^"]*)"`).FindAllStringSubmatch(junit, -1) {
		t.Errorf("%s: %s", m[1], m[2])
	}
}

// summary drops the suite's log.
func summary(out string) string {
	if i := strings.Index(out, "OCI Conformance Result"); i >= 0 {
		return out[i:]
	}
	return out
}

func buildConformance(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	run := func(args ...string) []byte {
		cmd := exec.Command("go", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOBIN="+dir, "CGO_ENABLED=0", "GOWORK=off")
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return out
	}
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module conformancebuild\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var info struct{ Sum string }
	if err := json.Unmarshal(run("mod", "download", "-json", conformanceModule+"@"+conformanceVersion), &info); err != nil {
		t.Fatal(err)
	}
	if info.Sum != conformanceSum {
		t.Fatalf("the suite's content is %s, want %s", info.Sum, conformanceSum)
	}
	run("install", conformanceModule+"@"+conformanceVersion)
	return filepath.Join(dir, "conformance")
}
