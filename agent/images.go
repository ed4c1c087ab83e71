package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/controllerapi"
)

// imageCache is the images on the node: it pulls them, and removes them to make
// room. It is safe for concurrent use.
type imageCache struct {
	runtime   hypervisor.Runtime
	registry  Registry
	host      Host
	reserve   state.Reserve // of the disk stays free
	anySize   bool          // pull also what nobody knows the size of
	prefix    string        // of the cloud's VMs, which are no images
	ledger    *imageLedger
	pullGroup *sync.WaitGroup // of the pulls, which outlive the tasks that began them
	errors    *errorLog
	metrics   *metrics
	log       *zap.Logger
	wakeups   wakeups

	mu    sync.Mutex
	pulls map[hypervisor.Image]*pull // guarded by mu
}

// pull is one pull under way; any number of tasks wait for it.
type pull struct {
	waiters int // guarded by imageCache.mu
	cancel  context.CancelFunc
	done    chan struct{}
	err     error // valid after done
	began   int64 // Registry.Moved at its begin
}

// ensure brings a template's tag to the node unless it is there, and keeps
// it there until release is called.
func (i *imageCache) ensure(ctx context.Context, ref controllerapi.TemplateRef, progress func(fraction float64)) (hypervisor.Image, func(), error) {
	img := imageOf(ref)
	key := imageKey{ref.ID, ref.Tag}
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
				i.errors.fail(ctx, "image ledger", err)
			}
		}
		return img, release, nil
	}
}

// present reports whether the whole image is on the node.
func (i *imageCache) present(ctx context.Context, ref controllerapi.TemplateRef) (bool, error) {
	c, known := i.ledger.get(imageKey{ref.ID, ref.Tag})
	if known && (!c.Complete || ref.Digest != "" && c.Digest != "" && c.Digest != ref.Digest) {
		return false, nil
	}
	return i.listed(ctx, ref)
}

func (i *imageCache) listed(ctx context.Context, ref controllerapi.TemplateRef) (bool, error) {
	vms, err := i.runtime.List(ctx)
	if err != nil {
		return false, err
	}
	img := imageOf(ref)
	return slices.ContainsFunc(vms, func(vm hypervisor.VM) bool {
		// An image that a crash of the host left broken is pulled again.
		return img.Has(vm) && vm.Tag == ref.Tag && vm.Status != hypervisor.Failed
	}), nil
}

// awaitPull joins the pull of an image, or begins it.
func (i *imageCache) awaitPull(ctx context.Context, img hypervisor.Image, ref controllerapi.TemplateRef, progress func(float64)) error {
	i.mu.Lock()
	p := i.pulls[img]
	if p == nil {
		// It outlives the task that began it while another waits for it.
		pullCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		p = &pull{cancel: cancel, done: make(chan struct{}), began: i.registry.Moved(ref.Repository)}
		i.pulls[img] = p
		i.pullGroup.Go(func() {
			if err := i.pullImage(pullCtx, img, ref); err != nil {
				p.err = &pullError{err, ref.Size}
			}
			i.mu.Lock()
			delete(i.pulls, img)
			i.mu.Unlock()
			cancel()
			close(p.done)
		})
	}
	p.waiters++
	i.mu.Unlock()
	defer func() {
		i.mu.Lock()
		p.waiters--
		last := p.waiters == 0
		i.mu.Unlock()
		if last {
			p.cancel()
			<-p.done // the caller may remove the image next
		}
	}()
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		select {
		case <-p.done:
			return p.err
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
			if ref.Size > 0 {
				progress(float64(i.registry.Moved(ref.Repository)-p.began) / float64(ref.Size))
			}
		}
	}
}

// pullImage makes room, pulls, and checks that the image is there. After a
// failure nothing of it is left.
func (i *imageCache) pullImage(ctx context.Context, img hypervisor.Image, ref controllerapi.TemplateRef) (err error) {
	key := imageKey{ref.ID, ref.Tag}
	if _, known := i.ledger.get(key); known {
		// Half of one from before a crash, or another digest under the same tag.
		if err := i.runtime.RemoveImage(ctx, img); err != nil {
			return fmt.Errorf("remove the incomplete image %s:%s: %w", img.Name, img.Tag, err)
		}
	}
	from := hypervisor.Source{
		URL: i.registry.URL(), Prefix: repositoryPrefix(ref),
		Moved: func() int64 { return i.registry.Moved(ref.Repository) },
	}
	if ref.Size == 0 {
		if ref.Size, err = i.downloadSize(ctx, img, from); err != nil {
			return err
		}
	}
	if err := i.makeRoom(ctx, ref.Size); err != nil {
		return err
	}
	c := cachedImage{ID: ref.ID, Name: ref.Name, Tag: ref.Tag, Repository: ref.Repository, Digest: ref.Digest, Size: ref.Size, Used: time.Now().UTC()}
	if err := i.ledger.put(c); err != nil {
		return fmt.Errorf("image ledger: %w", err)
	}
	began := time.Now()
	i.log.Info("pulling", zap.String("template", ref.Name), zap.String("tag", ref.Tag), zap.Uint64("bytes", ref.Size))
	err = i.runtime.Pull(ctx, img, from)
	if err == nil {
		var here bool
		if here, err = i.listed(ctx, ref); err == nil && !here {
			err = fmt.Errorf("the pull of %s:%s ended well, but the image is not there", ref.Name, ref.Tag)
		}
	}
	i.metrics.pulled(time.Since(began), err)
	if err == nil {
		i.log.Info("pulled", zap.String("template", ref.Name), zap.String("tag", ref.Tag), zap.Duration("duration", time.Since(began)))
		c.Complete, c.Used = true, time.Now().UTC()
		err = i.ledger.put(c)
		i.wakeups.heartbeat.wake()
		return err
	}
	// The context may be over; the remains must go all the same.
	cleanCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if rmErr := i.runtime.RemoveImage(cleanCtx, img); rmErr != nil {
		// The ledger keeps it as incomplete, and the next pull tries again.
		i.errors.fail(cleanCtx, "remove a half pulled image", rmErr)
		return err
	}
	if dropErr := i.ledger.drop(key); dropErr != nil {
		i.errors.fail(cleanCtx, "image ledger", dropErr)
	}
	return err
}

// downloadSize finds out what the cloud could not tell: from the manifest, or else
// from the hypervisor. Not to know it may fill the disk, so that join has to allow
// it.
func (i *imageCache) downloadSize(ctx context.Context, img hypervisor.Image, from hypervisor.Source) (uint64, error) {
	size, err := i.registry.Size(ctx, img.Repository, img.Tag)
	if rt, ok := i.runtime.(hypervisor.Sizer); ok && err != nil && !errors.Is(err, hypervisor.ErrNotInRegistry) {
		var rtErr error
		if size, rtErr = rt.DownloadSize(ctx, img, from); rtErr == nil {
			err = nil
		} else {
			err = fmt.Errorf("%w; %w", err, rtErr)
		}
	}
	switch {
	case err == nil || ctx.Err() != nil || errors.Is(err, hypervisor.ErrNotInRegistry):
		return size, err
	case i.anySize:
		i.log.Warn("the size of an image is not known", zap.String("template", img.Name), zap.String("tag", img.Tag), zap.Error(err))
		return 0, nil
	}
	return 0, fmt.Errorf("%w of %s:%s (join with --skip-pull-error no-download-bytes to pull all the same): %w", errNoSize, img.Name, img.Tag, err)
}

// errNoSize: nobody can tell how much room a pull needs.
var errNoSize = errors.New("cannot tell the size")

// repositoryPrefix is what stands before the template's name in its repository.
func repositoryPrefix(ref controllerapi.TemplateRef) string {
	if dir := path.Dir(ref.Repository); dir != "." && dir != "/" {
		return dir
	}
	return ""
}

// reports lists the images that starts may count on, of what the hypervisor lists.
func (i *imageCache) reports(vms []hypervisor.VM) []controllerapi.NodeImage {
	ledger := i.ledger.list()
	reports := []controllerapi.NodeImage{}
	for _, vm := range vms {
		if vm.Tag == "" || managed(vm.Name, i.prefix) {
			continue
		}
		k := slices.IndexFunc(ledger, func(c cachedImage) bool { return c.Tag == vm.Tag && c.image().Has(vm) })
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

// removeTemplate removes all tags of a template.
func (i *imageCache) removeTemplate(ctx context.Context, id controllerapi.TemplateID) error {
	vms, err := i.runtime.List(ctx)
	if err != nil {
		return err
	}
	template := hypervisor.Image{ID: string(id)}
	for _, c := range i.ledger.list() {
		if c.ID == id {
			template.Name, template.Repository = c.Name, c.Repository
		}
	}
	for _, vm := range vms {
		if !template.Has(vm) {
			continue
		}
		if vm.Status == hypervisor.Running {
			return fmt.Errorf("%s runs as a VM and is not removed", vm.Name)
		}
		if managed(vm.Name, i.prefix) {
			return fmt.Errorf("%s is an instance's VM, not a template", vm.Name)
		}
		if err := i.runtime.RemoveImage(ctx, template); err != nil {
			return err
		}
		break
	}
	return i.ledger.change(func(m map[imageKey]cachedImage) {
		for k := range m {
			if k.id == id {
				delete(m, k)
			}
		}
	})
}
