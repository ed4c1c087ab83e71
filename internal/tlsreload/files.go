// Package tlsreload keeps certificates, keys and authorities as new as their files:
// they are renewed on disk, and no process restarts for it.
//
//	pair, err := tlsreload.LoadKeyPair("server.crt", "server.key")
//	conf := &tls.Config{GetCertificate: pair.ForServer}
package tlsreload

import (
	"os"
	"slices"
	"sync"
	"time"
)

// Files is a value that is read from files, and again when they change. It is safe
// for concurrent use.
type Files[T any] struct {
	paths []string
	read  func() (T, error)

	mu     sync.Mutex
	loaded bool    // guarded by mu
	value  T       // guarded by mu
	stamps []stamp // guarded by mu; of the files when value was read
}

type stamp struct {
	changed time.Time
	size    int64
}

// New returns a value that read makes of the files at paths. It reads nothing.
func New[T any](read func() (T, error), paths ...string) *Files[T] {
	return &Files[T]{paths: paths, read: read}
}

// Load returns what is on disk now. While a renewal is half done it returns the
// last good value; an error means that there was none yet.
func (f *Files[T]) Load() (T, error) {
	stamps := make([]stamp, len(f.paths))
	for i, path := range f.paths {
		if info, err := os.Stat(path); err == nil {
			stamps[i] = stamp{info.ModTime(), info.Size()}
		}
	}
	f.mu.Lock()
	loaded, last, known := f.loaded, f.value, slices.Equal(stamps, f.stamps)
	f.mu.Unlock()
	if loaded && known {
		return last, nil
	}
	value, err := f.read() // without the lock, perhaps by several at once: disks may hang
	if err != nil {
		if loaded {
			return last, nil
		}
		return value, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.loaded, f.value, f.stamps = true, value, stamps
	return value, nil
}
