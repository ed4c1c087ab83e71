package anka

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ankacluster/ankacluster/agent/command"
	"github.com/ankacluster/ankacluster/agent/hypervisor"
)

// A registry or controller that names things as options are named makes nothing run:
// `anka delete --yes -t v1 --all` would delete every VM of the Mac.
func TestHostileValuesRunNothing(t *testing.T) {
	log := filepath.Join(t.TempDir(), "calls")
	c := cli(t, `echo "$*" >> `+log+`; case "$*" in *list*) printf '{"status":"OK","body":[]}';; *) printf '{"status":"OK","body":{"uuid":"u"}}';; esac`)
	from := hypervisor.Source{URL: "http://127.0.0.1:1"}
	for _, v := range []string{"--all", "-f", "a\nb", "--check-download-size"} {
		for name, call := range map[string]func() error{
			"remove by id":  func() error { return c.RemoveImage(t.Context(), hypervisor.Image{ID: v}) },
			"remove a tag":  func() error { return c.RemoveImage(t.Context(), hypervisor.Image{ID: v, Tag: "v1"}) },
			"remove by tag": func() error { return c.RemoveImage(t.Context(), hypervisor.Image{ID: "u", Tag: v}) },
			"pull":          func() error { return c.Pull(t.Context(), hypervisor.Image{ID: "u", Name: v, Tag: "v1"}, from) },
			"pull a tag":    func() error { return c.Pull(t.Context(), hypervisor.Image{ID: "u", Name: "n", Tag: v}, from) },
			"pull below": func() error {
				return c.Pull(t.Context(), hypervisor.Image{ID: "u", Name: "n", Tag: "v1"}, hypervisor.Source{URL: from.URL, Prefix: v})
			},
			"size": func() error {
				_, err := c.DownloadSize(t.Context(), hypervisor.Image{ID: "u", Name: v, Tag: "v1"}, from)
				return err
			},
			"clone": func() error {
				_, err := c.Clone(t.Context(), hypervisor.Image{ID: v, Tag: "v1"}, "vm")
				return err
			},
			"clone as": func() error {
				_, err := c.Clone(t.Context(), hypervisor.Image{ID: "u", Tag: "v1"}, v)
				return err
			},
			"push":       func() error { return c.Push(t.Context(), "u", from, hypervisor.PushOptions{Template: v, Tag: "v2"}) },
			"push a tag": func() error { return c.Push(t.Context(), "u", from, hypervisor.PushOptions{Tag: v}) },
			"attach":     func() error { return c.AttachUSB(t.Context(), "u", v) },
			"start":      func() error { return c.Start(t.Context(), v, hypervisor.StartOptions{}) },
			"stop":       func() error { return c.Stop(t.Context(), v, true) },
			"suspend":    func() error { return c.Suspend(t.Context(), v) },
			"delete":     func() error { return c.Delete(t.Context(), v) },
			"run": func() error {
				_, err := c.Run(t.Context(), v, hypervisor.Script{})
				return err
			},
			"port": func() error {
				return c.Configure(t.Context(), "u", hypervisor.Options{Ports: []hypervisor.PortRule{{Name: v, GuestPort: 22}}})
			},
			"vlan":   func() error { return c.Configure(t.Context(), "u", hypervisor.Options{VLAN: v}) },
			"mac":    func() error { return c.Configure(t.Context(), "u", hypervisor.Options{MAC: v}) },
			"serial": func() error { return c.Configure(t.Context(), "u", hypervisor.Options{HWSerial: v}) },
		} {
			if err := call(); !errors.Is(err, command.ErrRefused) {
				t.Errorf("%s %q: %v", name, v, err)
			}
		}
	}
	calls, err := os.ReadFile(log)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(calls)) {
		if !strings.Contains(line, "list") { // whether another tag is here is asked first
			t.Errorf("ran: anka %s", line)
		}
	}
}

// The repository is the one that was asked for, whatever the configuration in it
// calls itself.
func TestPullIsFromTheRepositoryAskedFor(t *testing.T) {
	log := filepath.Join(t.TempDir(), "calls")
	c := cli(t, `echo "$*" >> `+log+`; printf '{"status":"OK","body":{"uuid":"u"}}'`)
	img := hypervisor.Image{ID: "u", Name: "sonoma", Tag: "v1", Repository: "team/evil"}
	if err := c.Pull(t.Context(), img, hypervisor.Source{URL: "http://127.0.0.1:1", Prefix: "team"}); err != nil {
		t.Fatal(err)
	}
	calls, err := os.ReadFile(log)
	if want := "-j registry -o2 -r http://127.0.0.1:1 -p team pull evil -t v1\n"; err != nil || string(calls) != want {
		t.Errorf("got %q, %v; want %q", calls, err, want)
	}
}
