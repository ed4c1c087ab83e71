package main

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// entry is one file of an archive. Its folders come of themselves.
type entry struct {
	path   string // below the archive's own folder
	source string
	mode   fs.FileMode
}

// archiveName is the name of a platform's archive without its ending.
func (r *release) archiveName(p platform) string {
	return fmt.Sprintf("ankacluster_%s_%s_%s", r.version, p.os, p.arch)
}

// archive writes the archive of a platform. Its bin and share fit below
// /usr/local: tar -xzf ARCHIVE -C /usr/local --strip-components 1.
func (r *release) archive(p platform) error {
	var list []entry
	add := func(path, source string, mode fs.FileMode) { list = append(list, entry{path, source, mode}) }
	for _, name := range programs {
		add("bin/"+name, filepath.Join(r.binaries(p), name), 0o755)
	}
	for name, path := range r.agents() {
		add("share/ankacluster/agents/"+name, path, agentMode(name))
	}
	for _, name := range programs {
		add("share/man/man8/"+name+".8.gz", r.manual(name), 0o644)
		add("share/bash-completion/completions/"+name, r.completion(name, "bash"), 0o644)
		add("share/zsh/site-functions/_"+name, r.completion(name, "zsh"), 0o644)
		add("share/fish/vendor_completions.d/"+name+".fish", r.completion(name, "fish"), 0o644)
	}
	doc := "share/doc/ankacluster/"
	for _, name := range []string{"LICENSE", "README.md", "CHANGELOG.md", "SECURITY.md"} {
		add(doc+name, filepath.Join(r.root, name), 0o644)
	}
	add(doc+filepath.Base(r.notices()), r.notices(), 0o644)
	service := []string{"anka-controller.plist", "anka-registry.plist"}
	if p.os == "linux" {
		service = []string{"anka-controller.service", "anka-controller.env", "anka-registry.service", "anka-registry.env"}
	}
	for _, name := range service {
		add(doc+"services/"+name, filepath.Join(r.root, "deploy/packages", name), 0o644)
	}
	slices.SortFunc(list, func(a, b entry) int { return strings.Compare(a.path, b.path) })
	return r.writeFile(r.archiveName(p)+".tar.gz", func(w io.Writer) error {
		zip := gzip.NewWriter(w)
		err := r.writeTar(zip, r.archiveName(p), list)
		return errors.Join(err, zip.Close())
	})
}

// agentPlatforms are those of the agent's programs for Macs, by the names under which
// controllers serve them for upgrades.
var agentPlatforms = map[string]platform{"AnkaAgent.pkg": {"darwin", "amd64"}, "AnkaAgentArm.pkg": {"darwin", "arm64"}}

// agents are the agent's programs for Macs, and their signatures where there is a
// key, by their names in a controller's folder.
func (r *release) agents() map[string]string {
	found := make(map[string]string)
	for name, p := range agentPlatforms {
		if !r.has(p) {
			continue
		}
		found[name] = filepath.Join(r.binaries(p), "ankacluster")
		if r.key != nil {
			found[name+".minisig"] = r.agentSignature(name)
		}
	}
	return found
}

// agentMode is the mode of a file of agents.
func agentMode(name string) fs.FileMode {
	if strings.HasSuffix(name, ".pkg") {
		return 0o755
	}
	return 0o644
}

// writeFile writes a file of the result.
func (r *release) writeFile(name string, write func(io.Writer) error) error {
	f, err := os.Create(filepath.Join(r.out, name))
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

// writeTar writes the entries, in their order, below a folder. Owner and time
// are the same everywhere.
func (r *release) writeTar(w io.Writer, folder string, list []entry) error {
	out := tar.NewWriter(w)
	seen := make(map[string]bool)
	header := func(kind byte, name string, mode fs.FileMode, size int64) error {
		return out.WriteHeader(&tar.Header{Typeflag: kind, Name: name, Mode: int64(mode), Size: size, ModTime: r.time, Uname: "root", Gname: "root", Format: tar.FormatPAX})
	}
	for _, e := range list {
		name := strings.TrimPrefix(folder+"/"+e.path, "/")
		for i, c := range name {
			if dir := name[:i+1]; c == '/' && !seen[dir] {
				seen[dir] = true
				if err := header(tar.TypeDir, dir, 0o755, 0); err != nil {
					return err
				}
			}
		}
		data, err := os.ReadFile(e.source)
		if err != nil {
			return err
		}
		if err := header(tar.TypeReg, name, e.mode, int64(len(data))); err != nil {
			return err
		}
		if _, err := out.Write(data); err != nil {
			return err
		}
	}
	return out.Close()
}
