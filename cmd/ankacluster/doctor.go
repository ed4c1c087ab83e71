package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"

	"github.com/urfave/cli/v2"
	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/agent"
	"github.com/ankacluster/ankacluster/agent/command"
	"github.com/ankacluster/ankacluster/agent/doctor"
	"github.com/ankacluster/ankacluster/agent/node"
	"github.com/ankacluster/ankacluster/agent/socket"
	"github.com/ankacluster/ankacluster/agent/state"
	"github.com/ankacluster/ankacluster/internal/wire"
)

func doctorCommand() *cli.Command {
	return &cli.Command{
		Name:      "doctor",
		Usage:     "look for what usually keeps a node from working, and say what to do",
		ArgsUsage: "[URL[,URL…]]",
		Description: `Checks this host (rights, disk, hypervisor, licence, clock, a second agent) and
the way to each controller and registry (name, route, port, certificate).
Without a URL it checks the servers that this node has joined. It changes
nothing, and works also before a join. The exit code is 1 when something fails.

Example:
   sudo ankacluster doctor
   sudo ankacluster doctor http://10.0.1.4:8090`,
		Flags: append(placeFlags(),
			&cli.BoolFlag{Name: "machine-readable", Aliases: []string{"json", "j"}, Usage: "print JSON", DisableDefaultText: true},
			&cli.DurationFlag{Name: "timeout", Value: doctor.DefaultTimeout, Usage: "wait at most `DURATION` for each check"}),
		Action: doctorAction,
	}
}

func doctorAction(c *cli.Context) error {
	if c.Duration("timeout") <= 0 {
		return usagef("--timeout %s must be above 0, e.g. 5s", c.Duration("timeout"))
	}
	cfg, err := doctorConfig(c)
	if err != nil {
		return err
	}
	findings := doctor.Run(c.Context, cfg)
	if c.Bool("machine-readable") {
		err = json.NewEncoder(c.App.Writer).Encode(struct {
			OK       bool             `json:"ok"`
			Findings []doctor.Finding `json:"findings"`
		}{doctor.Worst(findings) != doctor.Fail, findings})
	} else {
		err = printFindings(c.App.Writer, findings)
	}
	if err != nil {
		return err
	}
	if failed := countLevel(findings, doctor.Fail); failed > 0 {
		return fmt.Errorf("%d of %d checks failed", failed, len(findings))
	}
	return nil
}

func doctorConfig(c *cli.Context) (doctor.Config, error) {
	dir, err := joinedDir(c)
	if err != nil {
		return doctor.Config{}, err
	}
	joined, settingsErr := dir.Config()
	if settingsErr != nil {
		joined = state.DefaultConfig()
	}
	joined.AnkaPath = cmp.Or(os.Getenv(ankaPathEnv), joined.AnkaPath)
	joined.TartPath = cmp.Or(os.Getenv(tartPathEnv), joined.TartPath)
	if errors.Is(settingsErr, state.ErrNotJoined) {
		settingsErr = nil // no trouble of the settings, and told by other findings
		if findCommand(&joined.AnkaPath) != nil && findCommand(&joined.TartPath) == nil {
			joined.Runtime = state.RuntimeTart // as join would choose
		}
	}
	if c.NArg() > 0 {
		if joined.Controllers, err = controllerURLs(c.Args().Slice()); err != nil {
			return doctor.Config{}, usageError{err}
		}
	}
	plain, err := node.NewPlain(joined, checkTimeout)
	if err != nil {
		return doctor.Config{}, err
	}
	cluster := dir.Cluster()
	// Without notes of what runs: a doctor leaves nothing behind.
	rt := node.OpenRuntime(dir, joined, command.New("", zap.NewNop(), nil))
	cfg := doctor.Config{
		Controllers: joined.Controllers, StateDir: string(dir), Reserve: joined.ReserveSpace.Of,
		HypervisorName: joined.Runtime, Hypervisor: rt, SettingsErr: settingsErr, AgentPID: dir.RunningPID(), Service: serviceState(c, dir),
		Agents: func(ctx context.Context) ([]doctor.Process, error) {
			return doctor.Processes(ctx, "ankacluster", "run")
		},
		Rivals:  func(ctx context.Context) ([]doctor.Rival, error) { return doctor.Rivals(ctx, launchDaemons) },
		Client:  &http.Client{CheckRedirect: wire.NoRedirect, Transport: plain},
		Timeout: c.Duration("timeout"), EUID: os.Geteuid(),
	}
	if thisHost.euid == 0 && !c.Bool("force-no-sudo") {
		cfg.Programs = asRoot(joined)
	}
	var status agent.Status
	askCtx, cancel := context.WithTimeout(c.Context, c.Duration("timeout"))
	defer cancel()
	if socket.Ask(askCtx, dir.Socket(), "/status", &status) == nil {
		cfg.Inactive = status.Inactive
	}
	if c.NArg() == 0 {
		for _, u := range node.ServerURLs(cluster.Controllers) {
			if !slices.Contains(cfg.Controllers, u) {
				cfg.Controllers = append(cfg.Controllers, u)
			}
		}
		cfg.Registries = node.ServerURLs(cluster.Registries)
	}
	return cfg, nil
}

// serviceState asks the service manager, where the agent would be its service.
func serviceState(c *cli.Context, dir state.Dir) *doctor.Service {
	if c.Bool("force-no-sudo") || !serviceAvailable() {
		return nil
	}
	svc, err := agentService(dir)
	if err != nil {
		return &doctor.Service{Err: err}
	}
	st, err := svc.Status()
	return &doctor.Service{State: string(st.State), PID: st.PID, Enabled: st.Enabled, Restarts: st.Restarts, LastExit: st.LastExit, Err: err}
}

// printFindings writes a line for each finding, and what to do below it.
func printFindings(w io.Writer, findings []doctor.Finding) error {
	for _, f := range findings {
		what := f.Check
		if f.Target != "" {
			what += " " + f.Target
		}
		if _, err := fmt.Fprintf(w, "%-4s  %s: %s\n", f.Level, what, f.Summary); err != nil {
			return err
		}
		if f.Advice != "" {
			if _, err := fmt.Fprintf(w, "      -> %s\n", f.Advice); err != nil {
				return err
			}
		}
	}
	_, err := fmt.Fprintf(w, "%d checks: %d ok, %d to look at, %d failed\n", len(findings),
		countLevel(findings, doctor.OK), countLevel(findings, doctor.Warn), countLevel(findings, doctor.Fail))
	return err
}

func countLevel(findings []doctor.Finding, level doctor.Level) int {
	n := 0
	for _, f := range findings {
		if f.Level == level {
			n++
		}
	}
	return n
}
