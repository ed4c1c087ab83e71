package main

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"text/template"
)

//go:embed ankacluster.rb.tmpl
var formulaText string

// formula writes the Homebrew formula, which installs the archives.
func (r *release) formula() error {
	t, err := template.New("formula").Funcs(template.FuncMap{
		"has": func(os, arch string) bool { return r.has(platform{os, arch}) },
		"url": func(os, arch string) string {
			return r.download + "/v" + r.version + "/" + r.archiveName(platform{os, arch}) + ".tar.gz"
		},
		"sum": func(os, arch string) (string, error) { return r.sum(r.archiveName(platform{os, arch}) + ".tar.gz") },
	}).Parse(formulaText)
	if err != nil {
		return err
	}
	return r.writeFile("ankacluster.rb", func(w io.Writer) error {
		return t.Execute(w, map[string]any{"Version": r.version, "Programs": programs})
	})
}

func (r *release) has(p platform) bool {
	for _, q := range r.platforms {
		if p == q {
			return true
		}
	}
	return false
}

// sum returns the SHA-256 of a file of the result.
func (r *release) sum(name string) (string, error) {
	f, err := os.Open(filepath.Join(r.out, name))
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
