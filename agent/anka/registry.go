package anka

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/ankacluster/ankacluster/agent/command"
	"github.com/ankacluster/ankacluster/agent/hypervisor"
)

// registryArgs are the global options of `anka registry`: the OCI distribution
// API at a URL. Credentials never stand here; the loopback proxy adds them.
func registryArgs(s hypervisor.Source) []string {
	args := []string{"registry", "-o2", "-r", s.URL}
	if s.Prefix != "" {
		args = append(args, "-p", s.Prefix)
	}
	return args
}

// Pull pulls an image by name.
func (c *CLI) Pull(ctx context.Context, img hypervisor.Image, from hypervisor.Source) error {
	args := append(registryArgs(from), "pull", img.Name)
	if img.Tag != "" {
		args = append(args, "-t", img.Tag)
	}
	_, err := c.call(ctx, command.Command{Args: args, Stall: c.timeouts.TransferStall, Progress: from.Moved})
	return registryError(err)
}

var _ hypervisor.Sizer = (*CLI)(nil)

// DownloadSize asks what a pull would fetch. anka answers with a bare number.
func (c *CLI) DownloadSize(ctx context.Context, img hypervisor.Image, from hypervisor.Source) (uint64, error) {
	args := append(registryArgs(from), "pull", "--check-download-size", img.Name)
	if img.Tag != "" {
		args = append(args, "-t", img.Tag)
	}
	res, err := c.run.Run(ctx, command.Command{Path: c.path, Args: args, Timeout: c.timeouts.Query})
	if err != nil {
		return 0, fmt.Errorf("anka pull --check-download-size: %w", err)
	}
	if res.ExitCode == 0 {
		if n, err := strconv.ParseUint(command.LastLine(res.Stdout), 10, 64); err == nil {
			return n, nil
		}
	}
	a, answered := parseAnswer(res.Stdout)
	return 0, commandError("pull --check-download-size", a, answered, res)
}

// Push pushes a VM as a new tag.
func (c *CLI) Push(ctx context.Context, id string, to hypervisor.Source, o hypervisor.PushOptions) error {
	args := append(registryArgs(to), "push", id, "-t", o.Tag)
	if o.Template != "" {
		args = append(args, "-v", o.Template)
	}
	if o.Description != "" {
		args = append(args, "-d", o.Description)
	}
	if o.Force {
		args = append(args, "-f")
	}
	_, err := c.call(ctx, command.Command{Args: args, Stall: c.timeouts.TransferStall, Progress: to.Moved})
	return err
}

// RemoveImage removes an image from the node; one that is not there is removed.
func (c *CLI) RemoveImage(ctx context.Context, img hypervisor.Image) error {
	args := []string{"delete", "--yes"}
	if img.Tag != "" {
		args = append(args, "-t", img.Tag)
	}
	_, err := c.change(ctx, append(args, img.ID)...)
	if errors.Is(err, hypervisor.ErrNotFound) {
		return nil
	}
	return err
}
