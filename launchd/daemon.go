package launchd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	stopGrace    = 5 * time.Second // what the service manager may take to kill
	pollInterval = 50 * time.Millisecond
	// askAgain is how long a job may stand still before launchd is asked once more:
	// a job that was just loaded is now and then not started, and a bootout that
	// fails once works the next time.
	askAgain = time.Second
	// loadPatience is how long a bootstrap that is refused without a reason is tried
	// again. launchd needs some seconds to forget a job that has ended.
	loadPatience = 10 * time.Second
)

// daemon is a service under launchd. kardianos/service loads and unloads jobs, which
// fails for a job that is loaded and does not run: one that waits after a crash, or
// that has ended by itself. So launchd is asked for the job's state here, and then
// for what that state allows.
type daemon struct {
	cfg  Config
	path string // of the property list
	text string // of the property list
	run  func(args ...string) (reply, error)
	// runs is the job's count of starts at the last start that was asked for here.
	runs int
}

func newDaemon(cfg Config, text string) *daemon {
	at := cfg.Launchd.withDefaults()
	return &daemon{cfg: cfg, path: cfg.DefinitionPath(), text: text, run: launchctl(at.Launchctl, cfg.StopTimeout+30*time.Second)}
}

func (d *daemon) target() string { return "system/" + d.cfg.Name }

func (d *daemon) advice() string { return "see launchctl print " + d.target() }

// print asks for the job. Everybody may.
func (d *daemon) print() (j job, loaded bool, err error) {
	r, err := d.run("print", d.target())
	switch {
	case err != nil:
		return job{}, false, err
	case r.code == 0:
		return parsePrint(r.stdout), true, nil
	case r.code == codeNotFound || r.code == codeNoProcess:
		return job{}, false, nil
	}
	return job{}, false, fmt.Errorf("launchctl print %s: %s", d.target(), r.said())
}

// disabled reports whether the job is switched off. What cannot be asked is not.
func (d *daemon) disabled() bool {
	r, err := d.run("print-disabled", "system")
	return err == nil && r.code == 0 && parseDisabled(r.stdout, d.cfg.Name)
}

func (d *daemon) status() (Status, error) {
	j, loaded, err := d.print()
	if err != nil {
		return Status{}, err
	}
	_, statErr := os.Stat(d.path)
	if !loaded && errors.Is(statErr, fs.ErrNotExist) {
		return Status{State: NotInstalled}, nil
	}
	st := Status{State: Stopped}
	if loaded {
		if st = j.status(); d.runs > 0 {
			st.Restarts = max(0, j.runs-d.runs)
		}
	}
	// RunAtLoad: what lies in the directory starts at boot.
	st.Enabled = statErr == nil && !d.disabled()
	return st, nil
}

// install writes the property list. A job that runs with another one is ended first:
// launchd keeps the one that it has loaded, whatever the file says.
func (d *daemon) install() error {
	if err := os.MkdirAll(d.cfg.LogDir, 0o755); err != nil {
		return err
	}
	old, err := readPlist(d.path)
	if err != nil {
		return err
	}
	if old == d.text {
		return ownPlist(d.path)
	}
	if err := d.stop(); err != nil {
		return err
	}
	return writePlist(d.path, d.text)
}

// uninstall also ends a job whose property list somebody has removed.
func (d *daemon) uninstall() error {
	if err := d.stop(); err != nil {
		return err
	}
	if err := os.Remove(d.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (d *daemon) start() error {
	j, loaded, err := d.startable()
	switch {
	case err != nil:
		return err
	case loaded && j.pid != 0 && !j.leaving():
		return nil
	case loaded && !j.leaving() && d.same(j):
		return d.kick(j, "kickstart", d.target())
	}
	return d.load(loaded)
}

func (d *daemon) restart() error {
	j, loaded, err := d.startable()
	switch {
	case err != nil:
		return err
	case loaded && !j.leaving() && d.same(j):
		return d.kick(j, "kickstart", "-k", d.target())
	}
	return d.load(loaded)
}

// startable switches the job on and returns it.
func (d *daemon) startable() (j job, loaded bool, err error) {
	if _, err := os.Stat(d.path); errors.Is(err, fs.ErrNotExist) {
		return job{}, false, ErrNotInstalled
	}
	if j, loaded, err = d.print(); err != nil {
		return job{}, false, err
	}
	// It costs nothing when the job is on, and says nothing when it does not help.
	if r, err := d.run("enable", d.target()); err != nil {
		return job{}, false, err
	} else if r.code != 0 && r.code != codeNotFound && r.code != codeNoProcess {
		return job{}, false, fmt.Errorf("switch it on: %s", r.said())
	}
	return j, loaded, nil
}

// same reports whether j was loaded with what is installed.
func (d *daemon) same(j job) bool { return j.runsWith(d.path, d.cfg.Executable, d.cfg.Arguments) }

// kick starts a process of a loaded job, in place of the one that runs if args say
// so. A job that launchd will not start so is loaded again.
func (d *daemon) kick(was job, args ...string) error {
	r, err := d.run(args...)
	if err != nil {
		return err
	}
	if r.code != 0 {
		return d.load(true)
	}
	return d.started(was)
}

// load loads the property list, which starts a process. A job that is loaded leaves
// first.
func (d *daemon) load(loaded bool) error {
	if loaded {
		if err := d.stop(); err != nil {
			return err
		}
	}
	for deadline := time.Now().Add(loadPatience); ; {
		r, err := d.run("bootstrap", "system", d.path)
		switch {
		case err != nil:
			return err
		case r.code == 0:
			return d.started(job{})
		case r.code == codeDisabled, d.disabled():
			return ErrDisabled
		case r.code != codeIO && r.code != codeInProgress && r.code != codeAlready:
			return fmt.Errorf("load %s: %s", d.path, r.said())
		}
		// The code says nothing. A job of that name is in the way, or was a moment
		// ago; or the file is refused.
		switch _, loaded, err := d.print(); {
		case err != nil:
			return err
		case loaded:
			if err := d.stop(); err != nil {
				return err
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("load %s: %s, for %s", d.path, r.said(), loadPatience)
		}
		time.Sleep(5 * pollInterval)
	}
}

// started waits until launchd has started a process after was, however that went on.
// A job that nothing happens to is asked for again.
func (d *daemon) started(was job) error {
	d.runs = was.runs + 1
	still := time.Now()
	for deadline := still.Add(d.cfg.StopTimeout + d.cfg.RestartDelay + stopGrace); ; {
		j, loaded, err := d.print()
		switch now := time.Now(); {
		case err != nil:
			return err
		case !loaded:
			return errors.New("launchd has forgotten it: somebody else unloads it")
		case j.pid != 0 && j.pid != was.pid, j.runs > was.runs:
			d.runs = max(j.runs, 1)
			return nil
		case now.After(deadline):
			return fmt.Errorf("launchd has loaded it and does not start it: it is %s", j.state)
		case j.pid != 0 || j.scheduled():
			still = now
		case now.Sub(still) > askAgain:
			still = now
			if _, err := d.run("kickstart", d.target()); err != nil {
				return err
			}
		}
		time.Sleep(pollInterval)
	}
}

// stop unloads the job and returns when it and its process are gone. launchctl comes
// back while the process still works on its end, and until then the job can neither
// be loaded nor started.
func (d *daemon) stop() error {
	j, loaded, err := d.print()
	if err != nil || !loaded {
		return err
	}
	pid, said := 0, ""
	var asked time.Time
	for deadline := time.Now().Add(d.cfg.StopTimeout + stopGrace); ; {
		if j.pid != 0 {
			pid = j.pid
		}
		switch now := time.Now(); {
		case !loaded && !alive(pid):
			return nil
		case now.After(deadline):
			return fmt.Errorf("still there %s after it was told to end: it is %s, process %d%s", d.cfg.StopTimeout+stopGrace, j.state, pid, said)
		case loaded && !j.leaving() && now.Sub(asked) > askAgain:
			asked = now
			r, err := d.run("bootout", d.target())
			if err != nil {
				return err
			}
			switch r.code {
			case 0, codeNoProcess, codeNotFound, codeInProgress, codeAlready:
			case codeIO:
				said = ", " + r.said()
			default:
				return fmt.Errorf("end it: %s", r.said())
			}
		default:
			time.Sleep(pollInterval)
		}
		if j, loaded, err = d.print(); err != nil {
			return err
		}
	}
}

// alive reports whether a process exists.
func alive(pid int) bool {
	return pid != 0 && !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}

// uses reports whether the installed job has arg among its arguments. The property
// list counts, and what is loaded when somebody has removed that.
func (d *daemon) uses(arg string) (installed, uses bool) {
	escaped, err := escapeXML(arg)
	if text, readErr := readPlist(d.path); err == nil && readErr == nil && text != "" {
		return true, strings.Contains(text, "<string>"+escaped+"</string>")
	}
	j, loaded, err := d.print()
	if err != nil || !loaded {
		return false, false
	}
	return true, slices.Contains(j.arguments, arg)
}
