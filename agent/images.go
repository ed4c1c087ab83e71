package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
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

func openImageLedger(dir Dir) *imageLedger {
	l := &imageLedger{path: dir.path("images.json"), images: make(map[imageKey]cachedImage), inUse: make(map[imageKey]int)}
	var list []cachedImage
	if err := readJSON(l.path, &list); err != nil && !errors.Is(err, fs.ErrNotExist) {
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
	return writeJSON(l.path, l.listLocked())
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

// pull is one pull under way; any number of tasks wait for it.
type pull struct {
	waiters int // guarded by Agent.mu
	cancel  context.CancelFunc
	done    chan struct{}
	err     error // valid after done
	began   int64 // Registry.Moved at its begin
}

// ensureImage brings a template's tag to the node unless it is there, and keeps
// it there until release is called.
func (a *Agent) ensureImage(ctx context.Context, ref controllerapi.TemplateRef, progress func(fraction float64)) (hypervisor.Image, func(), error) {
	img := imageOf(ref)
	key := imageKey{ref.ID, ref.Tag}
	release := a.images.hold(key)
	for {
		here, err := a.imagePresent(ctx, ref)
		if err == nil && !here {
			progress(0)
			err = a.awaitPull(ctx, img, ref, progress)
			if err == nil {
				continue // look again: what a pull says is not what counts
			}
		}
		if err != nil {
			release()
			return img, nil, err
		}
		if c, ok := a.images.get(key); ok {
			c.Used = time.Now().UTC()
			if err := a.images.put(c); err != nil {
				a.errors.fail(ctx, "image ledger", err)
			}
		}
		return img, release, nil
	}
}

// imagePresent reports whether the whole image is on the node.
func (a *Agent) imagePresent(ctx context.Context, ref controllerapi.TemplateRef) (bool, error) {
	c, known := a.images.get(imageKey{ref.ID, ref.Tag})
	if known && (!c.Complete || ref.Digest != "" && c.Digest != "" && c.Digest != ref.Digest) {
		return false, nil
	}
	return a.imageListed(ctx, ref)
}

func (a *Agent) imageListed(ctx context.Context, ref controllerapi.TemplateRef) (bool, error) {
	vms, err := a.deps.Runtime.List(ctx)
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
func (a *Agent) awaitPull(ctx context.Context, img hypervisor.Image, ref controllerapi.TemplateRef, progress func(float64)) error {
	a.mu.Lock()
	p := a.pulls[img]
	if p == nil {
		// It outlives the task that began it while another waits for it.
		pullCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		p = &pull{cancel: cancel, done: make(chan struct{}), began: a.deps.Registry.Moved(ref.Repository)}
		a.pulls[img] = p
		a.workers.group.Go(func() {
			if err := a.pullImage(pullCtx, img, ref); err != nil {
				p.err = &pullError{err, ref.Size}
			}
			a.mu.Lock()
			delete(a.pulls, img)
			a.mu.Unlock()
			cancel()
			close(p.done)
		})
	}
	p.waiters++
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		p.waiters--
		last := p.waiters == 0
		a.mu.Unlock()
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
				progress(float64(a.deps.Registry.Moved(ref.Repository)-p.began) / float64(ref.Size))
			}
		}
	}
}

// pullImage makes room, pulls, and checks that the image is there. After a
// failure nothing of it is left.
func (a *Agent) pullImage(ctx context.Context, img hypervisor.Image, ref controllerapi.TemplateRef) (err error) {
	key := imageKey{ref.ID, ref.Tag}
	if _, known := a.images.get(key); known {
		// Half of one from before a crash, or another digest under the same tag.
		if err := a.deps.Runtime.RemoveImage(ctx, img); err != nil {
			return fmt.Errorf("remove the incomplete image %s:%s: %w", img.Name, img.Tag, err)
		}
	}
	from := hypervisor.Source{
		URL: a.deps.Registry.URL(), Prefix: repositoryPrefix(ref),
		Moved: func() int64 { return a.deps.Registry.Moved(ref.Repository) },
	}
	if ref.Size == 0 {
		if ref.Size, err = a.downloadSize(ctx, img, from); err != nil {
			return err
		}
	}
	if err := a.makeRoom(ctx, ref.Size); err != nil {
		return err
	}
	c := cachedImage{ID: ref.ID, Name: ref.Name, Tag: ref.Tag, Repository: ref.Repository, Digest: ref.Digest, Size: ref.Size, Used: time.Now().UTC()}
	if err := a.images.put(c); err != nil {
		return fmt.Errorf("image ledger: %w", err)
	}
	began := time.Now()
	a.log.Info("pulling", zap.String("template", ref.Name), zap.String("tag", ref.Tag), zap.Uint64("bytes", ref.Size))
	err = a.deps.Runtime.Pull(ctx, img, from)
	if err == nil {
		var here bool
		if here, err = a.imageListed(ctx, ref); err == nil && !here {
			err = fmt.Errorf("the pull of %s:%s ended well, but the image is not there", ref.Name, ref.Tag)
		}
	}
	a.metrics.pulled(time.Since(began), err)
	if err == nil {
		a.log.Info("pulled", zap.String("template", ref.Name), zap.String("tag", ref.Tag), zap.Duration("duration", time.Since(began)))
		c.Complete, c.Used = true, time.Now().UTC()
		err = a.images.put(c)
		a.wakeups.heartbeat.wake()
		return err
	}
	// The context may be over; the remains must go all the same.
	cleanCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if rmErr := a.deps.Runtime.RemoveImage(cleanCtx, img); rmErr != nil {
		// The ledger keeps it as incomplete, and the next pull tries again.
		a.errors.fail(cleanCtx, "remove a half pulled image", rmErr)
		return err
	}
	if dropErr := a.images.drop(key); dropErr != nil {
		a.errors.fail(cleanCtx, "image ledger", dropErr)
	}
	return err
}

// downloadSize finds out what the cloud could not tell: from the manifest, or else
// from the hypervisor. Not to know it may fill the disk, so that join has to allow
// it.
func (a *Agent) downloadSize(ctx context.Context, img hypervisor.Image, from hypervisor.Source) (uint64, error) {
	size, err := a.deps.Registry.Size(ctx, img.Repository, img.Tag)
	if rt, ok := a.deps.Runtime.(hypervisor.Sizer); ok && err != nil && !errors.Is(err, hypervisor.ErrNotInRegistry) {
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
	case a.cfg.SkipPullSizeCheck:
		a.log.Warn("the size of an image is not known", zap.String("template", img.Name), zap.String("tag", img.Tag), zap.Error(err))
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
