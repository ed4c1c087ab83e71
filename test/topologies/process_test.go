package topologies

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// deadline bounds a wait; nothing waits that long when all is well.
const deadline = 2 * time.Minute

// roles are what this test's executable is on the hosts of its own networks, by
// the environment variable that says so.
var roles = map[string]func() int{driverVar: drive}

// chores are what it does in containers that hold nothing else, by its first argument.
var chores = map[string]func(args []string) int{"hold": hold, "get": get}

// binDir holds the programs under test, built once by TestMain.
var binDir string

func TestMain(m *testing.M) {
	for name, play := range roles {
		if os.Getenv(name) != "" {
			os.Exit(play())
		}
	}
	if len(os.Args) > 1 && chores[os.Args[1]] != nil {
		os.Exit(chores[os.Args[1]](os.Args[2:]))
	}
	dir, err := os.MkdirTemp("", "anka-topologies-")
	if err == nil {
		binDir = dir
		err = build(dir)
	}
	code := 1
	if err != nil {
		fmt.Fprintln(os.Stderr, "build the programs under test:", err)
	} else {
		code = m.Run()
	}
	for _, f := range atTheEnd {
		f()
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// atTheEnd runs after all tests.
var atTheEnd []func()

// long marks a test that `make test-topologies` runs and `make test` does not.
func long(t *testing.T) {
	t.Helper()
	if os.Getenv("ANKA_TEST_TOPOLOGIES") == "" {
		t.Skip("SKIPPED: runs in make test-topologies")
	}
}

// hold keeps a container, and with it its network, alive.
func hold([]string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	<-ctx.Done()
	return 0
}

// get prints what a URL answers and fails unless that is 200.
func get(args []string) int {
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get(args[0])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer resp.Body.Close()
	if _, err := io.Copy(os.Stdout, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		fmt.Fprintln(os.Stderr, resp.Status, err)
		return 1
	}
	return 0
}

func build(dir string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-o", dir+"/", "./cmd/anka-controller", "./cmd/anka-registry", "./cmd/ankacluster", "./test/fakeanka", "./test/faketart")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

func bin(name string) string { return filepath.Join(binDir, name) }

// process is a program of the cloud that a test may kill and start again.
type process struct {
	t    *testing.T
	name string
	make func() *exec.Cmd

	cmd   *exec.Cmd
	ended chan struct{}

	mu  sync.Mutex
	log bytes.Buffer // of all its lives; guarded by mu
}

func newProcess(t *testing.T, name string, command func() *exec.Cmd) *process {
	p := &process{t: t, name: name, make: command}
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("log of %s:\n%s", name, p.tail(20))
			path := filepath.Join(t.ArtifactDir(), strings.ReplaceAll(name, " ", "-")+".log")
			_ = os.WriteFile(path, []byte(p.text()), 0o644) // the end of it is above
		}
	})
	return p
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// tail returns the last lines of the log.
func (p *process) tail(n int) string {
	lines := strings.Split(strings.TrimSpace(p.text()), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func (p *process) start() {
	p.t.Helper()
	p.cmd = p.make()
	p.cmd.Stdout, p.cmd.Stderr = p, p
	// A child that outlives its killed parent holds the pipe of the log open.
	p.cmd.WaitDelay = 5 * time.Second
	if err := p.cmd.Start(); err != nil {
		p.t.Fatalf("start %s: %v", p.name, err)
	}
	cmd, ended := p.cmd, make(chan struct{})
	p.ended = ended
	go func() {
		defer close(ended)
		_ = cmd.Wait() // the test looks at the state
	}()
}

func (p *process) running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// kill ends the process as a power cut would.
func (p *process) kill() { p.end(syscall.SIGKILL) }

// stop ends it politely.
func (p *process) stop() int {
	p.end(syscall.SIGTERM)
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) end(sig os.Signal) {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Signal(sig) // it may have ended by itself
	select {
	case <-p.ended:
	case <-time.After(deadline):
		_ = p.cmd.Process.Kill()
		<-p.ended
		p.t.Errorf("%s did not end on %v", p.name, sig)
	}
}

// eventually polls until ok returns nil.
func eventually(t *testing.T, what string, ok func() error) {
	t.Helper()
	if err := until(ok); err != nil {
		t.Fatalf("%s: not after %s: %v", what, deadline, err)
	}
}

// until polls until ok returns nil, and returns what it returned last.
func until(ok func() error) (err error) {
	for end := time.Now().Add(deadline); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if err = ok(); err == nil {
			return nil
		}
	}
	return err
}

// freeAddr returns a loopback address that is free now.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
