package agent

import (
	"strings"
	"testing"

	"github.com/ankacluster/ankacluster/controllerapi"
)

// A task whose values are no names, as a hostile controller or registry would make
// one, is refused with the reason, and no command is run for it.
func TestHostileTasksRunNothing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		s.up()
		defer s.down()
		s.cloud.do(func() {
			s.cloud.others = append(s.cloud.others,
				controllerapi.Task{ID: "d1", Kind: controllerapi.TaskDistribute, Distribute: &controllerapi.DistributeTask{
					Template: controllerapi.TemplateRef{ID: "--all", Name: "demo", Tag: "v1", Repository: "demo"}}},
				controllerapi.Task{ID: "r1", Kind: controllerapi.TaskRemove, Remove: &controllerapi.RemoveTask{TemplateID: "--all"}})
		})
		s.cloud.start("i1", func(task *controllerapi.StartTask) { task.Request.USBDevice = "-f\n../x" })
		s.untilState("i1", controllerapi.Error)
		for _, id := range []controllerapi.TaskID{"d1", "r1"} {
			s.until("the task is refused", func() bool { return s.cloud.outcome(id).Phase == controllerapi.PhaseFailed })
			if msg := s.cloud.outcome(id).Message; !strings.Contains(msg, `"--all"`) {
				t.Errorf("%s: %q", id, msg)
			}
		}
		if msg := s.cloud.get("i1").message; !strings.Contains(msg, "usb_device") {
			t.Errorf("start: %q", msg)
		}
		if s.runtime.pulled() != 0 || s.runtime.cloned() != 0 {
			t.Errorf("%d pulls, %d clones", s.runtime.pulled(), s.runtime.cloned())
		}
	})
}
