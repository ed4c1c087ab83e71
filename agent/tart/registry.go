package tart

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ankacluster/ankacluster/agent/command"
	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/internal/wire"
)

// nameable is what tart accepts after the host: less than a registry does, for
// one no tag that ends in a dash.
var nameable = regexp.MustCompile(`^[A-Za-z0-9]+([._-]?[A-Za-z0-9]+)*[._-]?(/[A-Za-z0-9]+([._-]?[A-Za-z0-9]+)*[._-]?)*:[A-Za-z0-9]+([._-][A-Za-z0-9]+)*$`)

// remote returns the name of an image at a registry, and the arguments that say it.
func remote(s hypervisor.Source, repository, tag string) (name string, args command.Args, err error) {
	u, err := url.Parse(s.URL)
	if err != nil || u.Host == "" {
		return "", args, fmt.Errorf("registry %q: not a URL", s.URL)
	}
	name = repository + ":" + tag
	if !nameable.MatchString(name) {
		return "", args, unsupported(fmt.Sprintf("way to name the image %q", name))
	}
	if u.Scheme == "http" {
		args = args.Words("--insecure")
	}
	name = u.Host + "/" + name
	return name, args.Values(name), nil
}

// registryEnv gives a command its right to the registry.
func registryEnv(s hypervisor.Source) []string {
	user, password, ok := strings.Cut(s.User, ":")
	if !ok {
		return nil
	}
	return []string{"TART_REGISTRY_USERNAME=" + user, "TART_REGISTRY_PASSWORD=" + password}
}

// Pull pulls an image. tart shows it only when it is whole.
func (c *CLI) Pull(ctx context.Context, img hypervisor.Image, from hypervisor.Source) error {
	if img.Tag == "" {
		img.Tag = "latest"
	}
	pulled, args, err := remote(from, img.Repository, img.Tag)
	if err != nil {
		return err
	}
	_, err = c.call(ctx, command.Command{Args: command.Words("pull").Join(args), Env: registryEnv(from), Stall: c.cfg.TransferStall, Progress: from.Moved})
	if err != nil {
		return err
	}
	// What an earlier agent pulled through another port may be another image.
	return c.removeImages(ctx, func(vm hypervisor.VM) bool {
		return img.Has(vm) && vm.Tag == img.Tag && vm.Name != pulled
	})
}

// RemoveImage removes an image from the node; one that is not there is removed.
func (c *CLI) RemoveImage(ctx context.Context, img hypervisor.Image) error {
	return c.removeImages(ctx, func(vm hypervisor.VM) bool {
		return img.Has(vm) && (img.Tag == "" || vm.Tag == img.Tag)
	})
}

func (c *CLI) removeImages(ctx context.Context, match func(hypervisor.VM) bool) error {
	vms, err := c.List(ctx)
	if err != nil {
		return err
	}
	for _, vm := range vms {
		if vm.Repository == "" || !match(vm) {
			continue
		}
		if err := c.change(ctx, command.Words("delete").Values(vm.Name)); err != nil && !errors.Is(err, hypervisor.ErrNotFound) {
			return err
		}
	}
	return nil
}

// Push pushes a stopped VM as a new tag. Without Force a tag that is there is an
// error; tart itself would replace it.
func (c *CLI) Push(ctx context.Context, id string, to hypervisor.Source, o hypervisor.PushOptions) error {
	name, err := c.name(ctx, id)
	if err != nil {
		return err
	}
	repository := o.Template
	if repository == "" {
		repository = name
	}
	repository = strings.Trim(path.Join(to.Prefix, strings.ToLower(repository)), "/")
	_, args, err := remote(to, repository, o.Tag)
	if err != nil {
		return err
	}
	if !o.Force {
		if err := c.checkFree(ctx, to, repository, o.Tag); err != nil {
			return err
		}
	}
	if o.Description != "" {
		args = args.Text("--label", ocispec.AnnotationDescription+"="+o.Description)
	}
	_, err = c.call(ctx, command.Command{Args: command.Words("push").Values(name).Join(args), Env: registryEnv(to), Stall: c.cfg.TransferStall, Progress: to.Moved})
	return err
}

// checkFree asks the registry whether the tag is free.
func (c *CLI) checkFree(ctx context.Context, at hypervisor.Source, repository, tag string) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Query)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, strings.TrimRight(at.URL, "/")+oci.ManifestPath(repository, tag), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", ocispec.MediaTypeImageManifest)
	if user, password, ok := strings.Cut(at.User, ":"); ok {
		req.SetBasicAuth(user, password)
	}
	resp, err := (&http.Client{CheckRedirect: wire.NoRedirect}).Do(req)
	if err != nil {
		return fmt.Errorf("is tag %s of %s free: %w", tag, repository, err)
	}
	resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusNotFound:
		return nil
	case http.StatusOK:
		return fmt.Errorf("the registry has a tag %s of %s", tag, repository)
	}
	return fmt.Errorf("is tag %s of %s free: the registry answers %s", tag, repository, resp.Status)
}
