package fs

import (
	"fmt"
	"sync/atomic"

	"github.com/ankacluster/ankacluster/registryapi/content"
)

// usage is the sum of all blobs as last counted, plus what was added since by
// this process. It only decides when to refuse a push; servers of one directory
// agree again at each count.
type usage struct {
	bytes   atomic.Int64
	counted atomic.Bool
}

func (u *usage) add(n int64) { u.bytes.Add(n) }

// checkSpace returns ErrNoSpace when n more bytes would exceed the quota or eat
// into the free-space floor.
func (s *Store) checkSpace(n int64) error {
	if q := s.limits.Quota; q > 0 {
		if !s.usage.counted.Load() {
			if _, err := s.CountUsage(); err != nil {
				return err
			}
		}
		if used := s.usage.bytes.Load(); used+n > q || used >= q {
			return fmt.Errorf("%w: %d bytes stored and %d to come exceed the quota of %d bytes", content.ErrNoSpace, used, n, q)
		}
	}
	if s.limits.MinFree <= 0 {
		return nil
	}
	free, _, err := s.Disk()
	if err != nil {
		return nil // a file system that cannot tell decides for itself
	}
	if int64(free)-n < s.limits.MinFree {
		return fmt.Errorf("%w: %d bytes are free, %d to come must leave %d", content.ErrNoSpace, free, n, s.limits.MinFree)
	}
	return nil
}

// CheckSpace implements content.Uploads.
func (s *Store) CheckSpace(n int64) error { return s.checkSpace(max(n, 0)) }
