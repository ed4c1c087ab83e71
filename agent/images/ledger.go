package images

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

// Image is an image that the agent pulled. Images that came by other ways
// are used, but never removed to make room.
type Image struct {
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

type key struct {
	id  controllerapi.TemplateID
	tag string
}

func (c Image) key() key { return key{c.ID, c.Tag} }

func (c Image) image() hypervisor.Image {
	return hypervisor.Image{ID: string(c.ID), Name: c.Name, Tag: c.Tag, Repository: c.Repository}
}

// imageOf is a template's tag in the hypervisor's words.
func imageOf(ref controllerapi.TemplateRef) hypervisor.Image {
	return hypervisor.Image{ID: string(ref.ID), Name: ref.Name, Tag: ref.Tag, Repository: ref.Repository}
}

// ledger is the set of them, on disk. It is safe for concurrent use.
type ledger struct {
	path string

	mu     sync.Mutex
	images map[key]Image // guarded by mu
	inUse  map[key]int   // guarded by mu; starts between ensure and clone
}

func openLedger(path string) *ledger {
	l := &ledger{path: path, images: make(map[key]Image), inUse: make(map[key]int)}
	var list []Image
	if err := state.ReadJSON(l.path, &list); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return l // damaged: the images count as brought by others, and stay
	}
	for _, c := range list {
		l.images[c.key()] = c
	}
	return l
}

func (l *ledger) list() []Image {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.listLocked()
}

func (l *ledger) listLocked() []Image {
	list := make([]Image, 0, len(l.images))
	for _, c := range l.images {
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b Image) int {
		return cmp.Or(a.Used.Compare(b.Used), strings.Compare(string(a.ID), string(b.ID)), strings.Compare(a.Tag, b.Tag))
	})
	return list
}

func (l *ledger) get(k key) (Image, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c, ok := l.images[k]
	return c, ok
}

// change edits the ledger and stores it.
func (l *ledger) change(edit func(map[key]Image)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	edit(l.images)
	// Written under the lock, so that two changes cannot overtake one another.
	return state.WriteJSON(l.path, l.listLocked())
}

func (l *ledger) put(c Image) error {
	return l.change(func(m map[key]Image) { m[c.key()] = c })
}

func (l *ledger) drop(k key) error {
	return l.change(func(m map[key]Image) { delete(m, k) })
}

// hold marks an image as in use until the returned function is called.
func (l *ledger) hold(k key) (release func()) {
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

func (l *ledger) held(k key) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inUse[k] > 0
}

// usage is what the pulled images take, in bytes.
func (l *ledger) usage() uint64 {
	var sum uint64
	for _, c := range l.list() {
		sum += c.Size
	}
	return sum
}
