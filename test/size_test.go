package test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

// What is larger than this holds more than one thing, or stands here with its reason.
const (
	mostLines  = 3000 // of a package, without its tests
	mostFields = 15   // of a struct
)

// exception is something that may be larger than others, up to a limit of its own.
type exception struct {
	limit  int
	reason string
}

const toBeDivided = "to be divided"

var largePackages = map[string]exception{
	"agent":                  {6250, toBeDivided},
	"cmd/ankacluster":        {7400, "one file a command, for twenty-one commands"},
	"controllerapi/cloud":    {3750, "the domain: what changes one of its parts changes the others"},
	"controllerapi/server":   {4600, "one file a resource of the API"},
	"registryapi/cluster":    {4250, toBeDivided},
	"registryapi/server":     {3500, toBeDivided + ": distribution, templates, logs"},
	"registryapi/content/fs": {3250, "one layout of a directory"},
}

var largeStructs = map[string]exception{
	// Settings: one field for each that people can give.
	"agent/state.Config":          {34, "settings"},
	"agent/doctor.Config":         {18, "settings"},
	"balancer.Config":             {32, "settings"},
	"cmd/anka-controller.config":  {110, "settings"},
	"cmd/anka-registry.config":    {22, "settings"},
	"controllerapi/server.Config": {37, "settings"},
	"registryapi/server.Config":   {25, "settings"},
	"balancer/drill.Row":          {24, "a line of drill --json"},
	// Documents of the wire, whose fields are not ours to choose.
	"agent.Status":                     {27, "a document of the status socket"},
	"balancer/endpoint.Status":         {25, "a document of the status socket"},
	"controllerapi.Instance":           {23, "a document of the API"},
	"controllerapi.Node":               {30, "a document of the API"},
	"controllerapi.StartRequest":       {33, "a document of the API"},
	"controllerapi.VMInfo":             {19, "a document of the API"},
	"controllerapi/server.saveDetails": {19, "a document of the API"},
	"controllerapi/cloud.Instance":     {21, "a record in etcd"},
	"controllerapi/cloud.View":         {29, "an index of each kind of record"},
	"controllerapi/server.metrics":     {17, "one field a metric"},
	"registryapi/cluster.Cluster":      {29, toBeDivided},
}

// TestSizes counts the lines of the product's packages and the fields of their structs.
func TestSizes(t *testing.T) {
	lines, fields := make(map[string]int), make(map[string]int)
	err := filepath.WalkDir("..", func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			if name := entry.Name(); name == "test" || name == "testdata" || strings.HasPrefix(name, ".") && name != ".." {
				return filepath.SkipDir
			}
			return err
		}
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file, text, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		pkg := filepath.ToSlash(strings.TrimPrefix(filepath.Dir(file), ".."+string(filepath.Separator)))
		lines[pkg] += bytes.Count(text, []byte("\n"))
		ast.Inspect(tree, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok {
				if s, ok := spec.Type.(*ast.StructType); ok {
					name := pkg + "." + spec.Name.Name // one of them for each system
					fields[name] = max(fields[name], s.Fields.NumFields())
				}
			}
			return true
		})
		return nil
	})
	if err != nil || lines["balancer"] == 0 || fields["balancer.Balancer"] == 0 {
		t.Fatalf("counted %d packages and %d structs: %v", len(lines), len(fields), err)
	}
	checkSizes(t, "lines", lines, mostLines, largePackages)
	checkSizes(t, "fields", fields, mostFields, largeStructs)
}

func checkSizes(t *testing.T, what string, sizes map[string]int, most int, exceptions map[string]exception) {
	t.Helper()
	for name, n := range sizes {
		e, excepted := exceptions[name]
		switch {
		case !excepted && n > most:
			t.Errorf("%s has %d %s, %d at most: divide it, or put it into the list with a reason", name, n, what, most)
		case excepted && n > e.limit:
			t.Errorf("%s (%s) has grown to %d %s, of %d at most", name, e.reason, n, what, e.limit)
		case excepted && n <= most:
			t.Errorf("%s has %d %s: take it out of the list of exceptions", name, n, what)
		}
	}
	for name := range exceptions {
		if _, found := sizes[name]; !found {
			t.Errorf("there is no %s %s: is the list of exceptions out of date?", path.Dir(name), path.Base(name))
		}
	}
}
