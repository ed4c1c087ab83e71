package launchd

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/kardianos/service"
)

// errDamaged means that there is a definition that someone else has written or
// masked. It can be replaced and removed, and nothing else.
var errDamaged = errors.New("systemd cannot use the service's unit")

// systemdUnit is a service under systemd, by way of kardianos/service.
type systemdUnit struct {
	cfg  Config
	path string
	text string
	ctl  service.Service
}

func newSystemdUnit(cfg Config, text string) (*systemdUnit, error) {
	ctl, err := service.New(noProgram{}, &service.Config{
		Name:        cfg.Name,
		DisplayName: cfg.Name,
		Description: cfg.Description,
		Executable:  cfg.Executable,
		Arguments:   cfg.Arguments,
		EnvVars:     cfg.Environment,
		Option:      service.KeyValue{"SystemdScript": text},
	})
	if err != nil {
		return nil, err
	}
	return &systemdUnit{cfg: cfg, path: cfg.DefinitionPath(), text: text, ctl: ctl}, nil
}

// noProgram stands where kardianos/service wants a program to run: a Service
// controls one, Run is one.
type noProgram struct{}

func (noProgram) Start(service.Service) error { return nil }
func (noProgram) Stop(service.Service) error  { return nil }

func (u *systemdUnit) advice() string {
	return "see systemctl status " + u.cfg.Name + " and journalctl -u " + u.cfg.Name
}

func (u *systemdUnit) install() error {
	old, err := os.ReadFile(u.path)
	switch {
	case err == nil && string(old) == u.text && u.enabled():
		return nil
	case err == nil:
		if err := u.ctl.Uninstall(); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("replace the unit: %w", err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := u.ctl.Install(); err != nil {
		// A definition that was written but not accepted would make the next
		// attempt look like a repeat.
		_ = os.Remove(u.path)
		return err
	}
	return nil
}

func (u *systemdUnit) uninstall() error {
	if _, err := os.Stat(u.path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := u.stop(); err != nil && !errors.Is(err, errDamaged) {
		return err
	}
	if err := u.ctl.Uninstall(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// Forget what is remembered of a removed unit that had failed. It fails when
	// there is nothing to forget, which is what is wanted.
	_, _ = systemctl("reset-failed", u.cfg.Name+".service")
	return nil
}

// start asks also for what runs: it may be about to stop, or wait for a restart.
func (u *systemdUnit) start() error {
	st, err := u.status()
	if err == nil && st.State == NotInstalled {
		err = ErrNotInstalled
	}
	if err != nil {
		return err
	}
	return u.ctl.Start()
}

func (u *systemdUnit) stop() error {
	st, err := u.status()
	if err != nil || st.State == NotInstalled || st.State == Stopped {
		return err
	}
	if err := u.ctl.Stop(); err != nil {
		return err
	}
	for deadline := time.Now().Add(u.cfg.StopTimeout + stopGrace); ; {
		st, err := u.status()
		if err != nil || st.State != Running {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("still running after %s", u.cfg.StopTimeout+stopGrace)
		}
		time.Sleep(pollInterval)
	}
}

func (u *systemdUnit) restart() error {
	if err := u.stop(); err != nil {
		return err
	}
	return u.start()
}

// status asks systemd itself, because kardianos/service reports a failed unit as an
// error that cannot be told from others, and knows no PID.
func (u *systemdUnit) status() (Status, error) {
	out, err := systemctl("show", "--property=LoadState,ActiveState,MainPID,NRestarts,UnitFileState", u.cfg.Name+".service")
	if err != nil {
		return Status{}, err
	}
	return parseSystemdShow(out)
}

// enabled reports whether the service starts at boot.
func (u *systemdUnit) enabled() bool {
	st, err := u.status()
	return err == nil && st.Enabled
}

func (u *systemdUnit) uses(arg string) (installed, uses bool) {
	text, err := os.ReadFile(u.path)
	if err != nil {
		return false, false
	}
	return true, strings.Contains(string(text), " "+quoteArgument(arg)+"\n") || strings.Contains(string(text), " "+quoteArgument(arg)+" ")
}

func parseSystemdShow(out string) (Status, error) {
	props := make(map[string]string)
	for line := range strings.Lines(out) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			props[k] = v
		}
	}
	st := Status{Enabled: props["UnitFileState"] == "enabled"}
	st.PID, _ = strconv.Atoi(props["MainPID"])
	st.Restarts, _ = strconv.Atoi(props["NRestarts"])
	switch props["ActiveState"] {
	case "active", "activating", "reloading", "deactivating":
		// Activating includes the wait for an automatic restart.
		st.State = Running
	case "failed":
		st.State = Failed
	default:
		switch load := props["LoadState"]; load {
		case "loaded":
			st.State = Stopped
		case "not-found":
			st.State = NotInstalled
		default: // bad-setting, error, masked
			return Status{}, fmt.Errorf("%w: %s", errDamaged, load)
		}
	}
	return st, nil
}

// systemctlPath is where distributions have it: what root runs is not looked for.
func systemctlPath() string {
	if _, err := os.Stat("/usr/bin/systemctl"); err != nil {
		return "/bin/systemctl"
	}
	return "/usr/bin/systemctl"
}

func systemctl(args ...string) (string, error) {
	cmd := exec.Command(systemctlPath(), args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("systemctl %s: %w: %s", args[0], err, bytes.TrimSpace(stderr.Bytes()))
	}
	return string(out), nil
}
