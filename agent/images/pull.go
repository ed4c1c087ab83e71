package images

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/controllerapi"
)

// progressEvery is the pace at which the progress of a pull is passed on.
const progressEvery = 2 * time.Second

// pull is one pull under way; any number of tasks wait for it.
type pull struct {
	waiters int // guarded by Cache.mu
	cancel  context.CancelFunc
	done    chan struct{}
	err     error // valid after done
	began   int64 // Registry.Moved at its begin
}

// awaitPull joins the pull of an image, or begins it.
func (i *Cache) awaitPull(ctx context.Context, img hypervisor.Image, ref controllerapi.TemplateRef, progress func(float64)) error {
	i.mu.Lock()
	p := i.pulls[img]
	if p == nil {
		// It outlives the task that began it while another waits for it.
		pullCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		p = &pull{cancel: cancel, done: make(chan struct{}), began: i.cfg.Registry.Moved(ref.Repository)}
		i.pulls[img] = p
		i.cfg.Go(func() {
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
				progress(float64(i.cfg.Registry.Moved(ref.Repository)-p.began) / float64(ref.Size))
			}
		}
	}
}

// pullImage makes room, pulls, and checks that the image is there. After a
// failure nothing of it is left.
func (i *Cache) pullImage(ctx context.Context, img hypervisor.Image, ref controllerapi.TemplateRef) (err error) {
	key := key{ref.ID, ref.Tag}
	if _, known := i.ledger.get(key); known {
		// Half of one from before a crash, or another digest under the same tag.
		if err := i.cfg.Runtime.RemoveImage(ctx, img); err != nil {
			return fmt.Errorf("remove the incomplete image %s:%s: %w", img.Name, img.Tag, err)
		}
	}
	if err := i.idIsFree(ctx, img, ref.ID); err != nil {
		return err
	}
	from, done, err := i.cfg.Registry.Open(nil, hypervisor.Transfer{Repository: ref.Repository, Tag: ref.Tag, Digest: ref.Digest})
	if err != nil {
		return err
	}
	defer done()
	from.Prefix = Prefix(ref)
	if ref.Size == 0 {
		if ref.Size, err = i.downloadSize(ctx, img, from); err != nil {
			return err
		}
	}
	if err := i.makeRoom(ctx, ref.Size); err != nil {
		return err
	}
	c := Image{ID: ref.ID, Name: ref.Name, Tag: ref.Tag, Repository: ref.Repository, Digest: ref.Digest, Size: ref.Size, Used: time.Now().UTC()}
	if err := i.ledger.put(c); err != nil {
		return fmt.Errorf("image ledger: %w", err)
	}
	began := time.Now()
	i.cfg.Log.Info("pulling", zap.String("template", ref.Name), zap.String("tag", ref.Tag), zap.Uint64("bytes", ref.Size))
	err = i.cfg.Runtime.Pull(ctx, img, from)
	if err == nil {
		var here bool
		if here, err = i.listed(ctx, ref); err == nil && !here {
			err = fmt.Errorf("the pull of %s:%s ended well, but the image is not there", ref.Name, ref.Tag)
		}
	}
	i.cfg.Pulled(time.Since(began), err)
	if err == nil {
		i.cfg.Log.Info("pulled", zap.String("template", ref.Name), zap.String("tag", ref.Tag), zap.Duration("duration", time.Since(began)))
		c.Complete, c.Used = true, time.Now().UTC()
		err = i.ledger.put(c)
		i.cfg.Added()
		return err
	}
	// The context may be over; the remains must go all the same.
	cleanCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if rmErr := i.cfg.Runtime.RemoveImage(cleanCtx, img); rmErr != nil {
		// The ledger keeps it as incomplete, and the next pull tries again.
		i.cfg.Fail(cleanCtx, "remove a half pulled image", rmErr)
		return err
	}
	if dropErr := i.ledger.drop(key); dropErr != nil {
		i.cfg.Fail(cleanCtx, "image ledger", dropErr)
	}
	return err
}

// ErrIDTaken: something on the node that no pull of the cloud's brought has the
// template's id, which a pushed configuration chose. Another node may have the id free.
var ErrIDTaken = errors.New("the template's id is that of a VM on this node")

// idIsFree returns ErrIDTaken if the pull would replace, or its failure remove, a VM
// that somebody made on this Mac.
func (i *Cache) idIsFree(ctx context.Context, img hypervisor.Image, id controllerapi.TemplateID) error {
	if slices.ContainsFunc(i.ledger.list(), func(c Image) bool { return c.ID == id }) {
		return nil
	}
	vms, err := i.cfg.Runtime.List(ctx)
	if err != nil {
		return err
	}
	for _, vm := range vms {
		if img.Has(vm) && vm.Tag == "" && !vm.Pulled {
			return fmt.Errorf("%w: %s", ErrIDTaken, vm.Name)
		}
	}
	return nil
}

// downloadSize finds a size that the cloud did not give: from the manifest, or else
// from the hypervisor. Not to know it may fill the disk, so that join has to allow
// it.
func (i *Cache) downloadSize(ctx context.Context, img hypervisor.Image, from hypervisor.Source) (uint64, error) {
	size, err := i.cfg.Registry.Size(ctx, img.Repository, img.Tag)
	if rt, ok := i.cfg.Runtime.(hypervisor.Sizer); ok && err != nil && !errors.Is(err, hypervisor.ErrNotInRegistry) {
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
	case i.cfg.AnySize:
		i.cfg.Log.Warn("the size of an image is not known", zap.String("template", img.Name), zap.String("tag", img.Tag), zap.Error(err))
		return 0, nil
	}
	return 0, fmt.Errorf("%w of %s:%s (join with --skip-pull-error no-download-bytes to pull all the same): %w", errNoSize, img.Name, img.Tag, err)
}

// errNoSize: how much room a pull needs is not known.
var errNoSize = errors.New("cannot tell the size")
