package test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// unbounded are calls that only one place of the product makes, because it bounds
// what they do; the files where they are known to be bounded by something else stand
// here with the reason.
var unbounded = map[string]map[string]string{
	"io.ReadAll": {
		"internal/wire/client.go":           "the one reader of answers",
		"registryapi/server/ocimanifest.go": "a request's body, limited to a manifest's size",
		"balancer/attempt/readahead.go":     "limited to what is read ahead",
		"balancer/proxy/proxy.go":           "a request's body, limited to what is kept for a repeat",
	},
	"json.NewDecoder": {
		"internal/wire/strict.go": "a body that was measured before",
	},
}

// TestAnswersAreReadInOnePlace: what comes from another server is bounded by the one
// reader of answers, in files that speak HTTP.
func TestAnswersAreReadInOnePlace(t *testing.T) {
	seen := make(map[string]bool)
	err := eachProductFile(func(file string, parsed *ast.File) {
		if !importsPackage(parsed, "net/http") || strings.HasPrefix(file, "balancer/drill/") { // it asks its own fakes
			return
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			fun, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			pkg, _ := fun.X.(*ast.Ident)
			if pkg == nil {
				return true
			}
			name := pkg.Name + "." + fun.Sel.Name
			places, watched := unbounded[name]
			if !watched {
				return true
			}
			if places[file] == "" {
				t.Errorf("%s calls %s; answers are read by wire.Call, wire.ReadAnswer or wire.Beginning, requests by wire.Decode", file, name)
			}
			seen[name+" "+file] = true
			return true
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, places := range unbounded {
		for file := range places {
			if !seen[name+" "+file] {
				t.Errorf("%s does not call %s: is the list out of date?", file, name)
			}
		}
	}
}

// eachProductFile parses the files of the product, without tests.
func eachProductFile(do func(file string, parsed *ast.File)) error {
	return filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			if name := entry.Name(); name == "test" || name == "testdata" || name == "deploy" || strings.HasPrefix(name, ".") && name != ".." {
				return filepath.SkipDir
			}
			return err
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		do(filepath.ToSlash(strings.TrimPrefix(path, "../")), parsed)
		return nil
	})
}

func importsPackage(file *ast.File, path string) bool {
	for _, imp := range file.Imports {
		if got, _ := strconv.Unquote(imp.Path.Value); got == path {
			return true
		}
	}
	return false
}

// TestLengthsOfFieldsAreNumbers: a tag that says how long a field may be is one that
// wire.Decode can read.
func TestLengthsOfFieldsAreNumbers(t *testing.T) {
	count := 0
	err := eachProductFile(func(file string, parsed *ast.File) {
		ast.Inspect(parsed, func(n ast.Node) bool {
			field, ok := n.(*ast.Field)
			if !ok || field.Tag == nil {
				return true
			}
			_, after, found := strings.Cut(field.Tag.Value, ` max:"`)
			text, _, _ := strings.Cut(after, `"`)
			if !found {
				return true
			}
			count++
			if n, err := strconv.Atoi(text); err != nil || n < 1 {
				t.Errorf("%s: max:%q is not a length", file, text)
			}
			return true
		})
	})
	if err != nil || count < 20 {
		t.Errorf("%d lengths: %v", count, err)
	}
}

// TestServersAreMadeInOnePlace: internal/serve bounds what clients hold of a server,
// and gives handlers a request whose body they may replace.
func TestServersAreMadeInOnePlace(t *testing.T) {
	err := eachProductFile(func(file string, parsed *ast.File) {
		if strings.HasPrefix(file, "internal/serve/") || strings.HasPrefix(file, "balancer/drill/") {
			return
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			lit, ok := n.(*ast.CompositeLit)
			if !ok {
				return true
			}
			if of, ok := lit.Type.(*ast.SelectorExpr); ok && of.Sel.Name == "Server" {
				if pkg, _ := of.X.(*ast.Ident); pkg != nil && pkg.Name == "http" {
					t.Errorf("%s makes an http.Server; servers are made by serve.New", file)
				}
			}
			return true
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestClientsFollowNoRedirects: what goes with a request is for the server that was
// named, so every client of ours says what it does with a redirect.
func TestClientsFollowNoRedirects(t *testing.T) {
	count := 0
	err := eachProductFile(func(file string, parsed *ast.File) {
		if strings.HasPrefix(file, "balancer/") {
			return // it knows nothing of ours; its own client hands redirects back
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			if of, ok := n.(*ast.SelectorExpr); ok && of.Sel.Name == "DefaultClient" {
				t.Errorf("%s uses a client that follows redirects", file)
			}
			lit, ok := n.(*ast.CompositeLit)
			if !ok {
				return true
			}
			of, ok := lit.Type.(*ast.SelectorExpr)
			if !ok || of.Sel.Name != "Client" {
				return true
			}
			if pkg, _ := of.X.(*ast.Ident); pkg == nil || pkg.Name != "http" {
				return true
			}
			count++
			for _, e := range lit.Elts {
				if kv, ok := e.(*ast.KeyValueExpr); ok {
					if key, _ := kv.Key.(*ast.Ident); key != nil && key.Name == "CheckRedirect" {
						return true
					}
				}
			}
			t.Errorf("%s makes an http.Client without CheckRedirect; see wire.NoRedirect", file)
			return true
		})
	})
	if err != nil || count < 10 {
		t.Errorf("%d clients: %v", count, err)
	}
}
