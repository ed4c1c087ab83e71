// Package images is the cache of images on a node: it pulls them, knows which of them
// are whole and in use, and removes those that were used longest ago to keep room on the
// disk.
//
// What it pulled is in a ledger on disk, from before a pull begins, so that half an image
// is known as such after a crash. Images that came by other ways are used, but never
// removed to make room.
package images

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/controllerapi"
)

// Registry is where images come from.
type Registry interface {
	// Open lets the hypervisor's command through to the registries that are named, the
	// node's own for none, for one transfer and until done is called.
	Open(registries []string, t hypervisor.Transfer) (at hypervisor.Source, done func(), err error)
	// Moved counts the bytes that came through for a repository.
	Moved(repository string) int64
	// Size returns the bytes of an image by its manifest. The error wraps
	// hypervisor.ErrNotInRegistry when there is none.
	Size(ctx context.Context, repository, tag string) (uint64, error)
}

// Host knows the disk that images are on.
type Host interface {
	// Facts returns what rarely changes; address, versions and licence are left to
	// the agent.
	Facts() controllerapi.NodeFacts
	// Load returns what changes all the time. AnkaDiskUsage is left to the agent.
	Load() controllerapi.NodeLoad
}

// Config is what a Cache works with. All is needed.
type Config struct {
	Runtime  hypervisor.Runtime
	Registry Registry
	Host     Host
	Ledger   string                   // path of its file
	Reserve  func(disk uint64) uint64 // how much of a disk of a size stays free
	AnySize  bool                     // pull also images of unknown size
	Instance func(name string) bool   // a VM with that name is an instance's, and no image
	// Go runs a pull, which outlives the task that began it while another waits for it.
	Go      func(pull func())
	Fail    func(ctx context.Context, what string, err error) // notes what is repeated, or done without
	Pulled  func(took time.Duration, err error)               // counts a pull
	Added   func()                                            // there is an image more to report
	Removed func()                                            // there may be images less
	Log     *zap.Logger
}

// Cache is the images on the node. It is safe for concurrent use.
type Cache struct {
	cfg    Config
	ledger *ledger

	mu    sync.Mutex
	pulls map[hypervisor.Image]*pull // guarded by mu
}

// New reads the ledger. One that is damaged is begun anew: its images count as
// brought by others, and stay.
func New(cfg Config) *Cache {
	return &Cache{cfg: cfg, ledger: openLedger(cfg.Ledger), pulls: make(map[hypervisor.Image]*pull)}
}

// Pulled returns the images that were pulled, those first that were used longest ago.
func (i *Cache) Pulled() []Image { return i.ledger.list() }

// Usage returns the bytes that the pulled images take.
func (i *Cache) Usage() uint64 { return i.ledger.usage() }

// Ensure brings a template's tag to the node unless it is there, and keeps
// it there until release is called.
func (i *Cache) Ensure(ctx context.Context, ref controllerapi.TemplateRef, progress func(fraction float64)) (hypervisor.Image, func(), error) {
	img := imageOf(ref)
	key := key{ref.ID, ref.Tag}
	release := i.ledger.hold(key)
	for {
		here, err := i.present(ctx, ref)
		if err == nil && !here {
			progress(0)
			err = i.awaitPull(ctx, img, ref, progress)
			if err == nil {
				continue // look again: what a pull says is not what counts
			}
		}
		if err != nil {
			release()
			return img, nil, err
		}
		if c, ok := i.ledger.get(key); ok {
			c.Used = time.Now().UTC()
			if err := i.ledger.put(c); err != nil {
				i.cfg.Fail(ctx, "image ledger", err)
			}
		}
		return img, release, nil
	}
}

// present reports whether the whole image is on the node.
func (i *Cache) present(ctx context.Context, ref controllerapi.TemplateRef) (bool, error) {
	c, known := i.ledger.get(key{ref.ID, ref.Tag})
	if known && (!c.Complete || ref.Digest != "" && c.Digest != "" && c.Digest != ref.Digest) {
		return false, nil
	}
	return i.listed(ctx, ref)
}

func (i *Cache) listed(ctx context.Context, ref controllerapi.TemplateRef) (bool, error) {
	vms, err := i.cfg.Runtime.List(ctx)
	if err != nil {
		return false, err
	}
	img := imageOf(ref)
	return slices.ContainsFunc(vms, func(vm hypervisor.VM) bool {
		// An image that a crash of the host left broken is pulled again.
		return img.Has(vm) && vm.Tag == ref.Tag && vm.Status != hypervisor.Failed
	}), nil
}

// Reports lists the images that starts may count on, of what the hypervisor lists.
func (i *Cache) Reports(vms []hypervisor.VM) []controllerapi.NodeImage {
	ledger := i.ledger.list()
	reports := []controllerapi.NodeImage{}
	for _, vm := range vms {
		if vm.Tag == "" || i.cfg.Instance(vm.Name) {
			continue
		}
		k := slices.IndexFunc(ledger, func(c Image) bool { return c.Tag == vm.Tag && c.image().Has(vm) })
		switch {
		case k < 0 && vm.UUID != "": // came by another way
			reports = append(reports, controllerapi.NodeImage{UUID: controllerapi.TemplateID(vm.UUID), Name: vm.Name, Tag: vm.Tag})
		case k >= 0 && ledger[k].Complete:
			reports = append(reports, controllerapi.NodeImage{UUID: ledger[k].ID, Name: ledger[k].Name, Tag: vm.Tag})
		}
	}
	slices.SortFunc(reports, func(a, b controllerapi.NodeImage) int {
		return cmp.Or(strings.Compare(string(a.UUID), string(b.UUID)), strings.Compare(a.Tag, b.Tag))
	})
	return reports
}

// RemoveTemplate removes all tags of a template that the cloud pulled. What came by
// another way is somebody else's, and an error if there is nothing besides.
func (i *Cache) RemoveTemplate(ctx context.Context, id controllerapi.TemplateID) error {
	vms, err := i.cfg.Runtime.List(ctx)
	if err != nil {
		return err
	}
	template := hypervisor.Image{ID: string(id)}
	var pulled []Image
	for _, c := range i.ledger.list() {
		if c.ID == id {
			template.Name, template.Repository = c.Name, c.Repository
			pulled = append(pulled, c)
		}
	}
	for _, vm := range vms {
		switch {
		case !template.Has(vm):
		case vm.Status == hypervisor.Running:
			return fmt.Errorf("%s runs as a VM and is not removed", vm.Name)
		case i.cfg.Instance(vm.Name):
			return fmt.Errorf("%s is an instance's VM, not a template", vm.Name)
		case len(pulled) == 0:
			return fmt.Errorf("%s was not pulled by the cloud and is not removed; remove it on the node", vm.Name)
		}
	}
	for _, c := range pulled {
		if err := i.cfg.Runtime.RemoveImage(ctx, c.image()); err != nil {
			return err
		}
		if err := i.ledger.drop(c.key()); err != nil {
			return err
		}
	}
	return nil
}

// Prefix is what stands before the template's name in its repository.
func Prefix(ref controllerapi.TemplateRef) string {
	if dir := path.Dir(ref.Repository); dir != "." && dir != "/" {
		return dir
	}
	return ""
}
