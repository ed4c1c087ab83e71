package tart

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/agent/command"
	"github.com/ankacluster/ankacluster/agent/hypervisor"
)

// cli returns a CLI over a shell script; $home is a directory of its own.
func cli(t *testing.T, script string) *CLI {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "tart")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nhome="+dir+"\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	timeouts := DefaultTimeouts()
	timeouts.GuestWait, timeouts.Stop = 3*time.Second, 3*time.Second
	return New(Config{Path: path, Home: dir, Dir: filepath.Join(dir, "runs"), Timeouts: timeouts}, command.New("", zap.NewNop(), nil))
}

const listOfVM1 = `printf '[{"Source":"local","Name":"vm1","Disk":50,"Size":20,"Running":false,"State":"stopped"}]'`

func TestListOfEveryShape(t *testing.T) {
	c := cli(t, `[ "$1 $2 $3 $TART_HOME $TART_NO_AUTO_PRUNE" = "list --format json $home 1" ] || exit 9
echo 'objc[1]: Class X is implemented twice'
cat <<'END'
[
  {"Disk" : 50, "Name" : "vm1", "Running" : true, "Size" : 1, "Source" : "local", "State" : "running"},
  {"Name" : "old", "Running" : true, "Source" : "local"},
  {"Name" : "127.0.0.1:4001/team/demo:v1", "Source" : "OCI", "State" : "stopped"},
  {"Name" : "127.0.0.1:4001/team/demo@sha256:ab", "Source" : "OCI", "State" : "stopped"},
  {"Name" : "[::1]:4001/demo:v1.2", "Source" : "oci", "State" : "stopped"},
  {"Name" : "ghcr.io/team/demo:v1", "Source" : "OCI", "State" : "stopped"}
]
END
echo bye`)
	got, err := c.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []hypervisor.VM{
		{UUID: UUID("vm1"), Name: "vm1", Status: hypervisor.Running},
		{UUID: UUID("old"), Name: "old", Status: hypervisor.Running},
		{Name: "127.0.0.1:4001/team/demo:v1", Repository: "team/demo", Tag: "v1", Status: hypervisor.Stopped},
		{Name: "[::1]:4001/demo:v1.2", Repository: "demo", Tag: "v1.2", Status: hypervisor.Stopped},
	}
	if len(got) != len(want) {
		t.Fatalf("got %+v", got)
	}
	for i := range want {
		if g, w := got[i], want[i]; g.UUID != w.UUID || g.Name != w.Name || g.Repository != w.Repository || g.Tag != w.Tag || g.Status != w.Status {
			t.Errorf("entry %d: got %+v, want %+v", i, g, w)
		}
	}
}

// A10: every way to fail is an error with a reason.
func TestA10EveryWayToFail(t *testing.T) {
	for name, tt := range map[string]struct {
		script string
		is     error
		says   string
	}{
		"usage":       {`printf 'Error: Unknown option\nUsage: tart list\n' >&2; exit 64`, nil, "Unknown option (exit code 64)"},
		"too many":    {`echo 'The number of VMs exceeds the system limit (other running VMs: a)' >&2; exit 1`, hypervisor.ErrTooMany, "other running"},
		"not there":   {`echo 'the specified VM "x" does not exist' >&2; exit 2`, hypervisor.ErrNotFound, "does not exist"},
		"404":         {`echo 'Error: UnexpectedHTTPStatusCode(when: "pulling manifest", code: 404, details: "")' >&2; exit 1`, hypervisor.ErrNotInRegistry, "404"},
		"foreign now": {`echo 'Error: OCIManifestValidationError.invalidLayout("manifest has no disk chunks")' >&2; exit 1`, hypervisor.ErrForeign, "disk chunks"},
		"disk":        {`echo 'Error: write: No space left on device' >&2; exit 1`, hypervisor.ErrDiskFull, "No space"},
		"foreign":     {`echo 'Error: ShouldBeExactlyOneLayer' >&2; exit 1`, hypervisor.ErrForeign, "Layer"},
		"crash":       {`kill -SEGV $$`, nil, "exit code -1"},
		"no JSON":     {`echo Traceback`, nil, "no answer"},
		"cut short":   {`printf '[{"Source":"local","Name":"vm'`, nil, "no answer"},
		"silence":     {`true`, nil, "no answer"},
		"no name":     {`echo '[{"Source":"local"}]'`, nil, "no name"},
	} {
		t.Run(name, func(t *testing.T) { // one at a time: a script that was just written cannot be run while another test forks
			_, err := cli(t, tt.script).List(t.Context())
			if err == nil || tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want %v with %q", err, tt.is, tt.says)
			}
		})
	}
	c := New(Config{Path: "/nowhere/tart", Dir: t.TempDir(), Timeouts: DefaultTimeouts()}, command.New("", zap.NewNop(), nil))
	if _, err := c.List(t.Context()); !errors.Is(err, hypervisor.ErrMissing) {
		t.Errorf("missing command: %v", err)
	}
}

// What tart cannot do is named, all of it, before any command runs.
func TestWhatTartCannotDo(t *testing.T) {
	c := New(Config{Path: "/nowhere/tart"}, command.New("", zap.NewNop(), nil))
	if err := c.Check(hypervisor.Options{CPU: 4, RAM: 8192, DiskSize: "100G", SkipResize: true, NetworkMode: "shared"}, hypervisor.StartOptions{}, ""); err != nil {
		t.Errorf("what it can do: %v", err)
	}
	err := c.Check(hypervisor.Options{
		NetworkMode: "bridge", VLAN: "7", MAC: "00:11:22:33:44:55", NetworkLocal: "forceOn", ReplacePorts: true, DiskSize: "100",
		VideoController: "pg", HVAPIC: "forceOn", CSRActiveConfig: "forceOn", HWSerial: "s", HWUUID: "u",
	}, hypervisor.StartOptions{VNCPassword: "p"}, "camera")
	if !errors.Is(err, hypervisor.ErrUnsupported) {
		t.Fatalf("got %v", err)
	}
	for _, word := range []string{"network_mode bridge", "vlan_tag", "mac_address", "network_local", "port_forwarding_override", "usb_device",
		"vnc_password", "video_controller", "hvapic", "csr_active_config", "hw_serial", "hw_uuid", `disk size: "100"`} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q is not in %v", word, err)
		}
	}
}

func TestGigabytes(t *testing.T) {
	for size, want := range map[string]int{"": 0, "100G": 100, "1T": 1000, "1500M": 2, "2000m": 2, "1K": 1, "65535G": 65535} {
		if got, err := gigabytes(size); err != nil || got != want {
			t.Errorf("%q: got %d, %v; want %d", size, got, err, want)
		}
	}
	for _, size := range []string{"G", "100", "-1G", "0G", "1.5G", "66T", "many"} {
		if got, err := gigabytes(size); err == nil {
			t.Errorf("%q was taken for %d", size, got)
		}
	}
}

// D10: what is set is one command, and a hardware address of the VM's own always is.
func TestConfigureIsOneCommand(t *testing.T) {
	c := cli(t, `case "$1" in list) `+listOfVM1+`;; *) echo "$@" >> $home/calls;; esac`)
	if err := c.Configure(t.Context(), UUID("vm1"), hypervisor.Options{CPU: 4, RAM: 8192, DiskSize: "1T"}); err != nil {
		t.Fatal(err)
	}
	if err := c.Configure(t.Context(), UUID("vm1"), hypervisor.Options{}); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(filepath.Join(c.cfg.Home, "calls")); string(got) != "set vm1 --random-mac --cpu 4 --memory 8192 --disk-size 1000\nset vm1 --random-mac\n" {
		t.Errorf("calls: %q", got)
	}
}

// A `tart run` that ends tells why; one that never takes the VM is ended.
func TestStartThatFails(t *testing.T) {
	const get = `list) ` + listOfVM1 + `;; get) printf '{"CPU":4,"Memory":4096,"Running":false,"State":"stopped"}';; `
	c := cli(t, `case "$1" in `+get+`run) echo 'The number of VMs exceeds the system limit (other running VMs: a, b)' >&2; exit 1;; esac`)
	err := c.Start(t.Context(), UUID("vm1"), hypervisor.StartOptions{Timeout: time.Minute})
	if !errors.Is(err, hypervisor.ErrTooMany) || !strings.Contains(err.Error(), "a, b") {
		t.Errorf("too many: got %v", err)
	}
	// The same after Start had seen it run: the reason is in what Show tells.
	if vm, err := c.Show(t.Context(), UUID("vm1")); err != nil || !errors.Is(vm.Failure, hypervisor.ErrTooMany) {
		t.Errorf("Show: got %+v, %v", vm, err)
	}
	c = cli(t, `case "$1" in `+get+`run) exit 0;; esac`)
	if err := c.Start(t.Context(), UUID("vm1"), hypervisor.StartOptions{Timeout: time.Minute}); err == nil || !strings.Contains(err.Error(), "ended at once") {
		t.Errorf("ended: got %v", err)
	}
	c = cli(t, `case "$1" in `+get+`run) echo $$ > $home/pid; exec sleep 1000;; esac`)
	if err := c.Start(t.Context(), UUID("vm1"), hypervisor.StartOptions{Timeout: 2 * time.Second}); !errors.Is(err, command.ErrTimeout) {
		t.Errorf("hangs: got %v", err)
	}
	if _, ended := c.runs[UUID("vm1")].Ended(); !ended {
		t.Error("the process that hangs was left")
	}
	c = cli(t, `case "$1" in `+get+`esac`)
	if err := c.Start(t.Context(), UUID("vm1"), hypervisor.StartOptions{VNCPassword: "p"}); !errors.Is(err, hypervisor.ErrUnsupported) {
		t.Errorf("with a VNC password: got %v", err)
	}
}

// A VM that printed for months says last why it ended: that is what is read, and
// when it began.
func TestReasonAtTheEndOfALongOutput(t *testing.T) {
	c := cli(t, "")
	id, began := UUID("vm1"), time.Now().UTC()
	if err := os.MkdirAll(c.cfg.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(output string) {
		t.Helper()
		if err := os.WriteFile(c.outputPath(id), []byte(startedLine+began.Format(time.RFC3339Nano)+"\n"+output), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const reason = "the disk was taken away"
	write(strings.Repeat("a line of the guest's console\n", 100_000) + reason)
	at, output := c.lastRun(id)
	if !at.Equal(began) || len(output) != maxOutput || !strings.HasSuffix(string(output), reason) {
		t.Errorf("began %s, want %s; %d bytes that end in %q", at, began, len(output), output[max(0, len(output)-40):])
	}
	for _, output := range []string{"", reason} {
		write(output)
		if at, got := c.lastRun(id); !at.Equal(began) || string(got) != output {
			t.Errorf("began %s, output %q; want %s, %q", at, got, began, output)
		}
	}
}

// An image without the guest agent is an error that says so, and no exit code of
// the script.
func TestScriptNeedsTheGuestAgent(t *testing.T) {
	c := cli(t, `case "$1" in list) `+listOfVM1+`;; exec) echo 'Failed to connect to the VM using its control socket: refused, is the Tart Guest Agent running?' >&2; exit 1;; esac`)
	c.version = Advised
	_, err := c.Run(t.Context(), UUID("vm1"), hypervisor.Script{Text: []byte("true")})
	if !errors.Is(err, errNoGuest) || !strings.Contains(err.Error(), "Tart Guest Agent") {
		t.Errorf("got %v", err)
	}
}

// A push replaces no tag unless it is told to, and tart cannot name every tag.
func TestNamesOfImages(t *testing.T) {
	from := hypervisor.Source{URL: "http://127.0.0.1:4001"}
	for name, ok := range map[string]bool{
		"demo:v1": true, "team/Demo.x_y-z/a1:14.6.1-rc_2": true, "demo:latest": true,
		"demo:v1-": false, "demo:v1__2": false, "de mo:v1": false, "/demo:v1": false, "demo:": false, "a__b:v1": false,
	} {
		repository, tag, _ := strings.Cut(name, ":")
		_, args, err := remote(from, repository, tag)
		if (err == nil) != ok || err != nil && !errors.Is(err, hypervisor.ErrUnsupported) {
			t.Errorf("%q: got %v, %v", name, args, err)
		}
		if ok && args.String() != "--insecure 127.0.0.1:4001/"+name {
			t.Errorf("%q: got %v", name, args)
		}
	}
}

func FuzzList(f *testing.F) {
	for _, seed := range []string{`[{"Source":"local","Name":"a","State":"running"}]`, "x\n[\n{}]", `[{"Source":"OCI","Name":"127.0.0.1:1/a:b"}]`, `[1]`, `{`, `[{"Name":5}]`, "[]"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, out []byte) {
		var entries []entry
		err := parse("list", command.Result{Stdout: out}, &entries)
		if err == nil && !strings.ContainsAny(string(out), "[{n") {
			t.Errorf("%q was taken for a list", out)
		}
		for _, e := range entries {
			if repository, tag, ok := loopbackImage(e.Name); ok && (tag == "" && strings.Contains(repository, ":")) {
				t.Errorf("image %q is %q and %q", e.Name, repository, tag)
			}
		}
		_ = message(out)
	})
}
