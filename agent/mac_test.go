package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/controllerapi"
)

// Differences between what was thought of a Mac and what is known of it. They are
// numbered as in docs/operators/macs.md.

// pass lets time go by, in the bubble.
func pass(d time.Duration) { <-time.After(d) }

// cached starts and ends an instance of so many templates, so that their images
// stay on the node.
func (s *stage) cached(n int) {
	s.t.Helper()
	for i := range n {
		id := controllerapi.InstanceID(fmt.Sprint("cached", i))
		s.cloud.start(id, func(st *controllerapi.StartTask) {
			st.Template.ID, st.Template.Name, st.Template.Repository = controllerapi.TemplateID(fmt.Sprint("tpl-c", i)), fmt.Sprint("c", i), fmt.Sprint("c", i)
		})
		s.untilState(id, controllerapi.Started)
		s.cloud.terminate(id)
		s.untilState(id, controllerapi.Terminated)
	}
}

// D2: a start that no room can cure leaves the images of the node where they
// are, and one of a tag that the registry lacks fails at once.
func TestBadRequestsEmptyNoCache(t *testing.T) {
	for _, c := range []struct {
		name, verb string
		err        error
		pulls      int // at most
		free       uint64
		images     int // left
	}{
		{"tag is not in the registry", "pull", fmt.Errorf("pull: %w", hypervisor.ErrNotInRegistry), 1, 9e11, 3},
		{"VM fails to start", "start", errors.New("no child processes"), 1, 9e11, 4},
		{"clone fails", "clone", errors.New("bad image"), 1, 9e11, 4},
		{"registry does not answer, and there is room", "pull", errors.New("connection refused"), 6, 9e11, 3},
		{"pull fails for unknown reasons, and there is little room", "pull", errors.New("pull failed"), 6, 1e9, 0},
		{"disk is full", "start", fmt.Errorf("start: %w", hypervisor.ErrDiskFull), 2, 9e11, 3},
		{"disk that is asked for does not fit", "modify", fmt.Errorf("modify: %w", hypervisor.ErrDiskFull), 1, 9e11, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				s := newStage(t)
				s.up()
				defer s.down()
				s.cached(3)
				tries := 0
				s.runtime.mu.Lock()
				s.runtime.before = func(_ context.Context, verb, id string) error {
					if verb == "pull" {
						tries++
					}
					if verb == c.verb {
						return c.err
					}
					return nil
				}
				s.runtime.mu.Unlock()
				s.host.mu.Lock()
				s.host.free = c.free
				s.host.mu.Unlock()
				s.cloud.start("i1", nil)
				s.untilState("i1", controllerapi.Error)
				if tries > c.pulls {
					t.Errorf("pulled %d times, want at most %d", tries, c.pulls)
				}
				s.runtime.mu.Lock()
				images := 0
				for _, vm := range s.runtime.vms {
					if vm.Tag != "" {
						images++
					}
				}
				s.runtime.mu.Unlock()
				if images != c.images {
					t.Errorf("images on the node: got %d, want %d", images, c.images)
				}
			})
		})
	}
}

// What fits on no way is given back, and evicts nothing.
func TestImageThatDoesNotFitEmptiesNoCache(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		s.up()
		defer s.down()
		s.cached(3)
		s.cloud.start("i1", func(st *controllerapi.StartTask) { st.Template.Size = 5e12 })
		s.until("the start is given back", func() bool { return s.cloud.get("i1").returned > 0 })
		if n := len(s.agent.status.images.Pulled()); n != 3 {
			t.Errorf("%d images are left of 3", n)
		}
		if msg := s.cloud.get("i1").message; !strings.Contains(msg, "images that are not in use") {
			t.Errorf("message: %q", msg)
		}
	})
}

// A template whose pushed configuration has the id of a VM of the Mac's owner is not
// pulled over it, and its failure does not remove it.
func TestTemplateWithTheIDOfAnOwnersVM(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		s.runtime.vms = append(s.runtime.vms, hypervisor.VM{UUID: string(demoTemplate.ID), Name: "mine", Status: hypervisor.Stopped})
		s.up()
		defer s.down()
		s.cloud.start("i1", nil)
		s.until("the start is given back", func() bool { return s.cloud.get("i1").returned > 0 })
		if msg := s.cloud.get("i1").message; !strings.Contains(msg, "mine") {
			t.Errorf("message: %q", msg)
		}
		if s.runtime.peek("mine") == nil || s.runtime.pulled() != 0 {
			t.Errorf("the owner's VM is %v, after %d pulls", s.runtime.peek("mine"), s.runtime.pulled())
		}
	})
}

// The cloud removes what it pulled: an image, or a VM, that the Mac's owner has stays,
// whatever its id.
func TestRemoveTakesOnlyWhatTheCloudPulled(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		s.runtime.vms = append(s.runtime.vms, hypervisor.VM{UUID: "owners", Name: "mine", Status: hypervisor.Stopped},
			hypervisor.VM{UUID: "tpl-c0", Name: "c0", Tag: "by-hand", Status: hypervisor.Stopped})
		s.up()
		defer s.down()
		s.cached(1)
		remove := func(id controllerapi.TaskID, template controllerapi.TemplateID) (end controllerapi.ReportRequest) {
			s.cloud.do(func() {
				s.cloud.others = append(s.cloud.others, controllerapi.Task{ID: id, Kind: controllerapi.TaskRemove, Remove: &controllerapi.RemoveTask{TemplateID: template}})
			})
			s.until("the removal has ended", func() bool { end = s.cloud.outcome(id); return end.Phase != "" })
			return end
		}
		if end := remove("r1", "owners"); end.Phase != controllerapi.PhaseFailed || !strings.Contains(end.Message, "not pulled by the cloud") {
			t.Errorf("the owner's VM: %s, %q", end.Phase, end.Message)
		}
		if end := remove("r2", "tpl-c0"); end.Phase != controllerapi.PhaseDone {
			t.Errorf("the cloud's image: %s, %q", end.Phase, end.Message)
		}
		if end := remove("r3", "tpl-c0"); end.Phase != controllerapi.PhaseFailed {
			t.Errorf("what is left of it: %s, %q", end.Phase, end.Message)
		}
		if end := remove("r4", "never-here"); end.Phase != controllerapi.PhaseDone {
			t.Errorf("what is not there: %s, %q", end.Phase, end.Message)
		}
		s.runtime.mu.Lock()
		defer s.runtime.mu.Unlock()
		var left []string
		for _, vm := range s.runtime.vms {
			left = append(left, vm.UUID+":"+vm.Tag)
		}
		if !slices.Equal(left, []string{"owners:", "tpl-c0:by-hand"}) {
			t.Errorf("left: %v", left)
		}
	})
}

// D13: a Mac whose system refuses VMs although none runs takes no starts, says
// why, and tries again after a while.
func TestLostSlotMakesTheNodeInactive(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		s.host.arch = "arm64"
		lost := true
		s.runtime.before = func(_ context.Context, verb, _ string) error {
			if verb == "start" && lost {
				return hypervisor.ErrTooMany
			}
			return nil
		}
		s.up()
		defer s.down()
		s.cloud.start("i1", nil)
		s.until("i1 given back", func() bool { return s.cloud.get("i1").returned == 1 })
		if s.agent.session.statement.facts().Inactive != "" {
			t.Error("one start that found no slot may be chance")
		}
		s.cloud.start("i2", nil)
		s.until("the cloud hears that the node is inactive", func() bool {
			s.cloud.mu.Lock()
			defer s.cloud.mu.Unlock()
			return s.cloud.facts.Inactive == lostSlot && !s.cloud.facts.LicenseValid
		})
		pass(pollTimeout) // a poll that was under way may still bring a start
		s.cloud.start("i3", nil)
		pass(10 * time.Minute)
		if s.cloud.get("i3").claimed || s.cloud.get("i3").returned != 0 {
			t.Error("a node without a slot took a start")
		}
		s.runtime.mu.Lock()
		lost = false
		s.runtime.mu.Unlock()
		pass(unfitFor)
		s.untilState("i3", controllerapi.Started)
		s.until("the cloud hears that it is active", func() bool {
			s.cloud.mu.Lock()
			defer s.cloud.mu.Unlock()
			return s.cloud.facts.Inactive == "" && s.cloud.facts.LicenseValid
		})
	})
}

// A node that is full of VMs, ours or not, has lost no slot.
func TestFullNodeHasLostNoSlot(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		s.host.arch, s.runtime.limit = "arm64", 2
		s.cfg.IgnoreArmVMLimit = true
		s.cloud.settings.MaxVMCount = 20
		s.up()
		defer s.down()
		s.started("i1")
		s.started("i2")
		for n := range 5 {
			id := controllerapi.InstanceID(fmt.Sprint("more", n))
			s.cloud.start(id, nil)
			s.until("given back", func() bool { return s.cloud.get(id).returned == 1 })
		}
		if reason := s.agent.session.statement.facts().Inactive; reason != "" {
			t.Errorf("inactive: %s", reason)
		}
		if got := s.runtime.names(); !slices.Contains(got, "mgmtManaged-demo-i1") {
			t.Errorf("VMs: %v", got)
		}
	})
}

// D7: a hypervisor may free the space of a removed image in the background. What
// is there by then counts, and no further image goes before that.
func TestSpaceThatComesLater(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		s.cfg.ReserveSpace = state.Reserve{}
		s.up()
		defer s.down()
		s.cached(3)
		s.host.mu.Lock()
		s.host.free = 500
		s.host.mu.Unlock()
		s.runtime.mu.Lock()
		s.runtime.after = func(_ context.Context, verb, _ string) error {
			if verb == "remove-image" {
				time.AfterFunc(20*time.Second, func() {
					s.host.mu.Lock()
					defer s.host.mu.Unlock()
					s.host.free += 1000
				})
			}
			return nil
		}
		s.runtime.mu.Unlock()
		s.started("i1")
		if n := s.runtime.count("remove-image tpl-c0"); n != 1 {
			t.Errorf("the image that was used longest ago was removed %d times", n)
		}
		for _, id := range []string{"tpl-c1", "tpl-c2"} {
			if s.runtime.peek(id) == nil {
				t.Errorf("%s was removed before the space of the first had come", id)
			}
		}
	})
}

// D6: an image of unknown size is asked of the registry, which needs no command.
func TestSizeIsThatOfTheManifest(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		s.registry.size = 5e11
		s.host.free = 4e11
		s.up()
		defer s.down()
		s.cloud.start("i1", func(st *controllerapi.StartTask) { st.Template.Size = 0 })
		s.until("i1 goes to a node with more room", func() bool { return s.cloud.get("i1").returned == 1 })
		if n := s.runtime.count("size tpl-1"); n != 0 {
			t.Errorf("the hypervisor was asked %d times", n)
		}
		if s.runtime.pulled() != 0 {
			t.Error("it was pulled all the same")
		}
	})
}

// An image that a crash of the host left broken is pulled again.
func TestBrokenImageIsPulledAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		s.up()
		defer s.down()
		s.started("i1")
		s.cloud.terminate("i1")
		s.untilState("i1", controllerapi.Terminated)
		s.runtime.mu.Lock()
		s.runtime.find("tpl-1").Status = hypervisor.Failed
		s.runtime.mu.Unlock()
		s.started("i2")
		if s.runtime.pulled() != 2 {
			t.Errorf("pulls: got %d, want 2", s.runtime.pulled())
		}
	})
}

// Where a list tells addresses, VMs are shown every ten minutes, and when their
// address changes; else every minute.
func TestFewShowsWhereListsTellAddresses(t *testing.T) {
	for _, c := range []struct {
		listsIP  bool
		at, most int // shows in an hour
	}{{true, 5, 12}, {false, 50, 70}} {
		inBubble(t, func(t *testing.T) {
			s := newStage(t)
			s.runtime.listsIP = c.listsIP
			s.up()
			defer s.down()
			s.started("i1")
			pass(time.Minute)
			before := s.runtime.count("show vm-1")
			pass(time.Hour)
			if n := s.runtime.count("show vm-1") - before; n < c.at || n > c.most {
				t.Errorf("list tells addresses: %v: %d shows in an hour, want %d to %d", c.listsIP, n, c.at, c.most)
			}
			s.runtime.mu.Lock()
			s.runtime.find("vm-1").IP = "192.168.64.99"
			s.runtime.mu.Unlock()
			s.until("the cloud hears of the new address", func() bool {
				s.cloud.mu.Lock()
				defer s.cloud.mu.Unlock()
				return len(s.cloud.vms) == 1 && s.cloud.vms[0].Info.IP == "192.168.64.99"
			})
		})
	}
}

// A VM that runs keeps the host awake; nothing does when none is left, or when the
// agent has gone.
func TestVMsKeepTheHostAwake(t *testing.T) {
	log := filepath.Join(t.TempDir(), "held")
	path := filepath.Join(t.TempDir(), "caffeinate")
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho \"$@\" >> "+log+"\nexec sleep 1000\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	vms := &inventory{last: vmList{vms: []hypervisor.VM{{UUID: "u", Status: hypervisor.Running}}}}
	a := &awake{command: path, needed: vms.running, log: zap.NewNop()}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.run(ctx) }()
	for {
		if data, err := os.ReadFile(log); err == nil && strings.HasSuffix(string(data), "\n") {
			if want := fmt.Sprintf("-ims -w %d\n", os.Getpid()); string(data) != want {
				t.Errorf("caffeinate %q, want %q", data, want)
			}
			break
		}
		<-time.After(10 * time.Millisecond)
	}
	stop()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) { // it has waited for the command's end
		t.Errorf("it ended with %v", err)
	}
	vms.last.vms[0].Status = hypervisor.Stopped
	if vms.running() {
		t.Error("a VM at rest keeps the host awake")
	}
}

// D1: a Mac whose user has no keychain gives the start back, takes no more for a
// while, and says why.
func TestLockedKeychainMakesTheNodeInactive(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		locked := true
		s.runtime.before = func(_ context.Context, verb, _ string) error {
			if verb == "start" && locked {
				return fmt.Errorf("run: %w", hypervisor.ErrKeychain)
			}
			return nil
		}
		s.up()
		defer s.down()
		s.cached(0)
		s.cloud.start("i1", nil)
		s.until("i1 given back", func() bool { return s.cloud.get("i1").returned == 1 })
		s.until("the cloud hears that the node is inactive", func() bool {
			s.cloud.mu.Lock()
			defer s.cloud.mu.Unlock()
			return s.cloud.facts.Inactive == noKeychain && !s.cloud.facts.LicenseValid
		})
		if n := s.runtime.count("start vm-1"); n > 1 {
			t.Errorf("it was started %d times", n)
		}
		locked = false
		pass(noKeychainFor)
		s.cloud.start("i2", nil)
		s.untilState("i2", controllerapi.Started)
		s.until("the cloud hears that it is active", func() bool {
			s.cloud.mu.Lock()
			defer s.cloud.mu.Unlock()
			return s.cloud.facts.Inactive == ""
		})
	})
}

// D11: a script that this version cannot run is another node's, and no failure of
// the script's; the monitor ends no VM for it.
func TestOutdatedVersionRunsNoScripts(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		s.cfg.VMMonitor = true
		s.runtime.before = func(_ context.Context, verb, _ string) error {
			if verb == "run" {
				return fmt.Errorf("%w: too old", hypervisor.ErrOutdated)
			}
			return nil
		}
		s.up()
		defer s.down()
		s.started("i1")
		pass(time.Hour)
		if i := s.cloud.get("i1"); i.state != controllerapi.Started {
			t.Errorf("the monitor ended it: %s, %s", i.state, i.message)
		}
		s.cloud.start("i2", func(st *controllerapi.StartTask) {
			st.Request.StartupScript, st.Request.ScriptMonitoring = script("true"), true
		})
		s.until("i2 given back", func() bool { return s.cloud.get("i2").returned == 1 })
		if i := s.cloud.get("i2"); !strings.Contains(i.message, "too old") {
			t.Errorf("message: %q", i.message)
		}
	})
}

// Grown is what a hypervisor tells that leaves the disk to the guest.
func (f *fakeRuntime) Grown(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, "grown "+id)
	return f.notGrown
}

// D19: a disk that the guest does not use is reported, and the VM is of use all the same.
func TestDiskThatDidNotGrowIsTold(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		s.runtime.notGrown = errors.New("the guest's file system has 50 GB of the disk's 200")
		s.up()
		defer s.down()
		s.started("i0")
		s.cloud.start("i1", func(st *controllerapi.StartTask) { st.Request.Disk = &controllerapi.DiskRequest{Size: "200G"} })
		s.untilState("i1", controllerapi.Started)
		told := false
		for _, e := range s.agent.Status().LastErrors {
			told = told || e.What == "disk of i1" && strings.Contains(e.Message, "50 GB of the disk's 200")
		}
		if n := s.runtime.count("grown " + s.cloud.get("i1").vm.UUID); !told || n != 1 {
			t.Errorf("told %v, asked %d times: %+v", told, n, s.agent.Status().LastErrors)
		}
	})
}
