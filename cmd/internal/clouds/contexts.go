package clouds

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/ankacluster/ankacluster/internal/atomicfile"
)

// File is the contexts that a person has given names: which clouds there are, and which
// one is meant when none is named.
type File struct {
	Current  string            `json:"current,omitempty"`
	Contexts map[string]Config `json:"contexts"`

	path string
}

// Path is the file of the contexts of the user who runs this.
func Path() (string, error) {
	dir, err := os.UserConfigDir()
	return filepath.Join(dir, "ankacluster", "contexts.json"), err
}

// Load reads the contexts at path; there are none where there is no file.
func Load(path string) (*File, error) {
	f := &File{Contexts: make(map[string]Config), path: path}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(f); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for name, cfg := range f.Contexts {
		if len(cfg.Controllers) == 0 {
			return nil, fmt.Errorf("%s: context %q has no controllers", path, name)
		}
	}
	return f, nil
}

// Save writes the contexts, for their owner only.
func (f *File) Save() error {
	data, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(f.path), 0o700); err != nil {
		return err
	}
	return atomicfile.Options{Mode: 0o600}.Write(f.path, append(data, '\n'))
}

// Get returns a context, or *NotFound.
func (f *File) Get(name string) (Config, error) {
	if cfg, ok := f.Contexts[name]; ok {
		return cfg, nil
	}
	var all []Named
	for n := range f.Contexts {
		all = append(all, Named{Name: n})
	}
	_, err := Find("context", name, all)
	if _, ok := errors.AsType[*NotFound](err); ok {
		return Config{}, err
	}
	return Config{}, &NotFound{Kind: "context", Word: name} // a beginning is no name
}

// Names are the contexts in order.
func (f *File) Names() []string {
	names := make([]string, 0, len(f.Contexts))
	for n := range f.Contexts {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}
