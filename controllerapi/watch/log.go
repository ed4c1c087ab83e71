// Package watch is the log of what changed in the cloud, in the order of etcd's
// revisions, which every controller keeps from its own watch of etcd.
//
//	etcd -> view -> Log.Append        one writer
//	                Log.After  -> Serve: a caller's stream, each at its own pace
//
// It knows no etcd. The memory is bounded: who asks for changes that are
// no longer in the log is told ErrCompacted, and begins with a snapshot.
package watch

import (
	"errors"
	"sort"
	"sync"

	api "github.com/ankacluster/ankacluster/controllerapi"
)

// ErrCompacted: changes after the revision have left the log.
var ErrCompacted = errors.New("the changes since that revision are no longer known")

// Change is a change of one object at a revision. It is immutable.
type Change struct {
	Rev  int64
	Kind api.Kind
	ID   string
	// Object returns the object's JSON; nil means that it is gone. It is called by
	// each reader, and is cheap after the first.
	Object func() []byte
}

// Log is the newest changes. It is safe for concurrent use.
type Log struct {
	size int

	mu      sync.Mutex
	changes []Change      // guarded by mu; in order of Rev
	from    int64         // guarded by mu; all changes after it are here
	rev     int64         // guarded by mu; there are no others up to it
	grown   chan struct{} // guarded by mu; closed with the next change
}

// NewLog returns a log that keeps the newest changes, at least size and at most twice
// as many, of whole revisions.
func NewLog(size int) *Log { return &Log{size: size, grown: make(chan struct{})} }

// Reset forgets all changes: the view was loaded anew, at rev.
func (l *Log) Reset(rev int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changes, l.from, l.rev = nil, rev, rev
	l.wakeLocked()
}

// Append adds the changes up to rev. Their revisions do not fall, and are higher than
// those before.
func (l *Log) Append(rev int64, changes ...Change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rev = max(l.rev, rev)
	if len(changes) == 0 {
		return
	}
	l.changes = append(l.changes, changes...)
	if len(l.changes) > 2*l.size {
		cut := len(l.changes) - l.size
		for cut < len(l.changes) && l.changes[cut].Rev == l.changes[cut-1].Rev {
			cut++
		}
		l.from = l.changes[cut-1].Rev
		l.changes = append([]Change(nil), l.changes[cut:]...) // the old ones are freed
	}
	l.wakeLocked()
}

func (l *Log) wakeLocked() {
	close(l.grown)
	l.grown = make(chan struct{})
}

// Knows reports whether all changes after rev are in the log.
func (l *Log) Knows(rev int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return rev >= l.from
}

// After returns the changes after rev, and the revision up to which they are all: of
// whole revisions, some limit or more of them if there are so many. grown is closed
// when there are more. The error is ErrCompacted.
func (l *Log) After(rev int64, limit int) (changes []Change, upTo int64, grown <-chan struct{}, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if rev < l.from {
		return nil, 0, nil, ErrCompacted
	}
	begin := sort.Search(len(l.changes), func(i int) bool { return l.changes[i].Rev > rev })
	end := min(begin+limit, len(l.changes))
	for end < len(l.changes) && end > begin && l.changes[end].Rev == l.changes[end-1].Rev {
		end++
	}
	upTo = max(l.rev, rev)
	if end < len(l.changes) {
		upTo = l.changes[end-1].Rev
	}
	return l.changes[begin:end:end], upTo, l.grown, nil
}
