package content

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// maxDescription is the longest description that is shown: every list has them all.
const maxDescription = 4 << 10

// maxConfig is the largest VM configuration that is read.
const maxConfig = 1 << 20

// VMConfig is what is read in a pushed configuration; the rest is opaque.
type VMConfig struct {
	Name string `json:"name"`
	UUID string `json:"uuid"`
	Arch string `json:"arch"`
	// Architecture is what container images call it.
	Architecture string `json:"architecture"`
	// Config is that of container images, where tart puts what it was told of an image.
	Config struct {
		Labels map[string]string `json:"Labels"`
	} `json:"config"`
	JSON json.RawMessage `json:"-"`
}

// ReadConfig reads the config blob of a manifest as JSON; YAML is converted. A blob that
// is neither, or whose meaning is far larger than itself, is ErrManifestInvalid: the
// version is served, and shows less.
func ReadConfig(s Blobs, repo string, c Content) (VMConfig, error) {
	var cfg VMConfig
	if c.Config == nil || c.Config.Size > maxConfig {
		return cfg, fmt.Errorf("%w: no configuration of a VM", ErrManifestInvalid)
	}
	f, _, err := s.OpenBlob(repo, c.Config.Digest)
	if err != nil {
		return cfg, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfig))
	if err != nil {
		return cfg, err
	}
	if !json.Valid(data) {
		if data, err = yamlToJSON(data); err != nil {
			return cfg, fmt.Errorf("%w: its configuration is neither JSON nor YAML", ErrManifestInvalid)
		}
	}
	// A configuration of another shape is served too; it only shows less.
	_ = json.Unmarshal(data, &cfg)
	cfg.JSON = data
	if cfg.Arch == "" {
		cfg.Arch = cfg.Architecture
	}
	cfg.Arch = strings.ToLower(cfg.Arch)
	return cfg, nil
}
