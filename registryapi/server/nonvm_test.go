package server

import (
	"bytes"
	"encoding/json"
	"net/http"
	"testing"

	"github.com/opencontainers/image-spec/specs-go"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ankacluster/ankacluster/registryapi"
)

// A container image beside the VMs is served and is no template; a format that
// nobody here knows is one.
func TestContainerImagesAreServedAndNotListed(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, g *registry) {
		push := func(repo, configType, config, layerType string) {
			c, l := g.pushBlob(repo, []byte(config)), g.pushBlob(repo, []byte("layer of "+repo))
			c.MediaType, l.MediaType = configType, layerType
			raw, err := json.Marshal(ispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ispec.MediaTypeImageManifest, Config: c, Layers: []ispec.Descriptor{l}})
			if err != nil {
				t.Fatal(err)
			}
			g.want(http.StatusCreated, "PUT", "/v2/"+repo+"/manifests/v1", bytes.NewReader(raw), "Content-Type", ispec.MediaTypeImageManifest)
		}
		push("team/tool", ispec.MediaTypeImageConfig, `{"os":"linux","architecture":"arm64","rootfs":{"type":"layers","diff_ids":[]}}`, ispec.MediaTypeImageLayerGzip)
		push("team/chart", "application/vnd.cncf.helm.config.v1+json", `{"name":"chart"}`, "application/vnd.cncf.helm.chart.content.v1.tar+gzip")
		push("team/unknown", "application/vnd.veertu.something", `{}`, "application/octet-stream")
		g.pushVM("team/sonoma", "v1", "11111111-2222-3333-4444-555555555555", map[string][]byte{"disk.ank": []byte("disk")})

		list, err := g.client().Templates(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := names(list); got != "VM of team/sonoma, unknown" && got != "unknown, VM of team/sonoma" {
			t.Errorf("listed: %s", got)
		}
		g.want(http.StatusOK, "GET", "/v2/team/tool/manifests/v1", nil)
		g.want(http.StatusOK, "GET", "/v2/team/chart/manifests/v1", nil)
	})
}

func names(list []registryapi.Template) (all string) {
	for i, t := range list {
		if i > 0 {
			all += ", "
		}
		all += t.Name
	}
	return all
}
