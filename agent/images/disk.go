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
// It fails when not even the pull itself would fit.
func (i *Cache) makeRoom(ctx context.Context, need uint64) error {
	size := i.cfg.Host.Facts().DiskSize
	free := i.cfg.Host.Load().FreeDiskSpace
	if size == 0 {
		return nil // nothing is known of the disk
	}
	want := need + i.cfg.Reserve(size)
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

// RoomFor returns how many bytes should be free before the next try of a start
// that failed with err, and 0 for failures that no room cures: the images on the
// node are worth hours of pulls.
func (i *Cache) RoomFor(err error) uint64 {
	disk := i.cfg.Host.Facts().DiskSize
	var pull *pullError
	switch {
	case errors.Is(err, hypervisor.ErrDiskFull):
		return disk // the hypervisor knows better than the figure of free space
	case errors.As(err, &pull):
		// Why it failed is not known. It may have needed room for the image twice,
		// as it came and as it is kept.
		return i.cfg.Reserve(disk) + 2*pull.size
	}
	return 0
}

// Clean removes images that are not in use until so much is free.
func (i *Cache) Clean(ctx context.Context, target uint64, why string) {
	i.removeImages(ctx, evict(i.ledger.list(), i.ledger.held, i.cfg.Host.Load().FreeDiskSpace, 0, target), why)
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
