package packages

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ankacluster/ankacluster/test/pages"
	"github.com/ankacluster/ankacluster/test/systemd"
)

const cloud = "http://127.0.0.1:8090"

// debian is a booted Debian system with two versions of the packages in it.
type debian struct {
	t    *testing.T
	m    *systemd.Machine
	root string
}

// boot boots a copy of the system that ANKA_DEBIAN_ROOT names. The packages of
// ANKA_OLD_PACKAGES and ANKA_NEW_PACKAGES are in /old and /new, and the programs
// of ANKA_TEST_PROGRAMS, the fake anka among them, are in /usr/local/bin.
func boot(t *testing.T) *debian {
	t.Helper()
	if os.Getenv("ANKA_DEBIAN_ROOT") == "" {
		t.Skip("needs a Debian system and packages: make test-packages")
	}
	d := &debian{t: t, root: filepath.Join(t.TempDir(), "debian")}
	d.outside("cp", "-a", "--reflink=auto", os.Getenv("ANKA_DEBIAN_ROOT"), d.root)
	d.outside("cp", "-r", os.Getenv("ANKA_OLD_PACKAGES"), filepath.Join(d.root, "old"))
	d.outside("cp", "-r", os.Getenv("ANKA_NEW_PACKAGES"), filepath.Join(d.root, "new"))
	d.outside("cp", filepath.Join(os.Getenv("ANKA_TEST_PROGRAMS"), "fakeanka"), filepath.Join(d.root, "usr/local/bin/fakeanka"))
	wrapper := "#!/bin/sh\nFAKEANKA_DIR=/srv/anka exec /usr/local/bin/fakeanka \"$@\"\n"
	if err := os.WriteFile(filepath.Join(d.root, "usr/local/bin/anka"), []byte(wrapper), 0o755); err != nil {
		t.Fatal(err)
	}
	d.m = systemd.BootRoot(t, d.root)
	return d
}

func (d *debian) outside(name string, args ...string) {
	d.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		d.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// try runs a line of shell in the system.
func (d *debian) try(line string) (string, error) {
	d.t.Helper()
	out, err := d.m.Run(nil, "sh", "-c", line)
	return strings.TrimSpace(out), err
}

// run is try for what has to work, and shows it as a transcript.
func (d *debian) run(line string) string {
	d.t.Helper()
	out, err := d.try(line)
	d.t.Logf("# %s\n%s", line, out)
	if err != nil {
		state, _ := d.try("systemctl --failed --no-legend; journalctl --no-pager -n 40")
		d.t.Fatalf("%s: %v\n%s\n%s", line, err, out, state)
	}
	return out
}

// mustSay is run for what has to say something.
func (d *debian) mustSay(line, pattern string) string {
	d.t.Helper()
	out := d.run(line)
	if !regexp.MustCompile(pattern).MatchString(out) {
		d.t.Errorf("%s: got %q, want %s", line, out, pattern)
	}
	return out
}

// await runs a line until what it prints matches.
func (d *debian) await(line, pattern string) string {
	d.t.Helper()
	want := regexp.MustCompile(pattern)
	end := time.After(2 * time.Minute)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		out, err := d.try(line)
		if want.MatchString(out) {
			return out
		}
		select {
		case <-end:
			log, _ := d.try("journalctl --no-pager -n 40")
			d.t.Fatalf("%s: never printed %s: %s (%v)\n%s", line, pattern, out, err, log)
		case <-tick.C:
		}
	}
}

// version is that of the packages in a folder, as a regular expression.
func version(t *testing.T, folder string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(os.Getenv(folder), "ankacluster_*_linux_*.tar.gz"))
	if err != nil || len(found) == 0 {
		t.Fatalf("no archive in %s=%s (%v)", folder, os.Getenv(folder), err)
	}
	return regexp.QuoteMeta(strings.Split(filepath.Base(found[0]), "_")[1])
}

// startVM starts a VM of the only template and returns its id when it runs.
func (d *debian) startVM() string {
	d.t.Helper()
	var templates struct{ Body []struct{ ID, Name string } }
	out := d.run("curl -sS " + cloud + "/api/v1/registry/vm")
	if err := json.Unmarshal([]byte(out), &templates); err != nil || len(templates.Body) != 1 {
		d.t.Fatalf("templates: %s (%v), want one", out, err)
	}
	var started struct{ Body []string }
	out = d.run(fmt.Sprintf(`curl -sS -d '{"vmid":"%s"}' %s/api/v1/vm`, templates.Body[0].ID, cloud))
	if err := json.Unmarshal([]byte(out), &started); err != nil || len(started.Body) != 1 {
		d.t.Fatalf("start: %s (%v), want one id", out, err)
	}
	id := started.Body[0]
	d.await(d.state(id), `"instance_state":"Started"`)
	return id
}

func (d *debian) state(id string) string {
	return fmt.Sprintf("curl -sS '%s/api/v1/vm?id=%s'", cloud, id)
}

// vmProcess is the process of the only running VM.
const vmProcess = "anka -j list -r | grep -o '\"uuid\":\"[^\"]*\"'"

// TestDebian is the life of the Debian packages: install, a cloud, a node, a VM,
// an upgrade under the VM, a reboot, remove, purge.
func TestDebian(t *testing.T) {
	d := boot(t)
	before, after := version(t, "ANKA_OLD_PACKAGES"), version(t, "ANKA_NEW_PACKAGES")

	// Installed, nothing runs before it is asked for.
	d.mustSay("apt-get install -y /old/anka-controller_*.deb /old/ankacluster_*.deb", "systemctl enable --now anka-controller")
	d.mustSay("anka-controller --version", "^anka-controller "+before+" ")
	if out, err := d.try("systemctl is-active anka-controller"); err == nil {
		t.Errorf("the cloud is %s before it was wanted", out)
	}
	d.mustSay("stat -c '%a %U' /etc/ankacluster/anka-controller.env /var/lib/anka-controller", "^600 root\n700 anka-controller$")
	d.mustSay("dpkg-query -W -f '${Conffiles}' anka-controller", "/etc/ankacluster/anka-controller.env")
	d.run("ls /usr/share/man/man8/ankacluster.8.gz /usr/share/doc/ankacluster/copyright /usr/share/doc/ankacluster/THIRD-PARTY-LICENSES.txt")
	d.run("bash -c 'source /usr/share/bash-completion/completions/anka-controller && complete -p anka-controller'")

	// A cloud.
	d.run("echo ANKA_ADVERTISE_URL=" + cloud + " >>/etc/ankacluster/anka-controller.env")
	d.run("systemctl enable --now anka-controller")
	d.await("curl -sS "+cloud+"/readyz", "^ok")
	d.mustSay("stat -c %U /proc/$(systemctl show -P MainPID anka-controller)", "^anka-controller$")
	d.mustSay("systemd-analyze security --no-pager anka-controller | tail -1", `: [01]\.\d OK`)

	// A node and a VM on it.
	d.run("anka create sonoma --size 1M -t v1 && anka registry -r http://127.0.0.1:8089 push sonoma -t v1 && anka delete --yes sonoma")
	d.mustSay("ankacluster join "+cloud, "joined as node")
	d.mustSay("systemctl is-enabled ankacluster", "^enabled$")
	id := d.startVM()
	vm := d.mustSay(vmProcess, "uuid")

	// An upgrade of everything leaves the VM alone, and the settings.
	d.run("apt-get install -y /new/anka-controller_*.deb /new/ankacluster_*.deb")
	d.await("curl -sS "+cloud+"/api/v1/status", `"version":"`+after+`"`)
	d.await("curl -sS "+cloud+"/api/v1/node", `"agent_version":"`+after+`"|"anka_version".*`+after)
	d.mustSay(d.state(id), `"instance_state":"Started"`)
	if got := d.run(vmProcess); got != vm {
		t.Errorf("after the upgrade the VM is %s, was %s", got, vm)
	}
	d.mustSay("tail -1 /etc/ankacluster/anka-controller.env", "ANKA_ADVERTISE_URL="+cloud)
	d.await("ankacluster status", "8090 +healthy")

	// Nodes get the agent of this version from the controller, if it is signed.
	d.mustSay("curl -sS "+cloud+"/pkg/AnkaAgentArm.pkg | cmp - /usr/share/ankacluster/agents/AnkaAgentArm.pkg && echo same", "^same$")
	d.mustSay("curl -sS -X PUT "+cloud+"/api/v1/node/update", `"status":"OK"|AnkaAgent(Arm)?.pkg is not signed`)

	// A registry of its own beside it.
	d.run("apt-get install -y /new/anka-registry_*.deb && sed -i 's/^ANKA_LISTEN_ADDR=.*/ANKA_LISTEN_ADDR=127.0.0.1:8099/' /etc/ankacluster/anka-registry.env")
	d.run("echo ANKA_METRICS_PORT=2199 >>/etc/ankacluster/anka-registry.env; systemctl enable --now anka-registry")
	d.await("curl -sS http://127.0.0.1:8099/readyz", "^ok")
	d.mustSay("systemd-analyze security --no-pager anka-registry | tail -1", `: [01]\.\d OK`)

	// All comes back after a power cut.
	d.m.Reboot()
	d.await("curl -sS "+cloud+"/readyz", "^ok")
	d.await("curl -sS http://127.0.0.1:8099/readyz", "^ok")
	d.await("ankacluster status", "8090 +healthy")
	d.startVM()

	// A node that is removed leaves the cloud, and no VM behind.
	d.mustSay("apt-get remove -y ankacluster", `removed \d VMs?`)
	d.mustSay("curl -sS "+cloud+"/api/v1/node", `"body":\[\]`)
	if out, err := d.try(vmProcess); err == nil {
		t.Errorf("after the removal a VM runs: %s", out)
	}
	if out, err := d.try("ls /etc/systemd/system/ankacluster.service /usr/bin/ankacluster"); err == nil {
		t.Errorf("after the removal there is %s", out)
	}
	// Removed, settings and data stay; purged, data stay.
	d.run("apt-get remove -y anka-controller anka-registry")
	if out, err := d.try("curl -sS " + cloud + "/readyz"); err == nil {
		t.Errorf("after the removal the controller answers: %s", out)
	}
	d.run("ls /etc/ankacluster/anka-controller.env /etc/ankacluster/anka-registry.env")
	d.mustSay("apt-get purge -y anka-controller anka-registry ankacluster", "anka-controller: its data stay in /var/lib/anka-controller")
	if out, err := d.try("ls -d /etc/ankacluster /etc/systemd/system/multi-user.target.wants/anka*"); err == nil {
		t.Errorf("after the purge there is %s", out)
	}
	d.run("ls /var/lib/anka-controller/etcd /var/lib/anka-registry /var/lib/ankacluster")
	d.run("id anka-controller")

	// Installed again, it is the same cloud: it has the template.
	d.run("apt-get install -y /new/anka-controller_*.deb && systemctl enable --now anka-controller")
	d.await("curl -sS "+cloud+"/api/v1/registry/vm", `"name":"sonoma"`)
}

// commands are the lines of a page that a reader types.
func commands(t *testing.T, page string) (lines []string) {
	t.Helper()
	found, err := pages.Blocks("../..", page)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range found {
		lines = append(lines, c.Text)
	}
	return lines
}

// TestReadme types what README.md says, from the installation to the end of a VM,
// on one machine that is server and Mac.
func TestReadme(t *testing.T) {
	d := boot(t)
	d.run("ip addr add 10.0.1.4/32 dev lo && anka create sonoma --size 1M")
	begun := time.Now()
	ids := strings.NewReplacer("sudo ", "", "apt install ./anka-controller_0.2.0_amd64.deb", "apt-get install -y /new/anka-controller_*.deb",
		"ankacluster_0.2.0_darwin_arm64.tar.gz", "/new/ankacluster_*_linux_*.tar.gz", "<template>", "sonoma")
	var template, instance string
	typed := 0
	for _, line := range commands(t, "README.md") {
		if strings.HasPrefix(line, "ANKA_CLUSTER=") || strings.HasPrefix(line, "make ") {
			continue // a line for three hosts' settings, and what needs the sources
		}
		typed++
		command := ids.Replace(line)
		command = strings.NewReplacer("<template id>", template, "<instance id>", instance).Replace(command)
		out := d.run(command)
		switch {
		case strings.Contains(command, "<"):
			t.Errorf("README's %q has a word in it that the lines before do not give", line)
		case strings.HasPrefix(command, "systemctl enable"):
			d.await("curl -sS http://10.0.1.4:8090/readyz", "^ok")
		case strings.HasSuffix(command, "/registry/vm"):
			template = regexp.MustCompile(`"id":"([^"]*)"`).FindStringSubmatch(out + `"id":""`)[1]
		case strings.HasPrefix(command, `curl -d '{"vmid":`):
			instance = regexp.MustCompile(`"body":\["([^"]*)"`).FindStringSubmatch(out + `"body":[""`)[1]
			d.await("curl -sS 'http://10.0.1.4:8090/api/v1/vm?id="+instance+"'", `"instance_state":"Started"`)
		}
		if strings.HasPrefix(command, "curl") && !strings.Contains(out, `"status":"OK"`) {
			t.Errorf("README's %q: %s", line, out)
		}
	}
	if typed < 8 || template == "" || instance == "" {
		t.Errorf("%d commands were found, template %q, VM %q", typed, template, instance)
	}
	d.await("anka list -r", "^[^m]*$") // the VM has gone: its name begins with mgmtManaged
	t.Logf("%d commands took %s", typed, time.Since(begun).Round(100*time.Millisecond))
}

// TestInstallingPage types what docs/operators/installing.md says, to the removal.
func TestInstallingPage(t *testing.T) {
	d := boot(t)
	d.run("for i in 4 5 6; do ip addr add 10.0.1.$i/32 dev lo; done; anka create sonoma --size 1M")
	ids := strings.NewReplacer("sudo ", "", "apt install ./anka-controller_0.2.0_amd64.deb", "apt-get install -y /new/anka-controller_*.deb",
		"apt ", "apt-get -y ", "ankacluster_0.2.0_darwin_arm64.tar.gz", "/new/ankacluster_*_linux_*.tar.gz", "sha256sum", "cd /new && sha256sum")
	typed := 0
	for _, line := range commands(t, "docs/operators/installing.md") {
		if strings.HasPrefix(line, "ANKA_CLUSTER=") || strings.Contains(line, "dnf") {
			continue // of three hosts, and of another family
		}
		typed++
		if line == "sudo anka-controller ready" {
			d.await("anka-controller ready", "^ready at http://127.0.0.1:8090$") // as the package's settings say
			continue
		}
		d.run(ids.Replace(line))
	}
	if typed < 9 {
		t.Errorf("%d commands were found", typed)
	}
	d.run("ls -d /var/lib/anka-controller/etcd /var/lib/ankacluster") // data stay, as the page says
	if out, err := d.try("ls -d /etc/ankacluster"); err == nil {
		t.Errorf("after the purge there is %s", out)
	}
}

// TestRPM installs, upgrades and removes a server and the agent with rpm itself,
// which runs the packages' scripts.
func TestRPM(t *testing.T) {
	d := boot(t)
	before, after := version(t, "ANKA_OLD_PACKAGES"), version(t, "ANKA_NEW_PACKAGES")
	const rpm = "rpm --force-debian --nodeps "
	d.mustSay(rpm+"-i /old/anka-controller-*.rpm /old/ankacluster-*.rpm", "systemctl enable --now anka-controller")
	d.mustSay("rpm -qc anka-controller", "^/etc/ankacluster/anka-controller.env$")
	d.mustSay("rpm -qi anka-controller", "(?s)License *: Apache-2.0.*Summary *: controller")
	d.run("echo ANKA_ADVERTISE_URL=" + cloud + " >>/etc/ankacluster/anka-controller.env")
	d.run("systemctl enable --now anka-controller")
	d.await("curl -sS "+cloud+"/api/v1/status", `"version":"`+before+`"`)
	d.run("anka create sonoma --size 1M -t v1 && anka registry -r http://127.0.0.1:8089 push sonoma -t v1 && anka delete --yes sonoma")
	d.run("ankacluster join " + cloud)
	id := d.startVM()
	vm := d.mustSay(vmProcess, "uuid")

	d.run(rpm + "-U /new/anka-controller-*.rpm /new/ankacluster-*.rpm")
	d.await("curl -sS "+cloud+"/api/v1/status", `"version":"`+after+`"`)
	d.mustSay("ankacluster --version", after)
	d.mustSay(d.state(id), `"instance_state":"Started"`)
	if got := d.run(vmProcess); got != vm {
		t.Errorf("after the upgrade the VM is %s, was %s", got, vm)
	}
	d.mustSay("tail -1 /etc/ankacluster/anka-controller.env", "ANKA_ADVERTISE_URL="+cloud)

	d.mustSay(rpm+"-e ankacluster", `removed \d VMs?`)
	d.mustSay("curl -sS "+cloud+"/api/v1/node", `"body":\[\]`)
	d.mustSay(rpm+"-e anka-controller", "its data stay")
	if out, err := d.try("systemctl is-active anka-controller"); err == nil {
		t.Errorf("after the removal the service is %s", out)
	}
	d.run("ls /var/lib/anka-controller/etcd")
}
