package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb" // the two formats register themselves
	"github.com/goreleaser/nfpm/v2/files"
	_ "github.com/goreleaser/nfpm/v2/rpm"
)

// descriptions are what package managers show.
var descriptions = map[string]string{
	"ankacluster":     "node agent of a build cloud for macOS CI\nJoins a machine to a highly available build cloud, runs its VMs, and balances\nits requests over all controllers and registries.",
	"anka-controller": "controller of a build cloud for macOS CI\nTakes requests for VMs from CI systems and gives them to the nodes. Keeps its\nstate in etcd, and can bring etcd and a registry along.",
	"anka-registry":   "registry of VM templates for macOS CI\nStores VM templates and serves them over the OCI distribution API.",
}

// linuxPackages writes the .deb and the .rpm of one program.
func (r *release) linuxPackages(p platform, name string) error {
	for _, format := range []string{"deb", "rpm"} {
		info, err := r.packageInfo(p, name, format)
		if err != nil {
			return err
		}
		packager, err := nfpm.Get(format)
		if err != nil {
			return err
		}
		info = nfpm.WithDefaults(info)
		if err := nfpm.PrepareForPackager(info, format); err != nil {
			return fmt.Errorf("%s of %s: %w", format, name, err)
		}
		if err := r.writeFile(packager.ConventionalFileName(info), func(w io.Writer) error { return packager.Package(info, w) }); err != nil {
			return fmt.Errorf("%s of %s: %w", format, name, err)
		}
	}
	return nil
}

func (r *release) packageInfo(p platform, name, format string) (*nfpm.Info, error) {
	server := name != "ankacluster"
	kind := "agent"
	if server {
		kind = "server"
	}
	scripts := make(map[string]string)
	for _, s := range []string{"postinstall", "preremove", "postremove"} {
		text, err := os.ReadFile(filepath.Join(r.root, "deploy/packages", kind+"."+s))
		if err != nil {
			return nil, err
		}
		path := filepath.Join(r.work, "scripts", format, p.arch, name+"."+s)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(text), "@NAME@", name)), 0o755); err != nil {
			return nil, err
		}
		scripts[s] = path
	}
	doc, zsh, licence := "/usr/share/doc/"+name+"/", "/usr/share/zsh/vendor-completions/_", "copyright"
	if format == "rpm" {
		zsh, licence = "/usr/share/zsh/site-functions/_", "LICENSE"
	}
	var contents files.Contents
	add := func(path, source, kind string, mode os.FileMode) {
		contents = append(contents, &files.Content{Source: source, Destination: path, Type: kind, FileInfo: &files.ContentFileInfo{Mode: mode, MTime: r.time}})
	}
	add("/usr/bin/"+name, filepath.Join(r.binaries(p), name), files.TypeFile, 0o755)
	add("/usr/share/man/man8/"+name+".8.gz", r.manual(name), files.TypeFile, 0o644)
	add("/usr/share/bash-completion/completions/"+name, r.completion(name, "bash"), files.TypeFile, 0o644)
	add(zsh+name, r.completion(name, "zsh"), files.TypeFile, 0o644)
	add("/usr/share/fish/vendor_completions.d/"+name+".fish", r.completion(name, "fish"), files.TypeFile, 0o644)
	add(doc+licence, filepath.Join(r.root, "LICENSE"), files.TypeFile, 0o644)
	add(doc+filepath.Base(r.notices()), r.notices(), files.TypeFile, 0o644)
	add(doc+"CHANGELOG.md", filepath.Join(r.root, "CHANGELOG.md"), files.TypeFile, 0o644)
	depends := []string{}
	if name == "anka-controller" {
		for agent, path := range r.agents() {
			add("/usr/share/ankacluster/agents/"+agent, path, files.TypeFile, agentMode(agent))
		}
	}
	if server {
		add("/etc/ankacluster", "", files.TypeDir, 0o755)
		add("/etc/ankacluster/"+name+".env", filepath.Join(r.root, "deploy/packages", name+".env"), files.TypeConfigNoReplace, 0o600)
		add("/usr/lib/systemd/system/"+name+".service", filepath.Join(r.root, "deploy/packages", name+".service"), files.TypeFile, 0o644)
		depends = []string{map[string]string{"deb": "passwd", "rpm": "shadow-utils"}[format]}
	}
	description := descriptions[name]
	summary, rest, _ := strings.Cut(description, "\n")
	if format == "rpm" { // which has the first line apart
		description = rest
	}
	return &nfpm.Info{
		Name: name, Arch: p.arch, Platform: "linux", Version: r.version, VersionSchema: "semver",
		Section: "admin", Priority: "optional", MTime: r.time,
		Maintainer: "The ankacluster authors <ankacluster@users.noreply.github.com>", Vendor: "ankacluster",
		Description: description, Homepage: "https://github.com/ankacluster/ankacluster", License: "Apache-2.0",
		Overridables: nfpm.Overridables{
			Depends: depends, Contents: contents,
			Scripts: nfpm.Scripts{PostInstall: scripts["postinstall"], PreRemove: scripts["preremove"], PostRemove: scripts["postremove"]},
			RPM:     nfpm.RPM{Summary: summary, BuildHost: "localhost", Group: "System Environment/Daemons"},
		},
	}, nil
}
