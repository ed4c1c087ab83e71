package drill

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ankacluster/ankacluster/balancer/drill/process"
)

// stage is the set that a scenario plays on: three fakes and their memory.
type stage struct {
	dir      string
	program  []string
	memory   *process.Process
	ledger   *memoryClient
	backends []*backendProcess
	blob     *blobFile // nil when the scenario downloads nothing
}

// backendProcess is one fake controller and registry, seen from outside.
type backendProcess struct {
	stage *stage
	index int
	name  string
	addr  string // stays the same when the process is started again
	proc  *process.Process
}

// drain is how long a fake that was asked to leave fails its readiness check
// before it closes its listener: what the real servers do by default.
const drain = 3 * time.Second

type stageOptions struct {
	program []string // the command and arguments that make a fake of this binary
	listen  []string // one address per backend
	blob    *blobFile
	isolate int // index of the backend that gets a network of its own; -1 is none
}

func newStage(opts stageOptions) (s *stage, err error) {
	dir, err := os.MkdirTemp("", "drill-") // a short path: a socket's may have 104 bytes
	if err != nil {
		return nil, err
	}
	s = &stage{dir: dir, program: opts.program, blob: opts.blob}
	made := s // a return with an error leaves no s to close
	defer func() {
		if err != nil {
			made.close()
		}
	}()
	if s.memory, err = process.Start(append(s.command(), "memory", "-memory", s.socket())); err != nil {
		return nil, fmt.Errorf("start the memory: %w", err)
	}
	if _, err = s.memory.Greet(); err != nil {
		return nil, fmt.Errorf("start the memory: %w", err)
	}
	s.ledger = newMemoryClient(s.socket())
	if err = os.Mkdir(s.counters(), 0o755); err != nil {
		return nil, err
	}
	for i, listen := range opts.listen {
		b := &backendProcess{stage: s, index: i, name: backendName(i), addr: listen}
		s.backends = append(s.backends, b)
		start := b.start
		if i == opts.isolate {
			start = b.isolate
		}
		if err = start(); err != nil {
			return nil, fmt.Errorf("start backend %s: %w", b.name, err)
		}
	}
	return s, nil
}

func (s *stage) command() []string { return append([]string(nil), s.program...) }

func (s *stage) socket() string   { return filepath.Join(s.dir, "memory") }
func (s *stage) counters() string { return filepath.Join(s.dir, "sent") }

func (s *stage) urls() []string {
	var urls []string
	for _, addr := range s.addrs() {
		urls = append(urls, "http://"+addr)
	}
	return urls
}

func (s *stage) addrs() []string {
	var addrs []string
	for _, b := range s.backends {
		addrs = append(addrs, b.addr)
	}
	return addrs
}

// close ends every process and removes every file.
func (s *stage) close() {
	for _, b := range s.backends {
		b.kill()
	}
	if s.memory != nil {
		s.memory.Kill()
	}
	_ = os.RemoveAll(s.dir)
}

func (b *backendProcess) arguments(listen string) []string {
	argv := []string{"backend", "-name", b.name, "-listen", listen,
		"-memory", b.stage.socket(), "-drain", drain.String()}
	if blob := b.stage.blob; blob != nil {
		argv = append(argv, "-blob", blob.path, "-digest", blob.digest,
			"-blob-rate", fmt.Sprint(blob.rate), "-counter", b.stage.counters())
	}
	return argv
}

func (b *backendProcess) start() error {
	p, err := process.Start(append(b.stage.command(), b.arguments(b.addr)...))
	if err != nil {
		return err
	}
	addr, err := p.Greet()
	if err != nil {
		p.Kill()
		return err
	}
	b.proc, b.addr = p, addr
	return nil
}

// errIsolate: this machine does not let the drill drop packets, which shows
// only when it tries: a container may have the tools and not the right.
var errIsolate = errors.New("packets cannot be dropped here")

// isolate starts the backend in a network of its own and tries the rule that
// will drop its packets.
func (b *backendProcess) isolate() error {
	if err := b.startIsolated(); err != nil {
		return fmt.Errorf("%w: %w", errIsolate, err)
	}
	if err := errors.Join(b.dropPackets(), b.passPackets()); err != nil {
		return fmt.Errorf("%w: %w", errIsolate, err)
	}
	return nil
}

func (b *backendProcess) kill() {
	if b.proc != nil {
		b.proc.Kill()
	}
}

// restart asks the backend to leave, waits until it has, and starts it again.
func (b *backendProcess) restart(ctx context.Context) error {
	if err := b.proc.Terminate(); err != nil {
		return err
	}
	select {
	case <-b.proc.Ended:
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(drain + 15*time.Second):
		return errors.New("backend " + b.name + " did not leave")
	}
	return b.start()
}

func backendName(i int) string { return string(rune('a' + i)) }
