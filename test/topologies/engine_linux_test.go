package topologies

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// engine is the machine's container engine. Everything a test makes on it bears
// the test's own name and is removed when the test ends.
type engine struct {
	t    *testing.T
	name string // prefix of whatever the test makes
	tag  string // of the images
	up   []string
}

var images struct {
	sync.Mutex
	prefix string
	tags   map[string]bool
}

// macDockerfile is a Mac as far as a cloud can tell: the agent, and a hypervisor
// that starts nothing. The test's own executable is in it for its roles.
const macDockerfile = `FROM scratch
COPY tmp /tmp
COPY ankacluster fakeanka topologies.test /
ENV PATH=/ HOME=/tmp
`

// newEngine skips the test where no engine runs, and builds the images from
// scratch with the programs under test: nothing is fetched.
func newEngine(t *testing.T) *engine {
	t.Helper()
	if out, err := exec.Command("docker", "info", "--format", "{{.ServerVersion}}").CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: needs a running Docker engine: %v: %s", err, bytes.TrimSpace(out))
	}
	e := &engine{t: t, name: fmt.Sprintf("ankatest%d-%d", os.Getpid(), networks.Add(1))}
	switch {
	case exec.Command("docker", "compose", "version").Run() == nil:
		e.up = []string{"docker", "compose"}
	case exec.Command("docker-compose", "version").Run() == nil:
		e.up = []string{"docker-compose"}
	default:
		t.Skip("SKIPPED: needs docker compose; on Debian: apt-get install docker-compose")
	}
	e.tag = e.images(binDir, "test")
	return e
}

// images builds the three images with the servers of dir, under tag.
func (e *engine) images(dir, tag string) string {
	e.t.Helper()
	images.Lock()
	defer images.Unlock()
	if images.tags[tag] {
		return tag
	}
	if images.tags == nil {
		images.prefix, images.tags = fmt.Sprintf("ankatest%d", os.Getpid()), make(map[string]bool)
	}
	stage, err := os.MkdirTemp(binDir, "images-")
	if err != nil {
		e.t.Fatal(err)
	}
	for _, d := range []string{"data", "tmp"} {
		if err := os.Mkdir(filepath.Join(stage, d), 0o755); err != nil {
			e.t.Fatal(err)
		}
	}
	must := func(cmd *exec.Cmd) {
		e.t.Helper()
		if out, err := cmd.CombinedOutput(); err != nil {
			e.t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
		}
	}
	self := exec.Command("cp", os.Args[0], filepath.Join(stage, "topologies.test"))
	if !static() { // the image has no loader
		self = exec.Command("go", "test", "-c", "-trimpath", "-o", filepath.Join(stage, "topologies.test"), ".")
		self.Env = append(os.Environ(), "CGO_ENABLED=0")
	}
	must(self)
	if err := os.WriteFile(filepath.Join(stage, "Dockerfile"), []byte(macDockerfile), 0o644); err != nil {
		e.t.Fatal(err)
	}
	for _, name := range []string{"anka-controller", "anka-registry"} {
		if err := os.Link(filepath.Join(dir, name), filepath.Join(stage, name)); err != nil {
			e.t.Fatal(err)
		}
	}
	for _, name := range []string{"ankacluster", "fakeanka"} {
		if err := os.Link(bin(name), filepath.Join(stage, name)); err != nil {
			e.t.Fatal(err)
		}
	}
	for _, target := range []string{"controller", "registry"} {
		must(exec.Command("docker", "build", "-q", "-f", deployFile(e.t, "compose/Dockerfile"), "--target", target,
			"-t", images.prefix+"/anka-"+target+":"+tag, stage))
	}
	must(exec.Command("docker", "build", "-q", "-t", images.prefix+"/mac:"+tag, stage))
	images.tags[tag] = true
	return tag
}

// static reports whether this test's executable was built without cgo.
func static() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "CGO_ENABLED", Value: "0"})
}

func init() { atTheEnd = append(atTheEnd, removeImages) }

func removeImages() {
	for tag := range images.tags {
		for _, name := range []string{"anka-controller", "anka-registry", "mac"} {
			_ = exec.Command("docker", "rmi", "-f", images.prefix+"/"+name+":"+tag).Run() // what is left shows in `docker images`
		}
	}
}

func (e *engine) image(name string) string { return images.prefix + "/" + name + ":" + e.tag }

// docker runs the command and returns what it printed on stdout.
func (e *engine) docker(args ...string) string {
	e.t.Helper()
	out, err := e.try(args...)
	if err != nil {
		e.t.Fatal(err)
	}
	return out
}

func (e *engine) try(args ...string) (string, error) {
	cmd := exec.Command("docker", args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("docker %s: %w: %s%s", strings.Join(args, " "), err, stderr.Bytes(), out)
	}
	return strings.TrimSpace(string(out)), nil
}

// bridge is a network of containers.
type bridge struct {
	name, subnet, gateway string
}

// newBridge makes a network. The engine chooses addresses that nothing on this
// machine has; then they are asked for by name, so that hosts can keep theirs.
func (e *engine) newBridge(name string) bridge {
	e.t.Helper()
	full := e.name + "-" + name
	e.docker("network", "create", full)
	b := bridge{name: full, subnet: e.docker("network", "inspect", "-f", "{{(index .IPAM.Config 0).Subnet}}", full),
		gateway: e.docker("network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", full)}
	e.docker("network", "rm", full)
	e.docker("network", "create", "--subnet", b.subnet, "--gateway", b.gateway, full)
	e.t.Cleanup(func() { e.docker("network", "rm", full) })
	return b
}

// addr is the n-th address of the network; the gateway has the first.
func (b bridge) addr(n int) string {
	i := strings.LastIndex(b.gateway, ".")
	return fmt.Sprintf("%s.%d", b.gateway[:i], n)
}

// compose is a project of one of the shipped files.
type compose struct {
	e       *engine
	project string
	file    string
	env     []string
}

// newCompose removes the project with its volumes when the test ends, and looks
// whether that left anything.
func (e *engine) newCompose(name, file string, env ...string) *compose {
	c := &compose{e: e, project: strings.ReplaceAll(e.name, "-", "") + name, file: deployFile(e.t, "compose/"+file),
		env: append(os.Environ(), append(env, "IMAGE_PREFIX="+images.prefix, "TAG="+e.tag)...)}
	e.t.Cleanup(func() {
		if e.t.Failed() {
			for _, id := range strings.Fields(e.docker("ps", "-aq", "--filter", "label=com.docker.compose.project="+c.project)) {
				log, _ := exec.Command("docker", "logs", "--tail", "10", id).CombinedOutput()
				name := e.docker("inspect", "-f", "{{.Name}} {{.State.Status}} {{.RestartCount}}", id)
				e.t.Logf("%s:\n%s", name, log)
				log, _ = exec.Command("docker", "logs", id).CombinedOutput()
				_ = os.WriteFile(filepath.Join(e.t.ArtifactDir(), strings.Fields(name)[0][1:]+".log"), log, 0o644)
			}
		}
		c.run("down", "-v", "-t", "20")
		label := "label=com.docker.compose.project=" + c.project
		for _, left := range []string{e.docker("ps", "-aq", "--filter", label), e.docker("volume", "ls", "-q", "--filter", label),
			e.docker("network", "ls", "-q", "--filter", label)} {
			if left != "" {
				e.t.Errorf("down -v left %s", left)
			}
		}
	})
	return c
}

func (c *compose) run(args ...string) {
	c.e.t.Helper()
	all := append(slices.Clone(c.e.up[1:]), append([]string{"-p", c.project, "-f", c.file}, args...)...)
	cmd := exec.Command(c.e.up[0], all...)
	cmd.Env = c.env
	if out, err := cmd.CombinedOutput(); err != nil {
		c.e.t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
	}
}

// container is the id of the one container of a service.
func (c *compose) container(service string) string {
	c.e.t.Helper()
	id := c.e.docker("ps", "-aq", "--filter", "label=com.docker.compose.project="+c.project, "--filter", "label=com.docker.compose.service="+service)
	if id == "" || strings.Contains(id, "\n") {
		c.e.t.Fatalf("service %s has containers %q, want one", service, id)
	}
	return id
}

// waitHealthy waits for the health check that the file gives the services.
func (c *compose) waitHealthy(services ...string) {
	c.e.t.Helper()
	for _, s := range services {
		id := c.container(s)
		eventually(c.e.t, s+" is healthy", func() error {
			state, err := c.e.try("inspect", "-f", "{{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{end}}", id)
			if err == nil && state != "running healthy" {
				err = fmt.Errorf("%s", state)
			}
			return err
		})
	}
}

// crash kills what runs in the container behind the engine's back, as the
// kernel does when memory runs out: bringing it back is the restart policy's.
func (c *compose) crash(service string) {
	c.e.t.Helper()
	id := c.container(service)
	before := c.e.docker("inspect", "-f", "{{.RestartCount}}", id)
	pid := c.e.docker("inspect", "-f", "{{.State.Pid}}", id)
	if out, err := exec.Command("kill", "-9", pid).CombinedOutput(); err != nil {
		c.e.t.Skipf("SKIPPED: the engine's processes cannot be killed from here: %v: %s", err, out)
	}
	eventually(c.e.t, service+" is started again", func() error {
		if now, err := c.e.try("inspect", "-f", "{{.RestartCount}}", id); err != nil || now == before {
			return fmt.Errorf("restarted %s times, %w", now, err)
		}
		return nil
	})
}

// box is a Mac in a container.
type box struct {
	e    *engine
	name string
	dir  string // shared with the container as /mac
}

// newBox starts a container that does nothing yet.
func (e *engine) newBox(name, network string, args ...string) *box {
	e.t.Helper()
	b := &box{e: e, name: e.name + "-" + name, dir: e.t.TempDir()}
	run := append([]string{"run", "-d", "--init", "--name", b.name, "--network", network, "-v", b.dir + ":/mac",
		"-e", "ANKA_STATE_DIR=/mac/state", "-e", "ANKA_PATH=/fakeanka", "-e", "FAKEANKA_DIR=/mac/anka", "-e", "FAKEANKA_MAX_RUNNING=8"}, args...)
	e.docker(append(run, e.image("mac"), "/topologies.test", "hold")...)
	e.t.Cleanup(func() { e.docker("rm", "-f", "-v", b.name) })
	return b
}

func (b *box) label() string { return b.name }

func (b *box) vmStarts() map[string]int { return vmStarts(b.dir) }

// exec runs a command in the box and returns its output.
func (b *box) exec(args ...string) (string, error) {
	return b.e.try(append([]string{"exec", b.name}, args...)...)
}

// get asks a URL from the box.
func (b *box) get(url string) (string, error) {
	return b.exec("/topologies.test", "get", url)
}

// join runs the agent in the box.
func (b *box) join(urls string) *process {
	b.e.t.Helper()
	p := newProcess(b.e.t, "agent in "+b.name, func() *exec.Cmd {
		return exec.Command("docker", "exec", b.name, "/ankacluster", "join", urls, "--foreground", "--force-no-sudo",
			"--max-vm-count", "6", "--ignore-arm-vm-limit", "--reserve-space", "0%")
	})
	p.start()
	return p
}

// drive starts VMs from the box until the driver is stopped.
func (b *box) drive(urls, template string) *process {
	b.e.t.Helper()
	name := fmt.Sprintf("%s-driver%d", b.name, networks.Add(1))
	p := newProcess(b.e.t, "driver", func() *exec.Cmd {
		// Attached, so that SIGTERM to the command reaches the driver.
		return exec.Command("docker", "run", "--rm", "--name", name, "--network", "container:"+b.name,
			"-e", driverVar+"="+urls, "-e", driverTemplate+"="+template, b.e.image("mac"), "/topologies.test")
	})
	b.e.t.Cleanup(func() { _, _ = b.e.try("rm", "-f", name) }) // it is gone if the test went well
	p.start()
	return p
}

// createAndPush makes a template and pushes it.
func (b *box) createAndPush(name, size, registry string) {
	b.e.t.Helper()
	for _, args := range [][]string{{"create", name, "--size", size}, {"registry", "-o2", "-r", registry, "push", name, "-t", "v1"}} {
		if _, err := b.exec(append([]string{"/fakeanka"}, args...)...); err != nil {
			b.e.t.Fatal(err)
		}
	}
}

// template is the id of the only template, once url lists it.
func (b *box) template(url string) string {
	b.e.t.Helper()
	var list struct{ Body []struct{ ID string } }
	eventually(b.e.t, url+" lists the template", func() error {
		out, err := b.get(url + "/api/v1/registry/vm")
		if err == nil {
			err = json.Unmarshal([]byte(out), &list)
		}
		if err == nil && len(list.Body) != 1 {
			err = fmt.Errorf("%s", out)
		}
		return err
	})
	return list.Body[0].ID
}

// waitVMs waits until the driver has seen n more VMs start, none of them in vain.
func waitVMs(t *testing.T, driver *process, n int, what string) {
	t.Helper()
	before, began := len(events(t, driver, "started")), time.Now()
	eventually(t, "VMs start "+what, func() error {
		for _, e := range events(t, driver, "start") {
			if e.Err != "" {
				t.Fatalf("a start failed %s, after %s: %s", what, e.Took, e.Err)
			}
		}
		if !driver.running() {
			t.Fatalf("the driver ended: %s", driver.tail(5))
		}
		if got := len(events(t, driver, "started")) - before; got < n {
			return fmt.Errorf("%d of %d", got, n)
		}
		return nil
	})
	t.Logf("%d VMs %s (%s)", n, what, time.Since(began).Round(100*time.Millisecond))
}
