// Package doctor looks for what usually keeps a node from working: rights, disk,
// hypervisor, licence, clock, names, routes, ports, a second agent. It changes
// nothing that outlives the check.
//
//	findings := doctor.Run(ctx, doctor.Config{Controllers: urls, StateDir: dir, ...})
//
// Checks run at the same time, each within Config.Timeout, and findings come in
// a fixed order.
package doctor

import (
	"context"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/internal/wire"
)

// Level says how bad a finding is.
type Level string

const (
	OK   Level = "ok"
	Warn Level = "warn" // works, or may work, but someone should look
	Fail Level = "fail" // keeps the node from working
)

// Finding is the result of one check.
type Finding struct {
	Check  string `json:"check"`            // root, state, disk, ...
	Target string `json:"target,omitempty"` // the server or path that was looked at
	Level  Level  `json:"level"`
	// Summary says what was seen and, unless ok, why it matters.
	Summary string `json:"summary"`
	// Advice says what to do; "" when there is nothing to do.
	Advice string `json:"advice,omitempty"`
}

// Config says what to look at. A part that is nil or empty is not looked at,
// but for Controllers, whose absence is a finding.
type Config struct {
	Controllers []string // URLs that the node was joined with or knows
	Registries  []string // URLs known from earlier; those that a controller names are added
	StateDir    string
	// SettingsErr is why the settings of the last join could not be read.
	SettingsErr error
	// Reserve is how many bytes should stay free on a disk of a size.
	Reserve func(size uint64) uint64

	HypervisorName string // anka or tart
	Hypervisor     hypervisor.Runtime

	// Programs are those that root runs.
	Programs []string

	// AgentPID is the process that holds the agent's lock, 0 for none.
	AgentPID int
	// Service is what the service manager says of the agent, nil when no
	// service manager was asked.
	Service *Service
	// Agents lists the agent processes of this machine.
	Agents func(ctx context.Context) ([]Process, error)
	// Inactive is why the agent takes no VMs, "" if it does or does not answer.
	Inactive string
	// Rivals lists other programs that use the hypervisor; nil looks for none.
	Rivals func(ctx context.Context) ([]Rival, error)

	// Client reaches the servers as the agent does. It must not balance. Nil
	// means a plain client.
	Client *http.Client
	// Timeout bounds every check; 0 means DefaultTimeout.
	Timeout time.Duration

	EUID int
	GOOS string // "" means this system
	Tool Tool   // asks macOS; nil runs the commands
}

// DefaultTimeout is long enough for a lost packet and short enough to wait for.
const DefaultTimeout = 5 * time.Second

// Service is the agent as the service manager sees it.
type Service struct {
	State   string // not installed, stopped, running, failed
	PID     int    // 0 if not known
	Enabled bool
	// Restarts and LastExit are the service manager's words for how it went.
	Restarts int
	LastExit string
	Err      error // the service manager could not be asked
}

// Process is a process of this machine.
type Process struct {
	PID     int
	Command string
}

// Run runs every check.
func Run(ctx context.Context, cfg Config) []Finding {
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.GOOS == "" {
		cfg.GOOS = runtime.GOOS
	}
	if cfg.Tool == nil {
		cfg.Tool = runTool
	}
	if cfg.Client == nil {
		cfg.Client = &http.Client{CheckRedirect: wire.NoRedirect}
	}
	host := inParallel(ctx, cfg, checkRoot, checkState, checkDisk, checkHypervisor, checkPrograms, checkAgents, checkRivals, checkMac)

	probes := make([]controllerProbe, len(cfg.Controllers))
	var wg sync.WaitGroup
	for i, u := range cfg.Controllers {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
			defer cancel()
			probes[i] = probeController(ctx, cfg, u)
		})
	}
	local := host()
	wg.Wait()

	all := append(local, controllerFindings(probes)...)
	return append(all, registryFindings(ctx, cfg, probes)...)
}

// Worst returns the highest level among findings, OK when there are none.
func Worst(findings []Finding) Level {
	worst := OK
	for _, f := range findings {
		if f.Level == Fail {
			return Fail
		}
		if f.Level == Warn {
			worst = Warn
		}
	}
	return worst
}

type check func(ctx context.Context, cfg Config) []Finding

// inParallel starts checks and returns a function that waits for their findings,
// in the order of the checks.
func inParallel(ctx context.Context, cfg Config, checks ...check) func() []Finding {
	results := make([][]Finding, len(checks))
	var wg sync.WaitGroup
	for i, c := range checks {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
			defer cancel()
			results[i] = c(ctx, cfg)
		})
	}
	return func() []Finding {
		wg.Wait()
		return slices.Concat(results...)
	}
}

func one(f Finding) []Finding { return []Finding{f} }
