package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/controllerapi/cloud/capacity"
)

// Join's flags, each by what it does. Those about connections are tested where
// the connections are made, in cmd/ankacluster.

// --request-timeout ends every request that no controller answers; a heartbeat
// never waits longer than beatTimeout.
func TestRequestTimeoutEndsRequests(t *testing.T) {
	for _, tt := range []struct {
		call       string
		flag, want time.Duration
	}{
		{"register", 7 * time.Second, 7 * time.Second},
		{"register", time.Minute, time.Minute},
		{"report", 7 * time.Second, 7 * time.Second},
		{"report", time.Minute, time.Minute},
		{"sync", 7 * time.Second, 7 * time.Second},
		{"sync", time.Minute, beatTimeout},
	} {
		t.Run(fmt.Sprint(tt.call, " ", tt.flag), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				s := newStage(t)
				s.cfg.RequestTimeout = tt.flag
				var took atomic.Int64
				s.cloud.before = func(ctx context.Context, call string) error {
					if call != tt.call {
						return nil
					}
					begin := time.Now()
					<-ctx.Done()
					if took.Load() == 0 {
						took.Store(int64(time.Since(begin)))
					}
					return ctx.Err()
				}
				s.up()
				defer s.down()
				s.cloud.start("i1", nil)
				s.until("the request is given up", func() bool { return took.Load() != 0 })
				if got := time.Duration(took.Load()); got != tt.want {
					t.Errorf("given up after %s, want %s", got, tt.want)
				}
			})
		})
	}
}

// --force-overrides-in-resource-mode: without it an override cannot promise
// what the host does not have.
func TestOverridesInResourceMode(t *testing.T) {
	facts := controllerapi.NodeFacts{CPUCount: 8, RAM: 16, HostArch: "amd64"} // 16 virtual CPUs, 14 GB
	for _, tt := range []struct {
		vcpu, ram int
		force     bool
		want      Room
	}{
		{0, 0, false, Room{16, 16, 14 << 10}},
		{4, 8 << 10, false, Room{4, 4, 8 << 10}},
		{4, 8 << 10, true, Room{4, 4, 8 << 10}},
		{16, 14 << 10, false, Room{16, 16, 14 << 10}},
		{17, 14<<10 + 1, false, Room{16, 16, 14 << 10}},
		{17, 14<<10 + 1, true, Room{17, 17, 14<<10 + 1}},
		{64, 128 << 10, true, Room{64, 64, 128 << 10}},
	} {
		s := controllerapi.NodeSettings{CapacityMode: state.CapacityResource, VCPUOverride: tt.vcpu, RAMOverride: tt.ram}
		if got := room(facts, s, nil, nil, &state.Config{ForceOverrides: tt.force}); got != tt.want {
			t.Errorf("override %d vcpu, %d MB, force %v: got %+v, want %+v", tt.vcpu, tt.ram, tt.force, got, tt.want)
		}
	}
}

// --ignore-arm-vm-limit, of the node or of the cloud's settings.
func TestArmLimit(t *testing.T) {
	facts := controllerapi.NodeFacts{CPUCount: 8, RAM: 16, HostArch: "arm64"}
	s := controllerapi.NodeSettings{CapacityMode: state.CapacityNumber, MaxVMCount: 5}
	if got := room(facts, s, nil, nil, &state.Config{}).VMs; got != capacity.ARMVMLimit {
		t.Errorf("VMs on Apple silicon: got %d, want %d", got, capacity.ARMVMLimit)
	}
	if got := room(facts, s, nil, nil, &state.Config{IgnoreArmVMLimit: true}).VMs; got != 5 {
		t.Errorf("with the limit ignored: got %d, want 5", got)
	}
}

// --skip-pull-error no-download-bytes: a template whose size nobody can tell is
// pulled only when join allowed it.
func TestPullOfUnknownSize(t *testing.T) {
	for _, tt := range []struct {
		name         string
		asked, skip  bool
		pulled       int
		message      string
		wantInLedger uint64
	}{
		{name: "asked", asked: true, pulled: 1, wantInLedger: 1000},
		{name: "not known", message: "--skip-pull-error no-download-bytes"},
		{name: "not known, skipped", skip: true, pulled: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				s := newStage(t)
				s.cfg.SkipPullSizeCheck = tt.skip
				s.runtime.before = func(_ context.Context, verb, _ string) error {
					if verb == "size" && !tt.asked {
						return errors.New("no bytes")
					}
					return nil
				}
				s.up()
				defer s.down()
				s.cloud.start("i1", func(st *controllerapi.StartTask) { st.Template.Size = 0 })
				if tt.message == "" {
					s.untilState("i1", controllerapi.Started)
				} else {
					s.untilState("i1", controllerapi.Error)
				}
				if got := s.cloud.get("i1").message; !strings.Contains(got, tt.message) {
					t.Errorf("message %q, want %q in it", got, tt.message)
				}
				if got := s.runtime.pulled(); got != tt.pulled {
					t.Errorf("pulls: got %d, want %d", got, tt.pulled)
				}
				var inLedger uint64
				for _, c := range s.agent.status.images.Pulled() {
					inLedger += c.Size
				}
				if inLedger != tt.wantInLedger {
					t.Errorf("size in the ledger: got %d, want %d", inLedger, tt.wantInLedger)
				}
			})
		})
	}
}

// revert_before_push removes the named tag, or the latest, before the push, and
// no other when the agent is restarted in between.
func TestSaveImageReverts(t *testing.T) {
	for _, tt := range []struct {
		name, tag string
		revert    bool
		kill      bool
		left      []string
		reverted  []string
	}{
		{name: "not asked", left: []string{"v1", "v2", "v3"}},
		{name: "latest", revert: true, left: []string{"v1", "v2"}, reverted: []string{"v3"}},
		{name: "by tag", revert: true, tag: "v2", left: []string{"v1"}, reverted: []string{"v2"}},
		{name: "latest, killed in the push", revert: true, kill: true, left: []string{"v1", "v2"}, reverted: []string{"v3"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				s := newStage(t)
				s.registry.tags["tpl-1"] = []string{"v1", "v2", "v3"}
				var pushes atomic.Int32
				s.runtime.before = func(ctx context.Context, verb, _ string) error {
					if verb == "push" && pushes.Add(1) == 1 && tt.kill {
						return hang(ctx)
					}
					return nil
				}
				s.up()
				s.started("i1")
				s.cloud.save("s1", "i1", controllerapi.SaveImageTask{
					Request: controllerapi.SaveImageRequest{ID: "i1", Tag: "v4", TargetVMID: "tpl-1", RevertBeforePush: tt.revert, RevertTag: tt.tag},
					Target:  controllerapi.TemplateRef{ID: "tpl-1", Name: "demo", Tag: "v4", Repository: "demo"},
				})
				s.until("pushed", func() bool { return pushes.Load() == 1 })
				if tt.kill {
					s.down()
					s.up()
				}
				defer s.down()
				s.until("the end is reported", func() bool { return s.cloud.outcome("s1").Phase == controllerapi.PhaseDone })
				if got := s.registry.tags["tpl-1"]; !slices.Equal(got, tt.left) {
					t.Errorf("tags: got %v, want %v", got, tt.left)
				}
				if got := s.registry.reverted; !slices.Equal(got, tt.reverted) {
					t.Errorf("reverted: got %v, want %v", got, tt.reverted)
				}
			})
		})
	}
}

var _ hypervisor.Sizer = (*fakeRuntime)(nil)
