// Package tart is a hypervisor.Runtime over the `tart` command line: macOS and
// Linux VMs on Apple silicon, with images in OCI registries.
//
// # Names and ids
//
// tart knows a VM by its name alone. A VM's UUID is derived from the name, so
// that it is the same after a restart of the agent; a name that is used again has
// the same UUID again. Images are known by repository and tag. tart files them
// under the address they were pulled from, which is a loopback port that changes
// with every run of the agent, so that any loopback address counts.
//
// # A VM is a process
//
// `tart run` stays in the foreground for as long as the VM runs. It is started as
// a daemon (see package command): the VM outlives the agent, and `tart list` tells
// the next agent that it runs. Its output is kept in a file for each VM, which
// also tells when it was started, and why it ended.
//
// # The guest
//
// Scripts go in by `tart exec`, which needs the Tart Guest Agent in the image but
// neither a network nor a password; see docs/decisions/0004-tart.md.
//
// Nothing that the command prints is trusted, and one that hangs is ended after
// its timeout with its whole process group.
package tart

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/ankacluster/ankacluster/agent/command"
	"github.com/ankacluster/ankacluster/agent/hypervisor"
)

// Config says which tart is used, and how patient to be.
type Config struct {
	Path string // of the command; a bare name is looked up
	// Home is TART_HOME, where tart keeps VMs and images; "" leaves it to tart.
	Home string
	// User is whom tart and its VMs run as; "" is the agent's own user.
	User string
	// Dir is where the output of running VMs is kept; made if missing.
	Dir string
	Timeouts
}

// Timeouts of the commands. They are for hangs, not for slowness.
type Timeouts struct {
	Query  time.Duration // list, get, ip
	Change time.Duration // clone, set, delete
	Stop   time.Duration
	// Shutdown is how long a guest that was asked to shut down may take.
	Shutdown time.Duration
	// GuestWait is how long the guest agent may take to answer after the start.
	GuestWait time.Duration
	// GuestGrace is how long after the VM has an address a guest of an image that is
	// new here may take to answer, before the image is taken for one without an agent.
	GuestGrace time.Duration
	// TransferStall ends a pull or push that moved no byte, printed nothing and
	// used no CPU for so long. There is no limit to the whole of it.
	TransferStall time.Duration
}

// DefaultTimeouts returns what the agent ships with.
func DefaultTimeouts() Timeouts {
	return Timeouts{
		Query:         30 * time.Second,
		Change:        5 * time.Minute, // copies the disk where it cannot be cloned
		Stop:          time.Minute,
		Shutdown:      time.Minute,
		GuestWait:     3 * time.Minute, // it starts when the user is logged in
		GuestGrace:    30 * time.Second,
		TransferStall: 5 * time.Minute,
	}
}

// CLI is the tart command. It is safe for concurrent use.
type CLI struct {
	cfg Config
	run *command.Runner

	mu      sync.Mutex
	names   map[string]string          // guarded by mu; local VMs by UUID, as last listed
	runs    map[string]*command.Daemon // guarded by mu; what this agent started, by UUID
	guests  map[string]*guest          // guarded by mu; by UUID
	images  map[string]presence        // guarded by mu; by repository:tag
	user    *command.User              // guarded by mu; once it was found
	version string                     // guarded by mu; as last asked for
	host    host
}

var (
	_ hypervisor.Runtime = (*CLI)(nil)
	_ hypervisor.Grower  = (*CLI)(nil)
	_ hypervisor.Placed  = (*CLI)(nil)
	_ hypervisor.Needy   = (*CLI)(nil)
)

// New returns the command that cfg names.
func New(cfg Config, run *command.Runner) *CLI {
	return &CLI{cfg: cfg, run: run, names: make(map[string]string), runs: make(map[string]*command.Daemon),
		guests: make(map[string]*guest), images: make(map[string]presence), host: thisHost()}
}

// namespace makes UUIDs of VM names.
var namespace = uuid.MustParse("6f3f4f9b-6c5e-5d0c-8b0a-64f2c1a5a7d4")

// UUID returns the id of the local VM of a name.
func UUID(name string) string { return uuid.NewSHA1(namespace, []byte(name)).String() }

// env is added to the environment of every tart. The agent alone decides which
// images go when the disk is full: tart itself would remove them behind its back.
func (c *CLI) env() []string {
	env := []string{"TART_NO_AUTO_PRUNE=1"}
	if c.cfg.Home != "" {
		env = append(env, "TART_HOME="+c.cfg.Home)
	}
	return env
}

// call runs tart and returns what it printed; an exit code other than 0 is an
// error.
func (c *CLI) call(ctx context.Context, cmd command.Command) (command.Result, error) {
	res, err := c.exec(ctx, cmd)
	if err == nil && res.ExitCode != 0 {
		err = commandError(cmd.Args.Verb(), res.ExitCode, res.Stderr)
	}
	return res, err
}

// exec is call with the exit code left to the caller.
func (c *CLI) exec(ctx context.Context, cmd command.Command) (command.Result, error) {
	as, err := c.as()
	if err != nil {
		return command.Result{ExitCode: -1}, err
	}
	cmd.Path, cmd.Env, cmd.As = c.cfg.Path, append(c.env(), cmd.Env...), as
	res, err := c.run.Run(ctx, cmd)
	if err != nil {
		return res, c.notRun(cmd.Args.Verb(), err)
	}
	return res, nil
}

func (c *CLI) notRun(verb string, err error) error {
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s", hypervisor.ErrMissing, c.cfg.Path)
	}
	return fmt.Errorf("tart %s: %w", verb, err)
}

func (c *CLI) query(ctx context.Context, args command.Args) (command.Result, error) {
	return c.call(ctx, command.Command{Args: args, Timeout: c.cfg.Query})
}

func (c *CLI) change(ctx context.Context, args command.Args) error {
	_, err := c.call(ctx, command.Command{Args: args, Timeout: c.cfg.Change})
	return err
}

// Version asks for tart's version; one that cannot be used is hypervisor.ErrOutdated.
// tart has no licence key that could expire: its terms bind by the number of the
// fleet's cores, or by what the VMs are sold for, which no node can know.
func (c *CLI) Version(ctx context.Context) (hypervisor.Version, error) {
	res, err := c.query(ctx, command.Words("--version"))
	var failed *CommandError
	if errors.As(err, &failed) && (failed.ExitCode == killed || failed.ExitCode == -1) {
		err = fmt.Errorf("%w: tart was killed, as macOS does with 2.33.0; install %s or newer: %w", hypervisor.ErrOutdated, Advised, err)
	}
	if err != nil {
		return hypervisor.Version{}, err
	}
	version := command.LastLine(res.Stdout)
	if version == "" || strings.ContainsAny(version, " \t") {
		return hypervisor.Version{}, &CommandError{Verb: "--version", Message: fmt.Sprintf("%q is no version", version)}
	}
	if fitness, why := Judge(version); fitness == Unusable {
		return hypervisor.Version{}, fmt.Errorf("%w: tart %s: %s; install %s or newer", hypervisor.ErrOutdated, version, why, Advised)
	}
	c.mu.Lock()
	c.version = version
	c.mu.Unlock()
	return hypervisor.Version{Product: "tart", Version: version, License: license(version), LicenseValid: true}, nil
}

// killed is the exit code of a shell whose program was killed.
const killed = 137

// Dirs returns where images and VMs are kept, or will be; nothing where tart decides
// that.
func (c *CLI) Dirs(context.Context) ([]string, error) {
	if c.cfg.Home == "" {
		return nil, nil
	}
	if _, err := os.Stat(c.cfg.Home); errors.Is(err, fs.ErrNotExist) {
		return []string{filepath.Dir(c.cfg.Home)}, nil
	}
	return []string{c.cfg.Home}, nil
}

// Check names what tart cannot do of what a start asks for.
func (c *CLI) Check(o hypervisor.Options, s hypervisor.StartOptions, usbDevice string) error {
	var cannot []string
	add := func(asked bool, what string) {
		if asked {
			cannot = append(cannot, what)
		}
	}
	add(o.NetworkMode != "" && o.NetworkMode != "shared", "network_mode "+o.NetworkMode+" (only shared)")
	add(o.VLAN != "", "vlan_tag")
	add(o.MAC != "", "mac_address")
	add(o.NetworkLocal != "", "network_local")
	add(o.ReplacePorts || len(o.Ports) > 0, "port_forwarding_override (VMs are reached at their own address)")
	add(usbDevice != "", "usb_device")
	add(s.VNCPassword != "", "vnc_password")
	for _, intel := range []struct{ name, value string }{
		{"video_controller", o.VideoController}, {"hvapic", o.HVAPIC}, {"csr_active_config", o.CSRActiveConfig},
		{"hw_serial", o.HWSerial}, {"hw_uuid", o.HWUUID},
	} {
		add(intel.value != "", intel.name)
	}
	if _, err := gigabytes(o.DiskSize); err != nil {
		cannot = append(cannot, "disk size: "+err.Error())
	}
	if len(cannot) == 0 {
		return nil
	}
	return unsupported(strings.Join(cannot, ", "))
}

func unsupported(what string) error {
	return fmt.Errorf("%w: tart has no %s", hypervisor.ErrUnsupported, what)
}

// Suspend is refused: tart can suspend a VM, but its images hold no memory, and
// the disk alone would be that of a Mac whose power was cut.
func (c *CLI) Suspend(context.Context, string) error {
	return unsupported("images with the guest's memory")
}

// AttachUSB is refused.
func (c *CLI) AttachUSB(context.Context, string, string) error { return unsupported("usb_device") }
