package drill

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

// process is one of the drill's own child processes.
type process struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	said  chan []byte // lines of its stdout, until it ends
	ended chan struct{}
	err   error // how it ended; set before ended is closed

	resident int64 // bytes of memory at its peak; see notePeak

	mu     sync.Mutex
	stderr bytes.Buffer // guarded by mu
}

// startTimeout is generous: a laptop under load may take seconds to start a process.
const startTimeout = 20 * time.Second

func startProcess(argv []string) (*process, error) {
	return startProcessWith(argv, func(*syscall.SysProcAttr) {})
}

func startProcessWith(argv []string, adjust func(*syscall.SysProcAttr)) (*process, error) {
	p := &process{cmd: exec.Command(argv[0], argv[1:]...), said: make(chan []byte, 64), ended: make(chan struct{})}
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
		defer close(p.ended)
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
type lockedWriter struct{ p *process }

func (w lockedWriter) Write(b []byte) (int, error) {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	if w.p.stderr.Len() < 8<<10 {
		w.p.stderr.Write(b)
	}
	return len(b), nil
}

func (p *process) complaints() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.String()
}

// line waits for the next line the process prints.
func (p *process) line(limit time.Duration) ([]byte, error) {
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	select {
	case l, ok := <-p.said:
		if !ok {
			<-p.ended
			return nil, fmt.Errorf("%s ended (%w): %s", p.cmd.Path, errors.Join(p.err, errEnded), p.complaints())
		}
		return l, nil
	case <-timeout.C:
		return nil, fmt.Errorf("%s said nothing for %v", p.cmd.Path, limit)
	}
}

var errEnded = errors.New("process ended")

// greet waits until a fake is listening and returns its address.
func (p *process) greet() (string, error) {
	l, err := p.line(startTimeout)
	if err != nil {
		return "", err
	}
	var g greeting
	if err := json.Unmarshal(l, &g); err != nil {
		return "", fmt.Errorf("unexpected greeting %q: %w", l, err)
	}
	return g.Addr, nil
}

// discard reads away what a process prints that is not a fake.
func (p *process) discard() {
	for range p.said {
	}
}

// order tells a fake how to behave, and returns once it does.
func (p *process) order(b behaviour) error {
	line, err := json.Marshal(b)
	if err != nil {
		return err
	}
	if _, err := p.stdin.Write(append(line, '\n')); err != nil {
		return err
	}
	_, err = p.line(startTimeout)
	return err
}

// suspend stops the process as it stands: its kernel still accepts connections
// and acknowledges what is sent to it, but nothing ever answers.
func (p *process) suspend() error {
	return p.cmd.Process.Signal(syscall.SIGSTOP)
}

func (p *process) resume() error { return p.cmd.Process.Signal(syscall.SIGCONT) }

// terminate asks politely; the process may take its time (see await).
func (p *process) terminate() error {
	p.notePeak()
	return p.cmd.Process.Signal(syscall.SIGTERM)
}

func (p *process) await(limit time.Duration) error {
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	select {
	case <-p.ended:
		return nil
	case <-timeout.C:
		return fmt.Errorf("%s did not end within %v", p.cmd.Path, limit)
	}
}

// kill ends the process with SIGKILL and waits until it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	for {
		select {
		case <-p.said: // so that its reader can reach the end
		case <-p.ended:
			return
		}
	}
}

// usage is what the process used, once it has ended.
func (p *process) usage() (cpu time.Duration, maxResident int64) {
	state := p.cmd.ProcessState
	if state == nil {
		return 0, 0
	}
	cpu = state.UserTime() + state.SystemTime()
	return cpu, p.resident
}
