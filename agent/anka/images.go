package anka

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ankacluster/ankacluster/agent/command"
	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/internal/atomicfile"
)

// What is not known of the real command, and is done so that either answer works:
// under which id an image that was pulled over OCI is kept, and whether
// `list -a` has a row for each of its tags or one for the template.

// tagsFresh is how long the tags of an image that changed in no way that can be
// seen are taken as known; a person may have pulled one by hand.
const tagsFresh = 10 * time.Minute

// library is what is known of the images on the node. Its zero value knows
// nothing. It is safe for concurrent use.
type library struct {
	path string // "" keeps it in memory

	mu     sync.Mutex
	loaded bool              // guarded by mu
	local  map[string]string // guarded by mu; local id of each template that was pulled here
	// rowPerTag is set once a list had two rows of one image: tags need not be
	// asked for then.
	rowPerTag bool                 // guarded by mu
	tags      map[string]knownTags // guarded by mu; by local id
	pulling   map[string]int       // guarded by mu; pulls under way, by template id
	removing  map[string]*sync.Mutex
}

type knownTags struct {
	current string // as the list said when they were asked for
	tags    []string
	at      time.Time
}

func (l *library) loadLocked() {
	if l.loaded {
		return
	}
	l.loaded, l.local = true, make(map[string]string)
	if data, err := os.ReadFile(l.path); err == nil {
		_ = json.Unmarshal(data, &l.local) // a damaged file knows nothing: images are pulled again
	}
	if l.local == nil {
		l.local = make(map[string]string)
	}
}

// localID returns the id that anka has an image or a VM under.
func (l *library) localID(id string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.loadLocked()
	return cmp.Or(l.local[id], id)
}

// template returns the template whose image has a local id, "" when it was not
// pulled here.
func (l *library) template(local string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.loadLocked()
	for template, id := range l.local {
		if id == local {
			return template
		}
	}
	return ""
}

// learn notes the id of an image that was pulled.
func (l *library) learn(template, id string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.loadLocked()
	delete(l.tags, id)
	if l.local[template] == id {
		return nil
	}
	for other, local := range l.local {
		if local == id { // a template that was there before under the same name
			delete(l.local, other)
		}
	}
	l.local[template] = id
	if l.path == "" {
		return nil
	}
	data, err := json.Marshal(l.local)
	if err != nil {
		return err
	}
	return atomicfile.Options{}.Write(l.path, data)
}

// forgetTags makes the next list ask for an image's tags.
func (l *library) forgetTags(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.tags, id)
}

// RememberIn keeps the ids of images in a file, for the next process.
func (c *CLI) RememberIn(path string) { c.library.path = path }

// pulled finds out under which id a pull has left an image: its answer may say,
// else the image of that name has it.
func (c *CLI) pulled(ctx context.Context, img hypervisor.Image, a answer) error {
	id := ""
	for _, o := range decodeObjects(a.Body) {
		id = o.text("uuid")
	}
	if id == "" {
		for _, name := range []string{img.Name, remoteName(img), img.ID, strings.ToLower(img.Name)} {
			vm, err := c.show(ctx, name)
			if err == nil {
				id = vm.UUID
				break
			}
			if !errors.Is(err, hypervisor.ErrNotFound) && !errors.Is(err, command.ErrRefused) {
				return err
			}
		}
	}
	if id == "" {
		return nil // the caller looks whether the image is there
	}
	return c.library.learn(img.ID, id)
}

// images completes the rows of a list: images get the ids of their templates, and
// rows for the tags that have none.
func (c *CLI) images(ctx context.Context, vms []hypervisor.VM) ([]hypervisor.VM, error) {
	rows := make(map[string]int)
	for _, vm := range vms {
		rows[vm.UUID]++
		if rows[vm.UUID] > 1 {
			c.library.mu.Lock()
			c.library.rowPerTag = true
			c.library.mu.Unlock()
		}
	}
	var out []hypervisor.VM
	for _, vm := range vms {
		template := c.library.template(vm.UUID)
		if vm.Tag == "" && template == "" || rows[vm.UUID] > 1 {
			vm.UUID, vm.Pulled = cmp.Or(template, vm.UUID), template != ""
			out = append(out, vm)
			continue
		}
		tags, err := c.tagsOf(ctx, vm)
		if err != nil {
			return nil, err
		}
		vm.UUID, vm.Pulled = cmp.Or(template, vm.UUID), template != ""
		if vm.Tag != "" || len(tags) == 0 {
			out = append(out, vm)
		}
		for _, tag := range tags {
			if tag != vm.Tag {
				other := vm
				other.Tag = tag
				out = append(out, other)
			}
		}
	}
	return out, nil
}

// tagsOf returns the local tags of an image with one row in the list, as far as
// it has to be asked. Not to be told them is no error: the row has one.
func (c *CLI) tagsOf(ctx context.Context, vm hypervisor.VM) ([]string, error) {
	l := &c.library
	l.mu.Lock()
	known, ok := l.tags[vm.UUID]
	rowPerTag := l.rowPerTag
	l.mu.Unlock()
	switch {
	case rowPerTag:
		return nil, nil
	case ok && known.current == vm.Tag && time.Since(known.at) < tagsFresh:
		return known.tags, nil
	}
	a, err := c.query(ctx, command.Words("show").Values(vm.UUID).Words("tag"))
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	var tags []string
	if err == nil {
		for _, o := range decodeObjects(a.Body) {
			if tag := o.text("tag"); tag != "" {
				tags = append(tags, tag)
			}
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tags == nil {
		l.tags = make(map[string]knownTags)
	}
	l.tags[vm.UUID] = knownTags{vm.Tag, tags, time.Now()}
	return tags, nil
}

// beginPull notes that an image of a template is being pulled, for as long as
// end was not called.
func (l *library) beginPull(id string) (end func()) {
	count := func(n int) {
		lock := l.removal(id) // a removal that sees no pull is over before one begins
		lock.Lock()
		defer lock.Unlock()
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.pulling == nil {
			l.pulling = make(map[string]int)
		}
		if l.pulling[id] += n; l.pulling[id] == 0 {
			delete(l.pulling, id)
		}
	}
	count(1)
	return func() { count(-1) }
}

// removal returns the lock that removals of a template's images hold.
func (l *library) removal(id string) *sync.Mutex {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.removing == nil {
		l.removing = make(map[string]*sync.Mutex)
	}
	if l.removing[id] == nil {
		l.removing[id] = new(sync.Mutex)
	}
	return l.removing[id]
}

// RemoveImage removes an image from the node; one that is not there is removed.
// With its last tag the template goes: anka keeps one without tags, and all that
// it takes on the disk.
func (c *CLI) RemoveImage(ctx context.Context, img hypervisor.Image) error {
	lock := c.library.removal(img.ID)
	lock.Lock()
	defer lock.Unlock()
	id := c.library.localID(img.ID)
	defer c.library.forgetTags(id)
	if img.Tag != "" {
		one := command.Words("-t").Values(img.Tag, id)
		if err := one.Err(); err != nil {
			return err // before a tag that cannot be is taken for the last one
		}
		last, err := c.isLastTag(ctx, img, id)
		if err != nil {
			return err
		}
		if !last {
			return c.deleteLocal(ctx, one)
		}
	}
	return c.deleteLocal(ctx, command.Args{}.Values(id))
}

// isLastTag reports whether the node has no other tag of the image, and none is
// being pulled.
func (c *CLI) isLastTag(ctx context.Context, img hypervisor.Image, id string) (bool, error) {
	c.library.mu.Lock()
	pulling := c.library.pulling[img.ID] > 0
	c.library.mu.Unlock()
	if pulling {
		return false, nil
	}
	c.library.forgetTags(id)
	vms, err := c.List(ctx)
	if err != nil {
		return false, err
	}
	return !slices.ContainsFunc(vms, func(vm hypervisor.VM) bool {
		return vm.UUID == img.ID && (vm.Tag != "" && vm.Tag != img.Tag || vm.Status == hypervisor.Running)
	}), nil
}

func (c *CLI) deleteLocal(ctx context.Context, what command.Args) error {
	_, err := c.change(ctx, command.Words("delete", "--yes").Join(what))
	if errors.Is(err, hypervisor.ErrNotFound) {
		return nil
	}
	return err
}

// FreeCache deletes what anka keeps of interrupted pulls and removed images.
func (c *CLI) FreeCache(ctx context.Context) error {
	_, err := c.change(ctx, command.Words("delete", "--yes", "--cache"))
	return err
}
