package transfer

import (
	"sync"
	"time"
)

// Progress tells how far a push or a pull is, over all its files.
type Progress struct {
	// Done counts the bytes that are where they should be, also those that were
	// there before; Total is what Done reaches.
	Done, Total int64
	// Moved counts the bytes that went over the network in this call.
	Moved int64
	// File is the file that moved last.
	File string
}

// reportEvery keeps callbacks from costing more than the transfer.
const reportEvery = 100 * time.Millisecond

// meter adds up the progress of several goroutines. Its callback is never
// called by two of them at once.
type meter struct {
	report func(Progress)

	mu   sync.Mutex
	now  Progress
	last time.Time
}

func newMeter(total int64, report func(Progress)) *meter {
	return &meter{report: report, now: Progress{Total: total}}
}

// add counts done bytes, moved of which came over the network. done is negative
// when bytes turned out to be wrong.
func (m *meter) add(file string, done, moved int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now.Done += done
	m.now.Moved += moved
	m.now.File = file
	if m.report == nil {
		return
	}
	if now := time.Now(); m.now.Done >= m.now.Total || now.Sub(m.last) >= reportEvery {
		m.last = now
		m.report(m.now) // under the lock: callbacks come one at a time and in order
	}
}

func (m *meter) snapshot() Progress {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}
