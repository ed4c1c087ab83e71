package doctor

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ankacluster/ankacluster/agent/anka"
	"github.com/ankacluster/ankacluster/agent/hypervisor"
	"github.com/ankacluster/ankacluster/agent/tart"
)

func checkRoot(_ context.Context, cfg Config) []Finding {
	if cfg.EUID == 0 {
		return one(Finding{Check: "root", Level: OK, Summary: "runs as root"})
	}
	return one(Finding{Check: "root", Level: Warn,
		Summary: fmt.Sprintf("runs as user %d: the agent's files and VMs belong to root, so some checks cannot see them", cfg.EUID),
		Advice:  "run it again with sudo"})
}

// checkState writes a file, because neither a mode nor a free-space figure says
// that it can be done.
func checkState(_ context.Context, cfg Config) []Finding {
	if cfg.StateDir == "" {
		return nil
	}
	found := one(stateFinding(cfg))
	switch err := cfg.SettingsErr; {
	case errors.Is(err, fs.ErrPermission):
		found = append(found, Finding{Check: "settings", Level: Warn, Summary: "cannot be read by this user", Advice: "run it again with sudo"})
	case err != nil:
		found = append(found, Finding{Check: "settings", Level: Fail, Summary: fmt.Sprintf("of the last join cannot be read: %v", err), Advice: "run ankacluster join again"})
	}
	return found
}

func stateFinding(cfg Config) Finding {
	f := Finding{Check: "state directory", Target: cfg.StateDir, Level: OK, Summary: "can be written"}
	info, err := os.Stat(cfg.StateDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.Level, f.Summary, f.Advice = Warn, "does not exist: this node has not joined a cloud", "run ankacluster join"
		return f
	case err == nil && !info.IsDir():
		f.Level, f.Summary, f.Advice = Fail, "is not a directory", "move it away and join again"
		return f
	}
	if err = tryWrite(cfg.StateDir); err == nil {
		return f
	}
	f.Level = Fail
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		f.Summary, f.Advice = "cannot be written: the disk is full", "free some space: the agent cannot keep track of its VMs without"
	case errors.Is(err, fs.ErrPermission) && cfg.EUID != 0:
		f.Level, f.Summary, f.Advice = Warn, "cannot be written by this user", "run it again with sudo"
	case errors.Is(err, unix.EROFS):
		f.Summary, f.Advice = "cannot be written: the file system is read-only", "check the disk (diskutil verifyVolume, dmesg) and mount it for writing"
	default:
		f.Summary, f.Advice = fmt.Sprintf("cannot be written: %v", err), "check its owner and mode; it belongs to the user that the agent runs as"
	}
	return f
}

func tryWrite(dir string) (err error) {
	f, err := os.CreateTemp(dir, ".doctor-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	if _, err := f.Write(make([]byte, 4096)); err != nil {
		return err
	}
	return f.Sync()
}

// diskLow is where even logs and the journal are in danger, whatever the reserve.
const diskLow = 1 << 30

func checkDisk(ctx context.Context, cfg Config) []Finding {
	if cfg.StateDir == "" {
		return nil
	}
	dir := cfg.StateDir
	for dir != filepath.Dir(dir) {
		if _, err := os.Stat(dir); err == nil {
			break
		}
		dir = filepath.Dir(dir)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return one(Finding{Check: "disk", Target: dir, Level: Warn, Summary: fmt.Sprintf("free space is not known: %v", err), Advice: "look with df -h"})
	}
	found := one(diskFinding(dir, cfg.HypervisorName, uint64(st.Bavail)*uint64(st.Bsize), st.Blocks*uint64(st.Bsize), cfg.Reserve))
	return append(found, imageDisks(ctx, cfg, st)...)
}

// imageDisks looks at the volumes of images and VMs that are not the state
// directory's.
func imageDisks(ctx context.Context, cfg Config, state unix.Statfs_t) (found []Finding) {
	rt, ok := cfg.Hypervisor.(hypervisor.Placed)
	if !ok {
		return nil
	}
	dirs, err := rt.Dirs(ctx)
	if err != nil {
		return nil // checkHypervisor tells what does not work
	}
	seen := map[unix.Fsid]bool{state.Fsid: true}
	for _, dir := range dirs {
		var st unix.Statfs_t
		if err := unix.Statfs(dir, &st); err != nil {
			found = append(found, Finding{Check: "disk", Target: dir, Level: Fail,
				Summary: fmt.Sprintf("where %s keeps images or VMs cannot be read: %v", cfg.HypervisorName, err),
				Advice:  "plug the volume in; one that is external needs Full Disk Access for the hypervisor's helpers (System Settings, Privacy & Security)"})
			continue
		}
		if !seen[st.Fsid] {
			seen[st.Fsid] = true
			found = append(found, diskFinding(dir, cfg.HypervisorName, uint64(st.Bavail)*uint64(st.Bsize), st.Blocks*uint64(st.Bsize), cfg.Reserve))
		}
	}
	return found
}

func diskFinding(dir, command string, free, size uint64, reserve func(uint64) uint64) Finding {
	f := Finding{Check: "disk", Target: dir, Level: OK, Summary: fmt.Sprintf("%s of %s free", bytesText(free), bytesText(size))}
	var keep uint64
	if reserve != nil {
		keep = reserve(size)
	}
	switch {
	case free < diskLow:
		f.Level, f.Summary = Fail, f.Summary+": no template can be pulled"
		f.Advice = "delete what is not needed, or VM templates by hand with " + cmp.Or(command, "anka") + " delete"
	case free < keep:
		f.Level, f.Summary = Warn, fmt.Sprintf("%s, under the reserve of %s: templates are removed before each pull", f.Summary, bytesText(keep))
		f.Advice = "free some space, or join again with a smaller --reserve-space"
	}
	return f
}

func bytesText(n uint64) string {
	if n < 1<<30 {
		return fmt.Sprintf("%.0f MB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f GB", float64(n)/(1<<30))
}

func checkHypervisor(ctx context.Context, cfg Config) []Finding {
	if cfg.Hypervisor == nil {
		return nil
	}
	f := Finding{Check: "hypervisor", Target: cfg.HypervisorName, Level: OK}
	byHand := cfg.HypervisorName + " version"
	if cfg.HypervisorName == "tart" {
		byHand = "tart --version"
	}
	start := time.Now()
	v, err := cfg.Hypervisor.Version(ctx)
	switch {
	case errors.Is(err, hypervisor.ErrMissing):
		f.Level, f.Summary = Fail, "the "+cfg.HypervisorName+" command is not installed or not where the service looks for it"
		f.Advice = "install it, or set " + strings.ToUpper(cfg.HypervisorName) + "_PATH to where it is"
		return one(f)
	case err != nil && ctx.Err() != nil:
		f.Level, f.Summary = Fail, fmt.Sprintf("the %s command gave no answer within %s", cfg.HypervisorName, time.Since(start).Round(time.Second))
		f.Advice = "try `" + byHand + "` by hand; restart the Mac if that hangs too"
		return one(f)
	case err != nil:
		f.Level, f.Summary = Fail, fmt.Sprintf("the %s command does not work: %v", cfg.HypervisorName, err)
		f.Advice = "try `" + byHand + "` by hand and install it again if that fails too"
		return one(f)
	}
	f.Summary = strings.TrimSpace(v.Product + " " + v.Version)
	if cfg.HypervisorName == "tart" {
		return append([]Finding{tartFinding(f, v.Version), listFinding(ctx, cfg)}, needFindings(ctx, cfg)...)
	}
	if !hypervisor.AtLeast(v.Version, anka.OCIMajor, anka.OCIMinor) {
		f.Level = Fail
		f.Summary += fmt.Sprintf(": it cannot pull templates, which needs %d.%d", anka.OCIMajor, anka.OCIMinor)
		f.Advice = "install a newer anka"
	}
	license := Finding{Check: "licence", Target: "anka", Level: OK, Summary: strings.TrimSpace(v.License + " " + v.Expires)}
	if !v.LicenseValid {
		license.Level, license.Summary = Fail, "not valid: the node stays Inactive and gets no VMs"
		license.Advice = "see anka license show, then anka license activate KEY; if it asks for the terms: sudo anka license accept-eula"
	}
	return []Finding{f, license}
}

func tartFinding(f Finding, version string) Finding {
	fitness, why := tart.Judge(version)
	if fitness == tart.Fit {
		return f
	}
	f.Level, f.Advice = Warn, "install tart "+tart.Advised+" or newer"
	if fitness == tart.NoScripts {
		f.Level = Fail
		f.Summary += ": start-up scripts need " + tart.Oldest
	}
	f.Summary += ": " + why
	return f
}

// needFindings tells what VMs need of this host besides the hypervisor's command.
func needFindings(ctx context.Context, cfg Config) (found []Finding) {
	rt, ok := cfg.Hypervisor.(hypervisor.Needy)
	if !ok {
		return nil
	}
	for _, n := range rt.Needs(ctx) {
		f := Finding{Check: n.What, Target: cfg.HypervisorName, Level: OK, Summary: n.Met}
		if n.Unmet != "" {
			f.Level, f.Summary, f.Advice = Warn, n.Unmet, n.Advice
		}
		if n.Unmet != "" && n.Grave {
			f.Level = Fail
		}
		found = append(found, f)
	}
	return found
}

// listFinding asks for the VMs: tart tells its version also where it cannot use
// its directory.
func listFinding(ctx context.Context, cfg Config) Finding {
	f := Finding{Check: "hypervisor's VMs", Target: cfg.HypervisorName, Level: OK}
	vms, err := cfg.Hypervisor.List(ctx)
	if err != nil {
		f.Level, f.Summary = Fail, fmt.Sprintf("cannot be listed: %v", err)
		f.Advice = "look at the directory that TART_HOME named when the node joined, and at its owner"
		return f
	}
	local := 0
	for _, vm := range vms {
		if vm.UUID != "" {
			local++
		}
	}
	f.Summary = fmt.Sprintf("%d VMs, %d images", local, len(vms)-local)
	return f
}

func checkAgents(ctx context.Context, cfg Config) []Finding {
	var all []Finding
	if s := cfg.Service; s != nil {
		all = append(all, serviceFinding(*s, cfg.AgentPID))
	}
	var others []string
	if cfg.Agents != nil {
		processes, err := cfg.Agents(ctx)
		if err != nil {
			return append(all, Finding{Check: "agent", Level: Warn, Summary: fmt.Sprintf("processes cannot be listed: %v", err), Advice: "look with ps ax"})
		}
		for _, p := range processes {
			if p.PID != cfg.AgentPID {
				others = append(others, strconv.Itoa(p.PID))
			}
		}
	}
	f := Finding{Check: "agent", Level: OK, Summary: fmt.Sprintf("runs as process %d", cfg.AgentPID)}
	switch {
	case len(others) > 0 && cfg.AgentPID != 0:
		f.Level, f.Summary = Fail, fmt.Sprintf("process %d is the agent, and process %s is another: they would end each other's VMs", cfg.AgentPID, strings.Join(others, ", "))
		f.Advice = "end it: sudo kill " + strings.Join(others, " ")
	case len(others) > 0:
		f.Level, f.Summary = Warn, fmt.Sprintf("process %s is an agent of another state directory", strings.Join(others, ", "))
		f.Advice = "run one agent a machine: sudo kill " + strings.Join(others, " ")
	case cfg.AgentPID == 0:
		f.Level, f.Summary, f.Advice = Warn, "does not run", "run ankacluster join"
	case cfg.Inactive != "":
		f.Level, f.Summary, f.Advice = Fail, "the node is Inactive and gets no VMs: "+cfg.Inactive, "see to the reason; ankacluster status shows when it is gone"
	}
	return append(all, f)
}

func serviceFinding(s Service, agentPID int) Finding {
	f := Finding{Check: "service", Level: OK, Summary: s.State}
	switch {
	case s.Err != nil:
		f.Level, f.Summary, f.Advice = Warn, s.Err.Error(), "ask the service manager by hand"
	case s.State == "not installed":
		f.Level, f.Summary, f.Advice = Warn, "not installed: the agent does not come back after a reboot", "run ankacluster join as root"
	case s.State == "failed":
		f.Level, f.Summary, f.Advice = Fail, "ended with "+cmp.Or(s.LastExit, "an error")+fmt.Sprintf(", started again %d times", s.Restarts), "see ankacluster logs, then join again"
	case s.State == "stopped":
		f.Level, f.Summary, f.Advice = Warn, "installed but stopped", "run ankacluster join to start it"
	case s.PID != 0 && agentPID != 0 && s.PID != agentPID:
		f.Level = Fail
		f.Summary = fmt.Sprintf("runs process %d, but process %d holds the agent's lock: the service cannot work", s.PID, agentPID)
		f.Advice = fmt.Sprintf("end the other one: sudo kill %d", agentPID)
	case !s.Enabled:
		f.Level, f.Summary, f.Advice = Warn, s.State+", but not started at boot", "run ankacluster join again"
	}
	return f
}

// Processes lists the processes whose program has the given name and whose first
// argument is subcommand, but this one and its parents.
func Processes(ctx context.Context, program, subcommand string) ([]Process, error) {
	out, err := listProcesses(ctx)
	if err != nil {
		return nil, err
	}
	return parseProcesses(out, program, subcommand, os.Getpid()), nil
}

// listProcesses returns a line for each process: its id and its command line.
func listProcesses(ctx context.Context) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "/bin/ps", "-axo", "pid=,args=")
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("ps: %w", err)
	}
	return out, nil
}

func parseProcesses(ps []byte, program, subcommand string, self int) []Process {
	var found []Process
	for line := range bytes.Lines(ps) {
		fields := strings.Fields(string(line))
		if len(fields) < 3 {
			continue
		}
		pid, err := strconv.Atoi(fields[0])
		if err != nil || pid == self || filepath.Base(fields[1]) != program || fields[2] != subcommand {
			continue
		}
		found = append(found, Process{PID: pid, Command: strings.Join(fields[1:], " ")})
	}
	return found
}
