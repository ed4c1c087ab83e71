package topologies

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/test/pages"
)

// TestHTTPSPage does what docs/operators/https.md says with a private authority, as
// written, on three hosts: certificates, start, join, push, list, a replica,
// renewal. All sides verify. Then it does what the page says cannot go well.
func TestHTTPSPage(t *testing.T) {
	long(t)
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("SKIPPED: needs the command openssl")
	}
	c, dir := newThreeHosts(t), t.TempDir()
	mac, alone := c.newNode("10.0.1.10"), c.net.newHost("10.0.1.7")
	env := func(host string) []string {
		return append(mac.env(), "ANKA_DATA_DIR="+filepath.Join(dir, "data-"+host), "ANKA_DRAIN_DELAY=0s", "PATH="+binDir+":"+os.Getenv("PATH"))
	}
	shell := func(h *host, command string) *exec.Cmd {
		cmd := h.command("bash", "-ec", command)
		cmd.Dir, cmd.Env = dir, env(h.name)
		return cmd
	}
	run := func(command string) string {
		t.Helper()
		out, err := shell(mac.host, command).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
		return string(out)
	}
	server := func(h *host, command string) *process {
		p := newProcess(t, strings.Fields(command)[0]+" on "+h.addr, func() *exec.Cmd { return shell(h, "exec "+command) })
		p.start()
		return p
	}
	ready := func(url string) {
		t.Helper()
		eventually(t, url+" is ready", func() error {
			out, err := shell(mac.host, "curl -sS --fail --cacert ca.pem "+url+"/readyz").CombinedOutput()
			if err != nil {
				err = fmt.Errorf("%w: %s", err, out)
			}
			return err
		})
	}
	if err := os.MkdirAll(filepath.Join(dir, "sonoma"), 0o755); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(dir, "sonoma", strings.Repeat("0", 31)+"1.ank")
	if err := os.WriteFile(image, make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	public, tried := false, 0
	commands, err := pages.Blocks("../..", "docs/operators/https.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, found := range commands {
		command := found.Text
		tried++
		switch {
		case strings.Contains(command, "build.example.com:8090"):
			public = true // a public certificate cannot be had here
		case strings.HasPrefix(command, "anka-controller"):
			for _, h := range c.hosts {
				own := strings.NewReplacer("10.0.1.4.pem", h.addr+".pem", "10.0.1.4.key", h.addr+".key").Replace(command)
				server(h, own)
			}
			for _, a := range hostAddrs {
				ready("https://" + a + ":8090")
			}
		case strings.HasPrefix(command, "sudo ankacluster join"):
			join := strings.TrimSpace(strings.TrimPrefix(command, "sudo "))
			if out, err := shell(mac.host, strings.Replace(join, " --cacert ca.pem", "", 1)+" --force-no-sudo --foreground").CombinedOutput(); err == nil || !strings.Contains(string(out), "--cacert") {
				t.Errorf("join without the authority: %v\n%s", err, out)
			}
			server(mac.host, join+" --force-no-sudo --foreground --name mac --max-vm-count 2 --ignore-arm-vm-limit --reserve-space 0%")
			eventually(t, "the node is active", func() error {
				out, err := shell(mac.host, "curl -sS --cacert ca.pem https://10.0.1.5:8090/api/v1/node").CombinedOutput()
				if err == nil && !strings.Contains(string(out), `"state":"Active"`) {
					err = fmt.Errorf("%s", out)
				}
				return err
			})
		case strings.HasPrefix(command, "anka-registry"):
			server(alone, strings.Replace(command, "--base-path /data", "--min-free 0 --base-path "+filepath.Join(dir, "replica"), 1))
			ready("https://10.0.1.7:8089")
			eventually(t, "the replica has the template", func() error {
				out, err := shell(mac.host, "curl -sS --cacert ca.pem https://10.0.1.7:8089/registry/v2/vm").CombinedOutput()
				if err == nil && !strings.Contains(string(out), `"name":"sonoma"`) {
					err = fmt.Errorf("%s", out)
				}
				return err
			})
		case strings.HasPrefix(command, "curl"):
			began := time.Now()
			out := run(command)
			if !strings.Contains(out, `"name":"sonoma"`) {
				t.Errorf("%s\n%s", command, out)
			}
			t.Logf("a list took %s", time.Since(began).Round(time.Millisecond))
		default:
			run(command)
		}
	}
	if !public || tried < 10 {
		t.Errorf("%d commands were found on the page, with the public certificate's: %v", tried, public)
	}

	// A VM starts: controller, registry, node and hypervisor reach one another.
	template := func() string {
		out := run("ankacluster template list --json --url https://10.0.1.5:8090 --cacert ca.pem")
		_, rest, _ := strings.Cut(out, `"id": "`)
		if _, compact, ok := strings.Cut(out, `"id":"`); ok {
			rest = compact
		}
		id, _, _ := strings.Cut(rest, `"`)
		return id
	}()
	started := run(`curl -sS --cacert ca.pem -d '{"vmid":"` + template + `"}' https://10.0.1.6:8090/api/v1/vm`)
	if !strings.Contains(started, `"status":"OK"`) {
		t.Errorf("start of %s: %s", template, started)
	}
	eventually(t, "the VM is started", func() error {
		out, err := shell(mac.host, "curl -sS --cacert ca.pem https://10.0.1.4:8090/api/v1/vm").CombinedOutput()
		if err == nil && !strings.Contains(string(out), `"instance_state":"Started"`) {
			err = fmt.Errorf("%s", out)
		}
		return err
	})

	// The certificate that was renewed is served, by the processes that run.
	want := run("openssl x509 -in 10.0.1.4.pem -noout -serial")
	for _, port := range []string{"8090", "8089"} {
		if got := run("openssl s_client -connect 10.0.1.4:" + port + " </dev/null 2>/dev/null | openssl x509 -noout -serial"); got != want {
			t.Errorf("port %s serves certificate %s, want the renewed %s", port, got, want)
		}
	}

	// What is not trusted is one clear error that names the setting.
	wrong := filepath.Join(dir, "wrong.pem")
	run("openssl req -x509 -newkey rsa:2048 -nodes -subj '/CN=wrong' -keyout wrong.key -out " + wrong)
	for _, bad := range []struct{ command, want string }{
		{"anka-controller --etcd-endpoints 10.0.1.4:2379 --anka-registry https://10.0.1.5:8089 --registry-ca-cert wrong.pem", "--registry-ca-cert"},
		{"anka-controller --etcd-endpoints 10.0.1.4:2379 --anka-registry https://10.0.1.5:8089", "--registry-ca-cert"},
		{"anka-controller --standalone --cluster 10.0.1.7,10.0.1.8 --use-https --server-cert 10.0.1.7.pem --server-key 10.0.1.7.key --registry-ca-cert wrong.pem", "--registry-ca-cert"},
		{"anka-controller --etcd-endpoints 10.0.1.4:2379 --anka-registry https://10.0.1.5:8089 --registry-ca-cert none.pem", "--registry-ca-cert: open"},
	} {
		out, err := shell(alone, "timeout 60 "+bad.command).CombinedOutput()
		if err == nil || !strings.Contains(string(out), bad.want) || strings.Count(string(out), ": error: ") != 1 {
			t.Errorf("%s: %v\n%s\nwant one error that names %s", bad.command, err, out, bad.want)
		}
	}
}
