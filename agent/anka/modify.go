package anka

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
)

// Configure sets the options that are asked for, one command each, as anka
// wants it.
func (c *CLI) Configure(ctx context.Context, id string, o hypervisor.Options) error {
	if o.ReplacePorts {
		if err := c.dropPortRules(ctx, id); err != nil {
			return err
		}
	}
	for _, args := range modifications(o) {
		if _, err := c.change(ctx, append([]string{"modify", id}, args...)...); err != nil {
			return err
		}
	}
	if o.DiskSize != "" && !o.SkipResize {
		return c.resizeGuestDisk(ctx, id)
	}
	return nil
}

// modifications lists the arguments after `anka modify ID`.
func modifications(o hypervisor.Options) [][]string {
	var list [][]string
	add := func(args ...string) { list = append(list, args) }
	if o.CPU > 0 {
		add("cpu", strconv.Itoa(o.CPU))
	}
	if o.RAM > 0 {
		add("ram", strconv.Itoa(o.RAM)+"M")
	}
	if o.DiskSize != "" {
		add("disk", "-s", o.DiskSize)
	}
	if args := networkArgs(o); len(args) > 0 {
		add(append([]string{"network"}, args...)...)
	}
	for _, p := range o.Ports {
		add("port", p.Name, portRule(p))
	}
	if o.VideoController != "" {
		add("display", "--controller", o.VideoController)
	}
	if o.HVAPIC != "" {
		add("cpu", "--hvapic", strings.TrimPrefix(strings.ToLower(o.HVAPIC), "force"))
	}
	if o.CSRActiveConfig != "" {
		add("firmware", "--csr-active-config", o.CSRActiveConfig)
	}
	if o.HWSerial != "" {
		add("hardware", "--serial", o.HWSerial)
	}
	if o.HWUUID != "" {
		add("hardware", "--uuid", o.HWUUID)
	}
	return list
}

func networkArgs(o hypervisor.Options) []string {
	var args []string
	if o.NetworkMode != "" {
		args = append(args, "-t", o.NetworkMode)
	} else if o.VLAN != "" {
		args = append(args, "-t", "bridge") // a VLAN needs a bridge
	}
	if o.VLAN != "" {
		args = append(args, "--vlan", o.VLAN)
	}
	if o.MAC != "" {
		args = append(args, "-m", o.MAC)
	}
	switch o.NetworkLocal {
	case "forceOn":
		args = append(args, "--local")
	case "forceOff":
		args = append(args, "--no-local")
	}
	return args
}

// portRule writes guest[:addr][:host].
func portRule(p hypervisor.PortRule) string {
	rule := strconv.Itoa(p.GuestPort)
	if p.HostIP != "" {
		rule += ":" + p.HostIP
	}
	if p.HostPort > 0 {
		rule += ":" + strconv.Itoa(p.HostPort)
	}
	return rule
}

// dropPortRules removes the rules that came with the template. A VM that shows
// no network has none.
func (c *CLI) dropPortRules(ctx context.Context, id string) error {
	a, err := c.query(ctx, "show", id, "network")
	if err != nil {
		return err
	}
	for _, o := range decodeObjects(a.Body) {
		if len(decodeObjects(o["port_forwarding_rules"])) == 0 {
			continue
		}
		if _, err := c.change(ctx, "modify", id, "delete", "port", "-a"); err != nil {
			return err
		}
	}
	return nil
}

// resizeGuestDisk makes the guest's container as large as its disk. It boots
// the VM, since the file system can only grow from inside.
func (c *CLI) resizeGuestDisk(ctx context.Context, id string) error {
	res, err := c.Run(ctx, id, hypervisor.Script{
		Text:    []byte("yes | diskutil repairDisk disk0; diskutil apfs resizeContainer disk0s2 0\n"),
		Timeout: c.timeouts.Change,
	})
	if err != nil {
		return err
	}
	if res.ExitCode != 0 {
		return fmt.Errorf("resize the guest's disk: exit code %d: %s", res.ExitCode, strings.TrimSpace(string(res.Stderr)))
	}
	return nil
}
