package agent

import (
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	// lostSlotRefusals is how many refusals in a row, for want of a slot while
	// there are free ones, mean that a slot is lost: those of two starts, since a
	// VM that has just ended keeps its slot for some seconds.
	lostSlotRefusals = 2 * tooManyTries
	// unfitFor is how long a node takes no starts after that. Then one start shows
	// whether it was mended.
	unfitFor = 30 * time.Minute
)

const lostSlot = "macOS refuses to run another VM although fewer run than it allows: it holds a slot that no VM uses; restart this Mac"

// noKeychainFor is how long a node takes no starts after one that found no
// keychain: somebody may log in at any moment.
const noKeychainFor = 5 * time.Minute

const noKeychain = "macOS starts no VM here: the login keychain of the user that the VMs run as is locked or missing; " +
	"log in at this Mac's screen as that user, and see ankacluster doctor"

// fitness is whether the node takes starts. It is safe for concurrent use.
type fitness struct {
	log     *zap.Logger
	wakeups wakeups

	mu       sync.Mutex
	reason   string    // guarded by mu; why it takes none although it has room, "" for a node that is fit
	until    time.Time // guarded by mu
	refusals int       // guarded by mu; of slots that should be free, in a row
}

// mark keeps starts away for a while. The cloud shows the node as Inactive.
func (f *fitness) mark(reason string, d time.Duration) {
	f.mu.Lock()
	changed := f.reason != reason
	f.reason, f.until = reason, time.Now().Add(d)
	f.mu.Unlock()
	if changed {
		f.log.Error("this node takes no VMs", zap.String("reason", reason))
	}
	f.wakeups.heartbeat.wake()
	f.wakeups.capacity.wake()
}

// unfit returns why the node takes no starts, or "".
func (f *fitness) unfit() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.reason != "" && !time.Now().Before(f.until) {
		f.reason = ""
	}
	return f.reason
}

// slotRefused counts a refusal for want of a slot; free reports whether there should
// have been one. A node whose slot is lost would otherwise ask for every start of the
// cloud, being empty, and give each back.
func (f *fitness) slotRefused(free bool) {
	f.mu.Lock()
	if free {
		f.refusals++
	} else {
		f.refusals = 0
	}
	lost := f.refusals >= lostSlotRefusals
	if lost {
		f.refusals-- // the first refusal after the pause is enough
	}
	f.mu.Unlock()
	if lost {
		f.mark(lostSlot, unfitFor)
	}
}

// slotGranted notes that a VM was started.
func (f *fitness) slotGranted() {
	f.mu.Lock()
	fit := f.reason == ""
	f.reason, f.until, f.refusals = "", time.Time{}, 0
	f.mu.Unlock()
	if !fit {
		f.wakeups.heartbeat.wake()
	}
}
