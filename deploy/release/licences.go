package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/licensecheck"
)

// allowed are the licences, by their SPDX names, under which a module may be
// linked. MPL-2.0 is one of single files, which stay as they are.
var allowed = []string{"Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Zlib", "MPL-2.0"}

// module is one that is linked into a program, or Go's own library.
type module struct {
	path, version string
	licences      []string // SPDX names
	files         []licenceFile
	programs      []string
}

// licenceFile is a text that has to go with the module.
type licenceFile struct {
	name string // below the module
	text []byte
}

// listed is what `go list` tells of a package.
type listed struct {
	Dir      string
	Standard bool
	Module   *struct {
		Path, Version, Dir string
		Main               bool
	}
}

// licenceName matches the files that are looked at, and noticeName those among
// them that go along without being a licence.
var (
	licenceName = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents|authors)([-_.].*)?$`)
	noticeName  = regexp.MustCompile(`(?i)^(notice|patents|authors)`)
)

// collectLicences returns the modules that are linked for any of the platforms,
// sorted. It is an error when the licence of one is not allowed or not known.
func (r *release) collectLicences(ctx context.Context) ([]module, error) {
	found := make(map[string]*module)
	for _, p := range r.platforms {
		for _, name := range programs {
			packages, err := r.list(ctx, p, name)
			if err != nil {
				return nil, err
			}
			for _, pkg := range packages {
				if err := note(found, pkg, name); err != nil {
					return nil, err
				}
			}
		}
	}
	if err := noteGo(ctx, found); err != nil {
		return nil, err
	}
	var (
		all  []module
		errs []error
	)
	for _, m := range found {
		slices.SortFunc(m.files, func(a, b licenceFile) int { return strings.Compare(a.name, b.name) })
		errs = append(errs, m.classify())
		all = append(all, *m)
	}
	slices.SortFunc(all, func(a, b module) int { return strings.Compare(a.path, b.path) })
	return all, errors.Join(errs...)
}

// list returns the packages that are linked into a program.
func (r *release) list(ctx context.Context, p platform, name string) ([]listed, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-deps", "-json=Dir,Standard,Module", "./cmd/"+name)
	cmd.Dir = r.root
	cmd.Env = goEnv(p)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list what %s for %s is made of: %w\n%s", name, p, err, stderr.Bytes())
	}
	var packages []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var pkg listed
		switch err := dec.Decode(&pkg); {
		case errors.Is(err, io.EOF):
			return packages, nil
		case err != nil:
			return nil, err
		}
		packages = append(packages, pkg)
	}
}

// note adds a package's module, and the texts between the package's folder and
// the module's: a copied package may have a licence of its own.
func note(found map[string]*module, pkg listed, program string) error {
	if pkg.Standard || pkg.Module == nil || pkg.Module.Main {
		return nil
	}
	m := found[pkg.Module.Path]
	if m == nil {
		m = &module{path: pkg.Module.Path, version: pkg.Module.Version}
		found[m.path] = m
	}
	if !slices.Contains(m.programs, program) {
		m.programs = append(m.programs, program)
	}
	for dir := pkg.Dir; ; dir = filepath.Dir(dir) {
		if err := m.addFiles(pkg.Module.Dir, dir); err != nil {
			return err
		}
		if dir == pkg.Module.Dir || len(dir) <= len(pkg.Module.Dir) {
			return nil
		}
	}
}

func (m *module) addFiles(moduleDir, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !licenceName.MatchString(e.Name()) || !e.Type().IsRegular() || slices.Contains([]string{".go", ".docs"}, filepath.Ext(e.Name())) { // .docs: of documents, which are not linked
			continue
		}
		name, err := filepath.Rel(moduleDir, filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		if slices.ContainsFunc(m.files, func(f licenceFile) bool { return f.name == name }) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		m.files = append(m.files, licenceFile{name, text})
	}
	return nil
}

// noteGo adds Go's own library, which every program holds.
func noteGo(ctx context.Context, found map[string]*module) error {
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT", "GOVERSION").Output()
	if err != nil {
		return err
	}
	fields := strings.Split(strings.TrimSpace(string(out)), "\n")
	m := &module{path: "std", version: strings.TrimPrefix(fields[1], "go"), programs: programs}
	found[m.path] = m
	if err := m.addFiles(fields[0], fields[0]); err != nil {
		return err
	}
	if len(m.files) == 0 { // distributions keep it elsewhere
		return fmt.Errorf("go's own licence is not in %s: %w", fields[0], fs.ErrNotExist)
	}
	return nil
}

// classify names the module's licences, and refuses what is not allowed.
func (m *module) classify() error {
	for _, f := range m.files {
		if noticeName.MatchString(filepath.Base(f.name)) {
			continue
		}
		names, err := recognise(f.text)
		if err != nil {
			return fmt.Errorf("%s %s: %s: %w", m.path, m.version, f.name, err)
		}
		m.licences = append(m.licences, names...)
	}
	slices.Sort(m.licences)
	m.licences = slices.Compact(m.licences)
	if len(m.licences) == 0 {
		return fmt.Errorf("%s %s: has no file with a licence", m.path, m.version)
	}
	for _, l := range m.licences {
		if !slices.Contains(allowed, l) {
			return fmt.Errorf("%s %s: licence %s is not allowed (allowed: %s)", m.path, m.version, l, strings.Join(allowed, ", "))
		}
	}
	return nil
}

// recognise returns the SPDX names of the licences in a text.
func recognise(text []byte) ([]string, error) {
	// Below this share something else stands in the file than licences.
	const known = 75
	got := licensecheck.Scan(text)
	var names []string
	for _, m := range got.Match {
		if !m.IsURL {
			names = append(names, m.ID)
		}
	}
	if len(names) == 0 || got.Percent < known {
		return nil, fmt.Errorf("holds no licence that is known (%.0f %% of the text are: %v)", got.Percent, names)
	}
	return names, nil
}

// printLicences prints a table.
func printLicences(modules []module) {
	for _, m := range modules {
		fmt.Printf("%-28s %s %s\n", strings.Join(m.licences, ", "), m.path, m.version)
	}
}

// writeNotices writes the texts that go into every archive, package and image.
func (r *release) writeNotices(modules []module) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "The programs of ankacluster %s contain the following modules, each under its own licence.\n", r.version)
	for _, m := range modules {
		fmt.Fprintf(&b, "\n%s\n%s %s (%s), in %s\n", strings.Repeat("=", 80), m.path, m.version, strings.Join(m.licences, ", "), strings.Join(m.programs, ", "))
		for _, f := range m.files {
			fmt.Fprintf(&b, "%s\n%s:\n\n%s\n", strings.Repeat("-", 80), f.name, bytes.TrimSpace(f.text))
		}
	}
	return os.WriteFile(r.notices(), b.Bytes(), 0o644)
}

func (r *release) notices() string { return filepath.Join(r.work, "THIRD-PARTY-LICENSES.txt") }
