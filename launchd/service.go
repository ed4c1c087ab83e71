package launchd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/kardianos/service"
)

var (
	// ErrNoManager means that neither launchd nor systemd runs here, as in most
	// containers: the program can only run in the foreground.
	ErrNoManager = errors.New("no service manager (launchd or systemd) runs on this machine")
	// ErrNotInstalled means that there is no such service.
	ErrNotInstalled = errors.New("the service is not installed")
)

const (
	platformLaunchd = "darwin-launchd"
	platformSystemd = "linux-systemd"
)

// Available reports whether a service manager that we support runs here. It
// says nothing of the right to use it, for which a process must be root.
func Available() bool {
	p := service.Platform()
	return p == platformLaunchd || p == platformSystemd
}

// Service is one installed or installable service.
type Service struct {
	cfg  Config
	path string
	text string
	ctl  service.Service
}

// New returns the service that cfg describes and changes nothing. It returns
// ErrNoManager, or everything that is wrong with cfg.
func New(cfg Config) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if !Available() {
		return nil, ErrNoManager
	}
	cfg = cfg.withDefaults()
	render := renderUnit
	if service.Platform() == platformLaunchd {
		render = renderPlist
	}
	text, err := render(cfg)
	if err != nil {
		return nil, fmt.Errorf("render service %s: %w", cfg.Name, err)
	}
	ctl, err := service.New(noProgram{}, &service.Config{
		Name:        cfg.Name,
		DisplayName: cfg.Name,
		Description: cfg.Description,
		Executable:  cfg.Executable,
		Arguments:   cfg.Arguments,
		EnvVars:     cfg.Environment,
		Option:      service.KeyValue{"SystemdScript": text, "LaunchdConfig": text},
	})
	if err != nil {
		return nil, fmt.Errorf("service %s: %w", cfg.Name, err)
	}
	return &Service{cfg: cfg, path: DefinitionPath(cfg.Name), text: text, ctl: ctl}, nil
}

// noProgram stands where kardianos/service wants a program to run: a Service
// controls one, Run is one.
type noProgram struct{}

func (noProgram) Start(service.Service) error { return nil }
func (noProgram) Stop(service.Service) error  { return nil }

// Install writes the definition and makes the service start at boot. It does
// not start it: call Restart, which also makes a changed definition take effect.
func (s *Service) Install() error {
	info, err := os.Stat(s.cfg.Executable)
	if err != nil {
		return fmt.Errorf("install service %s: %w", s.cfg.Name, err)
	}
	if info.IsDir() || info.Mode()&0o111 == 0 {
		return fmt.Errorf("install service %s: %s is not an executable file", s.cfg.Name, s.cfg.Executable)
	}
	if service.Platform() == platformLaunchd {
		if err := os.MkdirAll(s.cfg.LogDir, 0o755); err != nil {
			return fmt.Errorf("install service %s: %w", s.cfg.Name, err)
		}
	}
	old, err := os.ReadFile(s.path)
	switch {
	case err == nil && string(old) == s.text && s.enabled():
		return nil
	case err == nil:
		if err := s.ctl.Uninstall(); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("replace service %s: %w", s.cfg.Name, err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("install service %s: %w", s.cfg.Name, err)
	}
	if err := s.ctl.Install(); err != nil {
		// A definition that was written but not accepted would make the next
		// attempt look like a repeat.
		_ = os.Remove(s.path)
		return fmt.Errorf("install service %s: %w", s.cfg.Name, err)
	}
	return nil
}

// Uninstall stops the service and removes its definition. It is no error when
// there is none.
func (s *Service) Uninstall() error {
	if _, err := os.Stat(s.path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := s.Stop(); err != nil && !errors.Is(err, errDamaged) {
		return err
	}
	if err := s.ctl.Uninstall(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("uninstall service %s: %w", s.cfg.Name, err)
	}
	s.forget()
	return nil
}

// Start runs an installed service. It is no error when it runs already.
// ErrNotInstalled if there is no such service.
func (s *Service) Start() error {
	st, err := s.Status()
	switch {
	case err != nil:
		return err
	case st.State == NotInstalled:
		return fmt.Errorf("start service %s: %w", s.cfg.Name, ErrNotInstalled)
	case st.State == Running && service.Platform() == platformLaunchd:
		// launchctl calls it an error. systemd does not, and may be about to
		// stop or waiting for a restart, so there the start is asked for.
		return nil
	}
	if err := s.ctl.Start(); err != nil {
		return fmt.Errorf("start service %s: %w (%s)", s.cfg.Name, err, s.advice())
	}
	return nil
}

// Stop ends the service and returns when its process has gone. It stays
// installed. It is no error when it does not run.
func (s *Service) Stop() error {
	st, err := s.Status()
	if err != nil || st.State == NotInstalled || st.State == Stopped {
		return err
	}
	if err := s.ctl.Stop(); err != nil {
		return fmt.Errorf("stop service %s: %w (%s)", s.cfg.Name, err, s.advice())
	}
	// launchctl comes back while the process still works on its end. A start
	// before that end is refused or, worse, taken for done.
	deadline := time.Now().Add(s.cfg.StopTimeout + stopGrace)
	for {
		st, err := s.Status()
		if err != nil || st.State != Running {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("stop service %s: still running after %s (%s)", s.cfg.Name, s.cfg.StopTimeout+stopGrace, s.advice())
		}
		time.Sleep(pollInterval)
	}
}

// Restart stops the service if it runs and starts it.
func (s *Service) Restart() error {
	if err := s.Stop(); err != nil {
		return err
	}
	return s.Start()
}

const (
	stopGrace    = 5 * time.Second // what the service manager may take to kill
	pollInterval = 50 * time.Millisecond
)

// advice is where a person finds out more.
func (s *Service) advice() string {
	if service.Platform() == platformLaunchd {
		return "see launchctl print system/" + s.cfg.Name
	}
	return "see systemctl status " + s.cfg.Name + " and journalctl -u " + s.cfg.Name
}
