package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/urfave/cli/v2"

	"github.com/ankacluster/ankacluster/agent/macreport"
	"github.com/ankacluster/ankacluster/internal/oci"
	"github.com/ankacluster/ankacluster/internal/readiness"
	"github.com/ankacluster/ankacluster/internal/serve"
	"github.com/ankacluster/ankacluster/internal/wire"
)

func macReportCommand() *cli.Command {
	return &cli.Command{
		Name:      "mac-report",
		Usage:     "record how this Mac's anka, tart and macOS answer, to make ankacluster better",
		ArgsUsage: " ",
		Description: `Runs the commands that the agent depends on, and writes each answer, byte for
byte, into a folder. The name of the user and of this Mac, passwords, licence
keys, serial numbers, hardware and public IP addresses are replaced. Nothing is
sent anywhere: read the folder through, then attach it to an issue.

Without --vm it only looks. With --vm it also makes VMs of that template, named
ankacluster-report-1 to -3, pushes and pulls them through a registry of its own
on this Mac, starts, stops and deletes them: about half an hour, and twice the
template's size on the disk. Run it on a Mac that does nothing else, by the user
that the VMs belong to (with sudo for those of the agent).

With --tart-vm it makes a VM of that image of tart's, or of that VM, named
ankacluster-report-tart, and starts it as root and as the user. Once with the
user logged in at the screen, and once, over ssh, with nobody: that shows what
macOS asks of a user whose VMs start.

With --service it also installs a service of its own by the name of
ankacluster-report, ends and kills it, switches it off, starts it again after
each, and removes it: a minute, with sudo. The agent's service is left alone.

Example:
   ankacluster mac-report
   sudo ankacluster mac-report --vm 26.4.1-arm64
   sudo ankacluster mac-report --tart-vm sonoma --tart-user ci`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "vm", Usage: "also make VMs of the template `NAME`"},
			&cli.StringFlag{Name: "tart-vm", Usage: "also start VMs of tart's image or VM `NAME`, as root and as a user"},
			&cli.StringFlag{Name: "tart-user", Usage: "the user `NAME` of the VMs of --tart-vm (default: who is logged in at the screen)"},
			&cli.BoolFlag{Name: "service", Usage: "also install, end, kill and remove a service of its own", DisableDefaultText: true},
			&cli.StringFlag{Name: "out", Usage: "write to `DIR`, which must not exist (default: mac-report-DATE-TIME)"},
			&cli.StringSliceFlag{Name: "replace", Usage: "also replace this `WORD` wherever it stands; may be given again"},
		},
		Action: macReportAction,
	}
}

func macReportAction(c *cli.Context) error {
	if c.NArg() > 0 {
		return usagef("mac-report takes no arguments, only options: what is %q?", c.Args().First())
	}
	tartAs, err := reportUser(c.String("tart-user"), thisHost)
	if c.String("tart-vm") != "" && err != nil {
		return err
	}
	if c.Bool("service") && (os.Geteuid() != 0 || !underLaunchd()) {
		return usagef("--service needs launchd and its rights: run it on a Mac, with sudo")
	}
	out := c.String("out")
	if out == "" {
		out = "mac-report-" + time.Now().Format("20060102-150405")
	}
	r, err := macreport.New(out, macreport.NewReplacer(macreport.Personal(append(append(serialNumbers(c.Context), c.StringSlice("replace")...), tartAs.word())...)))
	if errors.Is(err, os.ErrExist) {
		return usagef("--out %s exists: name another folder", out)
	}
	if err != nil {
		return err
	}
	r.Tell = func(_ string, command []string) {
		fmt.Fprintf(c.App.ErrWriter, "%3d  %s %s\n", len(r.Steps())+1, filepath.Base(command[0]), strings.Join(command[1:], " "))
	}
	m := &macReporter{Recorder: r, anka: envOr(ankaPathEnv, "anka"), tart: envOr(tartPathEnv, "tart")}
	err = errors.Join(m.look(c.Context), m.tartLooks(c.Context))
	if c.Bool("service") && err == nil {
		err = m.service(c.Context)
	}
	if vm := c.String("vm"); vm != "" && err == nil {
		err = m.lives(c.Context, vm)
	}
	if vm := c.String("tart-vm"); vm != "" && err == nil {
		err = m.tartLives(c.Context, vm, tartAs)
	}
	if err = errors.Join(err, r.Close()); err != nil {
		return hintf(fmt.Errorf("the report in %s is not complete: %w", out, err), "what it has may still be of use; VMs named ankacluster-report-… can be deleted")
	}
	fmt.Fprintf(c.App.Writer, "%s recorded in %s.\nRead it through, then attach it to an issue of the project.\n", count(len(r.Steps()), "command"), out)
	if c.String("vm") == "" && c.String("tart-vm") == "" && !c.Bool("service") {
		fmt.Fprintln(c.App.Writer, "It has only looked: with --vm NAME it also shows how VMs live and die.")
	}
	return nil
}

func envOr(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

// serialNumbers are this Mac's own, which are to be replaced.
func serialNumbers(ctx context.Context) (found []string) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "/usr/sbin/ioreg", "-rd1", "-c", "IOPlatformExpertDevice").Output()
	if err != nil {
		return nil // not a Mac
	}
	for line := range strings.Lines(string(out)) {
		key, value, ok := strings.Cut(line, "=")
		if key = strings.Trim(key, ` "`); ok && (key == "IOPlatformSerialNumber" || key == "IOPlatformUUID") {
			found = append(found, strings.Trim(value, " \"\n"))
		}
	}
	return found
}

// macReporter runs the steps. The names of steps pair them with those of the
// stand-ins: they do not change.
type macReporter struct {
	*macreport.Recorder
	anka, tart string
}

type step struct {
	name string
	argv []string
}

func (m *macReporter) all(ctx context.Context, steps ...step) error {
	for _, s := range steps {
		if _, err := m.Record(ctx, s.name, s.argv...); err != nil {
			return err
		}
	}
	return nil
}

// look changes nothing.
func (m *macReporter) look(ctx context.Context) error {
	a := m.anka
	return m.all(ctx,
		step{"sw-vers", []string{"sw_vers"}}, step{"uname", []string{"uname", "-a"}},
		step{"sysctl", []string{"sysctl", "hw.memsize", "hw.pagesize", "hw.perflevel0.physicalcpu", "hw.optional.arm64", "sysctl.proc_translated", "vm.loadavg"}},
		step{"vm-stat", []string{"vm_stat"}}, step{"pmset", []string{"pmset", "-g", "custom"}}, step{"fdesetup", []string{"fdesetup", "status"}},
		step{"console-user", []string{"stat", "-f", "%Su", "/dev/console"}},
		step{"dhcp-leases", []string{"defaults", "read", "/Library/Preferences/SystemConfiguration/com.apple.InternetSharing.default.plist"}},
		step{"ps-time", []string{"ps", "-o", "pgid=,time=", "-p", "1"}}, step{"ps-start", []string{"ps", "-o", "lstart=", "-p", "1"}},
		step{"launchctl-other", []string{"launchctl", "print", "system/com.openssh.sshd"}},
		step{"launchctl-own", []string{"launchctl", "print", "system/ankacluster"}},
		step{"launchctl-none", []string{"launchctl", "print", "system/there.is.no.such.service"}},
		step{"veertu-agent", []string{"launchctl", "print", "system/com.veertu.anka.cluster.agent"}},
		step{"anka-version", []string{a, "-j", "version"}}, step{"anka-license", []string{a, "-j", "license", "show"}},
		step{"anka-list", []string{a, "-j", "list", "-a"}},
		step{"anka-list-fields", []string{a, "-j", "list", "-a", "--field", "name,uuid,status,version,creation_date,ip,vnc_port"}},
		step{"anka-config", []string{a, "-j", "config"}}, step{"anka-img-lib-dir", []string{a, "-j", "config", "img_lib_dir"}},
		step{"anka-show-none", []string{a, "-j", "show", "there-is-no-such-vm"}},
		step{"anka-delete-none", []string{a, "-j", "delete", "--yes", "there-is-no-such-vm"}},
		step{"anka-no-option", []string{a, "-j", "list", "--there-is-no-such-option"}},
	)
}

func (m *macReporter) tartLooks(ctx context.Context) error {
	t := m.tart
	return m.all(ctx,
		step{"tart-version", []string{t, "--version"}}, step{"tart-list", []string{t, "list", "--format", "json"}},
		step{"tart-get-none", []string{t, "get", "there-is-no-such-vm", "--format", "json"}},
		step{"tart-ip-none", []string{t, "ip", "there-is-no-such-vm"}},
	)
}

// reportVM stands before the names of the VMs that a report makes.
const reportVM = "ankacluster-report-"

// lives follows VMs from the push of a template to the delete.
func (m *macReporter) lives(ctx context.Context, template string) (err error) {
	url, requests, done, err := reportRegistry(ctx)
	if err != nil {
		return err
	}
	defer done()
	a := m.anka
	one, two, three := reportVM+"1", reportVM+"2", reportVM+"3"
	registry := func(args ...string) []string {
		return append([]string{a, "-j", "registry", "-o2", "-r", url, "-p", "report"}, args...)
	}
	defer func() { // also of a report that was broken off
		cleanCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Minute)
		defer cancel()
		for _, vm := range []string{one, two, three} {
			_ = exec.CommandContext(cleanCtx, a, "-j", "stop", "-f", vm).Run()
			_ = exec.CommandContext(cleanCtx, a, "-j", "delete", "--yes", vm).Run()
		}
		err = errors.Join(err, m.Write("registry-requests.txt", requests()))
	}()
	if err := m.all(ctx,
		step{"show-template", []string{a, "-j", "show", template}}, step{"show-template-tag", []string{a, "-j", "show", template, "tag"}},
		step{"clone", []string{a, "-j", "clone", template, one}}, step{"clone-again", []string{a, "-j", "clone", template, one}},
		step{"port-host", []string{a, "-j", "modify", one, "port", "report1", "22:10922"}},
		step{"port-address-host", []string{a, "-j", "modify", one, "port", "report2", "22:0.0.0.0:10923"}},
		step{"cpu", []string{a, "-j", "modify", one, "cpu", "2"}}, step{"disk", []string{a, "-j", "modify", one, "disk", "-s", "200G"}},
		step{"start", []string{a, "-j", "start", one}}, step{"start-again", []string{a, "-j", "start", one}},
		step{"show-running", []string{a, "-j", "show", one}}, step{"show-network", []string{a, "-j", "show", one, "network"}},
		step{"list-running", []string{a, "-j", "list", "-a", "--field", "name,uuid,status,version,creation_date,ip,vnc_port"}},
		step{"run-exit-7", []string{a, "run", one, "sh", "-c", "exit 7"}},
		step{"run-diskutil", []string{a, "run", one, "diskutil", "info", "/"}},
		step{"modify-running", []string{a, "-j", "modify", one, "cpu", "3"}},
	); err != nil {
		return err
	}
	if _, err := m.RecordInput(ctx, "echo said; sudo -n true; exit 3\n", "run-stdin", a, "run", one, "sh"); err != nil {
		return err
	}
	// As many as the system allows, and one more.
	if err := m.all(ctx,
		step{"clone-second", []string{a, "-j", "clone", template, two}}, step{"clone-third", []string{a, "-j", "clone", template, three}},
		step{"start-second", []string{a, "-j", "start", two}}, step{"start-third", []string{a, "-j", "start", three}},
		step{"list-full", []string{a, "-j", "list", "-a"}},
		step{"stop-second", []string{a, "-j", "stop", "-f", two}}, step{"stop-third", []string{a, "-j", "stop", "-f", three}},
		step{"delete-second", []string{a, "-j", "delete", "--yes", two}}, step{"delete-third", []string{a, "-j", "delete", "--yes", three}},
		step{"push-running", registry("push", one, "-t", "v1")},
		step{"suspend", []string{a, "-j", "suspend", one}}, step{"show-suspended", []string{a, "-j", "show", one}},
		step{"push", registry("push", one, "-t", "v1")}, step{"list-pushed", []string{a, "-j", "list", "-a"}},
		step{"start-pushed", []string{a, "-j", "start", one}}, step{"run-change", []string{a, "run", one, "sh", "-c", "echo changed > changed"}},
		step{"stop", []string{a, "-j", "stop", one}}, step{"stop-again", []string{a, "-j", "stop", "-f", one}},
		step{"push-second", registry("push", one, "-t", "v2")},
		step{"delete", []string{a, "-j", "delete", "--yes", one}},
		step{"size", []string{a, "-j", "pull", "-o2", "report/" + one, url, "--check-download-size", "-t", "v1"}},
		step{"pull-no-tag", registry("pull", one, "-t", "there-is-no-such-tag")},
		step{"pull-no-template", registry("pull", "there-is-no-such-template", "-t", "v1")},
		step{"pull", registry("pull", one, "-t", "v1")}, step{"pull-second", registry("pull", one, "-t", "v2")},
		step{"pull-again", registry("pull", one, "-t", "v2")},
		step{"list-pulled", []string{a, "-j", "list", "-a"}}, step{"show-pulled", []string{a, "-j", "show", one}},
		step{"show-tags", []string{a, "-j", "show", one, "tag"}}, step{"show-other-tag", []string{a, "-j", "show", "-t", "v1", one}},
		step{"df-before", []string{"df", "-k", "/"}},
		step{"delete-tag", []string{a, "-j", "delete", "--yes", "-t", "v2", one}}, step{"list-one-tag", []string{a, "-j", "list", "-a"}},
		step{"delete-last-tag", []string{a, "-j", "delete", "--yes", "-t", "v1", one}}, step{"list-no-tag", []string{a, "-j", "list", "-a"}},
		step{"delete-template", []string{a, "-j", "delete", "--yes", one}}, step{"delete-cache", []string{a, "-j", "delete", "--yes", "--cache"}},
		step{"df-after", []string{"df", "-k", "/"}},
	); err != nil {
		return err
	}
	return m.manifests(ctx, url, "report/"+strings.ToLower(one), "v1", "v2", "latest")
}

// manifests keeps what was pushed, less its layers.
func (m *macReporter) manifests(ctx context.Context, url, repository string, tags ...string) error {
	get := func(path string) ([]byte, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+path, nil)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Accept", "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, */*")
		resp, err := (&http.Client{CheckRedirect: wire.NoRedirect}).Do(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return nil, nil // the real command does not make this tag
		}
		return wire.ReadAnswer(resp, 4<<20)
	}
	for _, tag := range tags {
		data, err := get(oci.ManifestPath(repository, tag))
		if err != nil {
			return err
		}
		var manifest struct {
			Config struct{ Digest digest.Digest }
		}
		_ = json.Unmarshal(data, &manifest) // what it is shows when it is read
		if err := m.Write("manifest-"+tag+".json", data); err != nil {
			return err
		}
		if manifest.Config.Digest == "" {
			continue
		}
		config, err := get(oci.BlobPath(repository, manifest.Config.Digest))
		if err != nil {
			return err
		}
		if err := m.Write("config-"+tag+".json", config); err != nil {
			return err
		}
	}
	return nil
}

// reportRegistry starts `anka-registry`, which lies beside this program, with a
// temporary directory, on this host alone, and notes what it is asked. It is a
// program of its own because the agent's program is to stay small.
func reportRegistry(ctx context.Context) (url string, requests func() []byte, done func(), err error) {
	program, err := registryProgram()
	if err != nil {
		return "", nil, nil, err
	}
	dir, err := os.MkdirTemp("", "ankacluster-report-")
	if err != nil {
		return "", nil, nil, err
	}
	behind, l, err := registryAddresses()
	if err != nil {
		return "", nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	cmd := exec.Command(program, "--listen-addr", behind, "--base-path", dir, "--min-free", "0")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		return "", nil, nil, errors.Join(err, l.Close(), os.RemoveAll(dir))
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }() // ends with the process, which done ends
	var mu sync.Mutex
	var log strings.Builder
	forward := &httputil.ReverseProxy{FlushInterval: -1, Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host = "http", behind
		r.Out.Host = r.In.Host // locations name the address that was asked
	}}
	h := serve.New(serve.Options{HeaderTime: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		fmt.Fprintf(&log, "%s %s\n", r.Method, r.URL.RequestURI())
		for _, h := range []string{"Accept", "Content-Type", "Content-Length", "Content-Range", "Range", "Expect", "User-Agent", "Transfer-Encoding"} {
			if v := r.Header.Get(h); v != "" {
				fmt.Fprintf(&log, "  %s: %s\n", h, v)
			}
		}
		mu.Unlock()
		forward.ServeHTTP(w, r)
	})})
	var serving sync.WaitGroup
	serving.Go(func() { _ = h.Serve(l) }) // until done closes it
	requests = func() []byte {
		mu.Lock()
		defer mu.Unlock()
		return []byte(log.String())
	}
	done = func() {
		_ = h.Close()
		serving.Wait()
		_ = cmd.Process.Kill() // its directory goes too
		<-ended
		_ = os.RemoveAll(dir)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for readiness.Ask(ctx, "http://"+behind) != nil {
		select {
		case <-ctx.Done():
			done()
			return "", nil, nil, ctx.Err()
		case <-ended:
			done()
			return "", nil, nil, fmt.Errorf("%s ended: %s", program, bytes.TrimSpace(said.Bytes()))
		case <-tick.C:
		}
	}
	return "http://" + l.Addr().String(), requests, done, nil
}

// registryProgram finds anka-registry beside this program, or in the search path.
func registryProgram() (string, error) {
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), "anka-registry")
		if _, err := os.Stat(beside); err == nil {
			return beside, nil
		}
	}
	program, err := exec.LookPath("anka-registry")
	if err != nil {
		return "", hintf(errors.New("mac-report --vm needs the program anka-registry, beside ankacluster or in the search path"),
			"it is in the archive that ankacluster came in")
	}
	return program, nil
}

// registryAddresses returns a free address for the registry, and a listener for
// what stands before it.
func registryAddresses() (behind string, front net.Listener, err error) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	front, err = net.Listen("tcp", "127.0.0.1:0")
	return free.Addr().String(), front, errors.Join(err, free.Close())
}
