package anka

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"go.uber.org/zap"

	"github.com/ankacluster/ankacluster/agent/command"
	"github.com/ankacluster/ankacluster/agent/hypervisor"
)

func TestAnswerIsFoundAmongWarnings(t *testing.T) {
	for name, out := range map[string]string{
		"bare":           `{"status":"OK","body":{"uuid":"u"}}`,
		"before":         "objc[1]: Class X is implemented twice\n" + `{"status":"OK","body":{"uuid":"u"}}`,
		"after":          `{"status":"OK","body":{"uuid":"u"}}` + "\nwarning: bye {\n",
		"pretty":         "noise\n{\n  \"status\": \"OK\",\n  \"body\": {\"uuid\": \"u\"}\n}\n",
		"earlier answer": `{"status":"ERROR","body":{}}` + "\n" + `{"status":"OK","body":{"uuid":"u"}}`,
		"progress":       `{"p":0.00}` + "\n" + `{"p":1.00}` + "\n" + `{"status":"OK","body":{"uuid":"u"}}`,
		"one line":       `{"p":0.5}{"status":"OK","body":{"uuid":"u"}}`,
		"json noise":     `{"level":"warn"}` + "\n" + `{"status":"OK","body":{"uuid":"u"}}`,
	} {
		a, ok := parseAnswer([]byte(out))
		if !ok || a.Status != "OK" || decodeObjects(a.Body)[0].text("uuid") != "u" {
			t.Errorf("%s: got %+v, %v", name, a, ok)
		}
	}
	for _, out := range []string{"", "{", "null", "[]", `{"status":"OK","body":[{"uuid":"`, "Traceback\n  {\"status\":", `{"status":5}`} {
		if a, ok := parseAnswer([]byte(out)); ok {
			t.Errorf("%q was taken for an answer: %+v", out, a)
		}
	}
}

func TestVMOfEveryShape(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		want       hypervisor.VM
	}{
		{"list entry", `{"uuid":"u","name":"n","status":"Running","version":"v1"}`, hypervisor.VM{UUID: "u", Name: "n", Status: "running", Tag: "v1"}},
		{"ram as text", `{"uuid":"u","ram":"4G","cpu_cores":"8"}`, hypervisor.VM{UUID: "u", RAM: 4096, CPU: 8}},
		{"ram in bytes", `{"uuid":"u","ram":4294967296,"cpu_cores":8.0}`, hypervisor.VM{UUID: "u", RAM: 4096, CPU: 8}},
		{"ram in ram_size", `{"uuid":"u","ram":"","ram_size":2147483648}`, hypervisor.VM{UUID: "u", RAM: 2048}},
		{"half a port", `{"uuid":"u","port_forwarding":[{"guest_port":22},{"guest_port":"22","host_port":"10000"}]}`,
			hypervisor.VM{UUID: "u", Ports: []hypervisor.Port{{Guest: 22, Host: 10000, Protocol: "tcp"}}}},
		{"nonsense", `{"uuid":"u","ram":[],"cpu_cores":{},"port_forwarding":"none","ip":null}`, hypervisor.VM{UUID: "u"}},
	} {
		got := toVM(decodeObjects([]byte(tt.body))[0])
		if got.UUID != tt.want.UUID || got.RAM != tt.want.RAM || got.CPU != tt.want.CPU || got.Status != tt.want.Status ||
			got.Tag != tt.want.Tag || len(got.Ports) != len(tt.want.Ports) || len(got.Ports) > 0 && got.Ports[0] != tt.want.Ports[0] {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		`{"status":"OK","body":[{"uuid":"u","name":"n","ram":"4G","creation_date":"2026-01-02T03:04:05Z"}]}`,
		`{"status":"ERROR","message":"no","code":3,"exception_type":"X"}`, "noise\n{\"status\":\"OK\"", `{"status":"OK","body":"1e999"}`, "\n\n{", "{}\n{\"status\":\"OK\"}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, out []byte) {
		a, ok := parseAnswer(out)
		if !ok {
			return
		}
		if a.Status == "" {
			t.Errorf("an answer without a status from %q", out)
		}
		for _, o := range decodeObjects(a.Body) {
			vm := toVM(o)
			if vm.RAM < 0 || vm.RAM > 1<<52 {
				t.Errorf("RAM %d from %q", vm.RAM, out)
			}
			for _, p := range vm.Ports {
				if p.Guest <= 0 || p.Host <= 0 {
					t.Errorf("port %+v from %q", p, out)
				}
			}
		}
		if err := commandError("x", a, ok, command.Result{}); err == nil || !utf8.ValidString(command.LastLine(out)) {
			t.Errorf("no error, or a broken line, from %q", out)
		}
	})
}

// cli returns a CLI over a shell script.
func cli(t *testing.T, script string) *CLI {
	t.Helper()
	path := filepath.Join(t.TempDir(), "anka")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	timeouts := DefaultTimeouts()
	timeouts.Query = time.Minute
	return New(path, command.New("", zap.NewNop(), nil), timeouts)
}

// A10: every exit code, and garbage, is an error with a reason and no panic.
func TestA10EveryWayToFail(t *testing.T) {
	for name, tt := range map[string]struct {
		script string
		is     error
		says   string
	}{
		"not found":      {`printf '{"status":"ERROR","message":"x: not found","code":3}'; exit 3`, hypervisor.ErrNotFound, "not found"},
		"only exit code": {`exit 3`, hypervisor.ErrNotFound, "printed no answer"},
		"name taken":     {`printf '{"status":"ERROR","message":"taken","code":18}'; exit 1`, hypervisor.ErrNameTaken, "taken"},
		"too many":       {`printf '{"status":"ERROR","message":"Maximum number of running instances exceeded","code":1}'; exit 1`, hypervisor.ErrTooMany, "Maximum"},
		"licence":        {`printf '{"status":"ERROR","message":"License expired","code":1}'; exit 1`, hypervisor.ErrLicense, "License"},
		"OK but 125":     {`printf '{"status":"OK"}'; exit 125`, nil, "exit code 125"},
		"crash":          {`kill -SEGV $$`, nil, "exit code -1"},
		"garbage":        {`echo Traceback; echo boom >&2`, nil, "boom"},
		"cut short":      {`printf '{"status":"OK","body":{"uu'`, nil, "printed no answer"},
		"silence":        {`true`, nil, "printed no answer"},
		"hang":           {`exec sleep 1000`, command.ErrTimeout, "timed out"},
	} {
		t.Run(name, func(t *testing.T) { // one at a time: a script that was just written cannot be run while another test forks
			c := cli(t, tt.script)
			if tt.is == command.ErrTimeout {
				c.timeouts.Query = time.Second
			}
			_, err := c.List(t.Context())
			if err == nil || tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want %v with %q", err, tt.is, tt.says)
			}
		})
	}
	if _, err := New("/nowhere/anka", command.New("", zap.NewNop(), nil), DefaultTimeouts()).List(t.Context()); !errors.Is(err, hypervisor.ErrMissing) {
		t.Errorf("missing command: %v", err)
	}
}

func TestModifications(t *testing.T) {
	got := modifications(hypervisor.Options{
		CPU: 4, RAM: 8192, DiskSize: "100G", VLAN: "7", MAC: "00:11:22:33:44:55", NetworkLocal: "forceOff",
		Ports:           []hypervisor.PortRule{{Name: "ssh", GuestPort: 22, HostPort: 10022}, {Name: "web", GuestPort: 80, HostIP: "127.0.0.1"}},
		VideoController: "pg", HVAPIC: "forceOn", CSRActiveConfig: "0x67", HWSerial: "S", HWUUID: "U",
	})
	var lines []string
	for _, args := range got {
		lines = append(lines, args.String())
	}
	want := []string{"cpu 4", "ram 8192M", "disk -s 100G", "network -t bridge --vlan 7 -m 00:11:22:33:44:55 --no-local", "port ssh 22:0.0.0.0:10022", "port web 80:127.0.0.1",
		"display --controller pg", "set custom-variable hw.hvapic 1", "set custom-variable sys.csr-active-config 0x67", "set custom-variable hw.serial S", "set custom-variable hw.uuid U"}
	if strings.Join(lines, "\n") != strings.Join(want, "\n") {
		t.Errorf("got  %q\nwant %q", lines, want)
	}
}

// script answers `anka -j version` with a version, and the rest with what it is
// given.
func versioned(version, rest string) string {
	return `case "$*" in
"-j version") printf '{"status":"OK","body":{"version":"` + version + `"}}'; exit 0;;
"-j license show") printf '{"status":"OK","body":{"license_type":"t","status":"valid"}}'; exit 0;;
esac
` + rest
}

// D2: what a pull does not find is not in the registry.
func TestPullOfWhatTheRegistryLacks(t *testing.T) {
	c := cli(t, `printf '{"status":"ERROR","message":"demo: not found","code":3}'; exit 3`)
	err := c.Pull(t.Context(), hypervisor.Image{ID: "u", Name: "demo", Tag: "none"}, hypervisor.Source{URL: "http://127.0.0.1:1"})
	if !errors.Is(err, hypervisor.ErrNotInRegistry) || errors.Is(err, hypervisor.ErrNotFound) {
		t.Errorf("pull: %v", err)
	}
	_, err = c.DownloadSize(t.Context(), hypervisor.Image{ID: "u", Name: "demo", Tag: "none"}, hypervisor.Source{URL: "http://127.0.0.1:1"})
	if !errors.Is(err, hypervisor.ErrNotInRegistry) {
		t.Errorf("size: %v", err)
	}
}

// TestOldVersionsAreNotAskedToPull: the error says that this anka is too old for the
// cloud's registries, and the command gets no option that it does not know.
func TestOldVersionsAreNotAskedToPull(t *testing.T) {
	c := cli(t, versioned("3.8.6", `echo "no such option: -o2" >&2; exit 2`))
	if _, err := c.Version(t.Context()); err != nil {
		t.Fatal(err)
	}
	err := c.Pull(t.Context(), hypervisor.Image{ID: "u", Name: "demo"}, hypervisor.Source{URL: "http://127.0.0.1:1"})
	if !errors.Is(err, hypervisor.ErrOutdated) || !strings.Contains(err.Error(), "3.9") {
		t.Errorf("pull: %v", err)
	}
	if err := c.Push(t.Context(), "vm", hypervisor.Source{}, hypervisor.PushOptions{Tag: "v1"}); !errors.Is(err, hypervisor.ErrOutdated) {
		t.Errorf("push: %v", err)
	}
}

// D6: sizes are what anka answers, less what the node has.
func TestDownloadSize(t *testing.T) {
	for body, want := range map[string]uint64{
		`{"size":3000000000,"cached":1000000000,"available":5}`: 2000000000, `{}`: 0, `{"size":7}`: 7, `{"size":5,"cached":9}`: 0,
	} {
		c := cli(t, `[ "$*" = "-j pull -o2 team/demo http://127.0.0.1:1 --check-download-size -t v1" ] || exit 2
printf '{"status":"OK","body":`+body+`}'`)
		got, err := c.DownloadSize(t.Context(), hypervisor.Image{Name: "demo", Tag: "v1"}, hypervisor.Source{URL: "http://127.0.0.1:1", Prefix: "team"})
		if err != nil || got != want {
			t.Errorf("%s: got %d, %v, want %d", body, got, err, want)
		}
	}
	c := cli(t, `printf '{"status":"OK","body":"none"}'`)
	if _, err := c.DownloadSize(t.Context(), hypervisor.Image{Name: "demo"}, hypervisor.Source{}); err == nil {
		t.Error("an answer without a size was taken for one")
	}
}

// U5: a VM that runs is started, whatever anka calls that.
func TestStartOfARunningVM(t *testing.T) {
	for _, script := range []string{`printf '{"status":"OK","body":{}}'`, `printf '{"status":"ERROR","message":"VM is already running","code":1}'; exit 1`} {
		if err := cli(t, script).Start(t.Context(), "vm", hypervisor.StartOptions{Timeout: time.Minute}); err != nil {
			t.Errorf("%s: %v", script, err)
		}
	}
}

// D20: 125 is a lost guest, not the script's exit code.
func TestLostGuest(t *testing.T) {
	if _, err := cli(t, `echo "connection lost" >&2; exit 125`).Run(t.Context(), "vm", hypervisor.Script{}); err == nil || !strings.Contains(err.Error(), "connection lost") {
		t.Errorf("exit code 125: %v", err)
	}
	if res, err := cli(t, `exit 124`).Run(t.Context(), "vm", hypervisor.Script{}); err != nil || res.ExitCode != 124 {
		t.Errorf("exit code 124: %+v, %v", res, err)
	}
}

// The fields of a list are asked for only where they are known, and not again
// after a refusal.
func TestListOfFields(t *testing.T) {
	for _, c := range []struct {
		version, refuse string
		calls           []string
	}{
		{"3.6.1", "", []string{"-j list -a", "-j list -a"}},
		{"3.9.1", "", []string{"-j list -a --field " + listFields, "-j list -a --field " + listFields}},
		{"3.9.1", "*--field*) printf '{\"status\":\"ERROR\",\"message\":\"no such field\",\"code\":1}'; exit 1;;",
			[]string{"-j list -a --field " + listFields, "-j list -a", "-j list -a"}},
	} {
		log := filepath.Join(t.TempDir(), "log")
		cli := cli(t, versioned(c.version, `echo "$*" >> `+log+`
case "$*" in `+c.refuse+`
*) printf '{"status":"OK","body":[{"uuid":"u","name":"n","status":"running","ip":"10.0.0.1"}]}';; esac`))
		if _, err := cli.Version(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if vms, err := cli.List(t.Context()); err != nil || len(vms) != 1 || vms[0].UUID != "u" {
				t.Errorf("list: %+v, %v", vms, err)
			}
		}
		data, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Split(strings.TrimSpace(string(data)), "\n"); strings.Join(got, "\n") != strings.Join(c.calls, "\n") {
			t.Errorf("anka %s: calls %q, want %q", c.version, got, c.calls)
		}
	}
}

// D16: where images are kept is answered in one of two forms.
func TestDirs(t *testing.T) {
	for _, body := range []string{`"/Volumes/images"`, `{"img_lib_dir":"/Volumes/images"}`, `[{"name":"img_lib_dir","value":"/Volumes/images"}]`} {
		c := cli(t, `[ "$3" = vm_lib_dir ] && printf '{"status":"OK","body":""}' || printf '{"status":"OK","body":`+body+`}'`)
		dirs, err := c.Dirs(t.Context())
		if err != nil || len(dirs) != 1 || dirs[0] != "/Volumes/images" {
			t.Errorf("%s: got %q, %v", body, dirs, err)
		}
	}
}

// A start that failed tells what anka wrote about that VM, and about no other.
func TestFailedStartTellsTheLog(t *testing.T) {
	c := cli(t, `[ "$ANKA_DELETE_LOGS" = 0 ] || exit 9
printf '{"status":"ERROR","message":"failed to start: No child processes","code":1}'; exit 1`)
	c.logs = t.TempDir()
	log := strings.Repeat("an old line that is long enough\n", 1000) + "port 10022 is in use\nexiting\n"
	for name, text := range map[string]string{"vm-1.log": log, "vm-2.log": "of another VM\n"} {
		if err := os.WriteFile(filepath.Join(c.logs, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	err := c.Start(t.Context(), "vm-1", hypervisor.StartOptions{Timeout: time.Minute})
	if err == nil || !strings.Contains(err.Error(), "No child processes") || !strings.HasSuffix(err.Error(), "port 10022 is in use / exiting") || len(err.Error()) > 400 {
		t.Errorf("got %v", err)
	}
	if err := c.Start(t.Context(), "../vm-2", hypervisor.StartOptions{Timeout: time.Minute}); err == nil || strings.Contains(err.Error(), "/..") {
		t.Errorf("got %v", err)
	}
}
