package controllerapi

import (
	"fmt"
	"net"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ankacluster/ankacluster/internal/oci"
)

// What becomes an argument of a node's hypervisor, or a part of a path, is checked
// where it comes in, at controllers and nodes alike: neither trusts the other, nor a
// registry.

var idGrammar = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$`)

// maxName is the longest name of a template, in bytes: that of its repository.
const maxName = 250

// Check returns an error unless id can be that of a template.
func (id TemplateID) Check() error {
	if !idGrammar.MatchString(string(id)) {
		return fmt.Errorf("id %.100q: it has letters, digits and . _ : - and begins with a letter or digit", string(id))
	}
	return nil
}

// checkName returns an error unless s is something that people name: it begins with a
// letter, a digit or _, and has neither control characters nor a slash.
func checkName(s string) error {
	first, _ := utf8.DecodeRuneInString(s)
	switch {
	case len(s) > maxName:
		return fmt.Errorf("%.100q...: it is longer than %d bytes", s, maxName)
	case !utf8.ValidString(s) || !unicode.IsLetter(first) && !unicode.IsDigit(first) && first != '_':
		return fmt.Errorf("%.100q: it must begin with a letter, a digit or _", s)
	case strings.ContainsRune(s, '/') || strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) }):
		return fmt.Errorf("%.100q: it must have no slash and no control characters", s)
	}
	return nil
}

// check collects the first value that is not what it should be.
type check struct{ err error }

func (c *check) add(field string, err error) {
	if err != nil && c.err == nil {
		c.err = fmt.Errorf("%s %w", field, err)
	}
}

func (c *check) name(field, value string) {
	if value != "" {
		c.add(field, checkName(value))
	}
}

func (c *check) tag(field, value string) {
	if value != "" {
		c.add(field, oci.CheckTag(value))
	}
}

func (c *check) repository(field, value string) {
	if value != "" {
		c.add(field, oci.CheckRepository(value))
	}
}

// Check returns an error that names the first part of the reference that is not of
// its form. Parts that are absent are of theirs. The name is what a pushed
// configuration says, and counts only where no repository says more.
func (t TemplateRef) Check() error {
	var c check
	if t.ID != "" {
		c.add("template", t.ID.Check())
	}
	if t.Repository == "" {
		c.name("template name", t.Name)
	}
	c.tag("template", t.Tag)
	c.repository("template", t.Repository)
	return c.err
}

// CheckValues returns an error that names the first field of the request whose value
// is not one that a hypervisor's command may be given.
func (r *StartRequest) CheckValues() error {
	var c check
	for _, v := range []struct{ field, value string }{
		{"usb_device", r.USBDevice}, {"vlan_tag", r.VLANTag}, {"mac_address", r.MACAddress},
		{"network_mode", r.NetworkMode}, {"network_local", r.NetworkLocal},
		{"video_controller", r.VideoController}, {"hvapic", r.HVAPIC}, {"csr_active_config", r.CSRActiveConfig},
		{"hw_serial", r.HWSerial}, {"hw_uuid", r.HWUUID},
	} {
		c.name(v.field, v.value)
	}
	if r.Disk != nil {
		c.name("disk.size", r.Disk.Size)
	}
	for _, p := range r.PortForwardingOverride {
		c.name("port_forwarding_override.name", p.Name)
		if p.HostIP != "" && net.ParseIP(p.HostIP) == nil {
			c.add("port_forwarding_override.host_ip", fmt.Errorf("%.100q: it is not an address", p.HostIP))
		}
	}
	return c.err
}

// CheckValues returns an error that names the first value that is not of its form.
func (r *RestartTask) CheckValues() error {
	var c check
	c.name("usb_device", r.USBDevice)
	return c.err
}

// CheckValues is that of a start, for a request to save an image.
func (r *SaveImageRequest) CheckValues() error {
	var c check
	c.tag("tag", r.Tag)
	c.tag("revert_tag", r.RevertTag)
	for part := range strings.SplitSeq(r.NewTemplateName, "/") {
		if r.NewTemplateName != "" {
			c.add("new_template_name", checkName(part))
		}
	}
	if r.TargetVMID != "" {
		c.add("target_vm_id", r.TargetVMID.Check())
	}
	return c.err
}

// Check returns an error that names what a node could not work with: a detail that is
// missing, or a value that is not of its form.
func (t *Task) Check() error {
	missing := func(ok bool) error {
		if ok {
			return nil
		}
		return fmt.Errorf("the %s task has no details", t.Kind)
	}
	var c check
	switch t.Kind {
	case TaskStart:
		if err := missing(t.Start != nil && t.InstanceID != "" && t.Start.Template.ID != ""); err != nil {
			return err
		}
		c.add("start:", t.Start.Template.Check())
		c.add("start:", t.Start.Request.CheckValues())
	case TaskTerminate:
		return missing(t.InstanceID != "")
	case TaskRestart:
		if err := missing(t.Restart != nil && t.InstanceID != ""); err != nil {
			return err
		}
		c.add("restart:", t.Restart.CheckValues())
	case TaskSaveImage:
		if err := missing(t.SaveImage != nil && t.InstanceID != "" && t.SaveImage.Request.Tag != ""); err != nil {
			return err
		}
		c.add("save image:", t.SaveImage.Request.CheckValues())
		if t.SaveImage.Target.ID != "" { // else it has the new name, which is the request's
			c.add("save image:", t.SaveImage.Target.Check())
		}
	case TaskDistribute:
		if err := missing(t.Distribute != nil && t.Distribute.Template.ID != ""); err != nil {
			return err
		}
		c.add("distribute:", t.Distribute.Template.Check())
	case TaskRemove:
		if err := missing(t.Remove != nil && t.Remove.TemplateID != ""); err != nil {
			return err
		}
		c.add("remove: template", t.Remove.TemplateID.Check())
	case TaskUpgrade:
		return missing(t.Upgrade != nil && t.Upgrade.Version != "" && t.Upgrade.SHA256 != "")
	}
	return c.err
}
