package topologies

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/ankacluster/ankacluster/test/pages"
	"github.com/ankacluster/ankacluster/test/systemd"
)

// TestPages types the commands of the manual as they stand, story by story, on
// hosts with the addresses that the pages have. Each host has a systemd, a /var/lib
// and a /usr/local of its own; one of them is a Mac with the fakes.
func TestPages(t *testing.T) {
	long(t)
	for _, s := range pages.Stories {
		t.Run(s.Name, func(t *testing.T) {
			w := newPagesWorld(t, s)
			defer w.tellLogs()
			for _, step := range s.Steps {
				w.take(step)
			}
		})
	}
}

// pagesWorld is the hosts of a story, and what its commands have told so far.
type pagesWorld struct {
	t     *testing.T
	hosts map[int]*pageHost
	mac   *pageHost // or nil
	known []string  // of strings.NewReplacer
}

type pageHost struct {
	addr    string
	machine *systemd.Machine
	dir     string // where its commands are typed
	env     []string
}

func newPagesWorld(t *testing.T, s pages.Story) *pagesWorld {
	t.Helper()
	net := newNetwork(t)
	w := &pagesWorld{t: t, hosts: make(map[int]*pageHost), known: []string{"/data", "/var/lib/data", "/backup", "/var/lib/backup"}}
	for _, n := range s.Hosts {
		addr := fmt.Sprintf("10.0.1.%d", n)
		h := &pageHost{addr: addr, machine: systemd.BootHost(t, net.ns(net.newHost(addr).name)), dir: t.TempDir()}
		w.hosts[n] = h
		h.env = []string{"PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + h.dir}
		for _, program := range []string{"anka-controller", "anka-registry", "ankacluster"} {
			h.install(t, program, bin(program))
		}
		if n == s.Mac {
			h.becomeMac(t)
			w.mac = h
		}
		// A person reads past curl's progress.
		if out, err := h.sh("mkdir -p /var/lib/backup && printf 'silent\\nshow-error\\n' >.curlrc"); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	return w
}

// tellLogs prints what the services, the agent and its hypervisor did, if the story
// failed.
func (w *pagesWorld) tellLogs() {
	if !w.t.Failed() {
		return
	}
	for _, h := range w.hosts {
		units, _ := h.sh("systemctl --no-pager --lines 30 status anka-controller anka-registry") // it fails when one of them is not well
		w.t.Logf("the services of %s:\n%s", h.addr, units)
	}
	if w.mac == nil {
		return
	}
	logs, err := w.mac.sh("ankacluster logs --lines 50 && ankacluster logs --commands --lines 50")
	w.t.Logf("the agent of %s (%v):\n%s", w.mac.addr, err, logs)
}

// install puts a program into the host's /usr/local/bin.
func (h *pageHost) install(t *testing.T, name, from string) {
	t.Helper()
	to := filepath.Join(h.machine.Local(), "bin", name)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", "--reflink=auto", from, to).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// becomeMac gives the host the commands anka and tart, for its service too.
func (h *pageHost) becomeMac(t *testing.T) {
	t.Helper()
	h.install(t, "fakeanka", bin("fakeanka"))
	h.install(t, "faketart", bin("faketart"))
	for name, line := range map[string]string{
		"anka": "FAKEANKA_DIR=" + h.dir + "/anka FAKEANKA_MAX_RUNNING=8 exec /usr/local/bin/fakeanka \"$@\"",
		"tart": "TART_HOME=" + h.dir + "/tart FAKETART_CONSOLE_UID=0 exec /usr/local/bin/faketart \"$@\"",
	} {
		if err := os.WriteFile(filepath.Join(h.machine.Local(), "bin", name), []byte("#!/bin/sh\n"+line+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// sh runs a line of shell on the host.
func (h *pageHost) sh(line string) (string, error) {
	out, err := h.machine.Run(h.env, "bash", "-c", "cd "+h.dir+" && "+line)
	return strings.TrimSpace(out), err
}

// take types a command on its hosts, and looks at what it prints.
func (w *pagesWorld) take(step pages.Step) {
	w.t.Helper()
	line := strings.TrimPrefix(step.Command, "sudo ")
	line = strings.NewReplacer(step.Names...).Replace(line)
	line = strings.NewReplacer(w.known...).Replace(line)
	var wg sync.WaitGroup
	said := make([]string, len(step.On))
	errs := make([]error, len(step.On))
	for i, n := range step.On {
		wg.Go(func() { said[i], errs[i] = w.typeAt(w.hosts[n], line, step) })
	}
	wg.Wait()
	for i, n := range step.On {
		if errs[i] != nil {
			w.t.Fatalf("on %s: %s\n%v\n%s", w.hosts[n].addr, line, errs[i], said[i])
		}
		w.t.Logf("%s# %s\n%s", w.hosts[n].addr, line, said[i])
		if step.Learn != "" {
			for _, found := range regexp.MustCompile(step.Prints + step.Awaits).FindStringSubmatch(said[i])[1:] {
				if found != "" {
					w.known = append([]string{"<" + step.Learn + ">", found}, w.known...)
				}
			}
		}
	}
}

func (w *pagesWorld) typeAt(h *pageHost, line string, step pages.Step) (string, error) {
	if step.Before != "" {
		before := strings.NewReplacer(w.known...).Replace(step.Before)
		if out, err := h.sh(before); err != nil {
			return out, fmt.Errorf("before it, %s: %w", before, err)
		}
	}
	if step.Serves {
		out, err := h.sh("{ nohup " + line + " >" + strings.Fields(line)[0] + ".log 2>&1 </dev/null & }")
		return out, err
	}
	if step.Awaits == "" {
		out, err := h.sh(line)
		if err == nil && (pages.Wrong(out) || !regexp.MustCompile(step.Prints).MatchString(out)) {
			err = fmt.Errorf("want it to print %q", step.Prints)
		}
		return out, err
	}
	var out string
	want := regexp.MustCompile(step.Awaits)
	err := until(func() error {
		var err error
		if out, err = h.sh(line); err == nil && !want.MatchString(out) {
			err = fmt.Errorf("want it to print %q", step.Awaits)
		}
		return err
	})
	return out, err
}
