package launchd

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"

	"github.com/kardianos/service"
)

// State is what a service is doing.
type State string

// The states of a service. Failed means that it ended with an error and waits
// for its restart, or was given up by hand.
const (
	NotInstalled State = "not installed"
	Stopped      State = "stopped"
	Running      State = "running"
	Failed       State = "failed"
)

// Status is what the service manager knows.
type Status struct {
	State State
	// PID is the main process, 0 if there is none or it is not known.
	PID int
	// Restarts counts the restarts after failures since the last Start. Known
	// on systemd only.
	Restarts int
	// Enabled is true when the service starts at boot.
	Enabled bool
}

// errDamaged means that there is a definition that someone else has written or
// masked. It can be replaced and removed, and nothing else.
var errDamaged = errors.New("systemd cannot use the service's unit")

// Status asks the service manager.
func (s *Service) Status() (Status, error) {
	if service.Platform() == platformSystemd {
		return s.systemdStatus()
	}
	st, err := s.ctl.Status()
	switch {
	case errors.Is(err, service.ErrNotInstalled):
		return Status{State: NotInstalled}, nil
	case err != nil:
		return Status{}, fmt.Errorf("status of service %s: %w", s.cfg.Name, err)
	case st == service.StatusRunning:
		return Status{State: Running, Enabled: true}, nil
	}
	// RunAtLoad: what lies in the directory starts at boot.
	return Status{State: Stopped, Enabled: true}, nil
}

// systemdStatus asks systemd itself, because kardianos/service reports a failed
// unit as an error that cannot be told from others, and knows no PID.
func (s *Service) systemdStatus() (Status, error) {
	out, err := systemctl("show", "--property=LoadState,ActiveState,MainPID,NRestarts,UnitFileState", s.cfg.Name+".service")
	if err != nil {
		return Status{}, fmt.Errorf("status of service %s: %w", s.cfg.Name, err)
	}
	st, err := parseSystemdShow(out)
	if err != nil {
		return Status{}, fmt.Errorf("status of service %s: %w (%s)", s.cfg.Name, err, s.advice())
	}
	return st, nil
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

// enabled reports whether the service starts at boot. On macOS lying in the
// directory is enough.
func (s *Service) enabled() bool {
	st, err := s.Status()
	return err == nil && st.Enabled
}

// forget clears what systemd remembers of a removed unit that had failed.
func (s *Service) forget() {
	if service.Platform() == platformSystemd {
		// It fails when there is nothing to forget, which is what is wanted.
		_, _ = systemctl("reset-failed", s.cfg.Name+".service")
	}
}

func systemctl(args ...string) (string, error) {
	cmd := exec.Command("systemctl", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("systemctl %s: %w: %s", args[0], err, bytes.TrimSpace(stderr.Bytes()))
	}
	return string(out), nil
}
