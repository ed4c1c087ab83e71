package content

import (
	"encoding/json"
	"testing"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// What is known to be something else is no template; what is not known is one.
func TestWhatIsNoVM(t *testing.T) {
	t.Parallel()
	desc := func(types ...string) (all []ispec.Descriptor) {
		for _, mt := range types {
			all = append(all, ispec.Descriptor{MediaType: mt})
		}
		return all
	}
	const linux, darwin = `{"os":"linux","architecture":"arm64","rootfs":{"type":"layers"}}`, `{"os":"darwin","architecture":"arm64","rootfs":{"type":"layers"}}`
	const image, layer = "application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar+gzip"
	for _, tc := range []struct {
		name, config, json string
		artifact           string
		layers             []ispec.Descriptor
		subject            bool
		noVM               bool
	}{
		{name: "our VM", config: "application/vnd.ankacluster.vm.config.v1+json", json: `{"name":"x","uuid":"y"}`, layers: desc("application/vnd.ankacluster.vm.file.v1")},
		{name: "tart", config: image, json: darwin, layers: desc("application/vnd.cirruslabs.tart.config.v1", "application/vnd.cirruslabs.tart.disk.v2")},
		{name: "unknown format of Anka", config: "application/vnd.veertu.anka.config", json: `{}`, layers: desc("application/octet-stream")},
		{name: "unknown format in container types, macOS", config: image, json: darwin, layers: desc(layer)},
		{name: "container types without a system", config: image, json: `{}`, layers: desc(layer)},
		{name: "container image", config: image, json: linux, layers: desc(layer, layer), noVM: true},
		{name: "docker image", config: "application/vnd.docker.container.image.v1+json", json: linux, layers: desc("application/vnd.docker.image.rootfs.diff.tar.gzip"), noVM: true},
		{name: "container image with a layer of another kind", config: image, json: linux, layers: desc(layer, "application/vnd.apple.disk")},
		{name: "chart", config: "application/vnd.cncf.helm.config.v1+json", json: `{}`, layers: desc("application/vnd.cncf.helm.chart.content.v1.tar+gzip"), noVM: true},
		{name: "signature by tag", config: image, json: `{}`, layers: desc("application/vnd.dev.cosign.simplesigning.v1+json"), noVM: true},
		{name: "bill of materials", artifact: "application/spdx+json", layers: desc("application/spdx+json"), noVM: true},
		{name: "about another manifest", config: "application/vnd.oci.empty.v1+json", subject: true, noVM: true},
		{name: "artefact of an unknown kind", artifact: "application/vnd.example", config: "application/vnd.oci.empty.v1+json", layers: desc("text/plain")},
	} {
		c := Content{ArtifactType: tc.artifact, Layers: tc.layers}
		if tc.config != "" {
			c.Config = &ispec.Descriptor{MediaType: tc.config}
		}
		if tc.subject {
			c.Subject = &ispec.Descriptor{}
		}
		if got := noVM(c, VMConfig{JSON: json.RawMessage(tc.json)}); got != tc.noVM {
			t.Errorf("%s: got %t, want %t", tc.name, got, tc.noVM)
		}
	}
}
