package content

import (
	"strings"
	"testing"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ankacluster/ankacluster/registryapi"
)

// D18: tart writes the description of an image into its configuration, and not into
// the manifest.
func TestDescriptionOfAnImage(t *testing.T) {
	for name, c := range map[string]struct{ manifest, label, want string }{
		"neither":      {"", "", ""},
		"manifest":     {"of the manifest", "", "of the manifest"},
		"label":        {"", "of the label", "of the label"},
		"both":         {"of the manifest", "of the label", "of the manifest"},
		"out of bound": {"", strings.Repeat("x", maxDescription+1), ""},
	} {
		content := Content{Annotations: map[string]string{ispec.AnnotationDescription: c.manifest}}
		var cfg VMConfig
		cfg.Config.Labels = map[string]string{ispec.AnnotationDescription: c.label}
		var v registryapi.Version
		if Describe(&v, content, cfg, true); v.Description != c.want {
			t.Errorf("%s: %q, want %q", name, v.Description, c.want)
		}
	}
}
