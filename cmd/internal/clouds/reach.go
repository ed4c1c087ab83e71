package clouds

import (
	"fmt"
	"net"
	"strconv"

	"github.com/ankacluster/ankacluster/controllerapi"
)

// Way is a way to reach a VM.
type Way struct {
	Name string `json:"name"` // ssh, vnc, or the name of a port forward
	// Command is what to type or open.
	Command string `json:"command"`
}

// sshPort is where a guest listens for ssh.
const sshPort = 22

// Ways returns how a VM is reached, ssh first: by its node's port forwards, and by the
// guest's own address, which only some networks lead to.
func Ways(vm *controllerapi.VMInfo) []Way {
	if vm == nil {
		return nil
	}
	var ssh, others []Way
	for _, p := range vm.PortForwarding {
		at := net.JoinHostPort(vm.HostIP, strconv.Itoa(p.HostPort))
		if p.GuestPort == sshPort {
			ssh = append(ssh, Way{"ssh", fmt.Sprintf("ssh -p %d USER@%s", p.HostPort, vm.HostIP)})
			continue
		}
		others = append(others, Way{p.Name, fmt.Sprintf("%s leads to the VM's port %d", at, p.GuestPort)})
	}
	if len(ssh) == 0 && vm.IP != "" {
		ssh = []Way{{"ssh", "ssh USER@" + vm.IP}}
	}
	switch {
	case vm.VNCConnectionString != "":
		ssh = append(ssh, Way{"vnc", vm.VNCConnectionString})
	case vm.VNCPort != 0:
		ssh = append(ssh, Way{"vnc", "vnc://" + net.JoinHostPort(vm.HostIP, strconv.Itoa(vm.VNCPort))})
	}
	return append(ssh, others...)
}
