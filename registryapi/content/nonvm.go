package content

import (
	"encoding/json"
	"slices"
	"strings"
)

// Kinds of content that are known to be no VM, by their media types.
var (
	otherConfigs = []string{
		"application/vnd.cncf.helm.config.v1+json",
		"application/vnd.cncf.flux.config.v1+json",
		"application/vnd.cncf.openpolicyagent.config.v1+json",
		"application/vnd.wasm.config.v0+json",
	}
	// otherArtifacts are of signatures, attestations and bills of materials, as the
	// type of an artefact, of its configuration or of its layers.
	otherArtifacts = []string{
		"application/vnd.dev.cosign.", "application/vnd.dev.sigstore.", "application/vnd.cncf.notary.",
		"application/vnd.in-toto", "application/spdx", "text/spdx", "application/vnd.cyclonedx", "application/vnd.syft",
		"application/vnd.cncf.helm.", "application/sarif", "application/vnd.security.",
	}
	containerConfigs = []string{"application/vnd.docker.container.image.v1+json", "application/vnd.oci.image.config.v1+json"}
	containerLayers  = []string{"application/vnd.docker.image.rootfs.", "application/vnd.oci.image.layer."}
)

// noVM reports whether a manifest is known to be something else than a VM: a
// container image, a chart, a signature, a bill of materials, or whatever is about
// another manifest. cfg is its configuration, where it has one. What is not known is
// a VM: the images of Anka's own format need not look like those that we write.
func noVM(c Content, cfg VMConfig) bool {
	if c.Subject != nil {
		return true
	}
	types := []string{c.ArtifactType}
	if c.Config != nil {
		if slices.Contains(otherConfigs, c.Config.MediaType) {
			return true
		}
		types = append(types, c.Config.MediaType)
	}
	for _, l := range c.Layers {
		types = append(types, l.MediaType)
	}
	if slices.ContainsFunc(types, func(t string) bool { return hasAnyPrefix(t, otherArtifacts) }) {
		return true
	}
	return container(c, cfg)
}

// container reports whether a manifest is that of a container image: by the type of
// its configuration, by those of all its layers, and by a system that runs in
// containers. Images of VMs borrow these types, but their system is macOS.
func container(c Content, cfg VMConfig) bool {
	if c.Config == nil || !slices.Contains(containerConfigs, c.Config.MediaType) || len(c.Layers) == 0 {
		return false
	}
	for _, l := range c.Layers {
		if !hasAnyPrefix(l.MediaType, containerLayers) {
			return false
		}
	}
	var image struct {
		OS     string          `json:"os"`
		RootFS json.RawMessage `json:"rootfs"`
	}
	_ = json.Unmarshal(cfg.JSON, &image) // of another shape it is unknown
	return image.RootFS != nil && slices.Contains([]string{"linux", "windows", "freebsd"}, strings.ToLower(image.OS))
}

func hasAnyPrefix(s string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
}

// NoVM reports whether a manifest of the repository is known to be something else
// than a VM. An index is no VM when it has children and each of them that is there is
// none.
func NoVM(s Reader, repo string, c Content) bool {
	if len(c.Manifests) == 0 {
		cfg, _ := ReadConfig(s, repo, c) // without one, the types have to do
		return noVM(c, cfg)
	}
	there := 0
	for _, d := range c.Manifests {
		m, err := s.Manifest(repo, d.Digest)
		if err != nil {
			continue
		}
		child, err := ParseManifest(m.MediaType, m.Raw)
		if err != nil || len(child.Manifests) > 0 || !NoVM(s, repo, child) {
			return false
		}
		there++
	}
	return there > 0
}
