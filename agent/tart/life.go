package tart

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/ankacluster/ankacluster/agent/command"
	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/internal/backoff"
)

const (
	// startedLine begins the file of a run's output.
	startedLine = "started "
	// stopGrace and forceGrace are how many seconds tart gives a VM before it
	// kills its process.
	stopGrace, forceGrace = "30", "5"
	// maxOutput is how much is read of the end of a run's output: a VM may print
	// for months, and says last why it ended.
	maxOutput = 64 << 10
)

// Clone makes a VM of an image. tart would replace a VM of that name without a
// word, so that it is looked for first.
func (c *CLI) Clone(ctx context.Context, img hypervisor.Image, name string) (string, error) {
	vms, err := c.List(ctx)
	if err != nil {
		return "", err
	}
	source := ""
	for _, vm := range vms {
		switch {
		case vm.UUID != "" && vm.Name == name:
			return "", fmt.Errorf("clone %s: %w", name, hypervisor.ErrNameTaken)
		case img.Has(vm) && (img.Tag == "" || vm.Tag == img.Tag):
			source = vm.Name
		}
	}
	if source == "" {
		return "", fmt.Errorf("image %s:%s: %w", img.Repository, img.Tag, hypervisor.ErrNotFound)
	}
	if err := c.change(ctx, command.Words("clone").Values(source, name)); err != nil {
		return "", err
	}
	id := UUID(name)
	c.mu.Lock()
	c.names[id] = name
	c.guests[id] = &guest{image: img.Repository + ":" + img.Tag}
	c.mu.Unlock()
	return id, nil
}

// Configure sets what is asked for, and in any case a hardware address of the VM's
// own. A clone has that of its image, for which the host's DHCP server may still
// have a lease: the address that it tells would be an earlier VM's.
func (c *CLI) Configure(ctx context.Context, id string, o hypervisor.Options) error {
	if err := c.Check(o, hypervisor.StartOptions{}, ""); err != nil {
		return err
	}
	name, err := c.name(ctx, id)
	if err != nil {
		return err
	}
	args := command.Words("set").Values(name).Words("--random-mac")
	if o.CPU > 0 {
		args = args.Words("--cpu").Values(strconv.Itoa(o.CPU))
	}
	if o.RAM > 0 {
		args = args.Words("--memory").Values(strconv.Itoa(o.RAM))
	}
	gb, err := gigabytes(o.DiskSize)
	if err != nil {
		return err
	}
	if gb > 0 {
		args = args.Words("--disk-size").Values(strconv.Itoa(gb))
	}
	c.mu.Lock()
	c.guestOfLocked(id).disk = gb
	c.mu.Unlock()
	return c.change(ctx, args)
}

// gigabytes reads a size such as 100G or 1T; "" is 0. tart counts in whole GB,
// up to 65535 of them.
func gigabytes(size string) (int, error) {
	if size == "" {
		return 0, nil
	}
	factor, ok := map[byte]float64{'T': 1000, 'G': 1, 'M': 1e-3, 'K': 1e-6}[strings.ToUpper(size)[len(size)-1]]
	n, err := strconv.ParseUint(size[:len(size)-1], 10, 32)
	if !ok || err != nil || n == 0 {
		return 0, fmt.Errorf("%q must be like 100G", size)
	}
	gb := int(float64(n)*factor + 0.999)
	if gb > 65535 {
		return 0, fmt.Errorf("%s is more than tart can make", size)
	}
	return max(gb, 1), nil
}

// Start starts a VM, and returns when tart lists it as running. The guest boots
// from then on.
func (c *CLI) Start(ctx context.Context, id string, o hypervisor.StartOptions) error {
	if err := c.Check(hypervisor.Options{}, o, ""); err != nil {
		return err
	}
	name, err := c.name(ctx, id)
	if err != nil {
		return err
	}
	e, err := c.get(ctx, name)
	if err != nil || e.status() == hypervisor.Running {
		return err
	}
	c.endRun(id) // one that hangs before it took the VM
	d, err := c.spawn(ctx, id, name)
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.runs[id] = d
	g := c.guestOfLocked(id)
	g.addressed, g.reachable = time.Time{}, false
	c.mu.Unlock()
	if o.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, o.Timeout, fmt.Errorf("tart run: %w after %s", command.ErrTimeout, o.Timeout))
		defer cancel()
	}
	err = c.await(ctx, func() (bool, error) {
		if _, ended := d.Ended(); ended {
			if err := c.failure(ctx, id); err != nil {
				return false, err
			}
			return false, &CommandError{Verb: "run", Message: "it ended at once"}
		}
		e, err := c.get(ctx, name)
		if errors.Is(err, hypervisor.ErrNotFound) {
			return false, err
		}
		return err == nil && e.status() == hypervisor.Running, nil
	})
	if err != nil {
		d.Kill()
		return err
	}
	d.Keep()
	return nil
}

// spawn starts `tart run` as a daemon that writes to a new file.
func (c *CLI) spawn(ctx context.Context, id, name string) (*command.Daemon, error) {
	if err := os.MkdirAll(c.cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	path := c.outputPath(id)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close() // the daemon has its own copy
	if _, err := fmt.Fprintf(out, "%s%s\n", startedLine, time.Now().UTC().Format(time.RFC3339Nano)); err != nil {
		return nil, err
	}
	as, err := c.as()
	if err != nil {
		return nil, err
	}
	d, err := c.run.Spawn(ctx, command.Command{Path: c.cfg.Path, Args: command.Words("run", "--no-graphics").Values(name), Env: c.env(), As: as}, out)
	if err != nil {
		return nil, c.notRun("run", err)
	}
	return d, nil
}

// lookPace is that of looks at a VM that is about to start or stop.
var lookPace = backoff.Pace{Min: 50 * time.Millisecond, Max: time.Second}

// await asks done, at a pace that slows down, until it is true or fails.
func (c *CLI) await(ctx context.Context, done func() (bool, error)) error {
	for looks := 0; ; looks++ {
		if ok, err := done(); ok || err != nil {
			return err
		}
		if !backoff.Sleep(ctx, lookPace.Limit(looks)) {
			return context.Cause(ctx)
		}
	}
}

// Stop stops a VM; one that does not run is stopped already. Without force the
// guest is asked to shut down first: tart itself only cuts its power.
func (c *CLI) Stop(ctx context.Context, id string, force bool) error {
	name, err := c.name(ctx, id)
	if err != nil {
		return err
	}
	grace := forceGrace
	if !force {
		grace = stopGrace
		if err := c.shutDown(ctx, name); err != nil {
			return err
		}
	}
	_, err = c.call(ctx, command.Command{Args: command.Words("stop", "--timeout").Values(grace, name), Timeout: c.cfg.Stop})
	if err != nil && !errors.Is(err, errNotRunning) {
		return err
	}
	// tart does not wait for a process that it has killed.
	return c.awaitStopped(ctx, name, c.cfg.Stop)
}

func (c *CLI) awaitStopped(ctx context.Context, name string, limit time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("VM %s still runs: %w after %s", name, command.ErrTimeout, limit))
	defer cancel()
	return c.await(ctx, func() (bool, error) {
		e, err := c.get(ctx, name)
		if errors.Is(err, hypervisor.ErrNotFound) {
			return true, nil
		}
		return err == nil && e.status() != hypervisor.Running, nil
	})
}

// Delete deletes a VM; one that is not there is deleted already.
func (c *CLI) Delete(ctx context.Context, id string) error {
	name, err := c.name(ctx, id)
	if err == nil {
		err = c.change(ctx, command.Words("delete").Values(name))
	}
	if err != nil && !errors.Is(err, hypervisor.ErrNotFound) {
		return err
	}
	c.endRun(id)
	c.mu.Lock()
	delete(c.guests, id)
	c.mu.Unlock()
	if err := os.Remove(c.outputPath(id)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// endRun ends what this agent started for a VM, if it is still there.
func (c *CLI) endRun(id string) {
	c.mu.Lock()
	d := c.runs[id]
	delete(c.runs, id)
	c.mu.Unlock()
	if d != nil {
		d.Kill()
	}
}

func (c *CLI) outputPath(id string) string { return filepath.Join(c.cfg.Dir, filepath.Base(id)+".log") }

// lastRun tells of the VM's last run when it began, zero when it was started by
// hand, and what it printed.
func (c *CLI) lastRun(id string) (began time.Time, output []byte) {
	f, err := os.Open(c.outputPath(id))
	if err != nil {
		return time.Time{}, nil
	}
	defer f.Close()
	first, _ := io.ReadAll(io.LimitReader(f, int64(len(startedLine+time.RFC3339Nano)+1))) // a part of it is no time
	line, _, _ := bytes.Cut(first, []byte("\n"))
	began, _ = time.Parse(time.RFC3339Nano, strings.TrimPrefix(string(line), startedLine)) // zero when it is no time
	rest := int64(len(line)) + 1
	info, err := f.Stat()
	if err != nil {
		return began, nil
	}
	rest = max(rest, info.Size()-maxOutput)
	output, _ = io.ReadAll(io.NewSectionReader(f, rest, maxOutput)) // a part of it is better than nothing
	return began, output
}
