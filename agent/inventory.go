package agent

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
)

const (
	// inventoryIdle and inventoryBusy are how often the hypervisor is asked for its VMs:
	// every question is a process, so an idle node asks rarely.
	inventoryIdle = 20 * time.Second
	inventoryBusy = 5 * time.Second
	// detailsFresh is how long a running VM's addresses and ports are taken as
	// known; they hardly ever change.
	detailsFresh = time.Minute
	// detailsListed is the same where the list has the address: what is left
	// changes with nothing but a restart of the VM.
	detailsListed = 10 * time.Minute
	// versionFresh is how often version and licence are asked for.
	versionFresh = 10 * time.Minute
	// versionRetry is the same after a failure.
	versionRetry = 30 * time.Second
)

// inventory is what the hypervisor says of itself and of its VMs. It is safe for
// concurrent use.
type inventory struct {
	runtime hypervisor.Runtime
	host    Host
	prefix  string      // of the cloud's VMs
	working func() bool // tasks are worked on
	address *address
	fitness *fitness
	errors  *errorLog
	log     *zap.Logger
	wakeups wakeups
	// identified is closed once version and address of the node are known, or
	// could not be found out.
	identified chan struct{}

	mu      sync.Mutex
	last    vmList             // guarded by mu
	version hypervisor.Version // guarded by mu
}

// vmList is the node's VMs as last seen. It is replaced whole, never changed.
type vmList struct {
	known bool
	at    time.Time // when the look began
	vms   []hypervisor.VM
	err   string
	// shown is when a running VM's details were last asked for, by UUID.
	shown map[string]time.Time
}

// run looks at the hypervisor from time to time and when asked to. It is
// the only goroutine that waits for it besides workers, so that a hypervisor
// that hangs makes the view old and nothing else.
func (i *inventory) run(ctx context.Context) error {
	var versionAt, placeAt time.Time
	for first := true; ; first = false {
		if time.Now().After(versionAt) {
			versionAt = time.Now().Add(i.askVersion(ctx))
		}
		if time.Now().After(placeAt) {
			placeAt = time.Now().Add(placeFresh)
			i.askPlace(ctx)
		}
		if first {
			i.address.update()
			close(i.identified)
		}
		i.refresh(ctx)
		wait := inventoryIdle
		if i.active() {
			wait = inventoryBusy
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-i.wakeups.inventory:
			t.Stop()
		case <-t.C:
		}
	}
}

// active reports whether the node's VMs are likely to change.
func (i *inventory) active() bool {
	if i.working() {
		return true
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.last.known {
		return true
	}
	return slices.ContainsFunc(i.last.vms, func(vm hypervisor.VM) bool {
		return vm.Status == hypervisor.Running && managed(vm.Name, i.prefix)
	})
}

// refresh asks for the VMs and, where due, for the details of running ones.
func (i *inventory) refresh(ctx context.Context) {
	at := time.Now()
	vms, err := i.runtime.List(ctx)
	if err != nil {
		if ctx.Err() == nil {
			i.mu.Lock()
			first := i.last.err == ""
			i.last.err = err.Error()
			i.mu.Unlock()
			if first {
				i.log.Warn("cannot list VMs", zap.Error(err))
			}
		}
		return
	}
	i.mu.Lock()
	old := i.last
	i.mu.Unlock()
	shown := make(map[string]time.Time)
	for k, vm := range vms {
		if vm.Status != hypervisor.Running {
			continue
		}
		before, ok := findVM(old.vms, vm.UUID)
		fresh := detailsFresh
		if vm.IP != "" && vm.IP == before.IP {
			fresh = detailsListed
		}
		if ok && before.Status == hypervisor.Running && at.Sub(old.shown[vm.UUID]) < fresh && before.IP != "" && (vm.IP == "" || vm.IP == before.IP) {
			vms[k], shown[vm.UUID] = before, old.shown[vm.UUID]
			continue
		}
		if full, err := i.runtime.Show(ctx, vm.UUID); err == nil {
			vms[k], shown[vm.UUID] = merge(vm, full), at
		} else if ok {
			vms[k] = before
		}
	}
	slices.SortFunc(vms, func(a, b hypervisor.VM) int {
		return cmp.Or(strings.Compare(a.UUID, b.UUID), strings.Compare(a.Name, b.Name)) // images may have no UUID
	})
	i.mu.Lock()
	recovered := old.err != "" && i.last.err != ""
	i.last = vmList{known: true, at: at, vms: vms, shown: shown}
	i.mu.Unlock()
	if recovered {
		i.log.Info("VMs are listed again")
	}
	if !slices.EqualFunc(old.vms, vms, sameVM) {
		i.wakeups.heartbeat.wake()
		i.wakeups.plan.wake()
	}
	i.wakeups.capacity.wake()
}

// merge prefers what show returned; list is the authority on the status.
func merge(listed, shown hypervisor.VM) hypervisor.VM {
	if listed.Status != "" {
		shown.Status = listed.Status
	}
	if shown.Tag == "" {
		shown.Tag = listed.Tag
	}
	return shown
}

func sameVM(a, b hypervisor.VM) bool {
	return a.UUID == b.UUID && a.Name == b.Name && a.Tag == b.Tag && a.Repository == b.Repository && a.Status == b.Status &&
		a.IP == b.IP && a.Started.Equal(b.Started) && slices.Equal(a.Ports, b.Ports)
}

// askVersion asks for version and licence, and returns when to ask again.
func (i *inventory) askVersion(ctx context.Context) time.Duration {
	version, err := i.runtime.Version(ctx)
	if err != nil {
		if ctx.Err() == nil {
			i.errors.note("hypervisor version", err)
			i.log.Warn("cannot ask the hypervisor for its version", zap.Error(err))
		}
		if errors.Is(err, hypervisor.ErrOutdated) {
			i.fitness.mark(err.Error(), 2*versionRetry)
		}
		return versionRetry
	}
	i.mu.Lock()
	changed := i.version != version
	i.version = version
	i.mu.Unlock()
	if changed {
		i.log.Info("hypervisor", zap.String("product", version.Product), zap.String("version", version.Version),
			zap.String("license", version.License), zap.Bool("license_valid", version.LicenseValid))
		i.wakeups.heartbeat.wake()
		i.wakeups.capacity.wake()
	}
	if !version.LicenseValid {
		return versionRetry
	}
	return versionFresh
}

// placeFresh is how often it is asked where images and VMs are kept.
const placeFresh = 10 * time.Minute

// askPlace sets which volumes of the host count for free space.
func (i *inventory) askPlace(ctx context.Context) {
	rt, ok := i.runtime.(hypervisor.Placed)
	host, ok2 := i.host.(interface{ KeepOn(dirs []string) })
	if !ok || !ok2 {
		return
	}
	dirs, err := rt.Dirs(ctx)
	if err != nil {
		if ctx.Err() == nil {
			i.errors.note("where images are kept", err)
		}
		return // what was known stays
	}
	host.KeepOn(dirs)
}

// list returns the VMs as last seen.
func (i *inventory) list() vmList {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.last
}

// hypervisor returns the version as of the last answer.
func (i *inventory) hypervisor() hypervisor.Version {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.version
}

// running reports whether any VM runs, also one that was started by hand.
func (i *inventory) running() bool {
	return slices.ContainsFunc(i.list().vms, func(vm hypervisor.VM) bool { return vm.Status == hypervisor.Running })
}

// isRunning reports whether a VM runs.
func (i *inventory) isRunning(uuid string) bool {
	vm, ok := findVM(i.list().vms, uuid)
	return ok && vm.Status == hypervisor.Running
}

// forget takes a VM out of the list, so that no heartbeat has it until the
// next look.
func (i *inventory) forget(uuid string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	rest := i.last
	rest.vms = nil
	for _, vm := range i.last.vms {
		if vm.UUID != uuid {
			rest.vms = append(rest.vms, vm)
		}
	}
	i.last = rest
}
