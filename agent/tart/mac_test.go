package tart

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/agent/command"
	"github.com/ankacluster/ankacluster/agent/hypervisor"
)

// Differences between what was thought of tart on a Mac and what is known of it. They
// are numbered as in docs/operators/macs.md.

const getOfVM1 = `get) printf '{"CPU":4,"Memory":4096,"Running":%s,"State":"%s"}' "$running" "$state";; `

// D1: messages about the keychain are a kind of failure of their own; one without a
// reason is looked into.
func TestKeychainMessages(t *testing.T) {
	for name, c := range map[string]struct {
		said     string
		euid     int
		goos     string
		security string // how `security show-keychain-info` ends
		is, not  error
		says     string
	}{
		"no host key":    {"Error Domain=VZErrorDomain Code=-9 \"security error\" {NSLocalizedFailureReason=Failed to create new HostKey.}", 501, "linux", "", hypervisor.ErrKeychain, nil, "Code=-9"},
		"security error": {"Error Domain=VZErrorDomain Code=-9 \"The virtual machine encountered a security error.\"", 501, "linux", "", hypervisor.ErrKeychain, nil, "Code=-9"},
		"no key":         {"SecKeyCreateRandomKey_ios failed: Code=-25308 \"Failed to generate keypair\"", 501, "linux", "", hypervisor.ErrKeychain, nil, "-25308"},
		"not allowed":    {"Interaction is not allowed with the Security Server", 501, "linux", "", hypervisor.ErrKeychain, nil, ""},
		"root":           {"Error Domain=VZErrorDomain Code=1 \"The virtual machine failed to start.\"", 0, "linux", "", hypervisor.ErrKeychain, nil, "runs as root, who has no login keychain"},
		"locked":         {"Error Domain=VZErrorDomain Code=1 \"The virtual machine failed to start.\"", 501, "darwin", "echo 'SecKeychainCopySettings: User interaction is not allowed.' >&2; exit 36", hypervisor.ErrKeychain, nil, "interaction is not allowed"},
		"another reason": {"Error Domain=VZErrorDomain Code=1 \"The virtual machine failed to start.\"", 501, "darwin", "exit 0", nil, hypervisor.ErrKeychain, "failed to start"},
		"limit":          {"The number of VMs exceeds the system limit", 0, "linux", "", hypervisor.ErrTooMany, hypervisor.ErrKeychain, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c0 := cli(t, `running=false; state=stopped; case "$1" in list) `+listOfVM1+`;; `+getOfVM1+`run) cat $home/said >&2; exit 1;; esac`)
			if err := os.WriteFile(filepath.Join(c0.cfg.Home, "said"), []byte(c.said+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			c0.host = host{goos: c.goos, euid: c.euid, security: tool(t, c.security)}
			err := c0.Start(t.Context(), UUID("vm1"), hypervisor.StartOptions{Timeout: time.Minute})
			if c.is != nil && !errors.Is(err, c.is) || c.not != nil && errors.Is(err, c.not) || err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v; want %v, not %v, with %q", err, c.is, c.not, c.says)
			}
		})
	}
}

// tool writes a command.
func tool(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tool")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// D1: every command of tart and the VM's own process run as the user, with that user's
// home; one that is not there is found out.
func TestTartRunsAsTheUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root runs commands as another user")
	}
	c := cli(t, `running=false; state=stopped; echo "$1 $(id -u) $HOME" >> $home/calls
case "$1" in list) `+listOfVM1+`;; get) [ -e $home/ran ] && running=true state=running; printf '{"Running":%s,"State":"%s"}' $running $state;; run) touch $home/ran; exec sleep 1000;; esac`)
	for dir := c.cfg.Home; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	u, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	c.cfg.User = "nobody"
	if err := c.Start(t.Context(), UUID("vm1"), hypervisor.StartOptions{Timeout: time.Minute}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.endRun(UUID("vm1")) })
	calls, err := os.ReadFile(filepath.Join(c.cfg.Home, "calls"))
	if err != nil {
		t.Fatal(err)
	}
	verbs := make(map[string]bool)
	for line := range strings.Lines(string(calls)) {
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if verbs[verb] = true; rest != u.Uid+" "+u.HomeDir {
			t.Errorf("%s ran as %q, want %s %s", verb, rest, u.Uid, u.HomeDir)
		}
	}
	if !verbs["list"] || !verbs["get"] || !verbs["run"] {
		t.Errorf("calls: %s", calls)
	}
	c = cli(t, listOfVM1)
	c.cfg.User = "there-is-no-such-user"
	if _, err := c.List(t.Context()); !errors.Is(err, hypervisor.ErrKeychain) || !strings.Contains(err.Error(), "--tart-user there-is-no-such-user") {
		t.Errorf("a user who is not there: %v", err)
	}
}

// D1, D10: what doctor says of the user and of addresses.
func TestNeeds(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	console := filepath.Join(t.TempDir(), "console")
	kcpassword := filepath.Join(t.TempDir(), "kcpassword")
	for _, f := range []string{console, kcpassword} {
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	well := host{goos: "darwin", euid: os.Geteuid(), console: console, autoLogin: kcpassword, security: tool(t, "exit 0"),
		defaults: tool(t, `case "$*" in *autoLoginUser) echo `+me.Username+`;; *bootpd) printf '{\n    DHCPLeaseTimeSecs = 600;\n}\n';; esac`)}
	if well.euid == 0 {
		well.euid = 1 // root has no keychain
	}
	for name, c := range map[string]struct {
		user   string
		change func(h *host)
		unmet  []string // each a part of what is unmet
	}{
		"well":          {"", func(*host) {}, nil},
		"root":          {"", func(h *host) { h.euid = 0 }, []string{"guests with macOS 15"}},
		"other system":  {"", func(h *host) { h.goos, h.euid = "linux", 0 }, nil},
		"nobody there":  {"", func(h *host) { h.console = "/there/is/none" }, []string{"cannot be told"}},
		"another user":  {"nobody", func(*host) {}, []string{"and VMs run as nobody|nobody is logged in", "another user", "no VM of nobody"}},
		"locked":        {"", func(h *host) { h.security = tool(t, "echo 'not allowed' >&2; exit 36") }, []string{"does not open: not allowed"}},
		"no auto-login": {"", func(h *host) { h.defaults = tool(t, "exit 1") }, []string{"is off", "leased for 86400 s"}},
		"no password":   {"", func(h *host) { h.autoLogin = "/there/is/none" }, []string{"without a password"}},
		"leases too long": {"", func(h *host) {
			h.defaults = tool(t, `case "$*" in *autoLoginUser) echo `+me.Username+`;; *) echo '{ DHCPLeaseTimeSecs = 3601; }';; esac`)
		}, []string{"leased for 3601 s"}},
	} {
		t.Run(name, func(t *testing.T) {
			cl := cli(t, "")
			cl.cfg.User, cl.host = c.user, well
			c.change(&cl.host)
			var unmet []string
			for _, n := range cl.Needs(t.Context()) {
				if n.Unmet != "" {
					unmet = append(unmet, n.Unmet)
					if n.Advice == "" {
						t.Errorf("%s: no advice", n.Unmet)
					}
				} else if n.Met == "" {
					t.Errorf("%s: nothing is said", n.What)
				}
			}
			ok := len(unmet) == len(c.unmet)
			for i := range min(len(unmet), len(c.unmet)) {
				ok = ok && slices.ContainsFunc(strings.Split(c.unmet[i], "|"), func(part string) bool { return strings.Contains(unmet[i], part) })
			}
			if !ok {
				t.Errorf("unmet: %q, want %q", unmet, c.unmet)
			}
		})
	}
}

// D10: an address is reported once the guest answers, and no sooner because of a lease; an
// image without an agent is waited for once.
func TestAddressWaitsForTheGuest(t *testing.T) {
	c := cli(t, `running=true; state=running; case "$1" in list) `+listOfVM1+`;; `+getOfVM1+`ip) echo 192.168.64.7;; exec) [ -e $home/up ];; esac`)
	c.cfg.GuestGrace, c.cfg.GuestWait = time.Hour, time.Hour
	id := UUID("vm1")
	address := func() string {
		t.Helper()
		vm, err := c.Show(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return vm.IP
	}
	start := func(image string, began time.Time) {
		t.Helper()
		c.guests[id] = &guest{image: image}
		if err := os.MkdirAll(c.cfg.Dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(c.outputPath(id), []byte(startedLine+began.UTC().Format(time.RFC3339Nano)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	start("demo:v1", time.Now())
	if got := address(); got != "" {
		t.Errorf("before the guest has booted: %q", got)
	}
	if err := os.WriteFile(filepath.Join(c.cfg.Home, "up"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := address(); got != "192.168.64.7" {
		t.Errorf("after it has: %q", got)
	}
	if err := os.Remove(filepath.Join(c.cfg.Home, "up")); err != nil {
		t.Fatal(err)
	}
	if address() == "" {
		t.Error("an address that was told is taken back")
	}
	c.cfg.GuestGrace = 0
	start("demo:v1", time.Now())
	if got := address(); got != "" {
		t.Errorf("the image has an agent, and the guest does not answer: %q", got)
	}
	start("other:v1", time.Now())
	if address() == "" || c.images["other:v1"] != silent {
		t.Error("an image without an agent has no address after the grace")
	}
	c.cfg.GuestGrace = time.Hour
	start("other:v1", time.Now())
	if address() == "" {
		t.Error("the next VM of that image waits again")
	}
	start("demo:v1", time.Now().Add(-2*time.Hour))
	if address() == "" {
		t.Error("a VM of an earlier agent that has run for hours has no address")
	}
}

// A command that fails is not a VM without an address.
func TestAddressThatCannotBeAsked(t *testing.T) {
	for script, wrong := range map[string]bool{
		"echo 192.168.64.7": false, "echo 'no IP address found, is your VM running?' >&2; exit 1": false,
		"echo no >&2; exit 1": true, "kill -9 $$": true, "echo Traceback": true, "true": true,
	} {
		c := cli(t, `running=true; state=running; case "$1" in list) `+listOfVM1+`;; `+getOfVM1+`ip) `+script+`;; esac`)
		if _, err := c.Show(t.Context(), UUID("vm1")); (err != nil) != wrong {
			t.Errorf("%s: %v", script, err)
		}
	}
}

// D11: which version can do what.
func TestVersions(t *testing.T) {
	for version, want := range map[string]Fitness{
		"2.26.1": NoScripts, "2.27.0": NoScripts, "2.27.1": NoScripts, "2.27.2": NoScripts, "2.27.3": NoScripts, "2.28.0": NoScripts, "2.28.1": NoScripts,
		"2.28.2": Aged, "2.32.1": Aged, "2.33.0": Unusable, "2.33.1": Fit, "2.35.0": Fit, "2.35": Fit, "3.0.0": Fit, "SNAPSHOT": Fit, "1.9": NoScripts, "2.100.0": Fit,
	} {
		got, why := Judge(version)
		if got != want || (why == "") != (want == Fit) {
			t.Errorf("%s: got %d, %q; want %d", version, got, why, want)
		}
	}
	for version, want := range map[string]string{"2.32.1": "Fair Source", "2.33.0": "FSL-1.1-ALv2", "2.35.0": "FSL-1.1-ALv2"} {
		if got := license(version); got != want {
			t.Errorf("licence of %s: %q, want %q", version, got, want)
		}
	}
	for _, script := range []string{"echo 2.33.0", "kill -9 $$", "exit 137"} {
		if _, err := cli(t, script).Version(t.Context()); !errors.Is(err, hypervisor.ErrOutdated) || !strings.Contains(err.Error(), Advised) {
			t.Errorf("%s: %v", script, err)
		}
	}
	c := cli(t, `case "$1" in --version) echo 2.27.2;; list) `+listOfVM1+`;; exec) echo ran >> $home/calls;; esac`)
	if _, err := c.Run(t.Context(), UUID("vm1"), hypervisor.Script{Text: []byte("true")}); !errors.Is(err, hypervisor.ErrOutdated) || !strings.Contains(err.Error(), "after a second") {
		t.Errorf("a script: %v", err)
	}
	if _, err := os.Stat(filepath.Join(c.cfg.Home, "calls")); err == nil {
		t.Error("the guest was asked")
	}
}

// D11: a script comes as a file that has no name, not as a pipe or an argument.
func TestScriptIsAFile(t *testing.T) {
	c := cli(t, `case "$1" in list) `+listOfVM1+`;; exec) [ "$2" = -i ] || exit 0
[ -f /dev/stdin ] || echo no file; ls $home/runs; echo "$@"; cat;; esac`)
	c.version = Oldest
	res, err := c.Run(t.Context(), UUID("vm1"), hypervisor.Script{Text: []byte("secret\n")})
	if want := "exec -i vm1 sh\nsecret\n"; err != nil || string(res.Stdout) != want {
		t.Errorf("got %q, %v; want %q", res.Stdout, err, want)
	}
}

// D12: a shutdown that has begun is waited for, whatever becomes of the answer; a
// guest that cannot shut down is stopped at once.
func TestStopWaitsForAShutdown(t *testing.T) {
	for name, tt := range map[string]struct {
		can, answer string
		waits       bool
	}{
		"answer":          {"exit 0", "exit 0", true},
		"connection lost": {"exit 0", "echo 'Error: unavailable (14): Transport became inactive' >&2; exit 1", true},
		"no rights":       {"exit 1", "exit 0", false},
		"no agent":        {"echo 'is the Tart Guest Agent running?' >&2; exit 1", "exit 0", false},
	} {
		t.Run(name, func(t *testing.T) {
			c := cli(t, `running=true; state=running; [ -e $home/down ] && running=false state=stopped
case "$1" in list) `+listOfVM1+`;; `+getOfVM1+`
exec) case "$5" in *shutdown*) (sleep 1; touch $home/down) >/dev/null 2>&1 & `+tt.answer+`;; *) `+tt.can+`;; esac;;
stop) [ -e $home/down ] || echo cut >> $home/calls; touch $home/down; exit 0;; esac`)
			c.cfg.Shutdown = time.Minute
			if err := c.Stop(t.Context(), UUID("vm1"), false); err != nil {
				t.Fatal(err)
			}
			_, err := os.Stat(filepath.Join(c.cfg.Home, "calls"))
			if cut := err == nil; cut == tt.waits {
				t.Errorf("the power was cut: %v", cut)
			}
		})
	}
}

// D14: a list that fails once, because a VM went meanwhile, is no failure.
func TestListIsAskedAgain(t *testing.T) {
	c := cli(t, `echo x >> $home/calls; [ $(wc -l < $home/calls) = 2 ] || { echo 'The file “disk.img” couldn’t be opened because there is no such file.' >&2; exit 1; }; `+listOfVM1)
	if vms, err := c.List(t.Context()); err != nil || len(vms) != 1 {
		t.Errorf("got %v, %v", vms, err)
	}
	if _, err := c.List(t.Context()); err == nil {
		t.Error("a list that goes on failing is no error")
	}
	if data, _ := os.ReadFile(filepath.Join(c.cfg.Home, "calls")); len(data) != 2*4 {
		t.Errorf("calls: %q, want two a list", data)
	}
	missing := New(Config{Path: "/nowhere/tart", Dir: t.TempDir(), Timeouts: DefaultTimeouts()}, command.New("", zap.NewNop(), nil))
	if _, err := missing.List(t.Context()); !errors.Is(err, hypervisor.ErrMissing) {
		t.Errorf("without the command: %v", err)
	}
}

// D19: a guest that does not use its larger disk is found out, whatever it can tell
// its size by.
func TestDiskThatWasNotGrown(t *testing.T) {
	diskutil := func(gb int) string {
		return fmt.Sprintf("echo '   Container Total Space:     %d.0 GB (%d000000000 Bytes) (exactly 1 512-Byte-Units)'", gb, gb)
	}
	df := func(gb int) string {
		return fmt.Sprintf("printf 'Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/vda2 %d 1 1 1%%%% /\n'", gb*1e9/1024)
	}
	for name, tt := range map[string]struct {
		asked, says string
		wrong       string // "" for nothing
	}{
		"nothing asked":   {"", "exit 1", ""},
		"grown":           {"200G", diskutil(194), ""},
		"not grown":       {"200G", diskutil(50), "has 50 GB of the disk's 200"},
		"Linux, grown":    {"200G", df(190), ""},
		"Linux":           {"200G", df(50), "has 50 GB of the disk's 200"},
		"no agent":        {"200G", "echo 'is the Tart Guest Agent running?' >&2; exit 1", "not known: .*guest agent"},
		"nonsense":        {"200G", "echo hello", `not known: it says "hello"`},
		"a little larger": {"55G", diskutil(50), ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := cli(t, `case "$1" in list) `+listOfVM1+`;; exec) `+tt.says+`;; esac`)
			if err := c.Configure(t.Context(), UUID("vm1"), hypervisor.Options{DiskSize: tt.asked}); err != nil {
				t.Fatal(err)
			}
			err := c.Grown(t.Context(), UUID("vm1"))
			if (err == nil) != (tt.wrong == "") || err != nil && !strings.Contains(err.Error(), strings.Split(tt.wrong, ".*")[0]) {
				t.Errorf("got %v, want %q", err, tt.wrong)
			}
		})
	}
}
