package node

import (
	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/agent/anka"
	"github.com/ankacluster/ankacluster/agent/command"
	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/agent/tart"
)

// OpenRuntime is the hypervisor that the node was joined with.
func OpenRuntime(dir state.Dir, cfg state.Config, runner *command.Runner) hypervisor.Runtime {
	if cfg.Runtime == state.RuntimeTart {
		return tart.New(tart.Config{Path: cfg.TartPath, Home: cfg.TartHome, User: cfg.TartUser, Dir: dir.VMOutput(), Timeouts: tart.DefaultTimeouts()}, runner)
	}
	cli := anka.New(cfg.AnkaPath, runner, anka.DefaultTimeouts())
	cli.RememberIn(dir.AnkaImages())
	return cli
}

// NewRuntime is the hypervisor of this node.
func NewRuntime(dir state.Dir, cfg state.Config, log *zap.Logger, obs command.Observer) (hypervisor.Runtime, *command.Runner) {
	runner := command.New(dir.CommandNotes(), log, obs)
	return OpenRuntime(dir, cfg, runner), runner
}
