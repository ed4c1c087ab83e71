package clouds

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/ankacluster/ankacluster/controllerapi"
)

func TestFind(t *testing.T) {
	t.Parallel()
	all := []Named{{"1a2b3c", "sonoma"}, {"1a9f00", "sonoma-xcode"}, {"77", "1a2b3c-odd"}, {"88", "twin"}, {"99", "twin"}, {"aa", ""}}
	for word, want := range map[string]string{
		"1a2b3c": "1a2b3c", "sonoma": "1a2b3c", "sonoma-": "1a9f00", "1a9": "1a9f00", "88": "88", "1a2b3c-": "77", "a": "aa",
		"son": "ambiguous", "1a": "ambiguous", "twin": "ambiguous", "": "none", "sonomo": "none, near sonoma", "xx": "none",
	} {
		found, err := Find("template", word, all)
		got := found.ID
		if _, ok := errors.AsType[*Ambiguous](err); ok {
			got = "ambiguous"
		}
		if e, ok := errors.AsType[*NotFound](err); ok {
			got = "none"
			if e.Near != "" {
				got += ", near " + e.Near
			}
		}
		if got != want {
			t.Errorf("%q: %s, want %s", word, got, want)
		}
	}
	_, err := Find("template", "son", all)
	if want := `"son" may be 2 templates: sonoma (1a2b3c), sonoma-xcode (1a9f00)`; err.Error() != want {
		t.Errorf("got %s, want %s", err, want)
	}
}

func TestShortIDsCanBeToldApart(t *testing.T) {
	t.Parallel()
	for _, ids := range [][]string{nil, {"0123456789"}, {"0123456789", "0123456788", "abc"}, {"x", "x"}} {
		seen := make(map[string]string)
		for _, id := range ids {
			s := Short(ids)(id)
			if other, taken := seen[s]; taken && other != id || !strings.HasPrefix(id, s) || len(s) < min(len(id), shortest) {
				t.Errorf("%s of %v: %q", id, ids, s)
			}
			seen[s] = id
		}
	}
}

func TestContextsAreKeptForTheirOwnerOnly(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "config", "contexts.json")
	f, err := Load(path)
	if err != nil || len(f.Contexts) != 0 {
		t.Fatalf("without a file: %v, %v", f, err)
	}
	f.Current, f.Contexts["lab"] = "lab", Config{Controllers: []string{"http://10.0.1.4:8090"}, CACert: "/ca.pem"}
	if err := f.Save(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	again, err := Load(path)
	if err != nil || !reflect.DeepEqual(again, f) {
		t.Errorf("read %+v, %v; want %+v", again, err, f)
	}
	if _, err := again.Get("la"); err == nil || !strings.Contains(err.Error(), `no context "la"`) {
		t.Errorf("the beginning of a name: %v", err)
	}
	for text, want := range map[string]string{`{"contexts":{"a":{}}}`: "no controllers", `{"contextx":{}}`: "contextx", `{`: "contexts.json"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}

func TestWaysToAVM(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		vm   controllerapi.VMInfo
		want []Way
	}{
		{controllerapi.VMInfo{HostIP: "10.0.1.10"}, nil},
		{controllerapi.VMInfo{HostIP: "10.0.1.10", IP: "192.168.64.5", VNCPort: 5901}, []Way{{"ssh", "ssh USER@192.168.64.5"}, {"vnc", "vnc://10.0.1.10:5901"}}},
		{controllerapi.VMInfo{HostIP: "10.0.1.10", IP: "192.168.64.5", VNCConnectionString: "vnc://:x@h:1", VNCPort: 5901,
			PortForwarding: []controllerapi.PortForward{{GuestPort: 80, HostPort: 10001, Name: "web"}, {GuestPort: 22, HostPort: 10002, Name: "login"}}},
			[]Way{{"ssh", "ssh -p 10002 USER@10.0.1.10"}, {"vnc", "vnc://:x@h:1"}, {"web", "10.0.1.10:10001 leads to the VM's port 80"}}},
	} {
		if got := Ways(&c.vm); !reflect.DeepEqual(got, c.want) {
			t.Errorf("got %v, want %v", got, c.want)
		}
	}
	if Ways(nil) != nil {
		t.Error("of no VM")
	}
}
