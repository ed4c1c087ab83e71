package replication

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/ankacluster/ankacluster/internal/atomicfile"
	"github.com/ankacluster/ankacluster/registryapi"
)

// known is what a source held when it was last followed, in memory and on disk:
// one file a repository. It tells what may be deleted, also after a restart and
// while the source cannot be reached. It is used by one goroutine.
type known struct {
	dir   string
	store string // the id of the source's store, "" before it was told
	repos map[string]registryapi.RepositoryState
}

// openKnown reads what is known of the source at base.
func openKnown(root, base string) (*known, error) {
	k := &known{dir: filepath.Join(root, "sources", digest.FromString(base).Encoded()[:24]), repos: make(map[string]registryapi.RepositoryState)}
	if err := os.MkdirAll(k.dir, 0o755); err != nil {
		return nil, err
	}
	store, err := os.ReadFile(k.storePath())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	k.store = string(store)
	files, err := os.ReadDir(k.dir)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".json") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(k.dir, f.Name()))
		if err != nil {
			return nil, err
		}
		var st registryapi.RepositoryState
		// A torn file is as good as none: what it told of is then not deleted.
		if json.Unmarshal(data, &st) == nil && k.path(st.Name) == filepath.Join(k.dir, f.Name()) {
			k.repos[st.Name] = st
		}
	}
	return k, nil
}

func (k *known) storePath() string { return filepath.Join(k.dir, "store") }

// setStore keeps the id of the source's store.
func (k *known) setStore(id string) error {
	k.store = id
	return replaceFile(k.storePath(), []byte(id))
}

func (k *known) path(repo string) string {
	name := url.PathEscape(repo)
	if len(name) > 200 { // a file name has 255 bytes at most
		name = digest.FromString(repo).Encoded()
	}
	return filepath.Join(k.dir, name+".json")
}

// set keeps st; one without content is forgotten.
func (k *known) set(st registryapi.RepositoryState) error {
	if len(st.Tags) == 0 && len(st.Manifests) == 0 {
		delete(k.repos, st.Name)
		err := os.Remove(k.path(st.Name))
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	}
	k.repos[st.Name] = st
	data, err := json.Marshal(st)
	if err != nil {
		return err
	}
	return replaceFile(k.path(st.Name), data)
}

// replaceFile needs no flush: an older file after a crash is only older.
func replaceFile(path string, data []byte) error {
	if err := (atomicfile.Options{Temp: ".tmp-*", Unsynced: true}).Write(path, data); err != nil {
		return fmt.Errorf("keep %s: %w", filepath.Base(path), err)
	}
	return nil
}
