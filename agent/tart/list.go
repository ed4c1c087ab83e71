package tart

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/ankacluster/ankacluster/agent/command"
	"github.com/ankacluster/ankacluster/agent/hypervisor"
)

// entry is what list and get tell of a VM.
type entry struct {
	Source  string // local, OCI
	Name    string
	Running bool
	State   string // running, suspended, stopped; "" from an old tart
	CPU     int
	Memory  int // MB
}

func (e entry) status() hypervisor.Status {
	switch {
	case e.State != "":
		return hypervisor.Status(strings.ToLower(e.State))
	case e.Running:
		return hypervisor.Running
	}
	return hypervisor.Stopped
}

// parse reads the JSON of a list or get into v, whatever warnings stand before
// it. Half a list is an error: a VM that is missing from it would be taken for
// gone.
func parse(verb string, res command.Result, v any) error {
	out := res.Stdout
	for len(out) > 0 {
		if line := bytes.TrimLeft(out, " \t\r"); len(line) > 0 && (line[0] == '[' || line[0] == '{') {
			if err := json.NewDecoder(bytes.NewReader(line)).Decode(v); err == nil {
				return nil
			}
		}
		_, out, _ = bytes.Cut(out, []byte("\n"))
	}
	return &CommandError{Verb: verb, ExitCode: res.ExitCode, Message: fmt.Sprintf("it printed no answer: %.100q", command.LastLine(res.Stdout))}
}

// List returns the local VMs, and the images that came through a loopback
// address.
func (c *CLI) List(ctx context.Context) ([]hypervisor.VM, error) {
	entries, err := c.entries(ctx)
	var failed *CommandError
	if errors.As(err, &failed) {
		// tart fails as a whole when a VM goes while it is listing.
		t := time.NewTimer(listAgain)
		defer t.Stop()
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-t.C:
		}
		entries, err = c.entries(ctx)
	}
	if err != nil {
		return nil, err
	}
	var vms []hypervisor.VM
	names := make(map[string]string)
	for _, e := range entries {
		switch {
		case e.Name == "":
			return nil, &CommandError{Verb: "list", Message: "an entry has no name"}
		case strings.EqualFold(e.Source, "oci"):
			if repository, tag, ok := loopbackImage(e.Name); ok {
				vms = append(vms, hypervisor.VM{Name: e.Name, Repository: repository, Tag: tag, Status: e.status()})
			}
		default:
			id := UUID(e.Name)
			names[id] = e.Name
			vms = append(vms, hypervisor.VM{UUID: id, Name: e.Name, Status: e.status()})
		}
	}
	c.mu.Lock()
	c.names = names
	for id, g := range c.guests {
		if g.image == "" && names[id] == "" {
			delete(c.guests, id)
		}
	}
	for _, d := range c.runs {
		d.Ended() // gives back the process ids of those that have
	}
	c.mu.Unlock()
	return vms, nil
}

// listAgain is how long after a list that failed it is asked for once more.
const listAgain = 200 * time.Millisecond

func (c *CLI) entries(ctx context.Context) ([]entry, error) {
	res, err := c.query(ctx, command.Words("list", "--format", "json"))
	if err != nil {
		return nil, err
	}
	var entries []entry
	return entries, parse("list", res, &entries)
}

// loopbackImage takes host/repository:tag apart. An image by digest stands
// behind each tag, and one that was pulled from elsewhere is not ours.
func loopbackImage(name string) (repository, tag string, ok bool) {
	host, rest, ok := strings.Cut(name, "/")
	if !ok || !loopback(host) {
		return "", "", false
	}
	i := strings.LastIndexByte(rest, ':')
	if i < 0 || strings.ContainsAny(rest, "@") || strings.Contains(rest[i:], "/") {
		return "", "", false
	}
	return rest[:i], rest[i+1:], true
}

func loopback(hostport string) bool {
	a, err := netip.ParseAddrPort(hostport)
	return err == nil && a.Addr().IsLoopback()
}

// name returns the name of a local VM. Only a list can tell it.
func (c *CLI) name(ctx context.Context, id string) (string, error) {
	known := func() string {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.names[id]
	}
	if n := known(); n != "" {
		return n, nil
	}
	if _, err := c.List(ctx); err != nil {
		return "", err
	}
	if n := known(); n != "" {
		return n, nil
	}
	return "", fmt.Errorf("VM %s: %w", id, hypervisor.ErrNotFound)
}

// get asks for one VM.
func (c *CLI) get(ctx context.Context, name string) (entry, error) {
	var e entry
	res, err := c.query(ctx, command.Words("get").Values(name).Words("--format", "json"))
	if err == nil {
		err = parse("get", res, &e)
	}
	return e, err
}

// Show returns one VM.
func (c *CLI) Show(ctx context.Context, id string) (hypervisor.VM, error) {
	name, err := c.name(ctx, id)
	if err != nil {
		return hypervisor.VM{}, err
	}
	e, err := c.get(ctx, name)
	if err != nil {
		return hypervisor.VM{}, err
	}
	vm := hypervisor.VM{UUID: id, Name: name, Status: e.status(), CPU: e.CPU, RAM: e.Memory}
	if vm.Status != hypervisor.Running {
		vm.Failure = c.failure(ctx, id)
		return vm, nil
	}
	vm.Started, _ = c.lastRun(id)
	ip, err := c.ip(ctx, name)
	if ip != "" && c.reachable(ctx, id, name, vm.Started) {
		vm.IP = ip
	}
	return vm, err
}

// ip returns the address that the host's DHCP server gave to the VM, "" while
// there is none. That it could not be asked is an error: it would take back an
// address that was told.
func (c *CLI) ip(ctx context.Context, name string) (string, error) {
	res, err := c.exec(ctx, command.Command{Args: command.Words("ip").Values(name), Timeout: c.cfg.Query})
	if err != nil {
		return "", err
	}
	if res.ExitCode != 0 {
		if err := commandError("ip", res.ExitCode, res.Stderr); !errors.Is(err, errNoAddress) {
			return "", err
		}
		return "", nil
	}
	a, err := netip.ParseAddr(command.LastLine(res.Stdout))
	if err != nil {
		return "", &CommandError{Verb: "ip", Message: fmt.Sprintf("it printed no address: %.100q", command.LastLine(res.Stdout))}
	}
	return a.String(), nil
}

// failure tells why a VM that this agent started ended badly.
func (c *CLI) failure(ctx context.Context, id string) error {
	c.mu.Lock()
	d := c.runs[id]
	c.mu.Unlock()
	if d == nil {
		return nil
	}
	code, ended := d.Ended()
	if !ended || code == 0 {
		return nil
	}
	_, output := c.lastRun(id)
	return c.blameKeychain(ctx, commandError("run", code, output))
}
