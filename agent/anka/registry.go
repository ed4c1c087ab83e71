package anka

import (
	"context"
	"fmt"
	"path"

	"github.com/ankacluster/ankacluster/agent/command"
	"github.com/ankacluster/ankacluster/agent/hypervisor"
)

// registryArgs are the global options of `anka registry`: the OCI distribution
// API at a URL. Credentials never stand here: those of the loopback proxy are in the
// environment, and it adds the node's.
func registryArgs(s hypervisor.Source) command.Args {
	args := command.Words("registry", "-o2", "-r").Values(s.URL)
	if s.Prefix != "" {
		args = args.Words("-p").Values(s.Prefix)
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

// registryEnv gives a command its right to the registry.
func registryEnv(s hypervisor.Source) []string {
	if s.User == "" {
		return nil
	}
	return []string{"ANKA_REGISTRY_USER=" + s.User}
}

// remoteName is the last part of the image's repository: a pushed configuration may
// call itself as another repository is called.
func remoteName(img hypervisor.Image) string {
	if img.Repository != "" {
		return path.Base(img.Repository)
	}
	return img.Name
}

// Pull pulls an image from its repository, and finds out what id it has here.
func (c *CLI) Pull(ctx context.Context, img hypervisor.Image, from hypervisor.Source) error {
	if err := c.checkOCI(); err != nil {
		return err
	}
	defer c.library.beginPull(img.ID)()
	args := registryArgs(from).Words("pull").Values(remoteName(img))
	if img.Tag != "" {
		args = args.Words("-t").Values(img.Tag)
	}
	a, err := c.call(ctx, command.Command{Args: args, Env: registryEnv(from), Stall: c.timeouts.TransferStall, Progress: from.Moved})
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
	name := remoteName(img)
	if from.Prefix != "" {
		name = from.Prefix + "/" + name
	}
	args := command.Words("pull", "-o2").Values(name, from.URL).Words("--check-download-size")
	if img.Tag != "" {
		args = args.Words("-t").Values(img.Tag)
	}
	a, err := c.call(ctx, command.Command{Args: args, Env: registryEnv(from), Timeout: c.timeouts.Query})
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
	args := registryArgs(to).Words("push").Values(id).Words("-t").Values(o.Tag)
	if o.Template != "" {
		args = args.Words("-v").Values(o.Template)
	}
	if o.Description != "" {
		args = args.Text("-d", o.Description)
	}
	if o.Force {
		args = args.Words("-f")
	}
	_, err := c.call(ctx, command.Command{Args: args, Env: registryEnv(to), Stall: c.timeouts.TransferStall, Progress: to.Moved})
	return err
}
