package images

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/internal/backoff"
)

// evict chooses the images to remove so that need more bytes leave the reserve
// free: the least recently used first, none that is in use, and no more than
// needed. It is a pure function. images are sorted by last use.
func evict(images []Image, inUse func(key) bool, free, need, reserve uint64) []Image {
	var chosen []Image
	for _, c := range images {
		if free >= need+reserve {
			break
		}
		if inUse(c.key()) {
			continue
		}
		chosen = append(chosen, c)
		free += c.Size
	}
	return chosen
}

// ErrNoSpace: another node may have room for the image.
var ErrNoSpace = errors.New("not enough disk space")

// makeRoom removes images until a pull of so many bytes leaves the reserve free.
// It fails when not even the pull itself would fit, and removes no image if that
// shows before.
func (i *Cache) makeRoom(ctx context.Context, need uint64) error {
	size := i.cfg.Host.Facts().DiskSize
	free := i.cfg.Host.Load().FreeDiskSpace
	if size == 0 {
		return nil // nothing is known of the disk
	}
	want := need + i.cfg.Reserve(size)
	if free+i.mayFree() < need {
		if cleaner, ok := i.cfg.Runtime.(hypervisor.Cleaner); ok {
			if err := cleaner.FreeCache(ctx); err != nil {
				i.cfg.Fail(ctx, "free the hypervisor's cache", err)
			}
			free = i.awaitFree(ctx, need, freeWait)
		}
		if may := i.mayFree(); free+may < need {
			return fmt.Errorf("%w: the image needs %d MB, %d MB are free and images that are not in use take at most %d MB", ErrNoSpace, need>>20, free>>20, may>>20)
		}
	}
	for free < want {
		chosen := evict(i.ledger.list(), i.ledger.held, free, need, i.cfg.Reserve(size))
		removed := i.removeImages(ctx, chosen, "to keep the disk's reserve")
		before := free
		free = i.awaitFree(ctx, want, freeWait)
		if cleaner, ok := i.cfg.Runtime.(hypervisor.Cleaner); ok && free < want && ctx.Err() == nil {
			if err := cleaner.FreeCache(ctx); err != nil {
				i.cfg.Fail(ctx, "free the hypervisor's cache", err)
			}
			free = i.awaitFree(ctx, want, freeWait)
		}
		i.cfg.Log.Info("made room", zap.Int("images", removed), zap.Uint64("expected_bytes", sizeOf(chosen)),
			zap.Int64("gained_bytes", int64(free)-int64(before)), zap.Uint64("free_bytes", free))
		if removed == 0 || ctx.Err() != nil {
			break // there is nothing more to remove
		}
	}
	if free < need {
		return fmt.Errorf("%w: the image needs %d MB, %d MB are free", ErrNoSpace, need>>20, free>>20)
	}
	return nil
}

const (
	// freeWait is how long the space of what was deleted may take to come back: a
	// hypervisor may free it in the background.
	freeWait = 30 * time.Second
	freeLook = 2 * time.Second
)

// awaitFree waits until so much is free, and returns what is.
func (i *Cache) awaitFree(ctx context.Context, want uint64, limit time.Duration) uint64 {
	for end := time.Now().Add(limit); ; {
		free := i.cfg.Host.Load().FreeDiskSpace
		if free >= want || !time.Now().Before(end) || !backoff.Sleep(ctx, freeLook) {
			return free
		}
	}
}

// mayFree is how many bytes the images that no start holds take at most. What they take
// is not known: they are smaller in a registry than on the disk.
func (i *Cache) mayFree() (sum uint64) {
	size := i.cfg.Host.Facts().DiskSize
	for _, c := range i.ledger.list() {
		switch {
		case i.ledger.held(c.key()):
		case c.Size == 0: // pulled though its size was not known
			return size
		default:
			sum += unpacked * c.Size
		}
	}
	return min(sum, size)
}

// unpacked is how many times larger than in a registry an image may be on the disk.
const unpacked = 3

func sizeOf(images []Image) (sum uint64) {
	for _, c := range images {
		sum += c.Size
	}
	return sum
}

// pullError is the failure of a pull, which room on the disk may cure.
type pullError struct {
	err  error
	size uint64 // of the image, 0 when it is not known
}

func (e *pullError) Error() string { return e.err.Error() }
func (e *pullError) Unwrap() error { return e.err }

// MakeRoomFor removes images before the next try of a start that failed with err, if
// room may cure it: the images on the node are worth hours of pulls, so that no start
// costs more of them than an image of the size of its own needs. size is that of its
// image.
func (i *Cache) MakeRoomFor(ctx context.Context, err error, size uint64) {
	reserve, free := i.cfg.Reserve(i.cfg.Host.Facts().DiskSize), i.cfg.Host.Load().FreeDiskSpace
	var target uint64
	var pull *pullError
	switch {
	case errors.As(err, &pull):
		// Unless it was told, why it failed is not known. It may have needed room for
		// the image twice, as it came and as it is kept.
		target = reserve + 2*pull.size
	case errors.Is(err, hypervisor.ErrDiskFull):
		target = reserve + size
	default:
		return
	}
	if errors.Is(err, hypervisor.ErrDiskFull) {
		// The hypervisor knows better than the figure of free space.
		target = max(target, free+max(size, 1))
	}
	if free+i.mayFree() < target {
		return // it would not fit all the same
	}
	i.removeImages(ctx, evict(i.ledger.list(), i.ledger.held, free, 0, target), "starts keep failing")
}

// removeImages removes images that no start holds, and returns how many.
func (i *Cache) removeImages(ctx context.Context, images []Image, why string) (removed int) {
	for _, c := range images {
		if i.ledger.held(c.key()) {
			continue // a start took it meanwhile
		}
		if err := i.cfg.Runtime.RemoveImage(ctx, c.image()); err != nil {
			i.cfg.Fail(ctx, "remove an image", err)
			continue
		}
		i.cfg.Log.Info("image removed", zap.String("template", c.Name), zap.String("tag", c.Tag), zap.Uint64("bytes", c.Size),
			zap.Time("last_used", c.Used), zap.String("reason", why))
		if err := i.ledger.drop(c.key()); err != nil {
			i.cfg.Fail(ctx, "image ledger", err)
		}
		removed++
	}
	i.cfg.Removed()
	return removed
}
