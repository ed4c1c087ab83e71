package agent

import (
	"strconv"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/controllerapi"
)

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
