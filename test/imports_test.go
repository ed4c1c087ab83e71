package test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/ankacluster/ankacluster/"

// importRules holds docs/architecture.md's direction of imports: for every
// package below a prefix, the module's own packages (and libraries) that it may
// not depend on, however indirectly.
var importRules = []struct {
	from      string
	forbidden []string
}{
	{"balancer", []string{module}},
	{"balancer/health", []string{module + "balancer/endpoint", module + "balancer/pick", module + "balancer/route", module + "balancer/attempt"}},
	{"balancer/endpoint", []string{module + "balancer/pick", module + "balancer/route", module + "balancer/attempt"}},
	{"balancer/pick", []string{module + "balancer/route", module + "balancer/attempt", module + "balancer/download"}},
	{"balancer/route", []string{module + "balancer/pick", module + "balancer/attempt", module + "balancer/download"}},
	{"balancer/attempt", []string{module + "balancer/download", module + "balancer/proxy"}},
	{"balancer/download/splice", []string{module}},
	{"launchd", []string{module}},
	{"agent", []string{module + "controllerapi/", module + "registryapi/content", module + "registryapi/server", module + "launchd", module + "test", module + "cmd", "go.etcd.io/"}},
	{"agent/state", []string{module + "agent/", module + "balancer"}},
	{"agent/machine", []string{module + "agent/", module + "balancer"}},
	{"agent/socket", []string{module + "agent/hypervisor", module + "agent/images", module + "agent/node", module + "balancer"}},
	{"agent/images", []string{module + "agent/anka", module + "agent/node", module + "agent/tart", module + "balancer"}},
	{"controllerapi", []string{module + "agent", module + "registryapi/content", module + "registryapi/server", module + "launchd", module + "test", module + "cmd"}},
	{"controllerapi/cloud", []string{module + "controllerapi/cloudstore", module + "controllerapi/keeper", module + "controllerapi/server", module + "internal/etcdkit", "go.etcd.io/"}},
	{"controllerapi/cloud/capacity", []string{module + "controllerapi/"}},
	{"controllerapi/schedule", []string{module + "controllerapi/cloudstore", module + "controllerapi/server", module + "internal/etcdkit", "go.etcd.io/"}},
	{"controllerapi/keeper", []string{module + "controllerapi/cloudstore", module + "controllerapi/server", module + "internal/etcdkit", "go.etcd.io/"}},
	{"controllerapi/query", []string{module + "controllerapi", module + "registryapi", module + "internal/etcdkit", "go.etcd.io/"}},
	{"controllerapi/listing", []string{module + "controllerapi/cloudstore", module + "controllerapi/keeper", module + "controllerapi/server", module + "internal/etcdkit", "go.etcd.io/"}},
	{"controllerapi/why", []string{module + "controllerapi/cloudstore", module + "controllerapi/keeper", module + "controllerapi/server", module + "internal/etcdkit", "go.etcd.io/"}},
	{"controllerapi/watch", []string{module + "controllerapi/", module + "internal/etcdkit", "go.etcd.io/"}},
	{"controllerapi/cloudstore", []string{module + "controllerapi/server"}},
	{"internal/etcdkit", []string{module}},
	{"internal/access", []string{module}},
	{"internal/wire", []string{module + "internal/etcdkit", module + "internal/oci", module + "internal/settings", "go.etcd.io/"}},
	{"registryapi", []string{module + "agent", module + "controllerapi", module + "launchd", module + "test", module + "cmd"}},
	// Which store there is, only the programs choose.
	{"registryapi/server", []string{module + "registryapi/content/"}},
	{"registryapi/replication", []string{module + "registryapi/content/"}},
	{"registryapi/cluster", []string{module + "registryapi/content/"}},
	{"registryapi/content", []string{module + "registryapi/"}},
	{"internal", []string{module + "agent", module + "controllerapi", module + "registryapi", module + "balancer", module + "launchd", module + "test", module + "cmd"}},
	{"cmd/ankacluster", []string{module + "controllerapi/", module + "registryapi/content", module + "registryapi/server", module + "test", "go.etcd.io/"}},
	{"cmd/anka-controller", []string{module + "agent", module + "test"}},
	{"cmd/anka-registry", []string{module + "agent", module + "controllerapi", module + "test", "go.etcd.io/"}},
}

// A program that imports the balancer need not link a library for metrics.
func TestBalancerForcesNoMetricsLibrary(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", module+"balancer").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for dep := range strings.Lines(string(out)) {
		if strings.HasPrefix(dep, "github.com/prometheus/") {
			t.Errorf("balancer links %s", strings.TrimSpace(dep))
		}
	}
}

// pure are packages that decide: they import nothing that reaches out of the
// process. The contract, which they know, has a client and so net/http.
var pure = []string{"controllerapi/cloud", "controllerapi/cloud/capacity", "controllerapi/keeper", "controllerapi/listing", "controllerapi/query", "controllerapi/schedule", "controllerapi/why"}

func TestPurePackagesReachNothing(t *testing.T) {
	for _, pkg := range pure {
		out, err := exec.Command("go", "list", "-f", `{{join .Imports " "}}`, module+pkg).Output()
		if err != nil {
			t.Fatalf("go list %s: %v", pkg, err)
		}
		for _, dep := range strings.Fields(string(out)) {
			switch {
			case dep == "net/http", dep == "os", dep == "context", dep == "sync", strings.HasPrefix(dep, "go.etcd.io/"), strings.HasPrefix(dep, "go.uber.org/"):
				t.Errorf("%s imports %s; it only decides", pkg, dep)
			}
		}
	}
}

// leaves are packages for one mechanical thing each. They import nothing of the
// module, so that every package may import them: see docs/decisions/0009.
var leaves = []string{"internal/atomicfile", "internal/backoff", "internal/filelock", "internal/nextround", "internal/serve", "internal/tlsreload"}

// shared are packages below a forbidden prefix that all may import all the same.
var shared = []string{module + "controllerapi/cloud/capacity"}

func isLeaf(pkg string) bool { return slices.Contains(leaves, strings.TrimPrefix(pkg, module)) }

func TestImportDirection(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Deps " "}}`, module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := make(map[string]bool)
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		pkg, deps := fields[0], fields[1:]
		for _, dep := range deps {
			if isLeaf(pkg) && strings.HasPrefix(dep, module) {
				t.Errorf("%s depends on %s; a leaf depends on nothing of the module", pkg, dep)
			}
		}
		if isLeaf(pkg) {
			seen[strings.TrimPrefix(pkg, module)] = true
		}
		for _, rule := range importRules {
			from := module + rule.from
			if pkg != from && !strings.HasPrefix(pkg, from+"/") {
				continue
			}
			seen[rule.from] = true
			for _, dep := range deps {
				if dep == from || strings.HasPrefix(dep, from+"/") || isLeaf(dep) || slices.Contains(shared, dep) {
					continue
				}
				for _, f := range rule.forbidden {
					if strings.HasPrefix(dep, f) {
						t.Errorf("%s depends on %s; packages below %s must not", pkg, dep, rule.from)
					}
				}
			}
		}
	}
	for _, rule := range importRules {
		if !seen[rule.from] {
			t.Errorf("no package below %s: is the rule out of date?", rule.from)
		}
	}
	for _, leaf := range leaves {
		if !seen[leaf] {
			t.Errorf("no package %s: is the list of leaves out of date?", leaf)
		}
	}
}

// `make test` leaves out by its name what is in files named _process; a test of
// the same name elsewhere would be left out with it.
func TestProcessTestsHaveNamesOfTheirOwn(t *testing.T) {
	declared := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	real, other := make(map[string]string), make(map[string]string)
	err := filepath.WalkDir("..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		names := other
		if strings.Contains(filepath.Base(path), "_process") {
			names = real
		}
		for _, m := range declared.FindAllSubmatch(data, -1) {
			if name := string(m[1]); name != "TestMain" {
				names[name] = path
			}
		}
		return nil
	})
	if err != nil || len(real) == 0 {
		t.Fatalf("%d tests in files named _process: %v", len(real), err)
	}
	for name, path := range real {
		if clash := other[name]; clash != "" {
			t.Errorf("%s is in %s and in %s: rename one", name, path, clash)
		}
	}
}
