package server

import (
	"strings"
	"testing"

	"github.com/ankacluster/ankacluster/registryapi"
)

// What a registry calls its content reaches no node unless it is of its form.
func TestRegistrysHostileNamesStartNothing(t *testing.T) {
	t.Parallel()
	c := startCloud(t, 1, nil)
	base := c.controllers[0].URL
	version := registryapi.Version{Tag: "v1", Images: []string{}, StateFiles: []string{}}
	optionTag := version
	optionTag.Tag = "--all"
	c.registry.set(func(f *fakeRegistry) {
		f.templates = append(f.templates,
			registryapi.Template{ID: "--all", Name: "a", Repository: "a", Versions: []registryapi.Version{version}},
			registryapi.Template{ID: "bad-tag", Name: "b", Repository: "b", Versions: []registryapi.Version{optionTag}},
			registryapi.Template{ID: "bad-repository", Name: "c", Repository: "../c", Versions: []registryapi.Version{version}},
			registryapi.Template{ID: "bad-name", Name: "--all", Versions: []registryapi.Version{version}})
	})
	for _, call := range []struct{ path, body, want string }{
		{"/api/v1/vm", `{"vmid":"--all"}`, "VM not in the registry"},
		{"/api/v1/vm", `{"vmid":"bad-tag"}`, "cannot be used"},
		{"/api/v1/vm", `{"vmid":"bad-repository"}`, "cannot be used"},
		{"/api/v1/vm", `{"vmid":"bad-name"}`, "cannot be used"},
		{"/api/v1/vm", `{"vmid":"tpl-1","usb_device":"--all"}`, "usb_device"},
		{"/api/v1/vm", `{"vmid":"tpl-1","port_forwarding_override":[{"name":"-a","guest_port":22}]}`, "port_forwarding_override.name"},
		{"/api/v1/registry/vm/distribute", `{"template_id":"bad-tag"}`, "cannot be used"},
		{"/api/v1/image", `{"id":"i","tag":"-f","target_vm_id":"tpl-1"}`, "tag"},
		{"/api/v1/image", `{"id":"i","tag":"v9","new_template_name":"../x"}`, "new_template_name"},
		{"/api/v1/image", `{"id":"i","tag":"v9","target_vm_id":"bad-repository"}`, "cannot be used"},
		{"/api/v1/rpc/vm/restart", `{"instance_id":"i","usb_device":"-x"}`, "usb_device"},
	} {
		if _, answer := do(t, "POST", base+call.path, call.body); !strings.Contains(answer, `"FAIL"`) || !strings.Contains(answer, call.want) {
			t.Errorf("%s %s: %s", call.path, call.body, answer)
		}
	}
	if _, list := do(t, "GET", base+"/api/v1/vm", ""); strings.Contains(list, "instance_id") {
		t.Errorf("instances were made: %s", list)
	}
}
