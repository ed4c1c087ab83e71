// Command manual makes the pages of docs/ a static site: HTML files, one style
// sheet, one script that searches. It asks no other host for anything.
//
//	go run . -root ../.. -out ../../dist/manual
//
// A link to a page or heading that does not exist is an error. It is a module of
// its own, because the product needs no Markdown.
package main

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"html/template"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
)

//go:embed page.html style.css search.js
var assets embed.FS

var page = template.Must(template.ParseFS(assets, "page.html"))

func main() {
	root := flag.String("root", ".", "`DIR` of the checkout")
	out := flag.String("out", "dist/manual", "`DIR` that the site is written to")
	flag.Parse()
	n, err := build(*root, *out)
	if err != nil {
		fmt.Fprintln(os.Stderr, "manual: error:", err)
		os.Exit(1)
	}
	fmt.Printf("%d pages; open %s\n", n, filepath.Join(*out, "index.html"))
}

// index is the page that the site begins with.
const index = "docs/README.md"

// extra are pages outside of docs/ that the manual has too.
var extra = []string{"README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md", "deploy/helm/ankacluster/README.md"}

// doc is one page.
type doc struct {
	file    string // below the root, with slashes
	title   string
	source  []byte
	tree    ast.Node
	anchors []string
	text    string // for the search
}

// build writes the site and returns how many pages it has.
func build(root, out string) (int, error) {
	docs, err := load(root)
	if err != nil {
		return 0, err
	}
	byFile := make(map[string]*doc, len(docs))
	for _, d := range docs {
		byFile[d.file] = d
	}
	var errs []error
	for _, d := range docs {
		errs = append(errs, d.link(root, byFile)...)
	}
	if err := errors.Join(errs...); err != nil {
		return 0, err
	}
	type entry struct{ Page, Title, Text string }
	var search []entry
	for _, d := range docs {
		if err := d.write(out, docs); err != nil {
			return 0, err
		}
		search = append(search, entry{target(d.file), d.title, d.text})
	}
	data, err := json.Marshal(search)
	if err != nil {
		return 0, err
	}
	script, err := assets.ReadFile("search.js")
	if err != nil {
		return 0, err
	}
	// The texts are in the script, so that the site works from the disk as well.
	script = append([]byte("const pages = "+string(data)+";\n"), script...)
	style, err := assets.ReadFile("style.css")
	if err != nil {
		return 0, err
	}
	return len(docs), errors.Join(os.WriteFile(filepath.Join(out, "search.js"), script, 0o644), os.WriteFile(filepath.Join(out, "style.css"), style, 0o644))
}

var markdown = goldmark.New(goldmark.WithExtensions(extension.GFM), goldmark.WithParserOptions(parser.WithAutoHeadingID()))

func load(root string) ([]*doc, error) {
	files := slices.Clone(extra)
	err := fs.WalkDir(os.DirFS(root), "docs", func(name string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && path.Ext(name) == ".md" {
			files = append(files, name)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	var docs []*doc
	for _, file := range files {
		source, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			return nil, err
		}
		d := &doc{file: file, source: source, title: file, tree: markdown.Parser().Parse(text.NewReader(source))}
		d.read()
		docs = append(docs, d)
	}
	return docs, nil
}

// read notes title, anchors and text.
func (d *doc) read() {
	var words strings.Builder
	_ = ast.Walk(d.tree, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Heading:
			if id, ok := n.AttributeString("id"); ok {
				d.anchors = append(d.anchors, string(id.([]byte)))
			}
			if n.Level == 1 && d.title == d.file {
				d.title = string(n.Lines().Value(d.source))
			}
		case *ast.Text:
			words.Write(n.Segment.Value(d.source))
			words.WriteByte(' ')
		case *ast.CodeBlock, *ast.FencedCodeBlock:
			words.Write(n.Lines().Value(d.source))
		}
		return ast.WalkContinue, nil
	})
	d.text = strings.Join(strings.Fields(words.String()), " ")
}

// link turns links between pages into those of the site and checks them. What is
// no page is a file of the repository, which must be there.
func (d *doc) link(root string, pages map[string]*doc) []error {
	var errs []error
	_ = ast.Walk(d.tree, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		l, ok := n.(*ast.Link)
		if !ok || !entering {
			return ast.WalkContinue, nil
		}
		u, err := url.Parse(string(l.Destination))
		if err != nil || u.Scheme != "" {
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: link %s: %w", d.file, l.Destination, err))
			}
			return ast.WalkContinue, nil
		}
		to := d.file
		if u.Path != "" {
			to = path.Join(path.Dir(d.file), u.Path)
		}
		other := pages[to]
		if other == nil {
			if _, err := os.Stat(filepath.Join(root, to)); err != nil {
				errs = append(errs, fmt.Errorf("%s: link %s: there is no %s", d.file, l.Destination, to))
			}
			l.Destination = []byte(repository + to)
			return ast.WalkContinue, nil
		}
		if u.Fragment != "" && !slices.Contains(other.anchors, u.Fragment) {
			errs = append(errs, fmt.Errorf("%s: link %s: %s has no heading of that name", d.file, l.Destination, to))
		}
		u.Path = relative(target(d.file), target(to))
		l.Destination = []byte(u.String())
		return ast.WalkContinue, nil
	})
	return errs
}

const repository = "https://github.com/ankacluster/ankacluster/blob/main/"

// target is the file of the site that a page becomes.
func target(file string) string {
	if file == index {
		return "index.html"
	}
	return strings.TrimSuffix(file, ".md") + ".html"
}

// relative returns the way from one file of the site to another.
func relative(from, to string) string {
	return strings.Repeat("../", strings.Count(from, "/")) + to
}

func (d *doc) write(out string, docs []*doc) error {
	var body bytes.Buffer
	if err := markdown.Renderer().Render(&body, d.source, d.tree); err != nil {
		return fmt.Errorf("%s: %w", d.file, err)
	}
	to := target(d.file)
	type entry struct {
		Title, Href string
		Here        bool
	}
	var menu []entry
	for _, o := range docs {
		if strings.HasPrefix(o.file, "docs/operators/") && path.Base(o.file) != "README.md" {
			menu = append(menu, entry{o.title, relative(to, target(o.file)), o == d})
		}
	}
	file := filepath.Join(out, to)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	var html bytes.Buffer
	err := page.Execute(&html, map[string]any{
		"Title": d.title, "Body": template.HTML(body.String()), "Root": relative(to, ""), "Menu": menu,
	})
	if err != nil {
		return err
	}
	return os.WriteFile(file, html.Bytes(), 0o644)
}
