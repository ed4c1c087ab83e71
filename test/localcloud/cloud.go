// Package localcloud runs a whole build cloud as real processes on loopback: hosts
// of one `anka-controller --standalone --cluster` each, which is controller, registry
// and etcd member, and a node whose hypervisor is the fake `anka`. The demo drives
// it; each process can be killed, hung, robbed of its disk and brought back by itself.
package localcloud

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Config says where the cloud's executables, data and ports are. Every path is
// absolute.
type Config struct {
	Bin string // folder of ankacluster, anka-controller, fakeanka
	Dir string // data, logs and pid files; made if missing

	Hosts    []Ports
	NodeName string
	// KeepRunning records pid files, so that another program can end the cloud.
	KeepRunning bool
}

// Ports are those of one host: of its controller, its registry, and its etcd member
// for clients and for other members.
type Ports struct{ Controller, Registry, Client, Peer int }

// Validate reports ports that are already in use.
func (c Config) Validate() error {
	var errs []error
	for _, host := range c.Hosts {
		for _, port := range []int{host.Controller, host.Registry, host.Client, host.Peer} {
			l, err := net.Listen("tcp", Addr(port))
			if err != nil {
				errs = append(errs, fmt.Errorf("port %d is taken (%w); end what listens there: lsof -i :%d", port, err, port))
				continue
			}
			errs = append(errs, l.Close())
		}
	}
	return errors.Join(errs...)
}

// Addr is a loopback address with the given port.
func Addr(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// URL is the HTTP URL of a loopback port.
func URL(port int) string { return "http://" + Addr(port) }

// FreePorts returns n ports that are free now. They lie below those that systems
// give to connections: a server that is away for a while finds its port free.
func FreePorts(n int) ([]int, error) {
	ports := make([]int, 0, n)
	for tries := 0; len(ports) < n; tries++ {
		l, err := net.Listen("tcp", Addr(20000+rand.IntN(12000)))
		if err != nil {
			if tries > 1000 {
				return nil, err
			}
			continue
		}
		defer l.Close() // all stay open until the last is known, so that none comes twice
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// Cloud is the set of processes. New starts nothing.
type Cloud struct {
	cfg   Config
	Hosts []*Process
}

// New prepares the cloud's folders and processes.
func New(cfg Config) (*Cloud, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	for _, d := range []string{"log", "run", "node", "anka"} {
		if err := os.MkdirAll(filepath.Join(cfg.Dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	c := &Cloud{cfg: cfg}
	if err := os.Symlink(filepath.Join(cfg.Bin, "fakeanka"), c.ankaPath()); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	var members []string
	for _, host := range cfg.Hosts {
		members = append(members, Addr(host.Peer))
	}
	for i, host := range cfg.Hosts {
		c.Hosts = append(c.Hosts, c.process(hostName(i), "anka-controller", []string{
			"ANKA_STANDALONE=true", "ANKA_CLUSTER=" + strings.Join(members, ","), "ANKA_CLUSTER_SELF=" + members[i],
			"ANKA_LISTEN_ADDR=" + Addr(host.Controller), "ANKA_REGISTRY_LISTEN_ADDRESS=" + Addr(host.Registry),
			"ANKA_ETCD_LISTEN_CLIENT=" + Addr(host.Client), "ANKA_ETCD_LISTEN_PEER=" + Addr(host.Peer),
			"ANKA_DATA_DIR=" + c.disk(i)}))
	}
	return c, nil
}

func hostName(i int) string { return fmt.Sprintf("host-%d", i+1) }

func (c *Cloud) disk(i int) string { return filepath.Join(c.cfg.Dir, hostName(i)) }

func (c *Cloud) process(name, executable string, env []string, args ...string) *Process {
	p := &Process{Name: name, Path: filepath.Join(c.cfg.Bin, executable), Args: args, Env: env,
		Log: filepath.Join(c.cfg.Dir, "log", name+".log")}
	if c.cfg.KeepRunning {
		p.PIDFile = filepath.Join(c.cfg.Dir, "run", name+".pid")
	}
	return p
}

// Start starts the hosts and returns when each of them is ready.
func (c *Cloud) Start(ctx context.Context) error {
	for _, p := range c.Hosts {
		if err := p.Start(); err != nil {
			return err
		}
	}
	for i := range c.Hosts {
		if err := c.AwaitHost(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// StartHost starts the i-th host, which does not run, and returns when it is ready.
func (c *Cloud) StartHost(ctx context.Context, i int) error {
	if err := c.Hosts[i].Start(); err != nil {
		return err
	}
	return c.AwaitHost(ctx, i)
}

// AwaitHost waits until the i-th host's controller and registry are ready.
func (c *Cloud) AwaitHost(ctx context.Context, i int) error {
	for _, url := range []string{c.ControllerURL(i), c.RegistryURL(i)} {
		if err := c.Ready(ctx, c.Hosts[i], url+"/readyz"); err != nil {
			return err
		}
	}
	return nil
}

// LoseHost kills the i-th host and removes its disk.
func (c *Cloud) LoseHost(i int) error {
	if err := c.Hosts[i].Kill(); err != nil {
		return err
	}
	return os.RemoveAll(c.disk(i))
}

// readyTimeout is generous: a loaded machine starts a dozen processes at once.
const readyTimeout = 60 * time.Second

// Ready waits until url answers 200. A process that ends meanwhile is an error
// that carries the end of its log.
func (c *Cloud) Ready(ctx context.Context, p *Process, url string) error {
	client := &http.Client{Timeout: 2 * time.Second}
	err := poll(ctx, readyTimeout, func() bool {
		if !p.Running() {
			return true
		}
		resp, err := client.Get(url)
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	if err == nil && p.Running() {
		return nil
	}
	if err == nil {
		err = errors.New("the process ended")
	}
	return fmt.Errorf("%s did not become ready at %s: %w; the end of %s:\n%s", p.Name, url, err, p.Log, p.Tail(10))
}

// Stop ends the node's agent, every VM of the fake hypervisor and all servers,
// and forgets nothing on disk. It goes on after errors.
func (c *Cloud) Stop(ctx context.Context) error {
	var errs []error
	if _, err := os.Stat(filepath.Join(c.cfg.Dir, "node", "joined")); err == nil {
		errs = append(errs, c.Disjoin(ctx))
	}
	if _, err := c.Anka(ctx, "delete", "-a", "--yes"); err != nil && ctx.Err() == nil {
		errs = append(errs, err)
	}
	for _, p := range c.Hosts {
		_ = p.Signal(syscall.SIGCONT) // a hung process cannot end
	}
	for _, p := range c.Hosts {
		errs = append(errs, p.Stop(12*time.Second))
	}
	return errors.Join(errs...)
}

// ControllerURL and RegistryURL return the i-th server's address.
func (c *Cloud) ControllerURL(i int) string { return URL(c.cfg.Hosts[i].Controller) }
func (c *Cloud) RegistryURL(i int) string   { return URL(c.cfg.Hosts[i].Registry) }

// ControllerURLs returns every controller's address.
func (c *Cloud) ControllerURLs() []string {
	urls := make([]string, len(c.cfg.Hosts))
	for i := range urls {
		urls[i] = c.ControllerURL(i)
	}
	return urls
}

// NodeEnv is the environment in which `ankacluster` and `fakeanka` act for this
// cloud's node.
func (c *Cloud) NodeEnv() []string {
	return []string{
		"ANKA_STATE_DIR=" + filepath.Join(c.cfg.Dir, "node"),
		"ANKA_PATH=" + c.ankaPath(),
		"FAKEANKA_DIR=" + filepath.Join(c.cfg.Dir, "anka"),
		"FAKEANKA_MAX_RUNNING=8", // a real Mac with Apple silicon runs two
	}
}

// ankaPath is the cloud's own name of the fake command: agents of two clouds of
// one user are no agents of one hypervisor.
func (c *Cloud) ankaPath() string { return filepath.Join(c.cfg.Dir, "fakeanka") }

// Join runs `ankacluster join` with every controller and returns its output.
func (c *Cloud) Join(ctx context.Context, flags ...string) (string, error) {
	args := append([]string{"join", "--controllers", strings.Join(c.ControllerURLs(), ","), "--force-no-sudo",
		"--name", c.cfg.NodeName, "--host", "127.0.0.1"}, flags...)
	out, err := c.Ankacluster(ctx, args...)
	if err != nil {
		return out, err
	}
	return out, os.WriteFile(filepath.Join(c.cfg.Dir, "node", "joined"), nil, 0o644)
}

// Disjoin runs `ankacluster disjoin`.
func (c *Cloud) Disjoin(ctx context.Context) error {
	if _, err := c.Ankacluster(ctx, "disjoin", "--force-no-sudo"); err != nil {
		return err
	}
	return os.Remove(filepath.Join(c.cfg.Dir, "node", "joined"))
}

// Ankacluster runs the node's command and returns what it printed.
func (c *Cloud) Ankacluster(ctx context.Context, args ...string) (string, error) {
	return c.command(ctx, "ankacluster", args...)
}

// Anka runs the node's fake hypervisor command and returns what it printed.
func (c *Cloud) Anka(ctx context.Context, args ...string) (string, error) {
	return c.command(ctx, "fakeanka", args...)
}

func (c *Cloud) command(ctx context.Context, executable string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(c.cfg.Bin, executable), args...)
	cmd.Env = append(os.Environ(), c.NodeEnv()...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w\n%s", executable, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}
