package node

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/agent"
	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/agent/upgrade"
	"github.com/ankacluster/ankacluster/controllerapi"
	"github.com/ankacluster/ankacluster/internal/buildinfo"
	"github.com/ankacluster/ankacluster/internal/selfpath"
	"github.com/ankacluster/ankacluster/internal/wire"
)

// UpgradeDir is where upgrades of the program are prepared.
func UpgradeDir(dir state.Dir) upgrade.Dir { return upgrade.Dir(filepath.Join(string(dir), "upgrade")) }

// upgrader replaces the agent's program for the agent.
type upgrader struct {
	dir   state.Dir
	pools *Pools
	self  string // by which the program is started; a link may lead on from there
	trust upgrade.Trust
}

// newUpgrader returns nil, which refuses upgrades, where join did not allow them and
// when this process does not know its own program.
func newUpgrader(cfg state.Config, dir state.Dir, pools *Pools) agent.Upgrader {
	self, err := selfpath.Program()
	if err != nil || !cfg.AllowUpgrades {
		return nil
	}
	keys, err := upgrade.Keys(cfg.UpgradeKeys)
	if err != nil {
		return nil // join has refused it
	}
	return upgrader{dir, pools, self, upgrade.Trust{Keys: keys, OS: runtime.GOOS, Arch: runtime.GOARCH, Running: buildinfo.Version}}
}

func (u upgrader) Version() string { return buildinfo.Version }

func (u upgrader) Prepare(ctx context.Context, t controllerapi.UpgradeTask) error {
	return UpgradeDir(u.dir).Prepare(ctx, t, u.trust, func(ctx context.Context, path string) (io.ReadCloser, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, controllersBase+path, nil)
		if err != nil {
			return nil, err
		}
		resp, err := (&http.Client{CheckRedirect: wire.NoRedirect, Transport: u.pools.toControllers}).Do(req)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode != http.StatusOK {
			_ = resp.Body.Close()
			return nil, fmt.Errorf("the controller answered %s", resp.Status)
		}
		return resp.Body, nil
	})
}

func (u upgrader) Begin(t controllerapi.UpgradeTask) error {
	return UpgradeDir(u.dir).Begin(t, buildinfo.Version, u.self, func(previous string) error {
		// By way of a shell that ends at once: a guard that is this process's
		// child would stay as a zombie of the next version, which knows no
		// children.
		cmd := exec.Command("/bin/sh", "-c", `"$0" upgrade-guard --force-no-sudo --state-dir "$1" </dev/null >/dev/null 2>&1 &`, previous, string(u.dir))
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		return cmd.Run()
	})
}

// confirmUpgrade ends the trial of this version once the cloud knows the node.
func confirmUpgrade(ctx context.Context, dir state.Dir, a *agent.Agent, log *zap.Logger) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for !a.Status().Registered {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
	if err := UpgradeDir(dir).Confirm(buildinfo.Version); err != nil {
		log.Error("upgrade not confirmed", zap.Error(err))
	}
}
