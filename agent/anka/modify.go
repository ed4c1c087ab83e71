package anka

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/ankacluster/ankacluster/agent/command"
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
		if _, err := c.change(ctx, command.Words("modify").Values(id).Join(args)); err != nil {
			return err
		}
	}
	return nil
}

// modifications lists the arguments after `anka modify ID`.
func modifications(o hypervisor.Options) (list []command.Args) {
	add := func(args command.Args) { list = append(list, args) }
	if o.CPU > 0 {
		add(command.Words("cpu").Values(strconv.Itoa(o.CPU)))
	}
	if o.RAM > 0 {
		add(command.Words("ram").Values(strconv.Itoa(o.RAM) + "M"))
	}
	if o.DiskSize != "" {
		add(command.Words("disk", "-s").Values(o.DiskSize))
	}
	if o.NetworkMode != "" || o.VLAN != "" || o.MAC != "" || o.NetworkLocal != "" {
		add(networkArgs(o))
	}
	for _, p := range o.Ports {
		add(command.Words("port").Values(p.Name, portRule(p)))
	}
	if o.VideoController != "" {
		add(command.Words("display", "--controller").Values(o.VideoController))
	}
	// The firmware of an Intel machine is set by variables.
	for _, v := range []struct{ key, value string }{
		{"hw.hvapic", hvapic(o.HVAPIC)}, {"sys.csr-active-config", o.CSRActiveConfig}, {"hw.serial", o.HWSerial}, {"hw.uuid", o.HWUUID},
	} {
		if v.value != "" {
			add(command.Words("set", "custom-variable").Values(v.key, v.value))
		}
	}
	return list
}

func networkArgs(o hypervisor.Options) command.Args {
	args := command.Words("network")
	if o.NetworkMode != "" {
		args = args.Words("-t").Values(o.NetworkMode)
	} else if o.VLAN != "" {
		args = args.Words("-t", "bridge") // a VLAN needs a bridge
	}
	if o.VLAN != "" {
		args = args.Words("--vlan").Values(o.VLAN)
	}
	if o.MAC != "" {
		args = args.Words("-m").Values(o.MAC)
	}
	switch o.NetworkLocal {
	case "forceOn":
		args = args.Words("--local")
	case "forceOff":
		args = args.Words("--no-local")
	}
	return args
}

// hvapic translates the API's forceOn and forceOff.
func hvapic(word string) string {
	switch strings.TrimPrefix(strings.ToLower(word), "force") {
	case "":
		return ""
	case "off", "0", "false":
		return "0"
	}
	return "1"
}

// anyAddress is what anka listens on when a rule names no address.
const anyAddress = "0.0.0.0"

// portRule writes guest[:addr][:host]. A host port never stands where an address
// may: the documents show it only behind one.
func portRule(p hypervisor.PortRule) string {
	rule := strconv.Itoa(p.GuestPort)
	if p.HostPort > 0 {
		return rule + ":" + cmp.Or(p.HostIP, anyAddress) + ":" + strconv.Itoa(p.HostPort)
	}
	if p.HostIP != "" {
		rule += ":" + p.HostIP
	}
	return rule
}

// dropPortRules removes the rules that came with the template. A VM that shows
// no network has none.
func (c *CLI) dropPortRules(ctx context.Context, id string) error {
	a, err := c.query(ctx, command.Words("show").Values(id).Words("network"))
	if err != nil {
		return err
	}
	for _, o := range decodeObjects(a.Body) {
		if len(decodeObjects(o["port_forwarding_rules"])) == 0 {
			continue
		}
		if _, err := c.change(ctx, command.Words("modify").Values(id).Words("delete", "port", "-a")); err != nil {
			return err
		}
	}
	return nil
}

// growScript makes the guest's container as large as its disk. Which disk that is
// differs between versions of macOS, so that it is looked up; the partition map
// learns of the new size by a repair of the whole disk. A container that is as
// large already is no error (-69743).
const growScript = `root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }
info=$(LC_ALL=C diskutil info /) || exit
field() { printf '%s\n' "$info" | sed -n "s/^ *$1: *\([^ ]*\).*/\1/p" | head -n 1; }
container=$(field 'APFS Container')
store=$(field 'APFS Physical Store')
[ -n "$container" ] || container=$store
[ -n "$container" ] || container=$(LC_ALL=C diskutil apfs list | sed -n 's/.*Container Reference: *\([^ ]*\).*/\1/p' | head -n 1)
[ -n "$container" ] || { echo "diskutil names no APFS container" >&2; exit 1; }
whole=$(printf '%s' "$store" | sed 's/s[0-9]*$//')
[ -z "$whole" ] || yes | root diskutil repairDisk "$whole" >&2
out=$(root diskutil apfs resizeContainer "$container" 0 2>&1)
code=$?
printf '%s\n' "$out" >&2
case $out in *69743*) exit 0;; esac
exit $code
`

// growGuestDisk runs growScript in a VM that runs.
func (c *CLI) growGuestDisk(ctx context.Context, id string) error {
	res, err := c.Run(ctx, id, hypervisor.Script{Text: []byte(growScript), Timeout: c.timeouts.Change})
	switch {
	case err != nil:
		return fmt.Errorf("grow the guest's disk: %w", err)
	case res.TimedOut:
		return fmt.Errorf("grow the guest's disk: no end after %s", c.timeouts.Change)
	case res.ExitCode != 0:
		return fmt.Errorf("grow the guest's disk: exit code %d: %s", res.ExitCode, command.LastLine(res.Stderr))
	}
	return nil
}
