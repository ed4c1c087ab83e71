package agent

import (
	"cmp"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/controllerapi"
)

// cachedImage is an image that the agent pulled. Images that came by other ways
// are used, but never removed to make room.
type cachedImage struct {
	ID         controllerapi.TemplateID `json:"id"`
	Name       string                   `json:"name"`
	Tag        string                   `json:"tag"`
	Repository string                   `json:"repository"`
	Digest     string                   `json:"digest,omitempty"`
	Size       uint64                   `json:"size"`
	Used       time.Time                `json:"used"`
	// Complete is false from before a pull begins until it was verified, so that
	// half an image is known as such after a crash (A11).
	Complete bool `json:"complete"`
}

type imageKey struct {
	id  controllerapi.TemplateID
	tag string
}

func (c cachedImage) key() imageKey { return imageKey{c.ID, c.Tag} }

func (c cachedImage) image() hypervisor.Image {
	return hypervisor.Image{ID: string(c.ID), Name: c.Name, Tag: c.Tag, Repository: c.Repository}
}

// imageOf is a template's tag in the hypervisor's words.
func imageOf(ref controllerapi.TemplateRef) hypervisor.Image {
	return hypervisor.Image{ID: string(ref.ID), Name: ref.Name, Tag: ref.Tag, Repository: ref.Repository}
}

// imageLedger is the set of them, on disk. It is safe for concurrent use.
type imageLedger struct {
	path string

	mu     sync.Mutex
	images map[imageKey]cachedImage // guarded by mu
	inUse  map[imageKey]int         // guarded by mu; starts between ensure and clone
}

func openImageLedger(dir state.Dir) *imageLedger {
	l := &imageLedger{path: dir.ImagesFile(), images: make(map[imageKey]cachedImage), inUse: make(map[imageKey]int)}
	var list []cachedImage
	if err := state.ReadJSON(l.path, &list); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return l // damaged: the images count as brought by others, and stay
	}
	for _, c := range list {
		l.images[c.key()] = c
	}
	return l
}

func (l *imageLedger) list() []cachedImage {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.listLocked()
}

func (l *imageLedger) listLocked() []cachedImage {
	list := make([]cachedImage, 0, len(l.images))
	for _, c := range l.images {
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b cachedImage) int {
		return cmp.Or(a.Used.Compare(b.Used), strings.Compare(string(a.ID), string(b.ID)), strings.Compare(a.Tag, b.Tag))
	})
	return list
}

func (l *imageLedger) get(k imageKey) (cachedImage, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c, ok := l.images[k]
	return c, ok
}

// change edits the ledger and stores it.
func (l *imageLedger) change(edit func(map[imageKey]cachedImage)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	edit(l.images)
	// Written under the lock, so that two changes cannot overtake one another.
	return state.WriteJSON(l.path, l.listLocked())
}

func (l *imageLedger) put(c cachedImage) error {
	return l.change(func(m map[imageKey]cachedImage) { m[c.key()] = c })
}

func (l *imageLedger) drop(k imageKey) error {
	return l.change(func(m map[imageKey]cachedImage) { delete(m, k) })
}

// hold marks an image as in use until the returned function is called.
func (l *imageLedger) hold(k imageKey) (release func()) {
	l.mu.Lock()
	l.inUse[k]++
	l.mu.Unlock()
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.inUse[k]--; l.inUse[k] == 0 {
			delete(l.inUse, k)
		}
	})
}

func (l *imageLedger) held(k imageKey) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inUse[k] > 0
}

// usage is what the pulled images take, in bytes.
func (l *imageLedger) usage() uint64 {
	var sum uint64
	for _, c := range l.list() {
		sum += c.Size
	}
	return sum
}
