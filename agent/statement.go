package agent

import (
	"slices"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/agent/images"
	"github.com/ankacluster/ankacluster/controllerapi"
)

// statement makes what a heartbeat reports of the node. It asks owners for what they
// know, and touches nothing that can hang: neither the hypervisor nor the registry
// nor the disk (A1, A7).
type statement struct {
	node      controllerapi.NodeID
	prefix    string // of the cloud's VMs
	host      Host
	address   *address
	inventory *inventory
	fitness   *fitness
	images    *images.Cache
	journal   *journal
	metrics   *metrics
	pools     func() controllerapi.NodeNumbers // may be nil
}

// facts returns what the node says of itself.
func (s *statement) facts() controllerapi.NodeFacts {
	f := s.host.Facts()
	v := s.inventory.hypervisor()
	f.Host = s.address.get()
	f.AnkaVersion = controllerapi.AnkaVersion{
		Product: v.Product, Version: v.Version, Build: v.Build,
		License: v.License, Expires: v.Expires,
	}
	f.Inactive = s.fitness.unfit()
	// Controllers that know no reasons call the node Inactive by this alone.
	f.LicenseValid = v.LicenseValid && f.Inactive == ""
	return f
}

func (s *statement) load() controllerapi.NodeLoad {
	l := s.host.Load()
	l.AnkaDiskUsage = s.images.Usage()
	l.Numbers = new(controllerapi.NodeNumbers)
	if s.pools != nil {
		*l.Numbers = s.pools()
	}
	s.metrics.numbers(l.Numbers)
	return l
}

// vmReports says which VMs there are, and false while that is not known: a list
// that is empty for want of a look would make the cloud give up every instance.
func (s *statement) vmReports() ([]controllerapi.VMReport, bool) {
	records := s.journal.all()
	list, address := s.inventory.list(), s.address.get()
	reports := []controllerapi.VMReport{} // never nil: an empty list is a statement
	for _, vm := range list.vms {
		isManaged := managed(vm.Name, s.prefix)
		if !isManaged && vm.Status != hypervisor.Running {
			continue // an image, or a VM at rest that is none of our business
		}
		r := controllerapi.VMReport{Managed: isManaged, VCPU: vm.CPU, RAM: vm.RAM, Info: vmInfo(vm, s.node, address)}
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
	return reports, list.known
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
func (s *statement) taskIDs() []controllerapi.TaskID {
	ids := []controllerapi.TaskID{}
	for _, r := range s.journal.all() {
		if r.State == Claimed || r.Outcome != nil {
			ids = append(ids, r.Task.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

// parts is what the controllers know of this node, by hash.
type parts struct {
	facts  controllerapi.NodeFacts
	vms    []controllerapi.VMReport
	images []controllerapi.NodeImage
	tasks  []controllerapi.TaskID
	hashes controllerapi.PartHashes
	// known is false while the VMs are not.
	known bool
}

func (s *statement) parts() parts {
	p := parts{facts: s.facts(), images: s.images.Reports(s.inventory.list().vms), tasks: s.taskIDs()}
	p.vms, p.known = s.vmReports()
	p.hashes = controllerapi.PartHashes{
		Facts: controllerapi.HashPart(p.facts), VMs: controllerapi.HashPart(p.vms),
		Images: controllerapi.HashPart(p.images), Tasks: controllerapi.HashPart(p.tasks),
	}
	if !p.known {
		// No statement about VMs and images, and none that the cloud could take
		// for the last one.
		p.hashes.VMs, p.hashes.Images = unknownHash, unknownHash
	}
	return p
}

// unknownHash stands for a part that is not known yet.
const unknownHash = "unknown"

// request builds a heartbeat that carries what differs from acked.
func (p parts) request(acked controllerapi.PartHashes) controllerapi.SyncRequest {
	req := controllerapi.SyncRequest{Hashes: p.hashes}
	if p.hashes.Facts != acked.Facts {
		req.Facts = &p.facts
	}
	if p.known && p.hashes.VMs != acked.VMs {
		req.VMs = &p.vms
	}
	if p.known && p.hashes.Images != acked.Images {
		req.Images = &p.images
	}
	if p.hashes.Tasks != acked.Tasks {
		req.Tasks = &p.tasks
	}
	return req
}
