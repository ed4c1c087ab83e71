package tart

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/ankacluster/ankacluster/agent/command"
)

// guest is what is known of the guest of a VM that was started.
type guest struct {
	image string // that it was cloned from; "" if an earlier agent did that
	disk  int    // GB that were asked for, 0 for what the image has
	// addressed is when an address was seen first, zero before.
	addressed time.Time
	// reachable: its address may be told.
	reachable bool
}

// presence is whether the guests of an image answer commands.
type presence int

const (
	unknown presence = iota
	answers
	silent
)

// guestOfLocked returns what is known of a VM's guest. The caller holds mu.
func (c *CLI) guestOfLocked(id string) *guest {
	g := c.guests[id]
	if g == nil {
		g = &guest{}
		c.guests[id] = g
	}
	return g
}

// reachable reports whether a VM's address may be told. tart tells that of a lease
// for the VM's hardware address, which may be from before the guest has booted. So
// the guest is asked too, where an agent in it can answer; whether there is one
// shows with the first VM of an image. began is when the VM was started.
func (c *CLI) reachable(ctx context.Context, id, name string, began time.Time) bool {
	c.mu.Lock()
	g := c.guestOfLocked(id)
	if g.addressed.IsZero() {
		g.addressed = time.Now()
	}
	addressed, known := g.addressed, c.images[g.image]
	g.reachable = g.reachable || known == silent || began.IsZero() || time.Since(began) > c.cfg.GuestWait
	done := g.reachable
	c.mu.Unlock()
	if done {
		return true
	}
	res, err := c.exec(ctx, command.Command{Args: command.Words("exec").Values(name).Words("true"), Timeout: min(pingTimeout, c.cfg.Query)})
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil && res.ExitCode == 0:
		c.learnLocked(g.image, answers)
		g.reachable = true
	case ctx.Err() == nil && known != answers && time.Since(addressed) >= c.cfg.GuestGrace:
		c.learnLocked(g.image, silent)
		g.reachable = true
	}
	return g.reachable
}

func (c *CLI) learnLocked(image string, p presence) {
	if image != "" {
		c.images[image] = p
	}
}

// notGrown is how much less than the disk a guest's file system may have: macOS
// keeps some of it, for one for the recovery system.
func notGrown(disk int) int64 { return int64(disk)*9e8 - 8e9 }

// Grown reports an error if the guest's file system is not as large as the disk
// that was asked for. tart enlarges the disk; that the guest uses it is the work of
// the agent in the guest, if that was told to and no recovery system is in the way.
func (c *CLI) Grown(ctx context.Context, id string) error {
	name, err := c.name(ctx, id)
	if err != nil {
		return err
	}
	c.mu.Lock()
	disk := c.guestOfLocked(id).disk
	c.mu.Unlock()
	if disk == 0 {
		return nil
	}
	res, err := c.exec(ctx, command.Command{Args: command.Words("exec").Values(name).Words("sh", "-c", "diskutil info / 2>/dev/null || df -kP /"), Timeout: c.cfg.Query})
	if err == nil && res.ExitCode != 0 {
		err = commandError("exec", res.ExitCode, res.Stderr)
	}
	if err != nil {
		return fmt.Errorf("whether the guest uses its %d GB is not known: %w", disk, err)
	}
	size, ok := fileSystemSize(string(res.Stdout))
	if !ok {
		return fmt.Errorf("whether the guest uses its %d GB is not known: it says %q", disk, command.LastLine(res.Stdout))
	}
	if size < notGrown(disk) {
		return fmt.Errorf("the guest's file system has %d GB of the disk's %d: its guest agent was not told to grow it (--resize-disk), "+
			"or a recovery partition follows it", size/1e9, disk)
	}
	return nil
}

var containerSize = regexp.MustCompile(`(?m)^\s*(?:Container Total Space|Volume Total Space|Disk Size):.*\(([0-9]+) Bytes\)`)

// fileSystemSize reads what diskutil or df printed.
func fileSystemSize(out string) (int64, bool) {
	if m := containerSize.FindStringSubmatch(out); m != nil {
		n, err := strconv.ParseInt(m[1], 10, 64)
		return n, err == nil
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	fields := strings.Fields(lines[len(lines)-1])
	if len(lines) < 2 || len(fields) < 6 {
		return 0, false
	}
	n, err := strconv.ParseInt(fields[1], 10, 54) // KB, that become bytes
	return n * 1024, err == nil
}

// shutDown asks the guest to write out what it has and shut down. A guest that
// cannot be asked, or takes too long, is no error.
func (c *CLI) shutDown(ctx context.Context, name string) error {
	ask := func(script command.Args) (command.Result, error) {
		return c.exec(ctx, command.Command{Args: command.Words("exec").Values(name).Words("sh", "-c").Join(script), Timeout: c.cfg.Query})
	}
	res, err := ask(command.Words("sync; sudo -n true"))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil || res.ExitCode != 0 {
		return nil
	}
	// The shutdown ends the guest agent too, and with it the answer: whatever comes
	// back, it has begun, unless the guest was not reached at all.
	res, err = ask(command.Words("(sleep 1; sudo -n shutdown -h now) >/dev/null 2>&1 &"))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err == nil && res.ExitCode != 0 && errors.Is(commandError("exec", res.ExitCode, res.Stderr), errNoGuest) {
		return nil
	}
	if err := c.awaitStopped(ctx, name, c.cfg.Shutdown); ctx.Err() != nil {
		return err
	}
	return nil
}
