package agent

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/agent/images"
	"github.com/ankacluster/ankacluster/agent/logship"
	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/backoff"
)

// Requirements from the field, by their numbers. Those of authentication (A19),
// commands (A9, A10), upgrades (A3, A4), groups (A17) and the command line (A5) are
// tested beside their code.

// hang is a command that never ends by itself.
func hang(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }

func script(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

// longestGap is the longest time between two heartbeats.
func (s *stage) longestGap() time.Duration {
	s.cloud.mu.Lock()
	defer s.cloud.mu.Unlock()
	var longest time.Duration
	for i := 1; i < len(s.cloud.syncs); i++ {
		longest = max(longest, s.cloud.syncs[i].at.Sub(s.cloud.syncs[i-1].at))
	}
	return longest
}

// A7, O1: whatever hangs, the hypervisor as a whole included, heartbeats go on,
// and so do other tasks, unless it is what every task needs.
func TestA7HeartbeatsGoOnWhileThingsHang(t *testing.T) {
	for _, stuck := range []string{"size", "pull", "clone", "modify", "start", "show", "run", "suspend", "push", "stop", "delete", "list", "version"} {
		t.Run(stuck, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				s := newStage(t)
				s.cloud.settings.MaxVMCount = 3
				everything := stuck == "list" || stuck == "version"
				var hung atomic.Int32
				s.runtime.before = func(ctx context.Context, verb, _ string) error {
					if verb == stuck && (hung.Add(1) == 1 || everything) {
						return hang(ctx)
					}
					return nil
				}
				s.up()
				defer s.down()
				s.cloud.start("i1", func(st *controllerapi.StartTask) {
					st.Template.Size = 0 // so that it is asked for
					st.Request.StartupScript, st.Request.ScriptMonitoring = script("x"), true
				})
				time.Sleep(time.Minute)
				if stuck == "push" || stuck == "suspend" {
					s.cloud.save("s1", "i1", controllerapi.SaveImageTask{Request: controllerapi.SaveImageRequest{ID: "i1", Tag: "v2"}, Target: demoTemplate})
					time.Sleep(time.Minute)
				} else {
					s.cloud.terminate("i1")
				}
				if !everything {
					other := demoTemplate
					other.ID, other.Name = "tpl-2", "other"
					s.cloud.start("i2", func(st *controllerapi.StartTask) { st.Template = other })
					begin := time.Now()
					s.untilState("i2", controllerapi.Started)
					if took := time.Since(begin); took > time.Minute {
						t.Errorf("another start took %s", took)
					}
				}
				time.Sleep(10 * time.Minute)
				if hung.Load() == 0 {
					t.Errorf("nothing ran %s", stuck)
				}
				s.onTime(11 * time.Minute)
			})
		})
	}
}

// onTime checks that heartbeats came at their pace, within the jitter of a
// second that a burst of changes allows.
func (s *stage) onTime(over time.Duration) {
	s.t.Helper()
	if gap := s.longestGap(); gap > s.cfg.Heartbeat+time.Second+s.cfg.Heartbeat/4 {
		s.t.Errorf("longest gap between heartbeats: %s", gap)
	}
	s.cloud.mu.Lock()
	defer s.cloud.mu.Unlock()
	if got, want := len(s.cloud.syncs), int(over/s.cfg.Heartbeat)*3/4; got < want {
		s.t.Errorf("only %d heartbeats in %s, want %d", got, over, want)
	}
}

// A1: a registry that takes the logs and never answers, or whose address is
// nonsense, delays neither heartbeats nor starts.
func TestA1LogsThatCannotBeSentDelayNothing(t *testing.T) {
	for name, send := range map[string]logship.Send{
		"never answers": func(ctx context.Context, _ []byte) error { return hang(ctx) },
		"no URL":        func(context.Context, []byte) error { return errors.New("parse \"http://[::1\": missing ']' in host") },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				s := newStage(t)
				shipper := logship.New(send, func() bool { return true })
				ctx, stop := context.WithCancel(t.Context())
				var shipping sync.WaitGroup
				shipping.Go(func() { _ = shipper.Run(ctx) }) // nil, when ctx ends
				defer shipping.Wait()
				defer stop()
				s.log = zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), shipper, zap.DebugLevel))
				s.up()
				defer s.down()
				began := time.Now()
				for n := range 200 {
					id := controllerapi.InstanceID(fmt.Sprint("i", n))
					begin := time.Now()
					s.started(id)
					if took := time.Since(begin); took > 2*time.Second {
						t.Errorf("start %d took %s", n, took)
					}
					s.cloud.terminate(id)
					s.untilState(id, controllerapi.Terminated)
				}
				time.Sleep(10 * time.Minute)
				s.onTime(time.Since(began))
			})
		})
	}
}

// A2: what the cloud changed outlives restarts; join's seeds do not come back.
func TestA2SettingsAreTheCloudsAfterTheJoin(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		three := 3
		s.cfg.Seed = state.Seed{MaxVMCount: &three, Overwrite: true}
		if err := s.dir.SaveConfig(s.cfg); err != nil {
			t.Fatal(err)
		}
		s.up()
		s.until("registered", func() bool { return s.agent.members.get().joined })
		s.down()
		var err error
		if s.cfg, err = s.dir.Config(); err != nil {
			t.Fatal(err)
		}
		s.cloud.do(func() { s.cloud.settings.MaxVMCount, s.cloud.settings.Generation = 1, 2 })
		s.up()
		defer s.down()
		s.until("registered again", func() bool { return s.agent.members.get().joined })
		s.cloud.mu.Lock()
		defer s.cloud.mu.Unlock()
		if !s.cloud.registers[0].Seed.Overwrite || s.cloud.registers[1].Seed.Overwrite {
			t.Error("the join's wishes must overwrite once, and not at a restart")
		}
		if got := s.agent.Status().Config.VMLimit; got != 1 {
			t.Errorf("limit: got %d, want the cloud's 1", got)
		}
	})
}

// A8: scripts hold no worker slot, and may take a day.
func TestA8LongScriptBlocksNothing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		s.cfg.NumWorkers = 1
		s.cloud.settings.MaxVMCount = 3
		s.runtime.script = func(ctx context.Context, text string) (hypervisor.ScriptResult, error) {
			if text == "long" && !backoff.Sleep(ctx, 20*time.Hour) {
				return hypervisor.ScriptResult{}, ctx.Err()
			}
			return hypervisor.ScriptResult{}, nil
		}
		s.up()
		defer s.down()
		s.cloud.start("i1", func(st *controllerapi.StartTask) {
			st.Request.StartupScript, st.Request.ScriptMonitoring, st.Request.ScriptTimeout = script("long"), true, 24*3600
		})
		time.Sleep(time.Minute)
		s.started("i2")
		if state := s.cloud.get("i1").state; state != controllerapi.Scheduling {
			t.Fatalf("i1: got %s while its script runs", state)
		}
		time.Sleep(20 * time.Hour)
		s.untilState("i1", controllerapi.Started)
	})
}

func TestScriptFailureHandlers(t *testing.T) {
	for handler, left := range map[int]string{0: "stopped", 1: "running", 2: "none"} {
		t.Run(left, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				s := newStage(t)
				s.runtime.script = func(context.Context, string) (hypervisor.ScriptResult, error) {
					return hypervisor.ScriptResult{ExitCode: 3, Stderr: []byte("no")}, nil
				}
				s.up()
				defer s.down()
				s.cloud.start("i1", func(st *controllerapi.StartTask) {
					st.Request.StartupScript, st.Request.ScriptMonitoring, st.Request.ScriptFailHandler = script("x"), true, handler
				})
				s.untilState("i1", controllerapi.Error)
				i := s.cloud.get("i1")
				if i.script == nil || i.script.ReturnCode != 3 || i.script.Stderr != "no" || !strings.Contains(i.message, "exit code 3") {
					t.Errorf("script %+v, message %q", i.script, i.message)
				}
				got := "none"
				if vm := s.runtime.peek("vm-1"); vm != nil {
					got = string(vm.Status)
				}
				if got != left {
					t.Errorf("VM: got %s, want %s", got, left)
				}
				s.cloud.terminate("i1")
				s.untilState("i1", controllerapi.Terminated)
				if names := s.runtime.names(); len(names) != 0 {
					t.Errorf("left after the end: %v", names)
				}
			})
		})
	}
}

func TestScriptTimeout(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		s.runtime.script = func(ctx context.Context, _ string) (hypervisor.ScriptResult, error) {
			<-ctx.Done()
			return hypervisor.ScriptResult{}, ctx.Err()
		}
		s.up()
		defer s.down()
		s.cloud.start("i1", func(st *controllerapi.StartTask) {
			st.Request.StartupScript, st.Request.ScriptMonitoring = script("x"), true
		})
		begin := time.Now()
		s.untilState("i1", controllerapi.Error)
		if i := s.cloud.get("i1"); i.script == nil || !i.script.DidTimeout || i.script.ReturnCode != -1 {
			t.Errorf("script %+v", i.script)
		}
		if took := time.Since(begin); took < 90*time.Second || took > 100*time.Second {
			t.Errorf("took %s, want the default of 90s", took)
		}
	})
}

// A10: a start that fails or hangs is cleaned up and tried again.
func TestA10FailedStartIsTriedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		var tries atomic.Int32
		s.runtime.before = func(_ context.Context, verb, _ string) error {
			if verb == "start" && tries.Add(1) <= 3 {
				return errors.New("boot failed")
			}
			return nil
		}
		s.up()
		defer s.down()
		s.started("i1")
		if names := s.runtime.names(); len(names) != 1 || s.runtime.cloned() != 4 {
			t.Errorf("VMs %v after %d clones, want one after 4", names, s.runtime.cloned())
		}
	})
}

func TestStartThatAlwaysFailsEndsInError(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		s.runtime.before = func(_ context.Context, verb, _ string) error {
			if verb == "start" {
				return errors.New("boot failed")
			}
			return nil
		}
		s.up()
		defer s.down()
		s.cloud.start("i1", nil)
		s.untilState("i1", controllerapi.Error)
		if i := s.cloud.get("i1"); !strings.Contains(i.message, "boot failed") {
			t.Errorf("message %q", i.message)
		}
		if names := s.runtime.names(); len(names) != 0 {
			t.Errorf("left: %v", names)
		}
	})
}

// A11: half an image, after a failure or a kill, is not taken for an image.
func TestA11HalfPulledImageCountsAsAbsent(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		var broken atomic.Bool
		broken.Store(true)
		s.runtime.after = func(ctx context.Context, verb, _ string) error {
			if verb == "pull" && broken.Load() {
				return hang(ctx) // the image is listed, the pull is not over
			}
			return nil
		}
		s.up()
		s.cloud.start("i1", nil)
		s.until("the half image is listed", func() bool { return s.runtime.peek("tpl-1") != nil })
		time.Sleep(time.Minute)
		s.cloud.mu.Lock()
		for _, img := range s.cloud.images {
			t.Errorf("the half image was reported: %+v", img)
		}
		s.cloud.mu.Unlock()
		// As after a power cut: no clean-up ran.
		half := *s.runtime.peek("tpl-1")
		s.down()
		s.runtime.vms = []hypervisor.VM{half}
		if err := state.WriteJSON(s.dir.ImagesFile(), []images.Image{{ID: "tpl-1", Name: "demo", Tag: "v1"}}); err != nil {
			t.Fatal(err)
		}
		broken.Store(false)
		s.up()
		defer s.down()
		s.untilState("i1", controllerapi.Started)
		if s.runtime.pulled() != 2 {
			t.Errorf("pulls: got %d, want 2", s.runtime.pulled())
		}
	})
}

// A12: a node that is full in the hypervisor's eyes hands the start back.
func TestA12TooManyGoesToAnotherNode(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		s.runtime.before = func(_ context.Context, verb, _ string) error {
			if verb == "start" {
				return fmt.Errorf("anka start: %w", hypervisor.ErrTooMany)
			}
			return nil
		}
		s.up()
		defer s.down()
		s.cloud.start("i1", nil)
		s.until("the start comes back", func() bool { return s.cloud.get("i1").returned == 1 })
		if names := s.runtime.names(); len(names) != 0 || s.runtime.cloned() != tooManyTries {
			t.Errorf("VMs %v after %d tries", names, s.runtime.cloned())
		}
	})
}

// A12: VMs that others started take slots.
func TestA12ForeignVMsReduceCapacity(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		s.runtime.vms = []hypervisor.VM{{UUID: "a", Name: "by-hand", Status: hypervisor.Running}, {UUID: "b", Name: "too", Status: hypervisor.Running}}
		s.up()
		defer s.down()
		s.cloud.start("i1", nil)
		time.Sleep(5 * time.Minute)
		if s.cloud.get("i1").claimed {
			t.Fatal("a full node took a start")
		}
		s.runtime.mu.Lock()
		s.runtime.vms[0].Status = hypervisor.Stopped
		s.runtime.mu.Unlock()
		s.untilState("i1", controllerapi.Started)
	})
}

// A13: a guest that does not answer is found, and its instance ends in Error.
func TestA13StuckVMIsEnded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		s.cfg.VMMonitor = true
		stuck := make(chan struct{})
		s.runtime.script = func(ctx context.Context, _ string) (hypervisor.ScriptResult, error) {
			select {
			case <-stuck:
				<-ctx.Done()
				return hypervisor.ScriptResult{}, ctx.Err()
			default:
				return hypervisor.ScriptResult{}, nil
			}
		}
		s.up()
		defer s.down()
		s.started("i1")
		time.Sleep(10 * time.Minute)
		close(stuck)
		defer s.until("the cloud hears that the VM failed", func() bool {
			s.cloud.mu.Lock()
			defer s.cloud.mu.Unlock()
			return len(s.cloud.vms) == 1 && s.cloud.vms[0].Info.Status == "failed" && s.cloud.instances["i1"].state == controllerapi.Error
		})
		begin := time.Now()
		s.until("the VM was stopped", func() bool {
			vm, err := s.runtime.Show(t.Context(), "vm-1")
			return err == nil && vm.Status == hypervisor.Stopped
		})
		if took := time.Since(begin); took > 45*time.Second {
			t.Errorf("found after %s", took)
		}
	})
}

// A14: images that the agent did not pull are never removed to make room.
func TestA14FullDiskSparesImagesOfOthers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		s.host.free = 100
		s.runtime.vms = []hypervisor.VM{{UUID: "theirs", Name: "theirs", Tag: "v1", Status: hypervisor.Stopped}}
		s.up()
		defer s.down()
		s.cloud.start("i1", nil)
		s.until("the start comes back", func() bool { return s.cloud.get("i1").returned == 1 })
		if i := s.cloud.get("i1"); !strings.Contains(i.message, "not enough disk space") {
			t.Errorf("message %q", i.message)
		}
		if s.runtime.peek("theirs") == nil {
			t.Error("an image of somebody else was removed")
		}
	})
}

// A15: a new address is told within two heartbeats.
func TestA15NewAddressIsTold(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		s.up()
		defer s.down()
		s.until("registered", func() bool { return s.agent.members.get().joined })
		time.Sleep(time.Minute)
		s.host.mu.Lock()
		s.host.address = "10.0.0.2"
		s.host.mu.Unlock()
		begin := time.Now()
		s.until("the cloud knows", func() bool {
			s.cloud.mu.Lock()
			defer s.cloud.mu.Unlock()
			return s.cloud.facts.Host == "10.0.0.2"
		})
		if took := time.Since(begin); took > 2*s.cfg.Heartbeat {
			t.Errorf("told after %s, want within two heartbeats", took)
		}
	})
}

// A18: a licence that expires makes the node inactive, and one that is renewed
// active again; nothing is restarted and no VM is touched.
func TestA18LicenceExpiresAndIsRenewed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		s.up()
		defer s.down()
		s.started("i1")
		told := func(valid bool) func() bool {
			return func() bool {
				s.cloud.mu.Lock()
				defer s.cloud.mu.Unlock()
				return s.cloud.facts.LicenseValid == valid
			}
		}
		s.runtime.mu.Lock()
		s.runtime.unlicensed = true
		s.runtime.mu.Unlock()
		time.Sleep(versionFresh)
		s.until("the cloud knows that the licence expired", told(false))
		time.Sleep(pollTimeout) // a poll that was open before; real controllers give it nothing
		s.cloud.start("i2", nil)
		time.Sleep(5 * time.Minute)
		if s.cloud.get("i2").claimed {
			t.Error("a node without a licence took a start")
		}
		if vm := s.runtime.peek("vm-1"); vm == nil || vm.Status != hypervisor.Running {
			t.Errorf("the running VM was touched: %+v", vm)
		}
		s.runtime.mu.Lock()
		s.runtime.unlicensed = false
		s.runtime.mu.Unlock()
		s.until("the cloud knows that the licence is valid", told(true))
		s.untilState("i2", controllerapi.Started)
		if len(s.cloud.registers) != 1 {
			t.Errorf("%d registrations, want one", len(s.cloud.registers))
		}
	})
}

// A20: directories that somebody removes are made again, and the agent goes on.
func TestA20RemovedDirectoriesAreMadeAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		s.up()
		for n, gone := range []string{"journal", "run", "logs", "."} {
			if err := os.RemoveAll(filepath.Join(string(s.dir), gone)); err != nil {
				t.Fatal(err)
			}
			id := controllerapi.InstanceID(fmt.Sprint("i", n))
			s.started(id)
			if n%2 == 0 {
				s.down() // what was written survives a restart
				s.up()
			}
			s.cloud.terminate(id)
			s.untilState(id, controllerapi.Terminated)
		}
		s.down()
		if names := s.runtime.names(); len(names) != 0 {
			t.Errorf("left: %v", names)
		}
	})
}

// A16: calls that are cut are repeated, with one effect, and long polls are
// short enough for every proxy.
func TestA16EveryThirdCallIsCut(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		var calls atomic.Int32
		s.cloud.before = func(context.Context, string) error {
			if calls.Add(1)%3 == 0 {
				return errors.New("unexpected EOF")
			}
			return nil
		}
		s.up()
		defer s.down()
		for n := range 20 {
			id := controllerapi.InstanceID(fmt.Sprint("i", n))
			s.started(id)
			s.cloud.terminate(id)
			s.untilState(id, controllerapi.Terminated)
		}
		if s.runtime.cloned() != 20 || len(s.runtime.names()) != 0 {
			t.Errorf("%d clones, VMs %v", s.runtime.cloned(), s.runtime.names())
		}
		s.cloud.mu.Lock()
		defer s.cloud.mu.Unlock()
		for _, r := range s.cloud.reserves {
			if r.WaitMS <= 0 || r.WaitMS >= 60_000 {
				t.Fatalf("a long poll of %d ms", r.WaitMS)
			}
		}
	})
}

// A drained node takes no start, keeps its VMs, and accepts distribution.
func TestDrainModeKeepsVMsAndTakesDistribution(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		s.up()
		defer s.down()
		s.started("i1")
		s.cloud.do(func() { s.cloud.settings.DrainMode, s.cloud.settings.Generation = true, 2 })
		time.Sleep(time.Minute)
		s.cloud.start("i2", nil)
		other := demoTemplate
		other.ID, other.Name = "tpl-2", "other"
		s.cloud.do(func() {
			s.cloud.others = append(s.cloud.others, controllerapi.Task{ID: "d1", Kind: controllerapi.TaskDistribute, Distribute: &controllerapi.DistributeTask{Template: other}})
		})
		s.until("the template is there", func() bool { return s.runtime.peek("tpl-2") != nil })
		time.Sleep(5 * time.Minute)
		if s.cloud.get("i2").claimed || len(s.runtime.names()) != 1 {
			t.Errorf("claimed %v, VMs %v", s.cloud.get("i2").claimed, s.runtime.names())
		}
	})
}

// F20: a restart keeps the VM and tells of a new start.
func TestRestartStopsAndStarts(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		s.up()
		defer s.down()
		s.started("i1")
		before := s.cloud.get("i1").vm.StartDate
		s.cloud.do(func() {
			s.cloud.others = append(s.cloud.others, controllerapi.Task{ID: "r1", Kind: controllerapi.TaskRestart, InstanceID: "i1", Attempt: 1, Restart: &controllerapi.RestartTask{}})
		})
		s.until("the restart is reported", func() bool {
			s.cloud.mu.Lock()
			defer s.cloud.mu.Unlock()
			return slices.ContainsFunc(s.cloud.reports, func(r controllerapi.ReportRequest) bool {
				return r.TaskID == "r1" && r.Phase == controllerapi.PhaseDone && r.VM.StartDate.After(before)
			})
		})
		if s.runtime.count("stop vm-1") != 1 || s.runtime.cloned() != 1 {
			t.Errorf("%d stops, %d clones", s.runtime.count("stop vm-1"), s.runtime.cloned())
		}
	})
}

// F25, A7: a saved image ends the instance; a push that fails keeps the VM.
func TestSaveImage(t *testing.T) {
	for name, fails := range map[string]bool{"pushed": false, "push fails": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				s := newStage(t)
				s.runtime.before = func(_ context.Context, verb, _ string) error {
					if verb == "push" && fails {
						return errors.New("registry is full")
					}
					return nil
				}
				s.up()
				defer s.down()
				s.started("i1")
				s.cloud.save("s1", "i1", controllerapi.SaveImageTask{Request: controllerapi.SaveImageRequest{ID: "i1", Tag: "v2", NewTemplateName: "new"}})
				var end controllerapi.ReportRequest
				s.until("the end is reported", func() bool { end = s.cloud.outcome("s1"); return end.Phase != "" })
				time.Sleep(time.Minute)
				if fails {
					if end.Phase != controllerapi.PhaseFailed || !strings.Contains(end.Message, "registry is full") || len(s.runtime.names()) != 1 {
						t.Errorf("end %+v, VMs %v", end, s.runtime.names())
					}
					return
				}
				s.runtime.mu.Lock()
				pushed := s.runtime.pushed
				s.runtime.mu.Unlock()
				if end.Phase != controllerapi.PhaseDone || len(s.runtime.names()) != 0 || len(pushed) != 1 || pushed[0].Template != "new" || pushed[0].Tag != "v2" {
					t.Errorf("end %+v, VMs %v, pushed %+v", end, s.runtime.names(), pushed)
				}
			})
		})
	}
}
