// Package process runs the child processes of a drill: those that are broken, and the
// proxy before them.
package process

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Process is one of the drill's own child processes.
type Process struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	said  chan []byte   // lines of its stdout, until it ends
	Ended chan struct{} // closed when it has ended
	err   error         // how it ended; set before Ended is closed

	resident int64 // bytes of memory at its peak; see notePeak

	mu     sync.Mutex
	stderr bytes.Buffer // guarded by mu
}

// StartTimeout is generous: a laptop under load may take seconds to start a process.
const StartTimeout = 20 * time.Second

// Start starts a command. Its standard input ends with the drill.
func Start(argv []string) (*Process, error) {
	return StartWith(argv, func(*syscall.SysProcAttr) {})
}

// StartWith is Start with attributes of the process that adjust changes.
func StartWith(argv []string, adjust func(*syscall.SysProcAttr)) (*Process, error) {
	p := &Process{cmd: exec.Command(argv[0], argv[1:]...), said: make(chan []byte, 64), Ended: make(chan struct{})}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{}
	endWithParent(p.cmd.SysProcAttr)
	adjust(p.cmd.SysProcAttr)
	p.cmd.Stderr = lockedWriter{p}
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	p.stdin = stdin
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.Ended)
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			p.said <- bytes.Clone(lines.Bytes())
		}
		close(p.said)
		p.err = p.cmd.Wait()
	}()
	return p, nil
}

// lockedWriter keeps the first few kilobytes of what a process complains about.
type lockedWriter struct{ p *Process }

func (w lockedWriter) Write(b []byte) (int, error) {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	if w.p.stderr.Len() < 8<<10 {
		w.p.stderr.Write(b)
	}
	return len(b), nil
}

func (p *Process) complaints() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.String()
}

// line waits for the next line the process prints.
func (p *Process) line(limit time.Duration) ([]byte, error) {
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	select {
	case l, ok := <-p.said:
		if !ok {
			<-p.Ended
			return nil, fmt.Errorf("%s ended (%w): %s", p.cmd.Path, errors.Join(p.err, errEnded), p.complaints())
		}
		return l, nil
	case <-timeout.C:
		return nil, fmt.Errorf("%s said nothing for %v", p.cmd.Path, limit)
	}
}

// Greeting is the first line that a fake prints: it is listening.
type Greeting struct {
	Addr string `json:"addr"`
}

var errEnded = errors.New("process ended")

// Greet waits until a fake is listening and returns its address.
func (p *Process) Greet() (string, error) {
	l, err := p.line(StartTimeout)
	if err != nil {
		return "", err
	}
	var g Greeting
	if err := json.Unmarshal(l, &g); err != nil {
		return "", fmt.Errorf("unexpected Greeting %q: %w", l, err)
	}
	return g.Addr, nil
}

// Discard reads away what a process prints that is not a fake.
func (p *Process) Discard() {
	for range p.said {
	}
}

// Order tells a fake how to behave, and returns once it does.
func (p *Process) Order(b any) error {
	line, err := json.Marshal(b)
	if err != nil {
		return err
	}
	if _, err := p.stdin.Write(append(line, '\n')); err != nil {
		return err
	}
	_, err = p.line(StartTimeout)
	return err
}

// Suspend stops the process as it stands: its kernel still accepts connections
// and acknowledges what is sent to it, but nothing ever answers.
func (p *Process) Suspend() error {
	return p.cmd.Process.Signal(syscall.SIGSTOP)
}

// Resume lets it go on.
func (p *Process) Resume() error { return p.cmd.Process.Signal(syscall.SIGCONT) }

// Terminate asks politely; the process may take its time (see Await).
func (p *Process) Terminate() error {
	p.notePeak()
	return p.cmd.Process.Signal(syscall.SIGTERM)
}

// Await waits until it has ended.
func (p *Process) Await(limit time.Duration) error {
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	select {
	case <-p.Ended:
		return nil
	case <-timeout.C:
		return fmt.Errorf("%s did not end within %v", p.cmd.Path, limit)
	}
}

// Kill ends the process with SIGKILL and waits until it is gone.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	for {
		select {
		case <-p.said: // so that its reader can reach the end
		case <-p.Ended:
			return
		}
	}
}

// PID is the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Usage is what the process used, once it has ended.
func (p *Process) Usage() (cpu time.Duration, maxResident int64) {
	state := p.cmd.ProcessState
	if state == nil {
		return 0, 0
	}
	cpu = state.UserTime() + state.SystemTime()
	return cpu, p.resident
}
