package agent

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/controllerapi"
)

// What the hypervisor can never do fails the start at once, with its reason and
// before anything is pulled.
func TestUnsupportedStartFailsBeforeThePull(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		s.runtime.unsupported = fmt.Errorf("%w: no VLAN here", hypervisor.ErrUnsupported)
		s.up()
		defer s.down()
		s.cloud.start("i1", func(task *controllerapi.StartTask) { task.Request.VLANTag = "7" })
		s.untilState("i1", controllerapi.Error)
		if i := s.cloud.get("i1"); !strings.Contains(i.message, "no VLAN here") || s.runtime.pulled() != 0 {
			t.Errorf("message %q, pulls %d", i.message, s.runtime.pulled())
		}
	})
}

// An image that was pulled for another hypervisor, or a node whose VMs are all
// taken, is another node's chance: also when it shows only after the start.
func TestReasonOfAVMThatEndedDecides(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		s.runtime.after = func(_ context.Context, verb, id string) error {
			if verb == "start" {
				s.runtime.mu.Lock()
				defer s.runtime.mu.Unlock()
				vm := s.runtime.find(id)
				vm.Status, vm.Failure = hypervisor.Stopped, fmt.Errorf("%w: two run", hypervisor.ErrTooMany)
			}
			return nil
		}
		s.up()
		defer s.down()
		s.cloud.start("i1", nil)
		s.until("the start is handed back", func() bool { return s.cloud.get("i1").returned == 1 })
		if i := s.cloud.get("i1"); !strings.Contains(i.message, "two run") {
			t.Errorf("message: %q", i.message)
		}
		if names := s.runtime.names(); len(names) != 0 {
			t.Errorf("VMs left: %v", names)
		}
	})
}

// A hypervisor may know its images by repository only: they are pulled once,
// reported and removed under the template's id all the same.
func TestImagesKnownByRepository(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		s.runtime.byRepository = true
		s.up()
		defer s.down()
		s.cloud.start("i1", nil)
		s.cloud.start("i2", nil)
		s.untilState("i1", controllerapi.Started)
		s.untilState("i2", controllerapi.Started)
		if s.runtime.pulled() != 1 {
			t.Errorf("pulls: got %d, want 1", s.runtime.pulled())
		}
		want := controllerapi.NodeImage{UUID: demoTemplate.ID, Name: demoTemplate.Name, Tag: demoTemplate.Tag}
		s.until("the image is reported by the template's id", func() bool {
			s.cloud.mu.Lock()
			defer s.cloud.mu.Unlock()
			return len(s.cloud.images) == 1 && s.cloud.images[0] == want
		})
		if err := s.agent.status.images.RemoveTemplate(t.Context(), demoTemplate.ID); err != nil {
			t.Fatal(err)
		}
		if s.runtime.peek("127.0.0.1:1/demo:v1") != nil || len(s.runtime.names()) != 2 {
			t.Errorf("after the removal: %+v", s.runtime.vms)
		}
	})
}

// Where images hold no memory, a VM is shut down before it is saved.
func TestSaveImageWithoutSuspend(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		s.runtime.before = func(_ context.Context, verb, _ string) error {
			if verb == "suspend" {
				return hypervisor.ErrUnsupported
			}
			return nil
		}
		s.up()
		defer s.down()
		s.started("i1")
		uuid := s.cloud.get("i1").vm.UUID
		s.cloud.save("save", "i1", controllerapi.SaveImageTask{Request: controllerapi.SaveImageRequest{Tag: "v2"}, Target: demoTemplate})
		s.until("it was pushed", func() bool {
			s.runtime.mu.Lock()
			defer s.runtime.mu.Unlock()
			return len(s.runtime.pushed) == 1
		})
		if s.runtime.count("stop "+uuid) != 1 {
			t.Errorf("calls: %v", s.runtime.calls)
		}
	})
}
