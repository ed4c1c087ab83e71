package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/backoff"
)

func TestStartAndTerminate(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		s.runtime.before = func(ctx context.Context, verb, _ string) error {
			if verb == "pull" {
				backoff.Sleep(ctx, time.Second) // a stage that is over at once may go unreported
			}
			return nil
		}
		s.up()
		defer s.down()
		s.started("i1")
		i := s.cloud.get("i1")
		if i.vm.HostIP != "10.0.0.1" || i.vm.IP == "" || len(i.vm.PortForwarding) != 1 {
			t.Errorf("vminfo is not complete: %+v", i.vm)
		}
		if len(i.stages) == 0 || i.stages[0] != controllerapi.StagePulling {
			t.Errorf("stages: got %v, want pulling first", i.stages)
		}
		if names := s.runtime.names(); len(names) != 1 || names[0] != "mgmtManaged-demo-i1" {
			t.Errorf("VMs: got %v", names)
		}
		s.until("the cloud sees the VM", func() bool {
			s.cloud.mu.Lock()
			defer s.cloud.mu.Unlock()
			return len(s.cloud.vms) == 1 && s.cloud.vms[0].InstanceID == "i1" && s.cloud.vms[0].Managed
		})
		s.cloud.terminate("i1")
		s.untilState("i1", controllerapi.Terminated)
		if names := s.runtime.names(); len(names) != 0 {
			t.Errorf("VMs after the end: %v", names)
		}
		if s.runtime.pulled() != 1 {
			t.Errorf("pulls: got %d, want 1", s.runtime.pulled())
		}
		if left := s.agent.journal.all(); len(left) != 0 {
			t.Errorf("records left: %+v", left)
		}
	})
}

// F3: after a terminate at any moment nothing of the instance is left, and none
// is ever Started again.
func TestF3TerminateAtAnyMoment(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		upTo := moments(t)
		slow := func(ctx context.Context, verb, _ string) error {
			switch verb {
			case "pull", "clone", "modify", "start", "delete", "stop":
				return waitFor(ctx, upTo(2*time.Second))
			}
			return nil
		}
		s.runtime.before, s.runtime.after = slow, slow
		s.up()
		defer s.down()
		for n := range rounds(100, 500) {
			id := controllerapi.InstanceID(fmt.Sprintf("i%d", n))
			s.cloud.start(id, nil)
			<-time.After(upTo(12 * time.Second))
			s.cloud.terminate(id)
			asked := time.Now()
			s.until("no VM of "+string(id), func() bool {
				return s.cloud.get(id).state == controllerapi.Terminated && len(s.runtime.names()) == 0
			})
			if took := time.Since(asked); took > 30*time.Second {
				t.Fatalf("%s was gone after %s, want at most 30s", id, took)
			}
		}
	})
}

// waitFor is a command that takes a while and ends when its caller goes.
func waitFor(ctx context.Context, d time.Duration) error {
	if !backoff.Sleep(ctx, d) {
		return context.Cause(ctx)
	}
	return nil
}

// The agent is killed at any moment of a start, and at the end there is exactly
// one VM for the instance.
func TestKilledAtAnyMomentOfAStart(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		upTo := moments(t)
		for range rounds(30, 200) {
			s := newStage(t)
			slow := func(ctx context.Context, verb, _ string) error {
				if verb == "pull" || verb == "clone" || verb == "start" || verb == "modify" {
					return waitFor(ctx, upTo(time.Second))
				}
				return nil
			}
			s.runtime.before, s.runtime.after = slow, slow
			s.up()
			s.cloud.start("i1", nil)
			for range 3 {
				<-time.After(upTo(5 * time.Second))
				s.down()
				s.up()
			}
			s.untilState("i1", controllerapi.Started)
			time.Sleep(time.Minute)
			if names := s.runtime.names(); len(names) != 1 {
				t.Fatalf("VMs: got %v, want one", names)
			}
			if s.cloud.get("i1").state != controllerapi.Started {
				t.Fatalf("state: got %s", s.cloud.get("i1").state)
			}
			s.down()
		}
	})
}

// O3: a running VM is adopted by the next agent; nothing is started twice.
func TestO3RunningVMIsAdopted(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		s.up()
		s.started("i1")
		s.down()
		if names := s.runtime.names(); len(names) != 1 {
			t.Fatalf("the VM did not outlive its agent: %v", names)
		}
		s.up()
		defer s.down()
		time.Sleep(2 * time.Minute)
		s.cloud.mu.Lock()
		vms := s.cloud.vms
		s.cloud.mu.Unlock()
		if len(vms) != 1 || vms[0].InstanceID != "i1" || vms[0].Attempt != 1 {
			t.Errorf("reported VMs: %+v", vms)
		}
		if s.runtime.cloned() != 1 {
			t.Errorf("clones: got %d, want 1", s.runtime.cloned())
		}
	})
}

// F2: what is delivered twice runs once.
func TestF2LostAnswerOfReserveStartsOneVM(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		var lost atomic.Int32
		s.cloud.before = func(_ context.Context, call string) error {
			if call == "reserved" && lost.Add(1) <= 3 {
				return errors.New("connection reset")
			}
			return nil
		}
		s.up()
		defer s.down()
		s.started("i1")
		time.Sleep(time.Minute)
		if s.runtime.cloned() != 1 {
			t.Errorf("clones: got %d, want 1", s.runtime.cloned())
		}
	})
}

// A task that is claimed while a heartbeat is put together is not in that
// heartbeat, and so not in its answer: it is kept all the same.
func TestClaimWhileAHeartbeatIsMadeIsKept(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		s.cloud.hideUnheld = true
		var ready atomic.Bool
		var once sync.Once
		s.host.onLoad = func() {
			if ready.Load() {
				once.Do(func() {
					s.cloud.start("i1", nil)
					time.Sleep(time.Millisecond) // the long poll brings it
				})
			}
		}
		s.up()
		defer s.down()
		time.Sleep(time.Minute)
		ready.Store(true)
		time.Sleep(10 * time.Second) // a heartbeat
		s.untilState("i1", controllerapi.Started)
	})
}

// F2: a VM of an attempt that was given to another node is removed.
func TestF2ClaimLostToAnotherAttemptRemovesVM(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		s.up()
		defer s.down()
		s.started("i1")
		s.cloud.do(func() { s.cloud.instances["i1"].attempt = 2 })
		s.until("the VM is removed", func() bool { return len(s.runtime.names()) == 0 })
	})
}

// F5: a managed VM that nobody knows goes when the cloud says so, and no other.
func TestF5RemovesOnlyWhatTheCloudListsAndHasOurPrefix(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		s.runtime.vms = []hypervisor.VM{
			{UUID: "stranger", Name: "mgmtManaged-old", Status: hypervisor.Running},
			{UUID: "mine", Name: "by-hand", Status: hypervisor.Running},
		}
		s.up()
		defer s.down()
		time.Sleep(time.Minute)
		if len(s.runtime.names()) != 1 {
			t.Fatal("an unknown VM was removed before the cloud said so")
		}
		s.cloud.do(func() { s.cloud.remove = []string{"stranger", "mine"} })
		s.until("the unknown VM is gone", func() bool { return len(s.runtime.names()) == 0 })
		time.Sleep(time.Minute)
		if s.runtime.peek("mine") == nil || s.runtime.count("stop mine")+s.runtime.count("delete mine") != 0 {
			t.Error("a VM that was made by hand was touched")
		}
	})
}

// A lost store answers with no assignments: running VMs stay (F28, O2).
func TestEmptyAssignmentsKeepRunningVMs(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		s.up()
		defer s.down()
		s.started("i1")
		s.cloud.do(func() { clear(s.cloud.instances) })
		time.Sleep(10 * time.Minute)
		if names := s.runtime.names(); len(names) != 1 {
			t.Errorf("VMs: got %v, want the running one", names)
		}
	})
}

// The report of a start that ended while no controller answered arrives later,
// also from the next life of the agent.
func TestOutcomeIsToldAfterTheOutage(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		var out atomic.Bool
		s.cloud.before = func(ctx context.Context, call string) error {
			if out.Load() && call == "report" {
				return errors.New("no controller answers")
			}
			return nil
		}
		s.runtime.after = func(_ context.Context, verb, _ string) error {
			if verb == "start" {
				out.Store(true)
			}
			return nil
		}
		s.up()
		s.cloud.start("i1", nil)
		s.until("the VM runs", func() bool { return s.runtime.count("start vm-1") == 1 })
		time.Sleep(5 * time.Minute)
		s.down()
		s.runtime.after = nil
		out.Store(false)
		s.up()
		defer s.down()
		s.untilState("i1", controllerapi.Started)
		if s.runtime.cloned() != 1 {
			t.Errorf("clones: got %d, want 1", s.runtime.cloned())
		}
	})
}

// A newer session of the node ends this agent.
func TestZombieEnds(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		s.up()
		s.until("registered", func() bool { return s.agent.members.get().joined })
		s.cloud.do(func() { s.cloud.session = "newer" })
		if err := <-s.ended; !errors.Is(err, controllerapi.ErrSessionEnded) {
			t.Errorf("Run: got %v, want ErrSessionEnded", err)
		}
	})
}

// moments returns random moments that ANKA_TEST_SEED repeats.
func moments(t *testing.T) func(upTo time.Duration) time.Duration {
	rnd := seeded(t)
	var mu sync.Mutex
	return func(upTo time.Duration) time.Duration {
		mu.Lock()
		defer mu.Unlock()
		return time.Duration(rnd.Int64N(int64(upTo)))
	}
}

// seeded returns random numbers whose seed is in the test's log.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv("ANKA_TEST_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("ANKA_TEST_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// rounds is how often a random test repeats: ANKA_LONG=1 asks for the long form.
func rounds(short, long int) int {
	if os.Getenv("ANKA_LONG") != "" {
		return long
	}
	return short
}
