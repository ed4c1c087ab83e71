package anka

import (
	"context"
	"fmt"

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

// checkOCI returns an error that wraps ErrOutdated for versions that cannot speak
// the OCI distribution API; they would refuse the options with no word of why.
func (c *CLI) checkOCI() error {
	if v := c.version.Load(); v != nil && *v != "" && !c.atLeast(OCIMajor, OCIMinor) {
		return fmt.Errorf("anka %s cannot pull from or push to this cloud's registries, which needs %d.%d: %w", *v, OCIMajor, OCIMinor, hypervisor.ErrOutdated)
	}
	return nil
}

// OCIMajor and OCIMinor are the first version of anka that speaks OCI.
const OCIMajor, OCIMinor = 3, 9

// Pull pulls an image by name, and finds out what id it has here.
func (c *CLI) Pull(ctx context.Context, img hypervisor.Image, from hypervisor.Source) error {
	if err := c.checkOCI(); err != nil {
		return err
	}
	defer c.library.beginPull(img.ID)()
	args := append(registryArgs(from), "pull", img.Name)
	if img.Tag != "" {
		args = append(args, "-t", img.Tag)
	}
	a, err := c.call(ctx, command.Command{Args: args, Stall: c.timeouts.TransferStall, Progress: from.Moved})
	if err != nil {
		return registryError(err)
	}
	return c.pulled(ctx, img, a)
}

var _ hypervisor.Sizer = (*CLI)(nil)

// DownloadSize asks what a pull would fetch. An empty answer is that of an image
// that is here.
func (c *CLI) DownloadSize(ctx context.Context, img hypervisor.Image, from hypervisor.Source) (uint64, error) {
	if err := c.checkOCI(); err != nil {
		return 0, err
	}
	name := img.Name
	if from.Prefix != "" {
		name = from.Prefix + "/" + name
	}
	args := []string{"pull", "-o2", name, from.URL, "--check-download-size"}
	if img.Tag != "" {
		args = append(args, "-t", img.Tag)
	}
	a, err := c.query(ctx, args...)
	if err != nil {
		return 0, registryError(err)
	}
	for _, o := range decodeObjects(a.Body) {
		if len(o) == 0 {
			return 0, nil
		}
		if size, ok := o.bytes("size"); ok {
			cached, _ := o.bytes("cached")
			return size - min(cached, size), nil
		}
	}
	return 0, &CommandError{Verb: "pull --check-download-size", Message: "the answer has no size in it", Answered: true}
}

// Push pushes a VM as a new tag.
func (c *CLI) Push(ctx context.Context, id string, to hypervisor.Source, o hypervisor.PushOptions) error {
	if err := c.checkOCI(); err != nil {
		return err
	}
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
