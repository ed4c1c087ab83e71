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
		"bare":       `{"status":"OK","body":{"uuid":"u"}}`,
		"before":     "objc[1]: Class X is implemented twice\n" + `{"status":"OK","body":{"uuid":"u"}}`,
		"after":      `{"status":"OK","body":{"uuid":"u"}}` + "\nwarning: bye {\n",
		"pretty":     "noise\n{\n  \"status\": \"OK\",\n  \"body\": {\"uuid\": \"u\"}\n}\n",
		"json noise": `{"level":"warn"}` + "\n" + `{"status":"OK","body":{"uuid":"u"}}`,
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
		Ports: []hypervisor.PortRule{{Name: "ssh", GuestPort: 22, HostPort: 10022}, {Name: "web", GuestPort: 80, HostIP: "127.0.0.1"}},
	})
	var lines []string
	for _, args := range got {
		lines = append(lines, strings.Join(args, " "))
	}
	want := []string{"cpu 4", "ram 8192M", "disk -s 100G", "network -t bridge --vlan 7 -m 00:11:22:33:44:55 --no-local", "port ssh 22:10022", "port web 80:127.0.0.1"}
	if strings.Join(lines, "\n") != strings.Join(want, "\n") {
		t.Errorf("got  %q\nwant %q", lines, want)
	}
}
