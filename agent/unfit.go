package agent

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/controllerapi/cloud/capacity"
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

// unfit is why a node takes no starts although it has room. The zero value is a
// node that is fit.
type unfit struct {
	reason   string
	until    time.Time
	refusals int // of slots that should be free, in a row
}

// markUnfit keeps starts away for a while. The cloud shows the node as Inactive.
func (a *Agent) markUnfit(reason string, d time.Duration) {
	a.mu.Lock()
	changed := a.unfit.reason != reason
	a.unfit.reason, a.unfit.until = reason, time.Now().Add(d)
	a.mu.Unlock()
	if changed {
		a.log.Error("this node takes no VMs", zap.String("reason", reason))
	}
	wake(a.syncNow)
	wake(a.capacityNow)
}

// unfitLocked returns why the node takes no starts, or "".
func (a *Agent) unfitLocked() string {
	if a.unfit.reason != "" && !time.Now().Before(a.unfit.until) {
		a.unfit.reason = ""
	}
	return a.unfit.reason
}

// slotRefused counts a refusal for want of a slot if there should have been one.
// A node whose slot is lost would otherwise ask for every start of the cloud,
// being empty, and give each back.
func (a *Agent) slotRefused(ctx context.Context) {
	vms, err := a.deps.Runtime.List(ctx)
	if err != nil {
		return
	}
	limit := 1 // what a hypervisor without Apple's limit runs is not known
	if a.deps.Host.Facts().HostArch == "arm64" {
		limit = capacity.ARMVMLimit
	}
	taken := len(a.pending()) - 1 // other starts under way may have a slot and no VM in the list
	for _, vm := range vms {
		if vm.Status == hypervisor.Running {
			taken++
		}
	}
	a.mu.Lock()
	if taken >= limit {
		a.unfit.refusals = 0
	} else {
		a.unfit.refusals++
	}
	lost := a.unfit.refusals >= lostSlotRefusals
	if lost {
		a.unfit.refusals-- // the first refusal after the pause is enough
	}
	a.mu.Unlock()
	if lost {
		a.markUnfit(lostSlot, unfitFor)
	}
}

// slotGranted notes that a VM was started.
func (a *Agent) slotGranted() {
	a.mu.Lock()
	fit := a.unfit.reason == ""
	a.unfit = unfit{}
	a.mu.Unlock()
	if !fit {
		wake(a.syncNow)
	}
}
