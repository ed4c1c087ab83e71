package agent

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/controllerapi"
)

const (
	// inventoryIdle and inventoryBusy are how often the hypervisor is asked for its VMs:
	// every question is a process, so an idle node asks rarely.
	inventoryIdle = 20 * time.Second
	inventoryBusy = 5 * time.Second
	// detailsFresh is how long a running VM's addresses and ports are taken as
	// known; they hardly ever change.
	detailsFresh = time.Minute
	// detailsListed is the same where the list tells the address: what is left
	// changes with nothing but a restart of the VM.
	detailsListed = 10 * time.Minute
	// versionFresh is how often version and licence are asked for.
	versionFresh = 10 * time.Minute
	// versionRetry is the same after a failure.
	versionRetry = 30 * time.Second
)

// inventory is the node's VMs as last seen. It is replaced whole, never changed.
type inventory struct {
	known bool
	at    time.Time // when the look began
	vms   []hypervisor.VM
	err   string
	// shown is when a running VM's details were last asked for, by UUID.
	shown map[string]time.Time
}

// watchNode looks at the hypervisor from time to time and when asked to. It is
// the only goroutine that waits for it besides workers, so that a hypervisor
// that hangs makes the view old and nothing else.
func (a *Agent) watchNode(ctx context.Context) error {
	var versionAt, placeAt time.Time
	for first := true; ; first = false {
		if time.Now().After(versionAt) {
			versionAt = time.Now().Add(a.askVersion(ctx))
		}
		if time.Now().After(placeAt) {
			placeAt = time.Now().Add(placeFresh)
			a.askPlace(ctx)
		}
		if first {
			a.updateAddress()
			close(a.identified)
		}
		a.refreshInventory(ctx)
		wait := inventoryIdle
		if a.active() {
			wait = inventoryBusy
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-a.inventoryNow:
			t.Stop()
		case <-t.C:
		}
	}
}

// active reports whether the node's VMs are likely to change.
func (a *Agent) active() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.busy) > 0 || !a.inventory.known {
		return true
	}
	return slices.ContainsFunc(a.inventory.vms, func(vm hypervisor.VM) bool {
		return vm.Status == hypervisor.Running && managed(vm.Name, a.cfg.VMPrefix)
	})
}

// refreshInventory asks for the VMs and, where due, for the details of running ones.
func (a *Agent) refreshInventory(ctx context.Context) {
	at := time.Now()
	vms, err := a.deps.Runtime.List(ctx)
	if err != nil {
		if ctx.Err() == nil {
			a.mu.Lock()
			first := a.inventory.err == ""
			a.inventory.err = err.Error()
			a.mu.Unlock()
			if first {
				a.log.Warn("cannot list VMs", zap.Error(err))
			}
		}
		return
	}
	a.mu.Lock()
	old := a.inventory
	a.mu.Unlock()
	shown := make(map[string]time.Time)
	for i, vm := range vms {
		if vm.Status != hypervisor.Running {
			continue
		}
		before, ok := findVM(old.vms, vm.UUID)
		fresh := detailsFresh
		if vm.IP != "" && vm.IP == before.IP {
			fresh = detailsListed
		}
		if ok && before.Status == hypervisor.Running && at.Sub(old.shown[vm.UUID]) < fresh && before.IP != "" && (vm.IP == "" || vm.IP == before.IP) {
			vms[i], shown[vm.UUID] = before, old.shown[vm.UUID]
			continue
		}
		if full, err := a.deps.Runtime.Show(ctx, vm.UUID); err == nil {
			vms[i], shown[vm.UUID] = merge(vm, full), at
		} else if ok {
			vms[i] = before
		}
	}
	slices.SortFunc(vms, func(a, b hypervisor.VM) int {
		return cmp.Or(strings.Compare(a.UUID, b.UUID), strings.Compare(a.Name, b.Name)) // images may have no UUID
	})
	a.mu.Lock()
	recovered := old.err != "" && a.inventory.err != ""
	a.inventory = inventory{known: true, at: at, vms: vms, shown: shown}
	a.mu.Unlock()
	if recovered {
		a.log.Info("VMs are listed again")
	}
	if !slices.EqualFunc(old.vms, vms, sameVM) {
		wake(a.syncNow)
		wake(a.planNow)
	}
	wake(a.capacityNow)
}

// merge prefers what show told; list is the authority on the status.
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
func (a *Agent) askVersion(ctx context.Context) time.Duration {
	v, err := a.deps.Runtime.Version(ctx)
	if err != nil {
		if ctx.Err() == nil {
			a.noteError("hypervisor version", err)
			a.log.Warn("cannot ask the hypervisor for its version", zap.Error(err))
		}
		if errors.Is(err, hypervisor.ErrOutdated) {
			a.markUnfit(err.Error(), 2*versionRetry)
		}
		return versionRetry
	}
	a.mu.Lock()
	changed := a.version != v
	a.version = v
	a.mu.Unlock()
	if changed {
		a.log.Info("hypervisor", zap.String("product", v.Product), zap.String("version", v.Version),
			zap.String("license", v.License), zap.Bool("license_valid", v.LicenseValid))
		wake(a.syncNow)
		wake(a.capacityNow)
	}
	if !v.LicenseValid {
		return versionRetry
	}
	return versionFresh
}

// placeFresh is how often it is asked where images and VMs are kept.
const placeFresh = 10 * time.Minute

// askPlace tells the host which volumes count for free space.
func (a *Agent) askPlace(ctx context.Context) {
	rt, ok := a.deps.Runtime.(hypervisor.Placed)
	host, ok2 := a.deps.Host.(interface{ KeepOn(dirs []string) })
	if !ok || !ok2 {
		return
	}
	dirs, err := rt.Dirs(ctx)
	if err != nil {
		if ctx.Err() == nil {
			a.noteError("where images are kept", err)
		}
		return // what was known stays
	}
	host.KeepOn(dirs)
}

// watchAddress follows the node's address, with every heartbeat: looking it up
// may ask a name server, which no heartbeat waits for.
func (a *Agent) watchAddress(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-a.addressNow:
			a.updateAddress()
		}
	}
}

func (a *Agent) updateAddress() {
	address := a.cfg.Host
	if address == "" {
		address = a.deps.Host.Address()
	}
	a.mu.Lock()
	changed := address != "" && a.address != address
	if changed {
		a.address = address
	}
	a.mu.Unlock()
	if changed {
		wake(a.syncNow)
	}
}

// facts returns what the node says of itself.
func (a *Agent) facts() controllerapi.NodeFacts {
	f := a.deps.Host.Facts()
	a.mu.Lock()
	defer a.mu.Unlock()
	f.Host = a.address
	f.AnkaVersion = controllerapi.AnkaVersion{
		Product: a.version.Product, Version: a.version.Version, Build: a.version.Build,
		License: a.version.License, Expires: a.version.Expires,
	}
	f.Inactive = a.unfitLocked()
	// Controllers that know no reasons call the node Inactive by this alone.
	f.LicenseValid = a.version.LicenseValid && f.Inactive == ""
	return f
}

func (a *Agent) load() controllerapi.NodeLoad {
	l := a.deps.Host.Load()
	l.AnkaDiskUsage = a.images.usage()
	l.Numbers = new(controllerapi.NodeNumbers)
	if a.deps.Pools != nil {
		*l.Numbers = a.deps.Pools()
	}
	a.metrics.numbers(l.Numbers)
	return l
}

// vms returns the last view's VMs, and false while there is none.
func (a *Agent) vms() ([]hypervisor.VM, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.inventory.vms, a.inventory.known
}

// vmReports says which VMs there are, and false while that is not known: a list
// that is empty for want of a look would make the cloud give up every instance.
func (a *Agent) vmReports() ([]controllerapi.VMReport, bool) {
	records := a.journal.all()
	a.mu.Lock()
	v, address := a.inventory, a.address
	a.mu.Unlock()
	reports := []controllerapi.VMReport{} // never nil: an empty list is a statement
	for _, vm := range v.vms {
		isManaged := managed(vm.Name, a.cfg.VMPrefix)
		if !isManaged && vm.Status != hypervisor.Running {
			continue // an image, or a VM at rest that is none of our business
		}
		r := controllerapi.VMReport{Managed: isManaged, VCPU: vm.CPU, RAM: vm.RAM, Info: vmInfo(vm, a.id, address)}
		if rec, ok := ownerOf(records, vm); ok {
			r.InstanceID, r.Attempt = rec.Task.InstanceID, rec.Task.Attempt
			if rec.State == Retained {
				// Its instance failed, whatever the VM does: a stuck one was stopped by
				// us, which must not look as if it had ended by itself (A13).
				r.Info.Status = string(hypervisor.Failed)
			}
		}
		reports = append(reports, r)
	}
	return reports, v.known
}

func ownerOf(records []Record, vm hypervisor.VM) (Record, bool) {
	for _, r := range records {
		if r.Task.Kind == controllerapi.TaskStart && r.Owns(vm.UUID, vm.Name) {
			return r, true
		}
	}
	return Record{}, false
}

// taskIDs lists the claimed tasks that are not over, in a fixed order.
func (a *Agent) taskIDs() []controllerapi.TaskID {
	ids := []controllerapi.TaskID{}
	for _, r := range a.journal.all() {
		if r.State == Claimed || r.Outcome != nil {
			ids = append(ids, r.Task.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

// vmInfo is a VM in the words of the REST API.
func vmInfo(vm hypervisor.VM, node controllerapi.NodeID, address string) controllerapi.VMInfo {
	info := controllerapi.VMInfo{
		UUID: vm.UUID, Status: string(vm.Status), Name: vm.Name, Version: vm.Tag,
		CreationDate: vm.Created, StartDate: vm.Started, StopDate: vm.Ended,
		CPUCores: vm.CPU, RAM: ramWord(vm.RAM), NodeID: node, HostIP: address,
		IP: vm.IP, VNCPort: vm.VNCPort,
	}
	for _, p := range vm.Ports {
		info.PortForwarding = append(info.PortForwarding, controllerapi.PortForward{
			GuestPort: p.Guest, HostPort: p.Host, Protocol: p.Protocol, Name: p.Name,
		})
	}
	return info
}

// ramWord writes MB the way anka does.
func ramWord(mb int) string {
	if mb <= 0 {
		return ""
	}
	if mb%1024 == 0 {
		return strconv.Itoa(mb/1024) + "G"
	}
	return strconv.Itoa(mb) + "M"
}

// LogsCentrally reports whether the cloud wants this node's log.
func (a *Agent) LogsCentrally() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.joined && !a.cfg.NoCentralLogging && !a.settings.DisableCentralLogging
}
