// Package anka is a hypervisor.Runtime over the `anka` command line.
//
// Nothing that the command prints is trusted: an answer may be missing, cut
// short, surrounded by warnings, or of another shape than documented. A command
// that hangs is ended after its timeout with its whole process group.
package anka

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ankacluster/ankacluster/agent/command"
	"github.com/ankacluster/ankacluster/agent/hypervisor"
)

// Timeouts of the commands. They are for hangs, not for slowness: each is many
// times what the command takes on a busy Mac.
type Timeouts struct {
	Query  time.Duration // list, show, version, license
	Change time.Duration // clone, modify, delete
	Stop   time.Duration // a forced stop
	// Shutdown is a stop that the guest has a say in. anka itself gives up after
	// five minutes, unless its operations_timeout was set.
	Shutdown time.Duration
	Suspend  time.Duration // writes the guest's memory to disk
	// TransferStall ends a pull or push that moved no byte, printed nothing and
	// used no CPU for so long. There is no limit to the whole of it.
	TransferStall time.Duration
}

// DefaultTimeouts returns what the agent ships with.
func DefaultTimeouts() Timeouts {
	return Timeouts{
		Query:         30 * time.Second,
		Change:        5 * time.Minute,
		Stop:          time.Minute,
		Shutdown:      6 * time.Minute,
		Suspend:       10 * time.Minute,
		TransferStall: 5 * time.Minute,
	}
}

// CLI is the anka command. It is safe for concurrent use.
type CLI struct {
	path     string
	run      *command.Runner
	timeouts Timeouts
	library  library
	logs     string                 // anka's own, a file for each VM
	version  atomic.Pointer[string] // as Version was last told; nil before that
	// noFields is set once anka refused a list of named fields.
	noFields atomic.Bool
}

var _ hypervisor.Runtime = (*CLI)(nil)

// New returns the command at path, which may be a bare name to look up.
func New(path string, run *command.Runner, t Timeouts) *CLI {
	return &CLI{path: path, run: run, timeouts: t, logs: logsDir}
}

// call runs `anka -j ARGS` and returns the body of its answer.
func (c *CLI) call(ctx context.Context, cmd command.Command) (answer, error) {
	verb := cmd.Args.Verb()
	cmd.Path = c.path
	cmd.Args = command.Words("-j").Join(cmd.Args)
	res, err := c.run.Run(ctx, cmd)
	if err != nil {
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
			return answer{}, fmt.Errorf("%w: %s", hypervisor.ErrMissing, c.path)
		}
		return answer{}, fmt.Errorf("anka %s: %w", verb, err)
	}
	a, answered := parseAnswer(res.Stdout)
	if !answered || a.Status != "OK" || res.ExitCode != 0 {
		return a, commandError(verb, a, answered, res)
	}
	return a, nil
}

func (c *CLI) query(ctx context.Context, args command.Args) (answer, error) {
	return c.call(ctx, command.Command{Args: args, Timeout: c.timeouts.Query})
}

func (c *CLI) change(ctx context.Context, args command.Args) (answer, error) {
	return c.call(ctx, command.Command{Args: args, Timeout: c.timeouts.Change})
}

// Check finds nothing that anka cannot do.
func (c *CLI) Check(hypervisor.Options, hypervisor.StartOptions, string) error { return nil }

// Version asks for version and licence. A licence that cannot be read makes
// LicenseValid false and is no error: the node is then Inactive, not Offline.
func (c *CLI) Version(ctx context.Context) (hypervisor.Version, error) {
	a, err := c.query(ctx, command.Words("version"))
	if err != nil {
		return hypervisor.Version{}, err
	}
	var v hypervisor.Version
	for _, o := range decodeObjects(a.Body) {
		v.Product, v.Version, v.Build = o.text("product"), o.text("version"), o.text("build")
	}
	c.version.Store(&v.Version)
	a, err = c.query(ctx, command.Words("license", "show"))
	if err != nil {
		return v, ctx.Err()
	}
	for _, o := range decodeObjects(a.Body) {
		v.License, v.Expires = o.text("license_type"), o.text("expires")
		if v.License == "" {
			v.License = o.text("type")
		}
		v.LicenseValid = v.License != "" && o.text("status") != "invalid" && o.text("status") != "expired"
	}
	return v, nil
}

// listFields are what a list is asked for at once from 3.7 on. Before that it took
// a show for each running VM to learn its address.
const listFields = "name,uuid,status,version,creation_date,ip,vnc_port"

// List returns every VM and image, cached tags of images too.
func (c *CLI) List(ctx context.Context) ([]hypervisor.VM, error) {
	a, err := c.listAll(ctx)
	if err != nil {
		return nil, err
	}
	var vms []hypervisor.VM
	for _, o := range decodeObjects(a.Body) {
		if vm := toVM(o); vm.UUID != "" {
			vms = append(vms, vm)
		}
	}
	return c.images(ctx, vms)
}

func (c *CLI) listAll(ctx context.Context) (answer, error) {
	if !c.noFields.Load() && c.atLeast(3, 7) {
		a, err := c.query(ctx, command.Words("list", "-a", "--field", listFields))
		var refused *CommandError
		if !errors.As(err, &refused) || !refused.Answered {
			return a, err
		}
		if a, err = c.query(ctx, command.Words("list", "-a")); err == nil {
			c.noFields.Store(true) // it is the fields that it refuses
		}
		return a, err
	}
	return c.query(ctx, command.Words("list", "-a"))
}

// atLeast reports whether anka's version is known, and not older.
func (c *CLI) atLeast(major, minor int) bool {
	v := c.version.Load()
	return v != nil && hypervisor.AtLeast(*v, major, minor)
}

// Show returns one VM.
func (c *CLI) Show(ctx context.Context, id string) (hypervisor.VM, error) {
	local := c.library.localID(id)
	vm, err := c.show(ctx, local)
	if vm.UUID == local && local != id {
		vm.UUID = id // an image, which others know by its template's id
	}
	return vm, err
}

// show returns what anka has under a name or an id of its own.
func (c *CLI) show(ctx context.Context, id string) (hypervisor.VM, error) {
	a, err := c.query(ctx, command.Words("show").Values(id))
	if err != nil {
		return hypervisor.VM{}, err
	}
	for _, o := range decodeObjects(a.Body) {
		if vm := toVM(o); vm.UUID != "" {
			return vm, nil
		}
	}
	return hypervisor.VM{}, &CommandError{Verb: "show", Message: "the answer has no VM in it"}
}

func toVM(o object) hypervisor.VM {
	vm := hypervisor.VM{
		UUID:    o.text("uuid"),
		Name:    o.text("name"),
		Tag:     o.text("version"),
		Status:  hypervisor.Status(strings.ToLower(o.text("status"))),
		Created: o.time("creation_date"),
		Started: o.time("start_date"),
		Ended:   o.time("stop_date"),
		CPU:     o.number("cpu_cores"),
		RAM:     o.megabytes("ram"),
		IP:      o.text("ip"),
		VNCPort: o.number("vnc_port"),
	}
	if vm.RAM == 0 {
		vm.RAM = o.megabytes("ram_size")
	}
	for _, p := range decodeObjects(o["port_forwarding"]) {
		port := hypervisor.Port{Name: p.text("name"), Guest: p.number("guest_port"), Host: p.number("host_port"), Protocol: p.text("protocol")}
		if port.Guest <= 0 || port.Host <= 0 {
			continue
		}
		if port.Protocol == "" {
			port.Protocol = "tcp"
		}
		vm.Ports = append(vm.Ports, port)
	}
	return vm
}

// Clone makes a VM of an image.
func (c *CLI) Clone(ctx context.Context, img hypervisor.Image, name string) (string, error) {
	args := command.Words("clone")
	if img.Tag != "" {
		args = args.Words("-t").Values(img.Tag)
	}
	a, err := c.change(ctx, args.Values(c.library.localID(img.ID), name))
	if err != nil {
		return "", err
	}
	for _, o := range decodeObjects(a.Body) {
		if id := o.text("uuid"); id != "" {
			return id, nil
		}
	}
	return "", &CommandError{Verb: "clone", Message: "the answer names no VM"}
}

// Start starts a VM; one that runs is started already. A disk that was enlarged
// is grown in the guest after that, since only the guest can.
func (c *CLI) Start(ctx context.Context, id string, o hypervisor.StartOptions) error {
	// The log of a VM that failed would go with the VM.
	cmd := command.Command{Args: command.Words("start").Values(id), Timeout: o.Timeout, Env: []string{"ANKA_DELETE_LOGS=0"}}
	if o.VNCPassword != "" {
		cmd.Env = append(cmd.Env, "ANKA_VNC_PASSWORD="+o.VNCPassword)
	}
	_, err := c.call(ctx, cmd)
	var refused *CommandError
	if errors.As(err, &refused) && strings.Contains(strings.ToLower(refused.Message), "already running") {
		err = nil
	}
	if err != nil {
		if last := c.lastLog(id); last != "" {
			err = fmt.Errorf("%w; last in its log: %s", err, last)
		}
		return err
	}
	if !o.GrowDisk {
		return nil
	}
	return c.growGuestDisk(ctx, id)
}

// Stop stops a VM; one that does not run is stopped already.
func (c *CLI) Stop(ctx context.Context, id string, force bool) error {
	args, timeout := command.Words("stop"), c.timeouts.Shutdown
	if force {
		args, timeout = args.Words("-f"), c.timeouts.Stop
	}
	_, err := c.call(ctx, command.Command{Args: args.Values(id), Timeout: timeout})
	return err
}

// Suspend suspends a VM.
func (c *CLI) Suspend(ctx context.Context, id string) error {
	_, err := c.call(ctx, command.Command{Args: command.Words("suspend").Values(id), Timeout: c.timeouts.Suspend})
	return err
}

// Delete deletes a VM; one that is not there is deleted already.
func (c *CLI) Delete(ctx context.Context, id string) error {
	_, err := c.change(ctx, command.Words("delete", "--yes").Values(id))
	if errors.Is(err, hypervisor.ErrNotFound) {
		return nil
	}
	return err
}

// AttachUSB hands a device to a VM.
func (c *CLI) AttachUSB(ctx context.Context, id, device string) error {
	_, err := c.change(ctx, command.Words("attach").Values(id, device))
	return err
}
