package content

import (
	"regexp"
	"strings"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ankacluster/ankacluster/registryapi"
)

var (
	imageFile = regexp.MustCompile(`(?i)\.(ank|img)$`)
	stateFile = regexp.MustCompile(`(?i)\.sav$`)
)

// Describe sets what a version shows of a manifest: description and
// files, and, with the VM's configuration, configuration file and architecture. A
// description may stand in either. It returns the VM's name, "" where there is no
// configuration.
func Describe(v *registryapi.Version, c Content, cfg VMConfig, configured bool) string {
	v.Description = c.Annotations[ispec.AnnotationDescription]
	v.Images, v.StateFiles = []string{}, []string{}
	for _, l := range c.Layers {
		addFile(v, l.Annotations[ispec.AnnotationTitle])
	}
	if !configured {
		return ""
	}
	if d := cfg.Config.Labels[ispec.AnnotationDescription]; v.Description == "" && len(d) <= maxDescription {
		v.Description = d
	}
	if cfg.UUID != "" {
		v.ConfigFile = strings.ToLower(cfg.UUID) + ".yaml"
	}
	v.Arch = cfg.Arch
	return cfg.Name
}

func addFile(v *registryapi.Version, title string) {
	switch {
	case imageFile.MatchString(title):
		v.Images = append(v.Images, title)
	case stateFile.MatchString(title):
		v.StateFiles = append(v.StateFiles, title)
		v.StateFile = title
	case strings.Contains(strings.ToLower(title), "nvram"):
		v.NVRAM = title
	}
}
