package replication

import (
	"encoding/json"
	"errors"
	"net/url"
	"os"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/ankacluster/ankacluster/registryapi"
	"github.com/ankacluster/ankacluster/registryapi/content"
)

// known is what a source held when it was last followed, in memory and on disk:
// one file a repository. It tells what may be deleted, also after a restart and
// while the source cannot be reached. It is used by one goroutine.
type known struct {
	docs  content.Documents
	store string // the id of the source's store, "" before it was told
	repos map[string]registryapi.RepositoryState
}

// openKnown reads what is known of the source at base.
func openKnown(s content.Store, base string) (*known, error) {
	k := &known{docs: s.Documents(folder, "sources", digest.FromString(base).Encoded()[:24]), repos: make(map[string]registryapi.RepositoryState)}
	if err := k.docs.Make(); err != nil {
		return nil, err
	}
	store, err := k.docs.Read(storeName)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	k.store = string(store)
	names, err := k.docs.Names()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if !strings.HasSuffix(name, ".json") {
			continue
		}
		data, err := k.docs.Read(name)
		if err != nil {
			return nil, err
		}
		var st registryapi.RepositoryState
		// A torn file is as good as none: what it told of is then not deleted.
		if json.Unmarshal(data, &st) == nil && documentOf(st.Name) == name {
			k.repos[st.Name] = st
		}
	}
	return k, nil
}

// storeName is the document that holds the id of the source's store.
const storeName = "store"

// setStore keeps the id of the source's store.
func (k *known) setStore(id string) error {
	k.store = id
	return k.docs.WriteSoon(storeName, []byte(id))
}

// documentOf is the name of a repository's document.
func documentOf(repo string) string {
	name := url.PathEscape(repo)
	if len(name) > 200 { // a file name has 255 bytes at most
		name = digest.FromString(repo).Encoded()
	}
	return name + ".json"
}

// set keeps st; one without content is forgotten.
func (k *known) set(st registryapi.RepositoryState) error {
	if len(st.Tags) == 0 && len(st.Manifests) == 0 {
		delete(k.repos, st.Name)
		return k.docs.Remove(documentOf(st.Name))
	}
	k.repos[st.Name] = st
	data, err := json.Marshal(st)
	if err != nil {
		return err
	}
	return k.docs.WriteSoon(documentOf(st.Name), data) // an older one after a crash is only older
}
