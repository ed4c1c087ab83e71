package launchd

import (
	"errors"
	"fmt"
	"os"

	"github.com/kardianos/service"
)

var (
	// ErrNoManager means that neither launchd nor systemd runs here, as in most
	// containers: the program can only run in the foreground.
	ErrNoManager = errors.New("no service manager (launchd or systemd) runs on this machine")
	// ErrNotInstalled means that there is no such service.
	ErrNotInstalled = errors.New("the service is not installed")
	// ErrDisabled means that launchd does not start the service because somebody
	// has switched it off, and that it stayed off when it was switched on.
	ErrDisabled = errors.New("the service is switched off on this Mac")
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
	cfg Config
	manager
}

// manager is a service at a service manager. Its errors do not name the service.
type manager interface {
	status() (Status, error)
	install() error
	uninstall() error
	start() error
	stop() error
	restart() error
	uses(arg string) (installed, uses bool)
	// advice is where a person finds out more.
	advice() string
}

// New returns the service that cfg describes and changes nothing. It returns
// ErrNoManager, or everything that is wrong with cfg.
func New(cfg Config) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if !cfg.Launchd.standIn() && !Available() {
		return nil, ErrNoManager
	}
	cfg = cfg.withDefaults()
	render := renderUnit
	if cfg.underLaunchd() {
		render = renderPlist
	}
	text, err := render(cfg)
	if err != nil {
		return nil, fmt.Errorf("render service %s: %w", cfg.Name, err)
	}
	if cfg.underLaunchd() {
		return &Service{cfg, newDaemon(cfg, text)}, nil
	}
	u, err := newSystemdUnit(cfg, text)
	if err != nil {
		return nil, fmt.Errorf("service %s: %w", cfg.Name, err)
	}
	return &Service{cfg, u}, nil
}

// Status asks the service manager. On macOS it needs no rights.
func (s *Service) Status() (Status, error) {
	st, err := s.manager.status()
	return st, s.told("status of", err)
}

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
	return s.told("install", s.install())
}

// Uninstall stops the service and removes its definition. It is no error when
// there is none.
func (s *Service) Uninstall() error { return s.told("uninstall", s.uninstall()) }

// Start runs an installed service. It is no error when it runs already.
// ErrNotInstalled if there is no such service, ErrDisabled if it is switched off.
func (s *Service) Start() error { return s.told("start", s.start()) }

// Stop ends the service and returns when its process has gone. It stays
// installed. It is no error when it does not run.
func (s *Service) Stop() error { return s.told("stop", s.stop()) }

// Restart stops the service if it runs and starts it. Its errors are Start's.
func (s *Service) Restart() error { return s.told("start", s.restart()) }

// Uses reports whether the service is installed, and whether what is installed has
// arg among its arguments.
func (s *Service) Uses(arg string) (installed, uses bool) { return s.manager.uses(arg) }

// DefinitionPath returns where the definition is kept.
func (s *Service) DefinitionPath() string { return s.cfg.DefinitionPath() }

// told names the service in an error, and where there is more to be seen.
func (s *Service) told(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrNotInstalled), errors.Is(err, ErrDisabled), errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%s service %s: %w", what, s.cfg.Name, err)
	}
	return fmt.Errorf("%s service %s: %w (%s)", what, s.cfg.Name, err, s.advice())
}
