package agent

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/controllerapi"
)

// holdings is what a process has that may grow.
type holdings struct{ objects, goroutines, files int }

// hold counts when collections of garbage find no more: the second empties pools,
// and what earlier tests left to finalizers takes some.
func hold(t *testing.T) holdings {
	t.Helper()
	objects := math.MaxInt
	for fewer := true; fewer; {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		fewer = int(m.HeapObjects) < objects
		objects = min(objects, int(m.HeapObjects))
	}
	open, err := os.ReadDir("/dev/fd")
	if err != nil {
		t.Fatal(err)
	}
	return holdings{objects: objects, goroutines: runtime.NumGoroutine(), files: len(open)}
}

// forget drops what the fakes remember of the past.
func (s *stage) forget() {
	s.cloud.do(func() {
		c := s.cloud
		c.syncs, c.reports, c.reserves = nil, nil, nil
		c.instances = make(map[controllerapi.InstanceID]*fakeInstance)
		c.handed, c.handedIn, c.unknown = make(map[string]controllerapi.Task), make(map[string]string), make(map[string]int)
	})
	s.runtime.mu.Lock()
	s.runtime.calls, s.runtime.pushed = nil, nil
	s.runtime.mu.Unlock()
}

// An agent that started and ended VMs for hours, some of which failed in every
// way, holds no more than before: no object of the heap, goroutine or open file
// a VM. ANKA_LONG=1 asks for two hours of 720 VMs each.
func TestChurnLeavesNothingBehind(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		s.cfg.VMMonitor = true
		var calls atomic.Int32
		s.runtime.before = func(_ context.Context, verb, _ string) error {
			switch n := calls.Add(1); {
			case verb == "start" && n%17 == 0:
				return errors.New("boot failed")
			case verb == "clone" && n%19 == 0:
				return errors.New("no room")
			case verb == "delete" && n%23 == 0:
				return errors.New("busy")
			}
			return nil
		}
		s.runtime.script = func(_ context.Context, text string) (res hypervisor.ScriptResult, err error) {
			if strings.Contains(text, "fail") {
				res.ExitCode = 1
			}
			return res, nil
		}
		s.up()
		defer s.down()
		vms := 0
		churn := func(rounds int) holdings {
			for range rounds {
				vms++
				id := controllerapi.InstanceID(fmt.Sprint("i", vms))
				s.cloud.start(id, func(st *controllerapi.StartTask) {
					st.Request.StartupScript, st.Request.ScriptMonitoring = script([]string{"ok", "ok", "fail"}[vms%3]), true
				})
				s.until("the start is over", func() bool { return s.cloud.get(id).done })
				time.Sleep(2 * time.Second)
				s.cloud.terminate(id)
				s.untilState(id, controllerapi.Terminated)
			}
			// In the bubble of testing/synctest that takes no time.
			time.Sleep(2 * recentlyEndedFor)
			s.until("nothing is left to do", func() bool {
				return s.agent.journal.empty() && !s.agent.workers.any()
			})
			s.forget()
			time.Sleep(time.Minute)
			s.forget()
			return hold(t)
		}
		size := rounds(300, 720) // so that the process's own few dozen are not half an object a VM
		before := churn(size)    // the first of everything: buffers, images, errors that are kept
		after := churn(size)
		t.Logf("after %d VMs %+v, after %d %+v", size, before, 2*size, after)
		if after.goroutines > before.goroutines || after.files > before.files || after.objects > before.objects+size/2 {
			t.Errorf("after %d VMs the agent held %+v, after %d more %+v", size, before, size, after)
		}
		if names := s.runtime.names(); len(names) != 0 {
			t.Errorf("VMs left: %v", names)
		}
	})
}
